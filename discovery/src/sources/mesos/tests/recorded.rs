//! Conversion against what real masters sent, where the recordings lie beside the repository.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use portolan_table::{Health, Instance, InstanceState};
use serde_json::Value;

use super::super::recordio::Records;
use super::super::snapshot::{self, Snapshot};
use super::super::state::{Patience, State};
use super::super::task::Interned;
use super::super::wire;
use crate::hosts::{Addresses, Hosts};
use crate::source::Change;
use crate::sources::told::endpoints;

const NONE: Patience = Patience { recovered: false, missing: false };

/// Nothing is resolved.
pub(super) struct NoNames;

impl Hosts for NoNames {
    fn addresses(&self, _: &str) -> Addresses {
        Addresses::default()
    }
}

fn fixtures(directory: &str) -> PathBuf {
    let shared = std::env::var_os("PORTOLAN_SHARED").map(PathBuf::from);
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    shared.unwrap_or_else(beside).join("fixtures").join(directory)
}

fn read(directory: &str, name: &str) -> Option<Vec<u8>> {
    let file = fixtures(directory).join(name);
    // Elsewhere they are not there.
    if fixtures(directory).is_dir() { Some(std::fs::read(file).unwrap()) } else { None }
}

/// The instances of `state`, by id, with what went wrong. Their places, which go by the order of lists, are left out.
pub(super) fn told(state: &mut State) -> (BTreeMap<String, (String, Instance)>, Vec<String>) {
    let (mut instances, problems) = told_in_order(state);
    for (_, instance) in instances.values_mut() {
        Arc::make_mut(instance.placement.as_mut().unwrap()).order = 0;
    }
    (instances, problems)
}

/// The same with places.
pub(super) fn told_in_order(state: &mut State) -> (BTreeMap<String, (String, Instance)>, Vec<String>) {
    let (mut instances, mut problems) = (BTreeMap::new(), Vec::new());
    for change in state.list(&NoNames) {
        match change {
            Change::Service { spec, instances: all } => {
                for instance in all {
                    instances.insert(instance.id.to_string(), (spec.key.to_string(), (*instance).clone()));
                }
            }
            Change::Problem { place, message } => problems.push(format!("{place}: {message}")),
            _ => {}
        }
    }
    (instances, problems)
}

pub(super) fn of_snapshot(snapshot: Snapshot, names: Interned) -> State {
    let mut before = State::default();
    before.names = names;
    State::of(snapshot, before, NONE)
}

pub(super) fn of_state(document: &[u8]) -> State {
    let mut names = Interned::default();
    let snapshot = snapshot::of_state(document, &mut names).unwrap();
    of_snapshot(snapshot, names)
}

/// One record after another, the first of which is a snapshot.
fn replay<'r>(
    records: impl Iterator<Item = &'r [u8]>,
    mut each: impl FnMut(&wire::Event<'_>, &mut State),
) -> State {
    let mut state = State::default();
    for record in records {
        let event: wire::Event<'_> = serde_json::from_slice(record).unwrap();
        match &event.subscribed {
            Some(subscribed) => {
                let mut names = Interned::default();
                state = of_snapshot(snapshot::of_subscribed(subscribed, &mut names), names);
            }
            None => state.apply(&event, &mut Vec::new()),
        }
        each(&event, &mut state);
    }
    state
}

fn capture(name: &str) -> Option<Vec<bytes::Bytes>> {
    let octets = read("captures/mesos", name)?;
    let mut records = Records::new(1 << 20);
    let mut all = Vec::new();
    // In pieces, as a connection brings them.
    for piece in octets.chunks(1000) {
        records.push(piece);
        while let Some(record) = records.next().unwrap() {
            all.push(record);
        }
    }
    Some(all)
}

fn places(instance: &Instance) -> Vec<String> {
    endpoints(instance).collect()
}

