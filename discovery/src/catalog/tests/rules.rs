//! Admission, verdict memory, lists, guards, standing, nodes, slots.

use portolan_table::{NodeFact, SharedStr, Standing};

use super::*;
use crate::catalog::Saved;

#[test]
fn who_is_in() {
    use Health::{Healthy, Unhealthy, Unknown};
    use InstanceState::{Killing, Running, Staging, Starting, Terminal, Unreachable};
    // One instance beside a healthy one, so that panic plays no part.
    let table = [
        (Staging, Unknown, false, out(Outside::NotRunning)),
        (Starting, Healthy, false, out(Outside::NotRunning)),
        (Running, Unknown, false, IN),
        (Running, Unknown, true, out(Outside::NoVerdict)),
        (Running, Healthy, true, IN),
        (Running, Unhealthy, true, out(Outside::Unhealthy)),
        (Running, Unhealthy, false, out(Outside::Unhealthy)),
        (Killing, Healthy, true, out(Outside::Ending)),
        (Killing, Unknown, false, out(Outside::Ending)),
        (Unreachable, Healthy, true, out(Outside::Ending)),
        (Terminal, Healthy, true, out(Outside::Ending)),
    ];
    for (state, health, checks_defined, expected) in table {
        let mut rig = Rig::new(vec![source(0, "a")]);
        let subject = Instance { state, ..instance("x", 1, 8000, health) };
        let spec = ServiceSpec { checks_defined, ..spec("/web", "web") };
        rig.list(0, vec![(spec, vec![subject, healthy("y", 2)])]);
        let case = format!("{state:?} {health:?} checks {checks_defined}");
        assert_eq!(rig.members("web"), [("x".to_owned(), expected), ("y".to_owned(), IN)], "{case}");
        let live: &[&str] =
            if expected == IN { &["10.0.0.1:8000", "10.0.0.2:8000"] } else { &["10.0.0.2:8000"] };
        assert_eq!(rig.live("web"), live, "{case}");
    }
}

/// A task on a network of its own whose address is not known yet: its node's address leads to none of its ports.
#[test]
fn an_instance_without_any_endpoint_of_a_service_with_ports_is_out() {
    let mut rig = Rig::new(vec![source(0, "a")]);
    let mut nowhere = healthy("x", 1);
    nowhere.endpoints.clear();
    rig.list(0, vec![(spec("/web", "web"), vec![nowhere.clone(), healthy("y", 2)])]);
    assert_eq!(rig.members("web"), [("x".to_owned(), out(Outside::Unreachable)), ("y".to_owned(), IN)]);

    let portless = ServiceSpec { ports: Box::default(), ..spec("/web", "web") };
    rig.list(0, vec![(portless, vec![nowhere])]);
    assert_eq!(
        rig.members("web"),
        [("x".to_owned(), IN)],
        "without ports an address is all there is to tell"
    );
}

#[test]
fn panic_is_for_services_whose_every_running_instance_is_unhealthy() {
    use Health::{Healthy, Unhealthy, Unknown};
    use InstanceState::{Killing, Running, Staging};
    type Case<'a> = (&'a str, &'a [(InstanceState, Health)], &'a [usize]);
    let table: [Case<'_>; 7] = [
        ("all unhealthy", &[(Running, Unhealthy), (Running, Unhealthy)], &[0, 1]),
        ("one healthy", &[(Running, Unhealthy), (Running, Healthy)], &[1]),
        ("one without a verdict", &[(Running, Unhealthy), (Running, Unknown)], &[]),
        ("healthy but being killed", &[(Running, Unhealthy), (Killing, Healthy)], &[0]),
        ("staging is not running", &[(Running, Unhealthy), (Staging, Unknown)], &[0]),
        ("killing stays out", &[(Killing, Unhealthy)], &[]),
        ("nobody", &[], &[]),
    ];
    for (case, instances, expected) in table {
        let mut rig = Rig::new(vec![source(0, "a")]);
        let instances = instances.iter().enumerate().map(|(index, (state, health))| {
            let id = format!("i{index}");
            Instance { state: *state, ..instance(&id, u8::try_from(index).unwrap(), 8000, *health) }
        });
        rig.list(0, vec![(spec("/web", "web"), instances.collect())]);
        let members = rig.members("web");
        let live: Vec<usize> =
            members.iter().enumerate().filter(|(_, (_, a))| a.is_in()).map(|(index, _)| index).collect();
        assert_eq!(live, expected, "{case}: {members:?}");
    }
}

