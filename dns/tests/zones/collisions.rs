//! Names that become one label: who keeps it does not depend on the order of events, and the others are reported.

use std::collections::BTreeSet;

use portolan_dns::{ZoneBuilder, ZoneMetrics};
use portolan_table::{ChangeSet, Protocol, Publisher, SourceId, SourceStatus, Standing};
use prometheus::Registry;

use crate::cluster::{Cluster, Task, config, label, service, zone};

/// What the zones complain of, as (kind, subject, detail).
fn problems(cluster: &Cluster) -> Vec<(&'static str, String, String)> {
    cluster.zones(|zones| {
        let told =
            |p: &portolan_dns::zone::Problem| (p.kind.as_str(), p.subject.to_string(), p.detail.to_string());
        zones.problems().iter().map(told).collect()
    })
}

fn told(kind: &'static str, subject: &str, detail: &str) -> (&'static str, String, String) {
    (kind, subject.to_owned(), detail.to_owned())
}

#[test]
fn nodes_of_one_label_are_not_mixed() {
    let name = "n-1.node.svc.cluster";
    for order in [["n-1", "n.1"], ["n.1", "n-1"]] {
        let mut cluster = Cluster::with(vec![]);
        for node in order {
            cluster.node(node, if node == "n-1" { &["10.1.0.1"] } else { &["10.1.0.2"] });
        }
        cluster.expect(&format!("{name} A"), &["NOERROR aa", &format!("{name}. 5 A 10.1.0.1")]);
        assert_eq!(problems(&cluster), [told("node_label", "n-1", "n.1")]);
        let mut gone = ChangeSet::default();
        gone.remove_node("n-1".into());
        cluster.publisher.apply(gone);
        cluster.expect(&format!("{name} A"), &["NOERROR aa", &format!("{name}. 5 A 10.1.0.2")]);
        assert_eq!(problems(&cluster), []);
    }
}

#[test]
fn a_node_told_of_by_instances_and_in_other_case_is_one() {
    let task = |id, node| Task { id, addresses: &["10.1.0.9"], node: Some(node), ..Task::default() };
    let web = || service("web").defined_by(0, &[]).port("http", Protocol::Tcp, 0);
    let mut cluster = Cluster::with(vec![web().member(task("a", "N9")).member(task("b", "n9")).done()]);
    cluster.node("n9", &["10.1.0.9", "10.2.0.9"]);
    assert_eq!(problems(&cluster), []);
    let name = "n9.node.svc.cluster";
    let both = [format!("{name}. 5 A 10.1.0.9"), format!("{name}. 5 A 10.2.0.9")];
    cluster.expect(&format!("{name} A"), &["NOERROR aa", &both[0], &both[1]]);
}

#[test]
fn this_edge_keeps_its_label() {
    let mut cluster = Cluster::with(vec![]);
    // "edge 1" is before "edge-1" by name.
    cluster.node("edge 1", &["10.1.0.1"]);
    let name = "edge-1.node.svc.cluster";
    cluster.expect(&format!("{name} A"), &["NOERROR aa", &format!("{name}. 5 A 192.0.2.1")]);
    assert_eq!(problems(&cluster), [told("node_label", "edge-1", "edge 1")]);
}

#[test]
fn zones_of_one_label_are_not_mixed() {
    let task = |id, ip: &'static [&'static str], zone| Task {
        id,
        addresses: ip,
        zone: Some(zone),
        ..Task::default()
    };
    let web = |tasks: &[Task<'_>]| {
        let maker = service("web").defined_by(0, &[]).port("http", Protocol::Tcp, 0);
        tasks.iter().fold(maker, |maker, task| maker.member(*task)).done()
    };
    let spaced = task("a", &["10.0.0.1"], "Rack 7");
    let dashed = task("b", &["10.0.0.2"], "rack-7");
    let other_case = task("c", &["10.0.0.3"], "RACK-7");
    let mut cluster = Cluster::with(vec![web(&[spaced, dashed, other_case])]);
    let name = "web.rack-7.zone.svc.cluster";
    cluster.expect(&format!("{name} A"), &["NOERROR aa", &format!("{name}. 5 A 10.0.0.1")]);
    let [(kind, subject, detail)] = &problems(&cluster)[..] else { panic!("{:?}", problems(&cluster)) };
    assert_eq!((*kind, subject.as_str()), ("zone_label", "web"));
    assert!(detail.eq_ignore_ascii_case("rack-7"), "{detail}");
    cluster.put(vec![web(&[dashed, other_case])]);
    let both = [format!("{name}. 5 A 10.0.0.2"), format!("{name}. 5 A 10.0.0.3")];
    cluster.expect(&format!("{name} A"), &["NOERROR aa", &both[0], &both[1]]);
    assert_eq!(problems(&cluster), []);
}