#[test]
fn both_dialects_of_one_moment_tell_the_same() {
    for moment in ["", "-after-agent-loss", "-after-failover"] {
        let Some(document) = read("captures/mesos", &format!("state{moment}.json")) else { return };
        let Some(answer) = read("captures/mesos", &format!("GET_STATE{moment}.json")) else { return };
        let (of_state, problems) = told(&mut of_state(&document));
        assert_eq!(problems, [] as [&str; 0], "{moment}");
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        let first = serde_json::json!({"get_state": answer["get_state"]}).to_string();
        let subscribed: wire::Subscribed<'_> = serde_json::from_str(&first).unwrap();
        let mut names = Interned::default();
        let snapshot = snapshot::of_subscribed(&subscribed, &mut names);
        let (of_stream, problems) = told(&mut of_snapshot(snapshot, names));
        assert_eq!(problems, [] as [&str; 0], "{moment}");
        assert_eq!(of_state.keys().collect::<Vec<_>>(), of_stream.keys().collect::<Vec<_>>(), "{moment}");
        for (id, told) in &of_state {
            assert_eq!(*told, of_stream[id], "{moment}: {id}");
        }
        assert!(!of_state.is_empty(), "{moment}");
    }
}

#[test]
fn a_real_state_is_read() {
    let Some(document) = read("captures/mesos", "state.json") else { return };
    let (instances, _) = told(&mut of_state(&document));
    let table = [
        ("web.0", "web.example", &["127.0.0.11:31000", "127.0.0.11:31001"][..], Health::Healthy),
        ("web.1", "web.example", &["127.0.0.12:31100", "127.0.0.12:31101"], Health::Healthy),
        ("dns.0", "dns.example", &["127.0.0.11:31002"], Health::Unknown),
        ("plain.0", "plain.example", &["127.0.0.12:31102"], Health::Unknown),
    ];
    for (id, service, at, health) in table {
        let (of, instance) = &instances[id];
        assert_eq!(
            (of.as_str(), places(instance), instance.health),
            (service, at.iter().map(|s| (*s).to_owned()).collect(), health),
            "{id}"
        );
        assert_eq!(instance.state, InstanceState::Running);
    }
    assert_eq!(instances.len(), table.len());
}

/// The stream from a real master: what tasks go through, and that it ends where `/state` at its end stands.
#[test]
fn a_real_stream_is_followed() {
    let Some(records) = capture("subscribe.json.recordio") else { return };
    let mut seen: BTreeMap<String, Vec<(InstanceState, Health)>> = BTreeMap::new();
    let mut lost = None;
    replay(records.iter().map(|record| &**record), |event, state| {
        let (instances, problems) = told(state);
        assert_eq!(problems, [] as [&str; 0]);
        for (id, (_, instance)) in &instances {
            let of = seen.entry(id.clone()).or_default();
            if of.last() != Some(&(instance.state, instance.health)) {
                of.push((instance.state, instance.health));
            }
        }
        if event.agent_removed.is_some() {
            lost = Some(instances.keys().cloned().collect::<Vec<_>>());
        }
    });
    use Health::{Healthy, Unhealthy, Unknown};
    use InstanceState::{Killing, Running, Staging, Starting, Unreachable};
    assert_eq!(
        seen["api.0"],
        [(Staging, Unknown), (Starting, Unknown), (Running, Unknown), (Running, Healthy), (Killing, Healthy)]
    );
    assert_eq!(seen["api.1"][3..], [(Running, Healthy), (Running, Unhealthy), (Running, Healthy)]);
    assert_eq!(
        seen["store.0"],
        [(Staging, Unknown), (Starting, Unknown), (Running, Unknown), (Unreachable, Unknown)]
    );
    let lost = lost.unwrap();
    assert!(!lost.iter().any(|id| id == "web.1" || id == "plain.0" || id == "store.5"), "{lost:?}");
}

