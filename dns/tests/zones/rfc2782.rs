//! RFC 2782: service locations.

use portolan_table::Protocol;

use crate::cluster::{Cluster, SOA, Task, label, query, service, web};

#[test]
fn named_numbered_and_any_ports_have_records_with_additional_addresses() {
    let cluster = Cluster::with(vec![web()]);
    let base = "web.shop.prod.svc.cluster";
    let mut labels = [label("web.1"), label("web.2")];
    labels.sort();
    for prefix in ["_http._tcp", "_port0._tcp", "_any._tcp"] {
        let name = format!("{prefix}.{base}");
        let mut lines = vec!["NOERROR aa".to_owned()];
        lines.extend(labels.iter().map(|label| format!("{name}. 5 SRV 0 1 8000 {label}.inst.{base}.")));
        for instance in &labels {
            let owner = format!("additional {instance}.inst.{base}. 5");
            if *instance == label("web.1") {
                lines.push(format!("{owner} A 10.0.0.1"));
            } else {
                lines.extend([format!("{owner} A 10.0.0.2"), format!("{owner} AAAA 2001:db8::2")]);
            }
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        cluster.expect(&format!("{name} SRV"), &lines);
    }
    let udp = cluster.ask(&format!("_port1._udp.{base} SRV"));
    assert!(udp.contains(" SRV 0 1 8001 "), "{udp}");
}

#[test]
fn any_has_the_targets_of_all_ports_and_each_address_once() {
    let cluster = Cluster::with(vec![
        service("web")
            .defined_by(0, &[])
            .port("http", Protocol::Tcp, 0)
            .port("admin", Protocol::Tcp, 0)
            .instance("a", &["10.0.0.1"])
            .done(),
    ]);
    let reply = cluster.reply(&query("_any._tcp.web.svc.cluster", "SRV", Some(1232)), 0).unwrap();
    assert_eq!((reply.answers.len(), reply.additionals.len()), (2, 1));
}

#[test]
fn weights_are_those_of_the_instances() {
    let task = |id, weight| Task { id, addresses: &["10.0.0.1"], weight, ..Task::default() };
    let cluster = Cluster::with(vec![
        service("web")
            .defined_by(0, &[])
            .port("http", Protocol::Tcp, 0)
            .member(task("a", 10))
            .member(task("b", 1))
            .done(),
    ]);
    let answer = cluster.ask("_http._tcp.web.svc.cluster SRV");
    assert!(answer.contains(&format!("SRV 0 10 8000 {}", label("a"))), "{answer}");
    assert!(answer.contains(&format!("SRV 0 1 8000 {}", label("b"))), "{answer}");
}

#[test]
fn targets_are_not_compressed() {
    let cluster = Cluster::with(vec![web()]);
    let reply = cluster.octets(&query("_http._tcp.web.shop.prod.svc.cluster", "SRV", None), 0).unwrap();
    let target = format!("\x0d{}\x04inst\x03web\x04shop\x04prod\x03svc\x07cluster\0", label("web.1"));
    assert!(reply.windows(target.len()).any(|window| window == target.as_bytes()));
}

#[test]
fn ports_named_like_a_protocol_are_ports() {
    let cluster = Cluster::with(vec![
        service("web")
            .defined_by(0, &[])
            .port("tcp", Protocol::Tcp, 0)
            .port("udp", Protocol::Tcp, 0)
            .port("tcp", Protocol::Udp, 0)
            .instance("a", &["10.0.0.1"])
            .done(),
    ]);
    let instance = format!("{}.inst.web.svc.cluster", label("a"));
    for (port, number) in [("_tcp._tcp", 8000), ("_udp._tcp", 8001), ("_tcp._udp", 8002)] {
        for below in ["web.svc.cluster", "web.marathon.src.svc.cluster", &instance] {
            let name = format!("{port}.{below}");
            let answer = cluster.ask(&format!("{name} SRV"));
            assert!(answer.contains(&format!("{name}. 5 SRV 0 1 {number} ")), "{name}: {answer}");
        }
    }
    cluster.expect("_udp._udp.web.svc.cluster SRV", &["NXDOMAIN aa", SOA]);
    cluster.expect("_tcp.web.svc.cluster SRV", &["NOERROR aa", SOA]);
}

#[test]
fn a_service_named_like_a_protocol_has_names_of_its_own() {
    let named = |name| service(name).defined_by(0, &[]).port("http", Protocol::Tcp, 0);
    let cluster = Cluster::with(vec![
        named("web").instance("a", &["10.0.0.1"]).done(),
        named("_tcp.web").instance("b", &["10.0.0.2"]).done(),
    ]);
    cluster.expect_code("_tcp.web.svc.cluster A", "NOERROR aa");
    cluster.expect("_tcp._tcp.web.svc.cluster SRV", &["NOERROR aa", SOA]);
    let answer = cluster.ask("_http._tcp._tcp.web.svc.cluster SRV");
    assert!(answer.contains(&label("b")), "{answer}");
}

#[test]
fn an_underscore_alone_names_no_port() {
    let cluster = Cluster::with(vec![
        service("web")
            .defined_by(0, &[])
            .port("", Protocol::Tcp, 0)
            .port("http", Protocol::Tcp, 0)
            .instance("a", &["10.0.0.1"])
            .done(),
    ]);
    for below in ["web.svc.cluster", "web.vip.svc.cluster", &format!("{}.inst.web.svc.cluster", label("a"))] {
        cluster.expect(&format!("_._tcp.{below} SRV"), &["NXDOMAIN aa", SOA]);
        cluster.expect_code(&format!("_port0._tcp.{below} SRV"), "NOERROR aa");
    }
}