#[test]
fn a_drained_or_unreachable_instance_neither_gets_traffic_nor_stops_panic() {
    let mut rig = Rig::new(vec![source(0, "a")]);
    let drained = Instance { weight: 0, ..healthy("drained", 1) };
    let mut nowhere = healthy("nowhere", 2);
    nowhere.addresses.clear();
    nowhere.endpoints.clear();
    let sick = instance("sick", 3, 8000, Health::Unhealthy);
    rig.list(0, vec![(spec("/web", "web"), vec![drained, nowhere, sick])]);
    assert_eq!(
        rig.members("web"),
        [
            ("drained".to_owned(), out(Outside::Unreachable)),
            ("nowhere".to_owned(), out(Outside::Unreachable)),
            ("sick".to_owned(), Admission::Panic),
        ]
    );
    assert_eq!(rig.live("web"), ["10.0.0.3:8000"]);
}

#[test]
fn unknown_takes_no_verdict_back() {
    let unknown = || instance("x", 1, 8000, Health::Unknown);
    type Tell = fn(&mut Rig);
    let ways: [(&str, Tell); 4] = [
        ("a health change", |rig| {
            rig.tell(0, Change::Health { service: "/web".into(), id: "x".into(), health: Health::Unknown });
        }),
        ("the instance anew", |rig| {
            let instance = Arc::new(instance("x", 1, 8000, Health::Unknown));
            rig.tell(0, Change::Instance { service: "/web".into(), instance });
        }),
        ("the service anew", |rig| {
            rig.service(0, spec("/web", "web"), vec![instance("x", 1, 8000, Health::Unknown)]);
        }),
        ("a whole new list after a lost session", |rig| {
            rig.tell(0, lost());
            rig.list(0, vec![(spec("/web", "web"), vec![instance("x", 1, 8000, Health::Unknown)])]);
        }),
    ];
    for (way, tell) in ways {
        for (verdict, expected) in [(Health::Healthy, IN), (Health::Unhealthy, Admission::Panic)] {
            let mut rig = Rig::new(vec![source(0, "a")]);
            rig.list(0, vec![(spec("/web", "web"), vec![unknown()])]);
            assert_eq!(rig.members("web")[0].1, out(Outside::NoVerdict));
            rig.tell(0, Change::Health { service: "/web".into(), id: "x".into(), health: verdict });
            assert_eq!(rig.members("web")[0].1, expected);
            tell(&mut rig);
            assert_eq!(rig.members("web")[0].1, expected, "{way}, {verdict:?}");
        }
    }
}

#[test]
fn a_verdict_is_forgotten_with_the_instance_its_run_or_the_checks() {
    let sick = |started_ms| Instance { started_ms, ..instance("x", 1, 8000, Health::Unhealthy) };
    let unknown = |started_ms| Instance { started_ms, ..instance("x", 1, 8000, Health::Unknown) };
    let fresh = || {
        let mut rig = Rig::new(vec![source(0, "a")]);
        rig.list(0, vec![(spec("/web", "web"), vec![sick(5)])]);
        assert_eq!(rig.members("web")[0].1, Admission::Panic);
        rig
    };
    let mut rig = fresh();
    rig.service(0, spec("/web", "web"), vec![unknown(6)]);
    assert_eq!(rig.members("web")[0].1, out(Outside::NoVerdict), "started again");

    let mut rig = fresh();
    rig.service(0, ServiceSpec { checks_defined: false, ..spec("/web", "web") }, vec![unknown(5)]);
    assert_eq!(rig.members("web")[0].1, IN, "no checks any more");

    let mut rig = fresh();
    rig.tell(0, Change::RemoveInstance { service: "/web".into(), id: "x".into() });
    rig.tell(0, Change::Instance { service: "/web".into(), instance: Arc::new(unknown(5)) });
    assert_eq!(rig.members("web")[0].1, out(Outside::NoVerdict), "gone and back");
}

/// A status update that is repeated tells neither a verdict nor a start.
#[test]
fn an_instance_told_without_its_start_keeps_start_and_verdict() {
    let told = |last, health, started_ms| Instance { started_ms, ..instance("x", last, 8000, health) };
    let mut rig = Rig::new(vec![source(0, "a")]);
    rig.list(0, vec![(spec("/web", "web"), vec![told(1, Health::Healthy, 5)])]);
    let again = Arc::new(told(2, Health::Unknown, 0));
    rig.tell(0, Change::Instance { service: "/web".into(), instance: again });
    assert_eq!(rig.members("web")[0].1, IN);
    assert_eq!(rig.live("web"), ["10.0.0.2:8000"]);
    assert_eq!(rig.get("web").unwrap().members[0].instance.started_ms, 5);
    rig.service(0, spec("/web", "web"), vec![told(2, Health::Unknown, 6)]);
    assert_eq!(rig.members("web")[0].1, out(Outside::NoVerdict), "started again");
}