#[test]
fn a_port_without_a_label_of_its_own_has_its_number() {
    let long = "p".repeat(63);
    let names = ["http", "HTTP", "any", "port0", "port4", long.as_str()];
    let maker = names
        .iter()
        .fold(service("web").defined_by(0, &[]), |maker, name| maker.port(name, Protocol::Tcp, 0));
    // The same label for the other transport is another name.
    let maker = maker.port("http", Protocol::Udp, 0).instance("a", &["10.0.0.1"]);
    let cluster = Cluster::with(vec![maker.done()]);
    let expected = ["HTTP", "any", "port0", long.as_str()].map(|name| told("port_label", "web", name));
    assert_eq!(problems(&cluster), expected);
    for (port, number) in [
        ("_http._tcp", 8000),
        ("_port0._tcp", 8000),
        ("_port1._tcp", 8001),
        ("_port4._tcp", 8004),
        ("_http._udp", 8006),
    ] {
        let (name, target) =
            (format!("{port}.web.svc.cluster"), format!("{}.inst.web.svc.cluster.", label("a")));
        let answer = cluster.ask(&format!("{name} SRV"));
        assert!(answer.contains(&format!("{name}. 5 SRV 0 1 {number} {target}")), "{answer}");
    }
}

fn named_sources(names: &[&str]) -> ChangeSet {
    let mut change = ChangeSet::default();
    let status = |(id, name): (usize, &&str)| SourceStatus {
        id: SourceId(id as u16),
        name: (*name).into(),
        kind: "file",
        standing: Standing::Synced,
        required: true,
        has_data: true,
    };
    change.set_sources(names.iter().enumerate().map(status).collect());
    change
}

#[test]
fn sources_of_one_label_are_not_mixed_and_none_is_lost() {
    let mut cluster = Cluster::with(vec![]);
    cluster.publisher.apply(named_sources(&["a--b", "a-b", "--"]));
    let web = service("web").defined_by(0, &[]).defined_by(1, &[]).defined_by(2, &[]).port(
        "http",
        Protocol::Tcp,
        0,
    );
    let task = |source, id, ip| Task { source, id, addresses: ip, ..Task::default() };
    let web = web.member(task(0, "x", &["10.0.0.1"])).member(task(1, "x", &["10.0.0.2"]));
    cluster.put(vec![web.member(task(2, "x", &["10.0.0.3"])).done()]);
    let answer = cluster.ask("web.svc.cluster A");
    assert_eq!(answer.lines().count(), 4, "{answer}");
    let name = "web.a-b.src.svc.cluster";
    cluster.expect(&format!("{name} A"), &["NOERROR aa", &format!("{name}. 5 A 10.0.0.1")]);
    assert_eq!(problems(&cluster), [told("source_label", "a-b", "a-b"), told("source_label", "--", "")]);
    cluster.publisher.apply(named_sources(&["a--b", "b", "c"]));
    cluster.expect_code("web.b.src.svc.cluster A", "NOERROR aa");
    assert_eq!(problems(&cluster), []);
}

#[test]
fn series_of_a_zone_go_with_it() {
    let registry = Registry::new();
    let metrics = ZoneMetrics::register(&registry).unwrap();
    let mut publisher = Publisher::new();
    let mut config = config();
    config.zones = vec![zone("old.example", &[]), zone("kept.example", &[])];
    let key = publisher.add_view(ZoneBuilder::new(&config, metrics.clone()));
    config.zones = vec![zone("kept.example", &[]), zone("new.example", &[])];
    publisher.replace_view(key, ZoneBuilder::new(&config, metrics));
    let families = registry.gather();
    let zones: BTreeSet<&str> = families
        .iter()
        .flat_map(|family| family.get_metric())
        .flat_map(|metric| metric.get_label())
        .filter(|label| label.name() == "zone")
        .map(|label| label.value())
        .collect();
    assert_eq!(zones, BTreeSet::from(["kept.example", "new.example"]));
}
