//! The zone follows the table: after any change it is what a rebuild would make of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use portolan_dns::mesos_dns::{Compat, Profile, Settings};
use portolan_table::{ChangeSet, ClusterFact, FactKey, ServiceName, SourceId};
use serde_json::{Value, json};

use crate::answers::{packet, text};
use crate::site::{Site, sources};
use crate::state::changes;

/// Two agents, two frameworks, three tasks, one of them with names and ports of its own.
pub(crate) fn cluster() -> Value {
    let task = |id: &str, name: &str, agent: u8, ports: &str| {
        json!({"id": id, "name": name, "slave_id": format!("20140803-S{agent}"), "state": "TASK_RUNNING",
               "resources": {"ports": ports}, "statuses": [{"state": "TASK_RUNNING", "timestamp": 1.0}]})
    };
    let mut named = task("db.1", "db", 1, "[31003-31003]");
    named["discovery"] = json!({"name": "store.db", "ports": {"ports": [
        {"number": 5432, "name": "sql", "protocol": "tcp"}, {"number": 5433}]}});
    json!({
        "leader": "master@10.0.0.1:5050",
        "slaves": [
            {"id": "20140803-S0", "hostname": "a0", "pid": "slave(1)@10.0.1.10:5051"},
            {"id": "20140803-S1", "hostname": "a1", "pid": "slave(1)@10.0.1.11:5051"},
        ],
        "frameworks": [
            {"id": "f-0", "name": "marathon", "pid": "scheduler-1@10.0.0.5:15101", "hostname": "m",
             "tasks": [task("web.1", "web", 0, "[31000-31001]"), task("web.2", "web", 1, "[31002-31002]")]},
            {"id": "f-1", "name": "Data", "hostname": "10.0.0.6", "tasks": [named]},
        ],
    })
}

fn settings(compat: Compat) -> Settings {
    Settings {
        compat,
        profile: Profile::V0_8,
        reverse: true,
        addresses: vec!["127.0.0.1".parse().unwrap()],
        ..Settings::of("mesos")
    }
}

/// Everything in the zone: what is asked by name, and reverse names.
fn everything(site: &Site) -> BTreeSet<String> {
    let (owners, addresses) =
        site.zones(|zones| (zones.zones()[0].owner_names(), zones.zones()[0].reverse_addresses()));
    let reverse =
        addresses.iter().map(|ip| portolan_dns::wire::name_to_text(&portolan_dns::wire::reverse_name(*ip)));
    let mut all = BTreeSet::new();
    for name in owners.into_iter().chain(reverse) {
        for rtype in ["A", "AAAA", "SRV", "PTR"] {
            let reply = site.reply(&packet(&name, rtype, Some(1232)), true).unwrap();
            all.extend(reply.answers.iter().map(ToString::to_string));
            all.insert(format!("{name} {rtype} {}", reply.metadata.response_code));
        }
    }
    all
}

#[track_caller]
fn expect_as_rebuilt(site: &Site, state: &Value) {
    let mut other = Site::new("mesos", settings(Compat::Rfc));
    other.publisher.apply(changes(state, &[], None));
    assert_eq!(everything(site), everything(&other));
}

#[test]
fn changes_leave_what_a_rebuild_makes() {
    let (whole, mut less) = (cluster(), cluster());
    less["frameworks"][0]["tasks"].as_array_mut().unwrap().pop();
    less["frameworks"].as_array_mut().unwrap().pop();
    let mut site = Site::new("mesos", settings(Compat::Rfc));
    site.publisher.apply(changes(&less, &[], None));
    expect_as_rebuilt(&site, &less);
    site.publisher.apply(changes(&whole, &[], None));
    expect_as_rebuilt(&site, &whole);
    // The agent moves under its tasks, which have not changed.
    let mut moved = cluster();
    moved["slaves"][1]["pid"] = json!("slave(1)@10.0.1.99:5051");
    let mut agent = ChangeSet::default();
    agent.upsert_fact(SourceId(0), fact(&moved, "20140803-S1"));
    site.publisher.apply(agent);
    assert_eq!(text(&site, "_web._tcp.marathon.mesos", "SRV").len(), 3);
    assert_eq!(text(&site, "web.marathon.slave.mesos", "A"), ["10.0.1.10", "10.0.1.99"]);
    // The agent goes, and its tasks' names with it; then all of it.
    let mut gone = ChangeSet::default();
    gone.remove_fact(SourceId(0), FactKey::Agent("20140803-S1".into()));
    site.publisher.apply(gone);
    assert_eq!(text(&site, "web.marathon.mesos", "A"), ["10.0.1.10"]);
    assert_eq!(text(&site, "store-db.data.mesos", "A"), Vec::<String>::new());
    let mut gone = ChangeSet::default();
    for name in ["task-0-0", "task-0-1", "task-1-0"] {
        gone.remove(ServiceName::parse(name).unwrap());
    }
    site.publisher.apply(gone);
    let names = site.zones(|zones| zones.zones()[0].owner_names());
    assert!(names.iter().all(|name| !name.contains("web") && !name.contains("db")), "{names:?}");
}

fn fact(state: &Value, id: &str) -> Arc<ClusterFact> {
    let mut other = Site::new("mesos", settings(Compat::Rfc));
    other.publisher.apply(changes(state, &[], None));
    let key = FactKey::Agent(id.into());
    Arc::clone(other.publisher.table().load().fact(SourceId(0), &key).unwrap())
}

#[test]
fn before_the_first_list_nothing_is_denied() {
    let mut site = Site::new("mesos", settings(Compat::Rfc));
    site.publisher.apply(sources(false));
    for (name, rtype) in
        [("web.marathon.mesos", "A"), ("web.marathon.mesos", "SRV"), ("leader.mesos", "AAAA")]
    {
        let reply = site.reply(&packet(name, rtype, None), false).unwrap();
        assert_eq!(reply.metadata.response_code, hickory_proto::op::ResponseCode::ServFail, "{name}");
    }
}

#[test]
fn failing_tasks_are_left_out_unless_the_program_is_followed() {
    let mut state = cluster();
    state["frameworks"][0]["tasks"][1]["statuses"][0]["healthy"] = json!(false);
    for (compat, named) in [(Compat::Rfc, &["10.0.1.10"][..]), (Compat::Strict, &["10.0.1.10", "10.0.1.11"])]
    {
        let mut site = Site::new("mesos", settings(compat));
        site.publisher.apply(changes(&state, &[], None));
        assert_eq!(text(&site, "web.marathon.mesos", "A"), named);
    }
}