#[test]
fn a_checker_goes_before_the_scheduler_until_it_withdraws_or_the_instance_is_gone() {
    let mut rig = Rig::new(vec![source(0, "a")]);
    rig.list(0, vec![(spec("/web", "web"), vec![healthy("x", 1), healthy("y", 2)])]);
    rig.catalog.set_verdict(SourceId(0), &"x".into(), Some(Health::Unhealthy));
    assert_eq!(rig.members("web")[0].1, out(Outside::Unhealthy));
    assert_eq!(rig.get("web").unwrap().members[0].instance.health, Health::Unhealthy);
    // Neither the scheduler nor a new list overrides it.
    rig.tell(0, Change::Health { service: "/web".into(), id: "x".into(), health: Health::Healthy });
    rig.list(0, vec![(spec("/web", "web"), vec![healthy("x", 1), healthy("y", 2)])]);
    assert_eq!(rig.members("web")[0].1, out(Outside::Unhealthy));
    rig.catalog.set_verdict(SourceId(0), &"x".into(), None);
    assert_eq!(rig.members("web")[0].1, IN);
    rig.catalog.set_verdict(SourceId(0), &"x".into(), Some(Health::Unhealthy));
    rig.tell(0, Change::RemoveInstance { service: "/web".into(), id: "x".into() });
    rig.tell(0, Change::Instance { service: "/web".into(), instance: Arc::new(healthy("x", 1)) });
    assert_eq!(rig.members("web")[0].1, IN, "an instance that was gone starts without verdict");
    rig.catalog.set_verdict(SourceId(0), &"nobody".into(), Some(Health::Unhealthy));
    rig.catalog.set_verdict(SourceId(9), &"x".into(), Some(Health::Unhealthy));
    assert_eq!(rig.flush(), None);
}

#[test]
fn a_list_takes_away_what_it_does_not_name_and_only_when_it_is_whole() {
    let mut rig = Rig::new(vec![source(0, "a")]);
    let three = || ["one", "two", "three"].map(|n| (spec(n, n), vec![healthy(n, 1)])).to_vec();
    rig.list(0, three());
    rig.tell(
        0,
        Change::Node(Arc::new(NodeFact {
            name: "told".into(),
            addresses: Default::default(),
            zone: None,
            region: None,
        })),
    );
    rig.tell(0, Change::ListBegin);
    rig.service(0, spec("two", "two"), vec![healthy("two", 9)]);
    assert_eq!(rig.names(), ["one", "three", "two"], "nothing is gone before the end");
    assert_eq!(rig.live("two"), ["10.0.0.9:8000"], "what is told is believed at once");
    rig.tell(0, lost());
    assert_eq!(rig.names(), ["one", "three", "two"], "a list cut off takes nothing away");
    assert!(rig.publisher.core().node("told").is_some());
    assert_eq!(rig.publisher.core().source(SourceId(0)).unwrap().standing, Standing::Stale);
    rig.tell(0, Change::ListBegin);
    rig.service(0, spec("three", "three"), vec![healthy("three", 1)]);
    rig.tell(0, Change::ListComplete);
    assert_eq!(rig.names(), ["three"]);
    assert!(rig.publisher.core().node("told").is_none());
    assert_eq!(rig.publisher.core().source(SourceId(0)).unwrap().standing, Standing::Synced);
    rig.list(0, vec![]);
    assert_eq!(rig.names(), Vec::<String>::new(), "a whole and empty list is believed");
}

#[test]
fn a_second_beginning_voids_the_first() {
    let mut rig = Rig::new(vec![source(0, "a")]);
    rig.list(0, vec![(spec("one", "one"), vec![]), (spec("two", "two"), vec![])]);
    rig.tell(0, Change::ListBegin);
    rig.service(0, spec("one", "one"), vec![]);
    rig.list(0, vec![(spec("two", "two"), vec![])]);
    assert_eq!(rig.names(), ["two"], "the first list's mark on `one` does not count for the second");
}

