//! What any octets go through that come from an engine.

use core::net::Ipv4Addr;

use super::containers::{Containers, Engine};
use super::swarm;
use super::wire::{Container, Event, Node, Service, Task};
use crate::config::Reach;
use crate::sources::checked::check;

/// Takes each line of `octets` for an event and for a container, and the first three for the services, tasks and nodes of a
/// swarm.
///
/// # Panics
/// When a service comes of it that cannot be: a defect.
pub fn docker(octets: &[u8]) {
    for reach in [Reach::Container, Reach::Published] {
        let engine = Engine { name: "n1".to_owned(), ip: Some(Ipv4Addr::LOCALHOST.into()), reach };
        let mut containers = Containers::default();
        for line in octets.split(|octet| *octet == b'\n') {
            let _ = serde_json::from_slice::<Event>(line);
            let Ok(container) = serde_json::from_slice::<Container>(line) else { continue };
            let _ = containers.put(&container, &engine);
            containers.signalled(&container.id, "15");
        }
        containers.services().values().for_each(check);
        of_swarm(octets, reach);
    }
}

fn of_swarm(octets: &[u8], reach: Reach) {
    let mut lines = octets.split(|octet| *octet == b'\n');
    let mut next = || lines.next().unwrap_or_default();
    let services = serde_json::from_slice::<Vec<Service>>(next()).unwrap_or_default();
    let tasks = serde_json::from_slice::<Vec<Task>>(next()).unwrap_or_default();
    let nodes = swarm::nodes(serde_json::from_slice::<Vec<Node>>(next()).unwrap_or_default());
    let tasks: Vec<&Task> = tasks.iter().collect();
    for service in &services {
        if let Ok(service) = swarm::service(service, &tasks, &nodes, reach) {
            check(&service);
        }
    }
    swarm::is_settled(&tasks);
}

#[cfg(test)]
#[test]
fn the_corpus_is_survived() {
    crate::sources::corpus::replay("docker", docker);
}