#[test]
fn a_real_leader_that_is_new_takes_nothing_away() {
    let (Some(before), Some(records)) = (
        read("captures/mesos", "state-after-agent-loss.json"),
        capture("subscribe-after-failover.json.recordio"),
    ) else {
        return;
    };
    let mut state = of_state(&before);
    let (known, _) = told(&mut state);
    let mut returned = Vec::new();
    for record in &records {
        let event: wire::Event<'_> = serde_json::from_slice(record).unwrap();
        match &event.subscribed {
            Some(subscribed) => {
                let mut names = std::mem::take(&mut state.names);
                let snapshot = snapshot::of_subscribed(subscribed, &mut names);
                assert_eq!(snapshot.tasks.len(), 0, "the recording begins with nothing");
                state.names = names;
                state = State::of(snapshot, state, Patience { recovered: true, missing: true });
                let (kept, _) = told(&mut state);
                assert_eq!(kept.keys().collect::<Vec<_>>(), known.keys().collect::<Vec<_>>());
                assert_eq!(state.held(), known.len());
            }
            None => state.apply(&event, &mut returned),
        }
    }
    for agent in returned {
        state.release(&agent);
    }
    state.give_up(NONE);
    let (after, _) = told(&mut state);
    assert_eq!(after.keys().collect::<Vec<_>>(), ["store.3", "store.4"]);
    assert_eq!(state.held(), 0);
    let document = read("captures/mesos", "state-after-failover.json").unwrap();
    assert_eq!(after, told(&mut of_state(&document)).0);
}

/// Recordings of DC/OS clusters: what remains after the last event, in the form of the cases beside them.
#[test]
fn streams_of_dcos_end_in_the_pictures_of_their_cases() {
    for name in ["operator-api", "pod-tasks", "hello-world"] {
        let Some(case) = read("dcos-net", &format!("{name}.json")) else { return };
        let case: Value = serde_json::from_slice(&case).unwrap();
        let stream = read("dcos-net", case["stream"].as_str().unwrap()).unwrap();
        let records = stream.split(|octet| *octet == b'\n').filter(|line| !line.is_empty());
        let mut state = replay(records, |_, _| ());
        let (instances, _) = told(&mut state);
        for task in case["tasks"].as_array().unwrap() {
            let id = task["task_id"].as_str().unwrap();
            let (_, instance) = &instances.get(id).unwrap_or_else(|| panic!("{name}: {id} is not there"));
            let wanted = match task["state"].as_str().unwrap() {
                "running" => vec![InstanceState::Running],
                "killing" => vec![InstanceState::Killing],
                _ => vec![InstanceState::Staging, InstanceState::Starting],
            };
            assert!(wanted.contains(&instance.state), "{name}: {id}");
            let addresses: Vec<String> = instance.addresses.iter().map(|a| a.ip.to_string()).collect();
            let agent = task["agent_ip"].as_str().unwrap().to_owned();
            assert!(addresses.contains(&agent), "{name}: {id} on {agent}: {addresses:?}");
            for own in task["task_ip"].as_array().into_iter().flatten() {
                assert!(addresses.iter().any(|known| own == known), "{name}: {id} at {own}: {addresses:?}");
            }
            // A port that is mapped is reached at its agent, any other at the task's first address.
            for port in task["ports"].as_array().into_iter().flatten() {
                let at = |ip: &str, number: &Value| format!("{ip}:{number}");
                let own = task["task_ip"][0].as_str().unwrap_or(&agent);
                let wanted = match port["host_port"].as_u64() {
                    Some(_) => at(&agent, &port["host_port"]),
                    None => at(own, &port["port"]),
                };
                let places = places(instance);
                assert!(places.contains(&wanted), "{name}: {id} {port}: {places:?}");
            }
        }
        if case["tasks_complete"] == true {
            assert_eq!(
                instances.len(),
                case["tasks"].as_array().unwrap().len(),
                "{name}: {:?}",
                instances.keys()
            );
        }
    }
}

/// Documents of clusters of all ages, real and made up: all of them are read.
#[test]
fn states_of_all_ages_are_read() {
    let Ok(files) = std::fs::read_dir(fixtures("mesos-dns/states")) else { return };
    let mut count = 0;
    for file in files {
        let path = file.unwrap().path();
        let document = std::fs::read(&path).unwrap();
        let mut names = Interned::default();
        let Ok(snapshot) = snapshot::of_state(&document, &mut names) else {
            let value: Value = serde_json::from_slice(&document).unwrap();
            assert!(value["leader"].as_str().is_none_or(str::is_empty), "{}", path.display());
            continue;
        };
        assert!(snapshot.problems.is_empty(), "{}: {:?}", path.display(), snapshot.problems);
        let (instances, _) = told(&mut of_snapshot(snapshot, names));
        count += instances.len();
    }
    assert!(count > 50, "{count}");
}