#[test]
fn the_removal_guard_wants_to_see_it_twice() {
    let guarded = || Rig::new(vec![SourceConfig { max_removal: 0.5, ..source(0, "a") }]);
    let four =
        || vec![(spec("web", "web"), (1..=4).map(|i| healthy(&format!("i{i}"), i)).collect::<Vec<_>>())];
    let left = |n: u8| vec![(spec("web", "web"), (1..=n).map(|i| healthy(&format!("i{i}"), i)).collect())];
    let mut rig = guarded();
    assert_eq!(rig.list(0, four()), Applied::Touched);
    rig.list(0, left(2));
    assert_eq!(rig.live("web").len(), 2, "half is allowed");
    rig.list(0, four());
    assert_eq!(rig.list(0, left(1)), Applied::Confirm);
    assert_eq!(rig.live("web").len(), 4, "three of four are held back");
    assert_eq!(rig.catalog.sources()[0].removals_held, 1);
    rig.list(0, left(1));
    assert_eq!(rig.live("web").len(), 1, "the second list confirms");
    rig.list(0, four());
    assert_eq!(rig.list(0, vec![]), Applied::Confirm);
    rig.list(0, four());
    assert_eq!(rig.list(0, vec![]), Applied::Confirm, "a good list in between: the count starts anew");
    assert_eq!(rig.live("web").len(), 4);

    let mut rig = guarded();
    rig.list(0, four());
    rig.tell(0, Change::ListBegin);
    rig.tell(0, lost());
    rig.list(0, four());
    assert_eq!(rig.live("web").len(), 4, "a staged list that is cut off is void");
}

#[test]
fn the_guard_is_off_by_default() {
    let mut rig = Rig::new(vec![source(0, "a")]);
    rig.list(0, vec![(spec("web", "web"), vec![healthy("x", 1)])]);
    assert_eq!(rig.list(0, vec![]), Applied::Touched);
    assert_eq!(rig.names(), Vec::<String>::new());
}

#[test]
fn unknown_is_not_empty() {
    let mut rig = Rig::new(vec![source(0, "a"), SourceConfig { required: false, ..source(1, "b") }]);
    assert!(!rig.publisher.core().is_complete());
    rig.tell(0, Change::ListBegin);
    rig.flush();
    assert!(!rig.publisher.core().is_complete());
    rig.tell(0, lost());
    rig.flush();
    assert_eq!(rig.publisher.core().sources()[0].standing, Standing::Unsynced, "nothing yet to be stale");
    rig.list(0, vec![]);
    rig.flush();
    assert!(rig.publisher.core().is_complete(), "the other one is not required");
}

#[test]
fn a_stale_source_keeps_its_state_and_expires_only_by_policy() {
    let hour = Duration::from_secs(3600);
    for (stale_max, expires) in [(None, false), (Some(hour), true)] {
        let mut rig = Rig::new(vec![SourceConfig { stale_max, ..source(0, "a") }]);
        rig.list(0, vec![(spec("web", "web"), vec![healthy("x", 1)])]);
        rig.pass(10 * hour);
        assert_eq!(rig.names(), ["web"], "a synced source does not expire");
        rig.tell(0, Change::Alive);
        rig.tell(0, lost());
        rig.pass(hour - Duration::from_secs(1));
        assert_eq!(rig.names(), ["web"]);
        rig.pass(Duration::from_secs(1));
        assert_eq!(rig.names().is_empty(), expires);
        assert_eq!(rig.publisher.core().is_complete(), !expires, "what it would hold is unknown now");
    }
}

/// A member that dies within each of its lists tells a little of it every time.
#[test]
fn sessions_that_break_off_within_their_list_confirm_nothing() {
    let minute = Duration::from_secs(60);
    let mut rig = Rig::new(vec![SourceConfig { stale_max: Some(5 * minute), ..source(0, "a") }]);
    let web = || vec![(spec("web", "web"), vec![healthy("x", 1)])];
    rig.list(0, web());
    let confirmed = |rig: &Rig| rig.catalog.sources()[0].confirmed.unwrap();
    rig.pass(minute);
    rig.tell(0, Change::Health { service: "web".into(), id: "x".into(), health: Health::Healthy });
    assert_eq!(confirmed(&rig), rig.now, "an event of a source that is followed is a sign of life");
    let last = rig.now;
    for _ in 0..4 {
        rig.tell(0, Change::ListBegin);
        rig.service(0, spec("web", "web"), vec![healthy("x", 1)]);
        rig.tell(0, lost());
        rig.tell(0, Change::Health { service: "web".into(), id: "x".into(), health: Health::Healthy });
        assert_eq!(confirmed(&rig), last);
        rig.pass(minute);
    }
    assert_eq!(rig.names(), ["web"]);
    rig.tell(0, Change::ListBegin);
    rig.pass(minute);
    assert_eq!(rig.names(), Vec::<String>::new(), "stale_max has passed");
    rig.list(0, web());
    assert_eq!(confirmed(&rig), rig.now);
}

