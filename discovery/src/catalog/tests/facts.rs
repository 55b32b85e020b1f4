//! What sources tell of their clusters beside services.

use portolan_table::{Agent, ClusterFact, Contact, FactKey, Masters, Scheduler};

use super::*;

fn agent(id: &str, last: u8) -> Change {
    let at =
        Contact { host: id.into(), addresses: [[10, 0, 0, last].into()].into_iter().collect(), port: 5051 };
    Change::Fact(Arc::new(ClusterFact::Agent(Agent {
        id: id.into(),
        name: id.into(),
        at,
        provenance: Provenance::NodeAddress,
        zone: None,
        region: None,
        is_registered: true,
    })))
}

fn scheduler(id: &str) -> Change {
    Change::Fact(Arc::new(ClusterFact::Scheduler(Scheduler {
        id: id.into(),
        name: "marathon".into(),
        at: Contact::default(),
        is_active: true,
        is_connected: true,
        web: None,
        order: 0,
    })))
}

fn masters() -> Change {
    Change::Fact(Arc::new(ClusterFact::Masters(Masters::default())))
}

/// Source and key of all facts that readers see.
fn facts(rig: &mut Rig) -> Vec<(u16, FactKey)> {
    rig.flush();
    let mut facts: Vec<_> =
        rig.publisher.core().facts().map(|(source, fact)| (source.0, fact.key())).collect();
    facts.sort_unstable();
    facts
}

#[test]
fn facts_are_published_and_a_whole_list_sweeps_them() {
    let mut rig = Rig::new(vec![source(0, "a")]);
    rig.tell(0, Change::ListBegin);
    for change in [masters(), agent("S0", 1), agent("S1", 2), scheduler("0000")] {
        rig.tell(0, change);
    }
    rig.tell(0, Change::ListComplete);
    let (s0, s1) = (FactKey::Agent("S0".into()), FactKey::Agent("S1".into()));
    let framework = FactKey::Scheduler("0000".into());
    assert_eq!(
        facts(&mut rig),
        [(0, FactKey::Masters), (0, s0.clone()), (0, s1.clone()), (0, framework.clone())]
    );
    assert_eq!(rig.tell(0, agent("S0", 1)), Applied::Nothing, "told as it was");
    assert_eq!(rig.tell(0, Change::RemoveFact(framework)), Applied::Touched);
    assert_eq!(rig.tell(0, agent("S0", 9)), Applied::Touched);
    rig.flush();
    let held = rig.publisher.core().fact(SourceId(0), &s0).cloned();
    let Some(ClusterFact::Agent(held)) = held.as_deref() else { panic!("{held:?}") };
    assert_eq!(held.at.addresses[0].to_string(), "10.0.0.9");
    // A list in part takes nothing away, a whole one what it does not name.
    for (end, left) in [
        (Change::ListPartial { synced: true }, vec![(0, FactKey::Masters), (0, s0), (0, s1)]),
        (Change::ListComplete, vec![(0, FactKey::Masters)]),
    ] {
        rig.tell(0, Change::ListBegin);
        rig.tell(0, masters());
        rig.tell(0, end);
        assert_eq!(facts(&mut rig), left);
    }
}

#[test]
fn facts_follow_their_source_through_a_reload() {
    let mut rig = Rig::new(vec![source(0, "a"), source(1, "b")]);
    rig.tell(0, agent("S0", 1));
    rig.tell(1, agent("S0", 2));
    rig.tell(1, masters());
    assert_eq!(facts(&mut rig).len(), 3);
    // `b` stays, and is now the first of the configuration.
    rig.catalog.configure(vec![(1, source(0, "b"))], rig.now);
    assert_eq!(facts(&mut rig), [(0, FactKey::Masters), (0, FactKey::Agent("S0".into()))]);
    let held = rig.publisher.core().fact(SourceId(0), &FactKey::Agent("S0".into())).cloned();
    let Some(ClusterFact::Agent(held)) = held.as_deref() else { panic!("{held:?}") };
    assert_eq!(held.at.addresses[0].to_string(), "10.0.0.2");
    rig.catalog.configure(vec![], rig.now);
    assert_eq!(facts(&mut rig), []);
}

#[test]
fn facts_are_saved_and_come_back_with_the_saved_table() {
    let mut rig = Rig::new(vec![source(0, "a")]);
    for change in [Change::ListBegin, masters(), agent("S0", 1), Change::ListComplete] {
        rig.tell(0, change);
    }
    let saved = rig.catalog.save(0, rig.now);
    let mut rig = Rig::new(vec![source(0, "a")]);
    rig.catalog.load(0, saved, Duration::from_secs(5), rig.now);
    assert_eq!(facts(&mut rig), [(0, FactKey::Masters), (0, FactKey::Agent("S0".into()))]);
    rig.tell(0, Change::ListBegin);
    rig.tell(0, agent("S1", 2));
    rig.tell(0, Change::ListComplete);
    assert_eq!(facts(&mut rig), [(0, FactKey::Agent("S1".into()))], "what a whole list leaves out is gone");
}
