//! Which address and which number each port of a task gets: a table over both dialects.

use portolan_table::{Instance, InstanceState, Provenance};
use serde_json::{Value, json};

use super::super::snapshot;
use super::super::task::Interned;
use super::super::wire;
use super::fake::{self, state_task};
use super::recorded::{of_snapshot, of_state, told};
use crate::sources::told::endpoints;

/// The task as it is told in either dialect, on an agent at 10.0.0.1.
fn instances(task: &Value) -> [Instance; 2] {
    let subscribed = json!({"get_state": {
        "get_tasks": {"tasks": [task]}, "get_frameworks": {"frameworks": [fake::framework(0, "marathon")]},
        "get_agents": {"agents": [fake::agent(1)]}}})
    .to_string();
    let subscribed: wire::Subscribed<'_> = serde_json::from_str(&subscribed).unwrap();
    let mut names = Interned::default();
    let read = snapshot::of_subscribed(&subscribed, &mut names);
    let state = json!({"leader": "master@10.0.0.9:5050",
        "slaves": [{"id": "A-S1", "hostname": "node-1", "pid": "slave(1)@10.0.0.1:5051"}],
        "frameworks": [{"id": fake::framework_id(0), "name": "marathon", "tasks": [state_task(task)]}]})
    .to_string();
    [of_snapshot(read, names), of_state(state.as_bytes())].map(|mut state| {
        let (mut all, problems) = told(&mut state);
        assert_eq!(problems, [] as [&str; 0]);
        all.pop_first().expect("the task").1.1
    })
}

/// A running task: its container, discovery ports, offered ports, and the network of its status.
#[expect(clippy::needless_pass_by_value, reason = "tables read better without references")]
fn task(container: Value, discovery: Value, offered: &[u16], infos: Value) -> Value {
    let ranges: Vec<Value> = offered.iter().map(|port| json!({"begin": port, "end": port})).collect();
    let mut task = fake::task("web", 1);
    task["container"] = container;
    task["discovery"] =
        if discovery.is_null() { Value::Null } else { json!({"ports": {"ports": discovery}}) };
    task["resources"] = json!([{"name": "ports", "type": "RANGES", "ranges": {"range": ranges}}]);
    task["statuses"][0]["container_status"] = json!({"network_infos": infos});
    task
}

fn at(ip: &str) -> Value {
    json!([{"ip_addresses": [{"protocol": "IPv4", "ip_address": ip}]}])
}

fn named(ip: &str, network: &str) -> Value {
    json!([{"name": network, "ip_addresses": [{"protocol": "IPv4", "ip_address": ip}]}])
}

#[test]
fn each_port_is_reached_where_it_can_be() {
    let (http, host) =
        (json!([{"number": 80, "name": "http", "protocol": "tcp"}]), json!([{"number": 31000}]));
    let docker = |network: &str, mappings: Value| json!({"type": "DOCKER", "docker": {"network": network, "port_mappings": mappings}});
    let mapping = json!([{"host_port": 31000, "container_port": 80, "protocol": "tcp"}]);
    let own = |mappings: Value| json!({"type": "MESOS", "network_infos": [{"name": "dcos", "port_mappings": mappings}]});
    let nothing = Value::Null;
    let table: &[(&str, Value, &[&str])] = &[
        (
            "no container, offered ports alone",
            task(nothing.clone(), nothing.clone(), &[31000, 31001], at("10.0.0.1")),
            &["10.0.0.1:31000", "10.0.0.1:31001"],
        ),
        (
            "host network, discovery",
            task(docker("HOST", nothing.clone()), host.clone(), &[31000], at("10.0.0.1")),
            &["10.0.0.1:31000"],
        ),
        (
            "bridge, discovery names the port of the agent",
            task(docker("BRIDGE", mapping.clone()), host.clone(), &[31000], at("172.17.0.2")),
            &["10.0.0.1:31000"],
        ),
        (
            "bridge, discovery names the port inside",
            task(docker("BRIDGE", mapping.clone()), http.clone(), &[31000], at("172.17.0.2")),
            &["10.0.0.1:31000"],
        ),
        (
            "bridge, no discovery",
            task(docker("BRIDGE", mapping.clone()), nothing.clone(), &[31000], at("172.17.0.2")),
            &["10.0.0.1:31000"],
        ),
        (
            "own network, not mapped",
            task(own(nothing.clone()), http.clone(), &[], named("9.0.1.2", "dcos")),
            &["9.0.1.2:80"],
        ),
        (
            "own network, mapped",
            task(own(mapping.clone()), http.clone(), &[31000], named("9.0.1.2", "dcos")),
            &["10.0.0.1:31000"],
        ),
        (
            "docker's own network",
            task(docker("USER", nothing.clone()), http.clone(), &[], named("9.0.1.2", "dcos")),
            &["9.0.1.2:80"],
        ),
        (
            "own network of two families",
            task(
                own(nothing.clone()),
                http.clone(),
                &[],
                json!([{"name": "dcos6", "ip_addresses": [
            {"protocol": "IPv4", "ip_address": "9.0.1.2"}, {"protocol": "IPv6", "ip_address": "fd01:b::1"}]}]),
            ),
            &["9.0.1.2:80", "[fd01:b::1]:80"],
        ),
        (
            "own network, no address yet",
            task(own(nothing.clone()), http.clone(), &[], json!([])),
            &["10.0.0.1:80"],
        ),
        (
            "nothing said, an address of its own and no offered port",
            task(nothing.clone(), http.clone(), &[], at("9.0.1.2")),
            &["9.0.1.2:80"],
        ),
        (
            "nothing said, an address of its own and an offered port",
            task(nothing.clone(), host.clone(), &[31000], at("9.0.1.2")),
            &["10.0.0.1:31000"],
        ),
        (
            "said to be the agent's",
            task(
                own(nothing.clone()),
                json!([{"number": 31005, "labels": {"labels": [
            {"key": "network-scope", "value": "host"}]}}]),
                &[],
                named("9.0.1.2", "dcos"),
            ),
            &["10.0.0.1:31005"],
        ),
        (
            "both transports",
            task(
                nothing.clone(),
                json!([{"number": 31000, "name": "dns", "protocol": "udp,tcp"}]),
                &[31000],
                at("10.0.0.1"),
            ),
            &["10.0.0.1:31000", "10.0.0.1:31000"],
        ),
        (
            "a number as a float",
            task(nothing.clone(), json!([{"number": 31000.0}]), &[31000], at("10.0.0.1")),
            &["10.0.0.1:31000"],
        ),
        (
            "mesos 0.25",
            task(nothing.clone(), http.clone(), &[], json!([{"ip_address": "9.0.1.2"}])),
            &["9.0.1.2:80"],
        ),
        ("no ports at all", task(nothing.clone(), nothing.clone(), &[], at("10.0.0.1")), &[]),
    ];
    for (what, task, wanted) in table {
        let [first, second] = instances(task);
        assert_eq!(endpoints(&first).collect::<Vec<_>>(), *wanted, "{what}");
        assert_eq!(first, second, "{what}: in the words of /state");
    }
}