#[test]
fn a_saved_table_is_served_stale_until_the_first_list() {
    let mut rig =
        Rig::new(vec![SourceConfig { stale_max: Some(Duration::from_secs(100)), ..source(0, "a") }]);
    let saved = |names: &[&str]| {
        let service = |n: &&str| (Arc::new(spec(n, n)), vec![Arc::new(healthy(n, 1))]);
        Saved { services: names.iter().map(service).collect(), facts: vec![] }
    };
    rig.catalog.load(0, saved(&["web", "old"]), Duration::from_secs(90), rig.now);
    assert_eq!(rig.names(), ["old", "web"]);
    let status = rig.publisher.core().sources()[0].clone();
    assert_eq!((status.standing, status.has_data), (Standing::Stale, true));
    rig.list(0, vec![(spec("web", "web"), vec![instance("web", 1, 8000, Health::Unknown)])]);
    assert_eq!(rig.names(), ["web"]);
    assert_eq!(rig.members("web")[0].1, IN, "the saved verdict stands");
    rig.catalog.load(0, saved(&["late"]), Duration::ZERO, rig.now);
    assert_eq!(rig.names(), ["web"], "a list read is better than anything saved");

    let mut rig =
        Rig::new(vec![SourceConfig { stale_max: Some(Duration::from_secs(100)), ..source(0, "a") }]);
    rig.catalog.load(0, saved(&["web"]), Duration::from_secs(90), rig.now);
    rig.pass(Duration::from_secs(9));
    assert_eq!(rig.names(), ["web"]);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.names(), Vec::<String>::new(), "the age of a saved table counts");
}

#[test]
fn two_keys_of_one_source_on_one_name_are_reported_and_the_smaller_key_has_it() {
    let keys = ["/web_1", "/web-1", "/web.1"];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut rig = Rig::new(vec![source(0, "a")]);
        for index in order {
            let last = u8::try_from(index).unwrap();
            rig.service(0, spec(keys[index], "web-1"), vec![healthy("x", last)]);
        }
        rig.tell(0, Change::ListComplete);
        assert_eq!(rig.live("web-1"), ["10.0.0.1:8000"], "/web-1 is the smallest");
        let problems = rig.problems(0);
        assert_eq!(
            problems,
            ["/web-1, /web.1, /web_1 all have the name web-1; /web-1 has it, give the others another"]
        );
        rig.tell(0, Change::RemoveService { service: "/web-1".into() });
        assert_eq!(rig.live("web-1"), ["10.0.0.2:8000"], "the next takes its place");
        rig.tell(0, Change::RemoveService { service: "/web.1".into() });
        assert_eq!(rig.live("web-1"), ["10.0.0.0:8000"]);
        assert_eq!(rig.problems(0), Vec::<String>::new());
    }
}

#[test]
fn a_service_that_is_renamed_leaves_its_old_name() {
    let mut rig = Rig::new(vec![source(0, "a")]);
    rig.service(0, spec("/web", "old"), vec![healthy("x", 1)]);
    assert_eq!(rig.names(), ["old"]);
    rig.service(0, spec("/web", "new"), vec![healthy("x", 1)]);
    assert_eq!(rig.names(), ["new"]);
}

#[test]
fn events_about_what_is_not_known_change_nothing() {
    let mut rig = Rig::new(vec![source(0, "a")]);
    rig.list(0, vec![(spec("/web", "web"), vec![healthy("x", 1)])]);
    rig.flush();
    let nobody: SharedStr = "/nobody".into();
    let web: SharedStr = "/web".into();
    let changes = [
        Change::RemoveService { service: nobody.clone() },
        Change::Instance { service: nobody.clone(), instance: Arc::new(healthy("x", 1)) },
        Change::RemoveInstance { service: nobody.clone(), id: "x".into() },
        Change::RemoveInstance { service: web.clone(), id: "y".into() },
        Change::State { service: nobody, id: "x".into(), state: InstanceState::Killing },
        Change::State { service: web.clone(), id: "y".into(), state: InstanceState::Killing },
        Change::Health { service: web, id: "y".into(), health: Health::Unhealthy },
        Change::RemoveNode("nowhere".into()),
        Change::Alive,
    ];
    for change in changes {
        let text = format!("{change:?}");
        assert_eq!(rig.tell(0, change.clone()), Applied::Nothing, "{text}");
        assert_eq!(rig.tell(7, change), Applied::Nothing, "a feed that is not known: {text}");
        assert_eq!(rig.flush(), None, "{text}");
    }
}

