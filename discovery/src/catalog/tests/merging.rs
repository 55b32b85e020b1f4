//! Several sources, one name.

use super::*;
use crate::catalog::failover::RETURN_AFTER;

fn two(first: SourceConfig, second: SourceConfig) -> Rig {
    let mut rig = Rig::new(vec![first, second]);
    rig.list(0, vec![(spec("/web", "web"), vec![healthy("x", 1)])]);
    rig.list(1, vec![(spec("web", "web"), vec![healthy("y", 2)])]);
    rig
}

fn set(rig: &mut Rig, feed: u16, key: &str, id: &str, health: Health) {
    rig.tell(feed, Change::Health { service: key.into(), id: id.into(), health });
}

#[test]
fn union_takes_all() {
    let mut rig = two(source(0, "a"), source(1, "b"));
    assert_eq!(rig.live("web"), ["10.0.0.1:8000", "10.0.0.2:8000"]);
    set(&mut rig, 0, "/web", "x", Health::Unhealthy);
    assert_eq!(rig.live("web"), ["10.0.0.2:8000"], "panic is decided over the whole service");
}

#[test]
fn isolate_holds_a_part_back() {
    let isolated = SourceConfig { merge: MergePolicy::Isolate, ..source(1, "b") };
    let mut rig = two(source(0, "a"), isolated);
    assert_eq!(rig.live("web"), ["10.0.0.1:8000"]);
    assert_eq!(rig.members("web")[1], ("y".to_owned(), out(Outside::NotSelected)));
    set(&mut rig, 0, "/web", "x", Health::Unhealthy);
    assert_eq!(rig.live("web"), ["10.0.0.1:8000"], "panic of its own: the isolated part doesn't help");
    let service = rig.get("web").unwrap();
    assert_eq!(service.ports[0].endpoints.len(), 2, "the part is there for its qualified names");
}

#[test]
fn a_definition_overrides_the_policy_of_its_source() {
    let mut rig = two(source(0, "a"), source(1, "b"));
    let own = ServiceSpec { merge: Some(MergePolicy::Isolate), ..spec("web", "web") };
    rig.service(1, own, vec![healthy("y", 2)]);
    assert_eq!(rig.live("web"), ["10.0.0.1:8000"]);
}

fn failing_over() -> Rig {
    let ordered = |priority, config| SourceConfig { merge: MergePolicy::Failover, priority, ..config };
    two(ordered(2, source(0, "second")), ordered(1, source(1, "first")))
}

#[test]
fn failover_uses_the_best_that_has_one_and_comes_back_late() {
    let mut rig = failing_over();
    assert_eq!(rig.live("web"), ["10.0.0.2:8000"]);
    assert_eq!(rig.members("web")[0].1, out(Outside::NotSelected));
    assert_eq!(rig.get("web").unwrap().specs[0].0, SourceId(1), "definitions by priority");
    set(&mut rig, 1, "web", "y", Health::Unhealthy);
    assert_eq!(rig.live("web"), ["10.0.0.1:8000"]);
    set(&mut rig, 1, "web", "y", Health::Healthy);
    assert_eq!(rig.live("web"), ["10.0.0.1:8000"], "not back at once");
    rig.pass(RETURN_AFTER - Duration::from_secs(1));
    assert_eq!(rig.live("web"), ["10.0.0.1:8000"]);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.live("web"), ["10.0.0.2:8000"], "back after it has been good for a while, by time alone");
}

#[test]
fn a_stale_source_is_not_a_dead_one() {
    let mut rig = failing_over();
    assert_eq!(rig.live("web"), ["10.0.0.2:8000"]);
    rig.tell(1, lost());
    assert_eq!(rig.live("web"), ["10.0.0.2:8000"]);
}

#[test]
fn with_nothing_healthy_anywhere_the_best_unhealthy_are_used() {
    let mut rig = failing_over();
    set(&mut rig, 1, "web", "y", Health::Unhealthy);
    set(&mut rig, 0, "/web", "x", Health::Unhealthy);
    assert_eq!(rig.live("web"), ["10.0.0.2:8000"]);
    assert_eq!(rig.members("web")[1].1, Admission::Panic);
}

