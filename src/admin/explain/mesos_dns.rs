//! Names of a zone with the schema `mesos-dns`: the tasks that have them, and where their addresses were read.

use std::net::IpAddr;

use portolan_dns::zone::Zone;
use portolan_table::Snapshot;

use super::{Step, step};

/// Tasks that are told one by one.
const TASKS_MAX: usize = 100;

/// The steps of a name, in lower case with a dot at the end. Walks the whole table.
pub(super) fn steps(zone: &Zone, snapshot: &Snapshot, name: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let frameworks = zone.enumerate(snapshot).map_or_else(Vec::new, |enumerated| enumerated.frameworks);
    let mut others = 0;
    for (framework, task) in frameworks.iter().flat_map(|f| f.tasks.iter().map(|task| (&f.name, task))) {
        let own: Vec<String> = task
            .records
            .iter()
            .filter(|record| record.name.eq_ignore_ascii_case(name) && record.rtype != "PTR")
            .map(|record| {
                format!("{} {}{}", record.rtype, record.host, read_at(snapshot, &task.id, &record.host))
            })
            .collect();
        if own.is_empty() {
            continue;
        }
        if steps.len() < TASKS_MAX {
            steps.push(step(format!("task {} of {framework}", task.id), "in", own.join(", ")));
        } else {
            others += 1;
        }
    }
    if others > 0 {
        steps.push(step("tasks", "in", format!("{others} more")));
    }
    if steps.is_empty() {
        let why =
            "no task alone has records here: a framework, agent or master may, or a task that shares them";
        steps.push(step("tasks", "none", why));
    }
    steps
}

/// Where an address of a task was read, in brackets.
fn read_at(snapshot: &Snapshot, task: &str, host: &str) -> String {
    let Ok(ip) = host.parse::<IpAddr>() else { return String::new() };
    let members = snapshot.services().flat_map(|service| &service.members);
    let address = members
        .filter(|member| **member.instance.correlation_key() == *task)
        .find_map(|member| member.instance.addresses.iter().find(|address| address.ip == ip));
    address.map_or_else(String::new, |address| format!(" ({})", address.provenance.as_str()))
}