#[test]
fn a_merge_that_changes_nothing_publishes_nothing() {
    let mut rig = Rig::new(vec![source(0, "a")]);
    let all = || {
        (0..50)
            .map(|i| (spec(&format!("/s{i}"), &format!("s{i}")), vec![healthy("x", 1), healthy("y", 2)]))
            .collect()
    };
    rig.list(0, all());
    assert!(rig.flush().is_some());
    let before = rig.get("s7").unwrap();
    rig.list(0, all());
    assert_eq!(rig.flush(), None);
    assert!(Arc::ptr_eq(&before, &rig.get("s7").unwrap()));
    // There and back within one batch.
    let health = |health| Change::Health { service: "/s7".into(), id: "x".into(), health };
    rig.tell(0, health(Health::Unhealthy));
    rig.tell(0, health(Health::Healthy));
    assert_eq!(rig.flush(), None);
    rig.list(0, vec![]);
    rig.flush();
    assert!(rig.catalog.slots.is_empty(), "a merge that is thrown away gives its slots back");
}

#[test]
fn one_change_copies_only_the_shards_on_its_way() {
    let mut rig = Rig::new(vec![source(0, "a")]);
    let all = (0..5000).map(|i| (spec(&format!("/s{i}"), &format!("s{i}")), vec![healthy("x", 1)]));
    rig.list(0, all.collect());
    rig.flush();
    rig.publisher.collect();
    rig.tell(0, Change::State { service: "/s77".into(), id: "x".into(), state: InstanceState::Killing });
    let published = rig.flush().unwrap();
    assert_eq!(published.services, 1);
    assert!(published.shards_copied <= 4, "{published:?}: one path from the root, of some 300 shards");
}

#[test]
fn slots_follow_identity_and_are_given_back() {
    let mut rig = Rig::new(vec![source(0, "a")]);
    rig.list(0, vec![(spec("/web", "web"), vec![healthy("x", 1), healthy("y", 2)])]);
    let slot = |rig: &mut Rig, id: &str| {
        let service = rig.get("web").unwrap();
        let endpoints = service.ports[0].endpoints.iter();
        endpoints
            .map(|e| (service.members[e.member as usize].instance.id.to_string(), e.slot))
            .find(|(i, _)| i == id)
            .unwrap()
            .1
    };
    let (x, y) = (slot(&mut rig, "x"), slot(&mut rig, "y"));
    assert_ne!(x.index, y.index);
    rig.tell(0, Change::RemoveInstance { service: "/web".into(), id: "x".into() });
    assert_eq!(slot(&mut rig, "y"), y);
    assert_eq!(rig.catalog.slots.len(), 1);
    rig.tell(0, Change::Instance { service: "/web".into(), instance: Arc::new(healthy("z", 3)) });
    let z = slot(&mut rig, "z");
    assert_eq!(
        (z.index, z.epoch),
        (x.index, x.epoch + 1),
        "the index is used again, told apart by its epoch"
    );
    rig.tell(0, Change::RemoveService { service: "/web".into() });
    rig.flush();
    assert!(rig.catalog.slots.is_empty());
}

#[test]
fn nodes_come_from_instances() {
    let mut rig = Rig::new(vec![source(0, "a")]);
    rig.list(
        0,
        vec![(spec("/web", "web"), vec![healthy("x", 1)]), (spec("/api", "api"), vec![healthy("z", 1)])],
    );
    rig.flush();
    let node = rig.publisher.core().node("node-1").unwrap().clone();
    assert_eq!(node.addresses[0].to_string(), "10.0.0.1");
    rig.tell(0, Change::RemoveService { service: "/web".into() });
    rig.flush();
    assert!(rig.publisher.core().node("node-1").is_some());
    // The other one moves to another node.
    rig.tell(0, Change::Instance { service: "/api".into(), instance: Arc::new(healthy("z", 2)) });
    rig.flush();
    assert!(rig.publisher.core().node("node-1").is_none());
    assert!(rig.publisher.core().node("node-2").is_some());
    rig.list(0, vec![]);
    rig.flush();
    assert_eq!(rig.publisher.core().nodes().count(), 0);
}