#[test]
fn one_task_seen_twice_counts_once() {
    let correlated = |id: &str, last, health| Instance {
        correlation: Some("mesos-task".into()),
        ..instance(id, last, 8000, health)
    };
    let mesos = || ServiceSpec { checks_defined: false, ..spec("m", "web") };
    let mut rig = Rig::new(vec![source(0, "mesos"), source(1, "marathon")]);
    rig.list(0, vec![(mesos(), vec![instance("mesos-task", 1, 8000, Health::Unknown)])]);
    rig.list(1, vec![(spec("/web", "web"), vec![correlated("marathon-id", 1, Health::Unknown)])]);
    assert_eq!(
        rig.members("web"),
        [("mesos-task".to_owned(), IN), ("marathon-id".to_owned(), out(Outside::NoVerdict))]
    );
    rig.list(1, vec![(spec("/web", "web"), vec![correlated("marathon-id", 1, Health::Healthy)])]);
    assert_eq!(
        rig.members("web"),
        [("mesos-task".to_owned(), out(Outside::Duplicate)), ("marathon-id".to_owned(), IN)],
        "the view that carries a verdict counts"
    );
    assert_eq!(rig.live("web").len(), 1);
    set(&mut rig, 1, "/web", "marathon-id", Health::Unhealthy);
    assert_eq!(rig.live("web").len(), 1, "panic");
    rig.list(0, vec![(mesos(), vec![healthy("mesos-task", 1)])]);
    set(&mut rig, 1, "/web", "marathon-id", Health::Healthy);
    assert_eq!(rig.members("web")[0].1, IN, "two verdicts: the source that goes first");
    assert_eq!(rig.members("web")[1].1, out(Outside::Duplicate));
    rig.tell(0, Change::RemoveService { service: "m".into() });
    assert_eq!(rig.members("web"), [("marathon-id".to_owned(), IN)]);
}

#[test]
fn ports_go_together_by_name_and_transport_else_by_index() {
    let port = |number, name: Option<&str>, protocol| PortSpec {
        number,
        name: name.map(Into::into),
        protocol,
        ..PortSpec::default()
    };
    let tcp = Protocol::Tcp;
    let with = |key: &str, ports: Vec<PortSpec>| ServiceSpec { ports: ports.into(), ..spec(key, "web") };
    let ports = |first: Vec<PortSpec>, second: Vec<PortSpec>| {
        let mut rig = Rig::new(vec![source(0, "a"), source(1, "b")]);
        let all = |n: usize, last| {
            let mut i = healthy(&format!("x{last}"), last);
            let ends = (0..n).map(|p| InstanceEndpoint {
                port_index: u16::try_from(p).unwrap(),
                address_index: 0,
                number: 8000 + u16::try_from(p).unwrap(),
            });
            i.endpoints = ends.collect();
            i
        };
        let (n, m) = (first.len(), second.len());
        rig.list(0, vec![(with("/a", first), vec![all(n, 1)])]);
        rig.list(1, vec![(with("/b", second), vec![all(m, 2)])]);
        let service = rig.get("web").unwrap();
        let show = |port: &portolan_table::ServicePort| {
            let live: Vec<_> = port.live().iter().map(|e| e.address.to_string()).collect();
            format!("{} {} {}", port.name.as_deref().unwrap_or("-"), port.number, live.join(" "))
        };
        service.ports.iter().map(show).collect::<Vec<_>>()
    };
    assert_eq!(
        ports(
            vec![port(80, Some("http"), tcp), port(90, Some("admin"), tcp)],
            vec![port(91, Some("admin"), tcp), port(0, Some("http"), tcp)],
        ),
        ["http 80 10.0.0.1:8000 10.0.0.2:8001", "admin 90 10.0.0.1:8001 10.0.0.2:8000"],
        "by name, in the order of the better"
    );
    assert_eq!(
        ports(vec![port(0, None, tcp)], vec![port(80, Some("http"), tcp)]),
        ["http 80 10.0.0.1:8000 10.0.0.2:8000"],
        "a port without a name goes with the one at its index, and takes what it lacks"
    );
    assert_eq!(
        ports(vec![port(53, Some("dns"), tcp)], vec![port(53, Some("dns"), UDP)]),
        ["dns 53 10.0.0.1:8000", "dns 53 10.0.0.2:8000"],
        "another transport is another port"
    );
    assert_eq!(
        ports(vec![port(80, Some("http"), tcp)], vec![port(81, Some("other"), tcp)]),
        ["http 80 10.0.0.1:8000", "other 81 10.0.0.2:8000"]
    );
    assert_eq!(
        ports(vec![port(1, Some("p"), tcp), port(2, Some("p"), tcp)], vec![]),
        ["p 1 10.0.0.1:8000", "p 2 10.0.0.1:8001"],
        "two ports of one definition never become one"
    );
}

#[test]
fn an_endpoint_that_leads_nowhere_is_left_out() {
    let mut rig = Rig::new(vec![source(0, "a")]);
    let mut odd = healthy("x", 1);
    odd.endpoints.push(InstanceEndpoint { port_index: 9, address_index: 0, number: 1 });
    odd.endpoints.push(InstanceEndpoint { port_index: 0, address_index: 9, number: 2 });
    rig.list(0, vec![(spec("/web", "web"), vec![odd])]);
    assert_eq!(rig.live("web"), ["10.0.0.1:8000"]);
}

#[test]
fn weights_are_seen_where_they_differ() {
    let mut rig = Rig::new(vec![source(0, "a")]);
    rig.list(0, vec![(spec("/web", "web"), vec![healthy("x", 1), healthy("y", 2)])]);
    assert!(!rig.get("web").unwrap().ports[0].weighted);
    let heavy = Instance { weight: 3, ..healthy("y", 2) };
    rig.tell(0, Change::Instance { service: "/web".into(), instance: Arc::new(heavy) });
    assert!(rig.get("web").unwrap().ports[0].weighted);
}