#[test]
fn addresses_say_where_they_were_read() {
    let mut task = task(Value::Null, Value::Null, &[31000], at("9.0.1.2"));
    task["statuses"][0]["labels"] =
        json!({"labels": [{"key": "Docker.NetworkSettings.IPAddress", "value": "172.17.0.2"}]});
    let [instance, _] = instances(&task);
    let read: Vec<(String, Provenance)> =
        instance.addresses.iter().map(|address| (address.ip.to_string(), address.provenance)).collect();
    let wanted = [
        ("10.0.0.1", Provenance::NodeAddress),
        ("9.0.1.2", Provenance::TaskNetwork),
        ("172.17.0.2", Provenance::DockerLabel),
    ];
    assert_eq!(read, wanted.map(|(ip, provenance)| (ip.to_owned(), provenance)));
}

#[test]
fn task_states_are_told_in_the_tables_words() {
    let table = [
        ("TASK_STAGING", Some(InstanceState::Staging)),
        ("TASK_STARTING", Some(InstanceState::Starting)),
        ("TASK_RUNNING", Some(InstanceState::Running)),
        ("TASK_KILLING", Some(InstanceState::Killing)),
        ("TASK_UNREACHABLE", Some(InstanceState::Unreachable)),
        ("TASK_UNKNOWN", Some(InstanceState::Unreachable)),
        ("TASK_INVENTED", Some(InstanceState::Starting)),
        ("TASK_FINISHED", None),
        ("TASK_FAILED", None),
        ("TASK_KILLED", None),
        ("TASK_ERROR", None),
        ("TASK_LOST", None),
        ("TASK_DROPPED", None),
        ("TASK_GONE", None),
        ("TASK_GONE_BY_OPERATOR", None),
    ];
    for (state, wanted) in table {
        let mut task = fake::task("web", 1);
        task["state"] = json!(state);
        let document = json!({"leader": "master@10.0.0.9:5050", "slaves": [],
            "frameworks": [{"id": "F-0000", "name": "marathon", "tasks": [state_task(&task)]}]})
        .to_string();
        let (all, _) = told(&mut of_state(document.as_bytes()));
        assert_eq!(all.get("web.1").map(|(_, instance)| instance.state), wanted, "{state}");
    }
}

#[test]
fn names_are_made_of_task_and_framework() {
    for (task, framework, wanted) in [
        ("web", "marathon", "web.marathon"),
        ("Web_1.shop", "Marathon", "web_1.shop.marathon"),
        ("a b/c", "m", "a-b-c.m"),
        ("a.b", "c.d", "a.b.c.d"),
    ] {
        assert_eq!(super::super::convert::service_name(task, framework).as_str(), wanted);
    }
    let odd = super::super::convert::service_name("日本", "marathon");
    assert!(odd.as_str().starts_with("x-") && odd.as_str().ends_with(".marathon"), "{}", odd.as_str());
    assert_ne!(odd.as_str(), super::super::convert::service_name("中国", "marathon").as_str());
}

/// Two frameworks may give the same id to a task, and have the same name.
#[test]
fn tasks_of_one_id_are_told_apart_by_framework() {
    let (first, mut second) = (fake::task("web", 1), fake::task("web", 1));
    second["framework_id"] = json!({"value": fake::framework_id(1)});
    let subscribed = json!({"get_state": {"get_tasks": {"tasks": [second, first]},
        "get_frameworks": {"frameworks": [fake::framework(0, "marathon"), fake::framework(1, "marathon")]},
        "get_agents": {"agents": [fake::agent(1)]}}})
    .to_string();
    let subscribed: wire::Subscribed<'_> = serde_json::from_str(&subscribed).unwrap();
    let mut names = Interned::default();
    let read = snapshot::of_subscribed(&subscribed, &mut names);
    let (all, _) = told(&mut of_snapshot(read, names));
    assert_eq!(all.keys().collect::<Vec<_>>(), ["web.1", "web.1@F-0001"]);
}