#[test]
fn a_source_taken_out_takes_its_services_with_it_and_the_others_stay() {
    let mut rig = Rig::new(vec![source(0, "a"), source(1, "b")]);
    rig.list(0, vec![(spec("/web", "web"), vec![healthy("x", 1)]), (spec("/a", "a"), vec![healthy("q", 4)])]);
    rig.list(1, vec![(spec("/web", "web"), vec![healthy("y", 2)]), (spec("/b", "b"), vec![])]);
    assert_eq!(rig.live("web"), ["10.0.0.1:8000", "10.0.0.2:8000"]);
    // `b` stays, and is now the first of the configuration.
    let feeds = vec![(1, source(0, "b"))];
    rig.catalog.configure(feeds, rig.now);
    assert_eq!(rig.names(), ["b", "web"]);
    assert_eq!(rig.live("web"), ["10.0.0.2:8000"]);
    assert_eq!(rig.get("web").unwrap().members[0].source, SourceId(0));
    assert_eq!(rig.catalog.slots.len(), 1);
    assert!(rig.publisher.core().is_complete(), "it has kept its data");
    assert_eq!(rig.publisher.core().nodes().count(), 1);
}

#[test]
fn an_id_told_twice_counts_once() {
    let mut rig = Rig::new(vec![source(0, "a")]);
    rig.list(0, vec![(spec("/web", "web"), vec![healthy("x", 1), healthy("a", 3), healthy("x", 2)])]);
    assert_eq!(rig.live("web"), ["10.0.0.3:8000", "10.0.0.2:8000"], "the last one told stands");
}

/// An object of a list that cannot be understood is not known to be gone.
#[test]
fn a_list_with_a_problem_in_place_of_a_service_leaves_it_in() {
    for max_removal in [1.0, 0.1] {
        let mut rig = Rig::new(vec![SourceConfig { max_removal, ..source(0, "a") }]);
        rig.list(0, vec![(spec("/web", "web"), vec![healthy("x", 1)])]);
        rig.tell(0, Change::ListBegin);
        rig.tell(0, Change::Problem { place: "/web".into(), message: "left out: no ports".to_owned() });
        assert_ne!(rig.tell(0, Change::ListComplete), Applied::Confirm, "nothing is removed");
        assert_eq!(rig.live("web"), ["10.0.0.1:8000"], "max_removal {max_removal}");
        assert_eq!(rig.problems(0), ["left out: no ports"]);
        rig.list(0, vec![]);
        rig.list(0, vec![]);
        assert_eq!(rig.get("web"), None, "a list without any word of it takes it away");
    }
}

/// A start takes the time of saving for the last confirmation, so it must not lie far back.
#[test]
fn a_table_that_may_expire_is_saved_again_though_nothing_changes() {
    let stale_max = Some(Duration::from_secs(60));
    let mut rig = Rig::new(vec![SourceConfig { stale_max, ..source(0, "a") }, source(1, "b")]);
    for feed in [0, 1] {
        rig.list(feed, vec![(spec("/web", "web"), vec![healthy("x", 1)])]);
        rig.catalog.save(feed, rig.now);
    }
    rig.pass(Duration::from_secs(10));
    assert_eq!(rig.catalog.unsaved().count(), 0);
    rig.pass(Duration::from_secs(10));
    assert_eq!(rig.catalog.unsaved().map(|state| state.feed).collect::<Vec<_>>(), [0]);
    rig.catalog.save(0, rig.now);
    rig.tell(0, lost());
    rig.pass(Duration::from_secs(30));
    assert_eq!(rig.catalog.unsaved().count(), 0, "a stale table is not made younger");
}

/// After a start the resolver's memory is empty while the saved table holds addresses.
#[test]
fn a_node_name_that_cannot_be_resolved_takes_no_place_away() {
    let mut resolved = healthy("x", 1);
    resolved.addresses[0].provenance = Provenance::NodeNameResolved;
    let mut unresolved = resolved.clone();
    unresolved.addresses.clear();
    unresolved.endpoints.clear();
    let mut rig = Rig::new(vec![source(0, "a")]);
    rig.list(0, vec![(spec("/web", "web"), vec![resolved.clone()])]);
    rig.list(0, vec![(spec("/web", "web"), vec![unresolved.clone()])]);
    assert_eq!(rig.live("web"), ["10.0.0.1:8000"]);

    let moved = Instance { node: Some("node-2".into()), ..unresolved.clone() };
    rig.list(0, vec![(spec("/web", "web"), vec![moved])]);
    assert!(rig.live("web").is_empty(), "another node is another place");

    rig.list(0, vec![(spec("/web", "web"), vec![resolved])]);
    let ports = ServiceSpec {
        ports: Box::new([PortSpec { number: 81, ..PortSpec::default() }]),
        ..spec("/web", "web")
    };
    rig.list(0, vec![(ports, vec![unresolved])]);
    assert!(rig.live("web").is_empty(), "which port leads where is not known any more");
}

