//! What Docker 20.10 answered, where the recordings lie beside the repository.

use std::path::PathBuf;

use portolan_table::InstanceState;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::super::swarm;
use super::super::wire::{Container, Event, Listed, Node, Service, Task};
use crate::config::Reach;
use crate::sources::told::endpoints;

fn text(name: &str) -> Option<String> {
    let shared = std::env::var_os("PORTOLAN_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"));
    let folder = shared.join("fixtures/captures/docker");
    folder.exists().then(|| std::fs::read_to_string(folder.join(name)).unwrap())
}

fn recorded<T: DeserializeOwned>(name: &str) -> Option<T> {
    Some(serde_json::from_str(&text(name)?).unwrap_or_else(|error| panic!("{name}: {error}")))
}

#[test]
fn containers_and_events_are_read() {
    let Some(all) = recorded::<Vec<Listed>>("containers-all.json") else { return };
    assert!(all.len() > 5);
    let sick: Container = recorded("container-sick.json").unwrap();
    assert_eq!(sick.state.health.unwrap().status, "unhealthy");
    assert!(super::super::milliseconds(&sick.state.started_at) > 1_700_000_000_000);
    for line in text("events.jsonl").unwrap().lines() {
        let event: Event = serde_json::from_str(line).unwrap();
        assert!(!event.kind.is_empty() && !event.action.is_empty() && event.actor.is_some(), "{line}");
    }
}

/// A line for each task of each service: state, addresses on overlays, published ports.
fn tasks(reach: Reach, tasks: &str) -> Option<Vec<String>> {
    let services: Vec<Service> = recorded("services.json")?;
    let nodes = swarm::nodes(recorded::<Vec<Node>>("nodes.json")?);
    let tasks: Vec<Task> = recorded(tasks)?;
    let mut shown = Vec::new();
    for service in &services {
        let of_it: Vec<&Task> = tasks.iter().filter(|task| task.service == service.id).collect();
        let (spec, instances) = swarm::service(service, &of_it, &nodes, reach).unwrap();
        let line = |i: &std::sync::Arc<portolan_table::Instance>| {
            format!("{} {:?} {:?}", spec.name, i.state, endpoints(i).collect::<Vec<_>>())
        };
        shown.extend(instances.iter().map(line));
    }
    shown.sort();
    Some(shown)
}

#[test]
fn tasks_are_reached_on_their_overlay_or_at_their_node() {
    let Some(own) = tasks(Reach::Container, "tasks.json") else { return };
    assert_eq!(
        own,
        [
            "rr Running []",
            "rr Running []",
            "web Running [\"10.0.1.3:8080\"]",
            "web Running [\"10.0.1.4:8080\"]",
            "wh Running [\"127.0.0.1:18091\"]",
        ],
        "rr has neither a label nor a published port"
    );
    let published = tasks(Reach::Published, "tasks.json").unwrap();
    assert_eq!(
        published[2..],
        ["web Running [\"127.0.0.1:18090\"]", "web Running [\"127.0.0.1:18090\"]", own[4].as_str()]
    );
}

/// The states are those of the Engine API's `NodeState`.
#[test]
fn an_election_takes_no_task_out_and_a_dead_node_does() {
    let service: Service = serde_json::from_value(json!({"ID": "s", "Spec": {"Name": "web"}})).unwrap();
    let task = json!({"ID": "t", "ServiceID": "s", "NodeID": "n", "DesiredState": "running",
                      "Status": {"Timestamp": "2026-01-02T03:04:05Z", "State": "running"}});
    let task: Task = serde_json::from_value(task).unwrap();
    for (state, expected) in [
        ("ready", InstanceState::Running),
        ("unknown", InstanceState::Running),
        ("down", InstanceState::Unreachable),
        ("disconnected", InstanceState::Unreachable),
    ] {
        let node = json!({"ID": "n", "Description": {"Hostname": "n-1"}, "Status": {"State": state, "Addr": "192.0.2.1"}});
        let nodes = swarm::nodes(vec![serde_json::from_value::<Node>(node).unwrap()]);
        let (_, instances) = swarm::service(&service, &[&task], &nodes, Reach::Container).unwrap();
        assert_eq!(instances[0].state, expected, "{state}");
    }
}

#[test]
fn tasks_on_their_way_are_out() {
    let Some(tasks) = recorded::<Vec<Task>>("tasks-during-update.json") else { return };
    let all: Vec<&Task> = tasks.iter().collect();
    assert!(!swarm::is_settled(&all));
    let service: Service = recorded("service-updating.json").unwrap();
    let nodes = swarm::nodes(recorded::<Vec<Node>>("nodes.json").unwrap());
    let of_it: Vec<&Task> = tasks.iter().filter(|task| task.service == service.id).collect();
    let (_, instances) = swarm::service(&service, &of_it, &nodes, Reach::Container).unwrap();
    let running = instances.iter().filter(|i| i.state == InstanceState::Running).count();
    assert!(running < of_it.len(), "{instances:?}");
}