#[test]
fn instances_that_could_not_be_read_stay() {
    use crate::source::Unread;
    let three = || vec![healthy("x", 1), healthy("y", 2), healthy("z", 3)];
    let tell = |unread: Unread| {
        let mut rig = Rig::new(vec![source(0, "a")]);
        rig.list(0, vec![(spec("/web", "web"), three())]);
        let (spec, instances) = (Arc::new(spec("/web", "web")), vec![Arc::new(healthy("z", 9))]);
        rig.tell(0, Change::ServiceInPart { spec, instances, unread });
        rig.live("web")
    };
    assert_eq!(tell(Unread::Ids(vec!["x".into(), "new".into()])), ["10.0.0.1:8000", "10.0.0.9:8000"]);
    assert_eq!(tell(Unread::Any), ["10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.9:8000"]);

    let mut rig = Rig::new(vec![source(0, "a")]);
    rig.list(0, vec![(spec("/web", "web"), three())]);
    let portless = Arc::new(ServiceSpec { ports: Box::default(), ..spec("/web", "web") });
    rig.tell(0, Change::ServiceInPart { spec: portless, instances: Vec::new(), unread: Unread::Any });
    let web = rig.get("web").unwrap();
    assert!(web.members.iter().all(|member| member.instance.endpoints.is_empty()), "their ports are gone");
}

#[test]
fn a_list_that_does_not_name_everything_takes_no_service_away() {
    for (synced, standing) in [(true, Standing::Synced), (false, Standing::Unsynced)] {
        let mut rig = Rig::new(vec![source(0, "a")]);
        rig.tell(0, Change::ListBegin);
        rig.service(0, spec("/web", "web"), vec![healthy("x", 1)]);
        rig.tell(0, Change::ListPartial { synced });
        rig.flush();
        assert_eq!(rig.publisher.core().sources()[0].standing, standing);
        rig.tell(0, Change::ListBegin);
        rig.service(0, spec("/api", "api"), vec![healthy("y", 2)]);
        rig.tell(0, Change::ListPartial { synced });
        assert_eq!(rig.names(), ["api", "web"]);
        assert_eq!(rig.catalog.sources()[0].standing, standing);
    }
}

/// A guarded list may take minutes, or never end: only what it takes away waits for its end.
#[test]
fn under_the_guard_events_and_additions_during_a_list_are_applied_at_once() {
    let mut rig = Rig::new(vec![SourceConfig { max_removal: 0.5, ..source(0, "a") }]);
    let three = || vec![healthy("x", 1), healthy("y", 2), healthy("z", 3)];
    rig.list(0, vec![(spec("/web", "web"), three())]);
    rig.tell(0, Change::ListBegin);
    rig.tell(0, Change::RemoveInstance { service: "/web".into(), id: "x".into() });
    assert_eq!(rig.live("web"), ["10.0.0.2:8000", "10.0.0.3:8000"], "an event");
    rig.service(0, spec("/api", "api"), vec![healthy("q", 9)]);
    assert_eq!(rig.live("api"), ["10.0.0.9:8000"], "an addition");
    rig.service(0, spec("/web", "web"), vec![healthy("z", 3), healthy("new", 4)]);
    assert_eq!(rig.live("web"), ["10.0.0.4:8000", "10.0.0.2:8000", "10.0.0.3:8000"], "y waits");
    assert_eq!(rig.tell(0, Change::ListComplete), Applied::Touched);
    assert_eq!(rig.live("web"), ["10.0.0.4:8000", "10.0.0.3:8000"], "one of three is allowed");

    rig.tell(0, Change::ListBegin);
    rig.service(0, spec("/web", "web"), vec![]);
    rig.tell(0, Change::Instance { service: "/web".into(), instance: Arc::new(healthy("z", 3)) });
    rig.tell(0, Change::RemoveService { service: "/api".into() });
    assert_eq!(rig.tell(0, Change::ListComplete), Applied::Touched, "z was told after all, api by an event");
    assert_eq!(rig.live("web"), ["10.0.0.3:8000"]);
    assert_eq!(rig.get("api"), None);
}
