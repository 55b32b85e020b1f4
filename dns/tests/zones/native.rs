//! The names of the native schema, each with its full answer.

use portolan_table::{Admission, Outside, Protocol, Service};

use crate::cluster::{Cluster, SOA, Task, config, label, service, web, zone};

#[test]
fn a_service_answers_with_its_addresses() {
    let cluster = Cluster::with(vec![web()]);
    cluster.expect(
        "web.shop.prod.svc.cluster A",
        &["NOERROR aa", "web.shop.prod.svc.cluster. 5 A 10.0.0.1", "web.shop.prod.svc.cluster. 5 A 10.0.0.2"],
    );
    cluster.expect(
        "web.shop.prod.svc.cluster AAAA",
        &["NOERROR aa", "web.shop.prod.svc.cluster. 5 AAAA 2001:db8::2"],
    );
    cluster.expect(
        "web.shop.prod.svc.cluster TXT",
        &["NOERROR aa", "web.shop.prod.svc.cluster. 5 TXT source=marathonversion=v1team=blue"],
    );
    cluster.expect("web.shop.prod.svc.cluster MX", &["NOERROR aa", SOA]);
}

#[test]
fn the_apex_has_soa_and_name_server_with_glue() {
    let cluster = Cluster::with(vec![]);
    cluster.expect(
        "svc.cluster NS",
        &[
            "NOERROR aa",
            "svc.cluster. 5 NS edge-1.node.svc.cluster.",
            "additional edge-1.node.svc.cluster. 5 A 192.0.2.1",
        ],
    );
    cluster.expect("svc.cluster SOA", &["NOERROR aa", SOA.trim_start_matches("authority ")]);
    cluster.expect("svc.cluster A", &["NOERROR aa", SOA]);
    cluster.expect("edge-1.node.svc.cluster A", &["NOERROR aa", "edge-1.node.svc.cluster. 5 A 192.0.2.1"]);
}

#[test]
fn other_names_are_not_ours() {
    let cluster = Cluster::with(vec![web()]);
    for question in [
        "example.com A",
        "cluster A",
        "xsvc.cluster A",
        "web.svc.cluster.example A",
        ". NS",
        "9.9.9.9.in-addr.arpa PTR",
        "in-addr.arpa SOA",
        "10.in-addr.arpa NS",
        "01.0.0.10.in-addr.arpa PTR",
    ] {
        assert_eq!(cluster.ask(question), "not ours", "{question}");
    }
}

#[test]
fn instances_are_reached_by_their_labels() {
    let cluster = Cluster::with(vec![web()]);
    let (one, two) = (label("web.1"), label("web.2"));
    let name = format!("{one}.inst.web.shop.prod.svc.cluster");
    cluster.expect(&format!("{name} A"), &["NOERROR aa", &format!("{name}. 5 A 10.0.0.1")]);
    cluster.expect(&format!("{name} AAAA"), &["NOERROR aa", SOA]);
    let name = format!("{two}.inst.web.shop.prod.marathon.src.svc.cluster");
    cluster.expect(&format!("{name} AAAA"), &["NOERROR aa", &format!("{name}. 5 AAAA 2001:db8::2")]);
    let name = format!("_http._tcp.{one}.inst.web.shop.prod.svc.cluster");
    let target = format!("{one}.inst.web.shop.prod.svc.cluster.");
    cluster.expect(
        &format!("{name} SRV"),
        &[
            "NOERROR aa",
            &format!("{name}. 5 SRV 0 1 8000 {target}"),
            &format!("additional {target} 5 A 10.0.0.1"),
        ],
    );
    cluster.expect("aaaaaaaaaaaaa.inst.web.shop.prod.svc.cluster A", &["NXDOMAIN aa", SOA]);
    cluster.expect(&format!("{one}.inst.web.shop.prod.vip.svc.cluster A"), &["NXDOMAIN aa", SOA]);
}

fn two_sources() -> Service {
    service("web")
        .defined_by(0, &[])
        .defined_by(1, &[])
        .port("http", Protocol::Tcp, 0)
        .member(Task {
            source: 0,
            id: "a",
            addresses: &["10.0.0.1"],
            zone: Some("Rack 7"),
            ..Task::default()
        })
        .member(Task {
            source: 1,
            id: "b",
            addresses: &["10.0.0.2"],
            zone: Some("rack-8"),
            ..Task::default()
        })
        .done()
}

#[test]
fn a_source_qualified_name_has_only_what_the_source_reports() {
    let cluster = Cluster::with(vec![two_sources()]);
    let name = "web.mesos.src.svc.cluster";
    cluster.expect(&format!("{name} A"), &["NOERROR aa", &format!("{name}. 5 A 10.0.0.2")]);
    cluster.expect(&format!("{name} TXT"), &["NOERROR aa", &format!("{name}. 5 TXT source=mesosversion=v1")]);
    let inst = portolan_table::instance_label("mesos", "b");
    cluster.expect(
        &format!("_http._tcp.{name} SRV"),
        &[
            "NOERROR aa",
            &format!("_http._tcp.{name}. 5 SRV 0 1 8000 {inst}.inst.{name}."),
            &format!("additional {inst}.inst.{name}. 5 A 10.0.0.2"),
        ],
    );
    cluster.expect(&format!("{}.inst.{name} A", label("a")), &["NXDOMAIN aa", SOA]);
    cluster.expect("web.other.src.svc.cluster A", &["NXDOMAIN aa", SOA]);
}

#[test]
fn what_is_held_apart_is_reached_by_its_source_alone() {
    let apart = Admission::Out(Outside::NotSelected);
    let cluster = Cluster::with(vec![
        service("web")
            .defined_by(0, &[])
            .defined_by(1, &[])
            .port("http", Protocol::Tcp, 0)
            .member(Task { id: "a", addresses: &["10.0.0.1"], ..Task::default() })
            .member(Task {
                source: 1,
                id: "b",
                addresses: &["10.0.0.2"],
                admission: apart,
                ..Task::default()
            })
            .done(),
    ]);
    cluster.expect("web.svc.cluster A", &["NOERROR aa", "web.svc.cluster. 5 A 10.0.0.1"]);
    cluster.expect("web.mesos.src.svc.cluster A", &["NOERROR aa", "web.mesos.src.svc.cluster. 5 A 10.0.0.2"]);
    let target = format!("{}.inst.web.mesos.src.svc.cluster.", portolan_table::instance_label("mesos", "b"));
    let name = "2.0.0.10.in-addr.arpa";
    cluster.expect(&format!("{name} PTR"), &["NOERROR aa", &format!("{name}. 5 PTR {target}")]);
    cluster.expect_code(&format!("{target} A"), "NOERROR aa");
}

#[test]
fn a_task_counted_elsewhere_has_one_reverse_name() {
    let twice = Admission::Out(Outside::Duplicate);
    let one = Task { id: "a", addresses: &["10.0.0.1"], ..Task::default() };
    let other = Task { source: 1, id: "b", admission: twice, ..one };
    let make = |name: &str, source, task| {
        service(name).defined_by(source, &[]).port("http", Protocol::Tcp, 0).member(task).done()
    };
    let cluster = Cluster::with(vec![make("web", 0, one), make("web.framework", 1, other)]);
    let (name, target) = ("1.0.0.10.in-addr.arpa", format!("{}.inst.web.svc.cluster.", label("a")));
    cluster.expect(&format!("{name} PTR"), &["NOERROR aa", &format!("{name}. 5 PTR {target}")]);
}

#[test]
fn a_zone_has_what_is_in_it() {
    let cluster = Cluster::with(vec![two_sources()]);
    let name = "web.rack-7.zone.svc.cluster";
    cluster.expect(&format!("{name} A"), &["NOERROR aa", &format!("{name}. 5 A 10.0.0.1")]);
    cluster.expect("web.rack-9.zone.svc.cluster A", &["NXDOMAIN aa", SOA]);
    cluster.expect("rack-7.zone.svc.cluster A", &["NOERROR aa", SOA]);
}

#[test]
fn vip_names_lead_to_the_proxies() {
    let cluster = Cluster::with(vec![web()]);
    let name = "web.shop.prod.vip.svc.cluster";
    cluster.expect(&format!("{name} A"), &["NOERROR aa", &format!("{name}. 5 A 192.0.2.1")]);
    cluster.expect(&format!("{name} AAAA"), &["NOERROR aa", &format!("{name}. 5 AAAA 2001:db8::1")]);
    cluster.expect(
        &format!("_http._tcp.{name} SRV"),
        &[
            "NOERROR aa",
            &format!("_http._tcp.{name}. 5 SRV 0 1 10000 {name}."),
            &format!("additional {name}. 5 A 192.0.2.1"),
            &format!("additional {name}. 5 AAAA 2001:db8::1"),
        ],
    );
    cluster.expect(&format!("_dns._udp.{name} SRV"), &["NOERROR aa", SOA]);
    cluster.expect("other.vip.svc.cluster A", &["NXDOMAIN aa", SOA]);
}

#[test]
fn reverse_names_exist_for_exactly_the_served_addresses() {
    let on_host = Task { id: "c", addresses: &["10.1.0.9"], node: Some("Node 9"), ..Task::default() };
    let mut cluster = Cluster::with(vec![
        web(),
        service("batch").defined_by(0, &[]).port("", Protocol::Tcp, 0).member(on_host).done(),
    ]);
    cluster.node("n5.example", &["10.1.0.5"]);
    let instance = format!("{}.inst.web.shop.prod.svc.cluster.", label("web.1"));
    for (address, target) in [
        ("1.0.0.10", instance.as_str()),
        ("9.0.1.10", "node-9.node.svc.cluster."),
        ("5.0.1.10", "n5-example.node.svc.cluster."),
        ("1.2.0.192", "edge-1.node.svc.cluster."),
    ] {
        let name = format!("{address}.in-addr.arpa");
        cluster.expect(&format!("{name} PTR"), &["NOERROR aa", &format!("{name}. 5 PTR {target}")]);
    }
    cluster.expect("node-9.node.svc.cluster A", &["NOERROR aa", "node-9.node.svc.cluster. 5 A 10.1.0.9"]);
    let name = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
    let instance = format!("{}.inst.web.shop.prod.svc.cluster.", label("web.2"));
    cluster.expect(&format!("{name} PTR"), &["NOERROR aa", &format!("{name}. 5 PTR {instance}")]);
    // Each such name is a zone of its own: other types get its SOA.
    let soa = SOA.trim_start_matches("authority svc.cluster.");
    let name = "1.0.0.10.in-addr.arpa";
    cluster.expect(&format!("{name} A"), &["NOERROR aa", &format!("authority {name}.{soa}")]);
    cluster.expect(&format!("{name} SOA"), &["NOERROR aa", &format!("{name}.{soa}")]);
    cluster.remove("web.shop.prod");
    assert_eq!(cluster.ask("1.0.0.10.in-addr.arpa PTR"), "not ours");
}

#[test]
fn a_shared_host_keeps_its_names_until_the_last_instance_leaves() {
    let task = |id| Task { id, addresses: &["10.1.0.9"], node: Some("n9"), ..Task::default() };
    let make = |name, tasks: &[&'static str]| {
        let maker = service(name).defined_by(0, &[]).port("", Protocol::Tcp, 0);
        tasks.iter().fold(maker, |maker, id| maker.member(task(id))).done()
    };
    let mut cluster = Cluster::with(vec![make("a", &["1", "2"]), make("b", &["3"])]);
    let ptr = ["NOERROR aa", "9.0.1.10.in-addr.arpa. 5 PTR n9.node.svc.cluster."];
    cluster.expect("9.0.1.10.in-addr.arpa PTR", &ptr);
    cluster.expect("a.svc.cluster A", &["NOERROR aa", "a.svc.cluster. 5 A 10.1.0.9"]);
    cluster.remove("b");
    cluster.put(vec![make("a", &["2"])]);
    cluster.expect("9.0.1.10.in-addr.arpa PTR", &ptr);
    cluster.put(vec![make("a", &[])]);
    assert_eq!(cluster.ask("9.0.1.10.in-addr.arpa PTR"), "not ours");
    cluster.expect("n9.node.svc.cluster A", &["NXDOMAIN aa", SOA]);
}

#[test]
fn who_is_out_is_in_no_answer() {
    let out = |id, admission| Task { id, addresses: &["10.0.0.7"], admission, ..Task::default() };
    let cluster = Cluster::with(vec![
        service("web")
            .defined_by(0, &[])
            .port("http", Protocol::Tcp, 0)
            .member(out("a", Admission::Out(Outside::Unhealthy)))
            .member(out("b", Admission::Out(Outside::Ending)))
            .member(out("c", Admission::Out(Outside::NotRunning)))
            .done(),
        service("panic")
            .defined_by(0, &[])
            .port("http", Protocol::Tcp, 0)
            .member(out("a", Admission::Panic))
            .done(),
    ]);
    for question in ["web.svc.cluster A", "_http._tcp.web.svc.cluster SRV", "web.marathon.src.svc.cluster A"]
    {
        cluster.expect(question, &["NOERROR aa", SOA]);
    }
    cluster.expect(&format!("{}.inst.web.svc.cluster A", label("a")), &["NXDOMAIN aa", SOA]);
    cluster.expect("panic.svc.cluster A", &["NOERROR aa", "panic.svc.cluster. 5 A 10.0.0.7"]);
}

#[test]
fn members_without_ports_answer_with_their_preferred_address() {
    let cluster = Cluster::with(vec![
        service("job").defined_by(0, &[]).instance("j", &["10.0.0.8", "10.0.0.9"]).done(),
    ]);
    cluster.expect("job.svc.cluster A", &["NOERROR aa", "job.svc.cluster. 5 A 10.0.0.8"]);
    cluster.expect("_any._tcp.job.svc.cluster SRV", &["NXDOMAIN aa", SOA]);
}

#[test]
fn a_reserved_last_label_wins_and_is_reported() {
    let make = |name: &str| {
        service(name).defined_by(0, &[]).port("http", Protocol::Tcp, 0).instance("x", &["10.0.0.1"]).done()
    };
    let mut cluster = Cluster::with(["a.src", "a.inst", "a.zone", "a.vip", "a.node", "b"].map(make).into());
    for label in ["src", "inst", "zone", "vip", "node"] {
        cluster.expect(&format!("a.{label}.svc.cluster A"), &["NXDOMAIN aa", SOA]);
        let name = format!("a.{label}.marathon.src.svc.cluster");
        cluster.expect(&format!("{name} A"), &["NOERROR aa", &format!("{name}. 5 A 10.0.0.1")]);
    }
    let pointers = cluster.ask("1.0.0.10.in-addr.arpa PTR");
    assert_eq!(pointers.lines().count(), 7, "{pointers}");
    for line in pointers.lines().skip(1) {
        let target = line.rsplit(' ').next().unwrap();
        cluster.expect(&format!("{target} A"), &["NOERROR aa", &format!("{target} 5 A 10.0.0.1")]);
    }
    cluster.zones(|zones| {
        assert_eq!(zones.problems().len(), 5);
        assert!(zones.problems().iter().all(|problem| problem.to_string().contains("reserved")));
    });
    let reserved = cluster.registry.gather().iter().any(|family| {
        family.name() == "portolan_dns_zone_problems"
            && family.get_metric().iter().any(|metric| metric.get_gauge().get_value() == 5.0)
    });
    assert!(reserved);
    cluster.remove("a.vip");
    cluster.zones(|zones| assert_eq!(zones.problems().len(), 4));
}

#[test]
fn names_that_do_not_fit_are_left_out_alone_and_reported() {
    let long = [&"a".repeat(60), "b", &"c".repeat(60), &"d".repeat(56)].map(str::to_owned).join(".");
    let mut cluster = Cluster::new(&{
        let mut config = config();
        config.zones = vec![zone(&format!("{}.example", "z".repeat(50)), &[])];
        config
    });
    let make = service(&long).defined_by(0, &[]).port("http", Protocol::Tcp, 0);
    cluster.put(vec![make.instance("x", &["10.0.0.1"]).done(), web()]);
    let apex = format!("{}.example", "z".repeat(50));
    cluster.expect(&format!("{long}.{apex} A"), &["NOERROR aa", &format!("{long}.{apex}. 5 A 10.0.0.1")]);
    cluster.expect_code(&format!("_any._tcp.{long}.{apex} SRV"), "NXDOMAIN aa");
    cluster.expect_code(&format!("web.shop.prod.{apex} A"), "NOERROR aa");
    cluster.zones(|zones| {
        let kinds: Vec<&str> = zones.problems().iter().map(|problem| problem.kind.as_str()).collect();
        assert!(kinds.contains(&"instance_name_too_long"), "{kinds:?}");
    });
}

#[test]
fn a_zone_may_be_held_to_some_sources() {
    let mut config = config();
    config.zones = vec![zone("svc.cluster", &["mesos"])];
    let mut cluster = Cluster::new(&config);
    let other = service("only.marathon").defined_by(0, &[]).instance("m", &["10.0.0.3"]).done();
    cluster.put(vec![two_sources(), other]);
    cluster.expect("web.svc.cluster A", &["NOERROR aa", "web.svc.cluster. 5 A 10.0.0.2"]);
    cluster.expect("only.marathon.svc.cluster A", &["NXDOMAIN aa", SOA]);
}

#[test]
fn nested_zones_answer_by_the_longest_apex() {
    let mut config = config();
    config.zones = vec![zone("cluster", &[]), zone("svc.cluster", &[])];
    let mut cluster = Cluster::new(&config);
    cluster.put(vec![service("web").defined_by(0, &[]).instance("a", &["10.0.0.1"]).done()]);
    cluster.expect("web.svc.cluster A", &["NOERROR aa", "web.svc.cluster. 5 A 10.0.0.1"]);
    cluster.expect("web.cluster A", &["NOERROR aa", "web.cluster. 5 A 10.0.0.1"]);
    assert!(cluster.ask("nope.svc.cluster A").contains("authority svc.cluster."));
    assert!(cluster.ask("nope.cluster A").contains("authority cluster."));
}

#[test]
fn services_may_look_like_prefixes() {
    // `x.inst.web` and `_http._tcp.web` are services here, beside a service `web` without such names.
    let make = |name: &str, ip: &str| service(name).defined_by(0, &[]).instance("i", &[ip]).done();
    let cluster = Cluster::with(vec![
        make("web", "10.0.0.1"),
        make("x.inst.web", "10.0.0.2"),
        make("_http._tcp.web", "10.0.0.3"),
    ]);
    cluster.expect("x.inst.web.svc.cluster A", &["NOERROR aa", "x.inst.web.svc.cluster. 5 A 10.0.0.2"]);
    cluster
        .expect("_http._tcp.web.svc.cluster A", &["NOERROR aa", "_http._tcp.web.svc.cluster. 5 A 10.0.0.3"]);
}

#[test]
fn a_service_stands_where_another_one_has_an_empty_name() {
    let web = || service("web").defined_by(0, &[]).port("http", Protocol::Tcp, 0);
    let make = |name: &str, ip: &str| service(name).defined_by(0, &[]).instance("i", &[ip]).done();
    let cluster = Cluster::with(vec![
        web().instance("a", &["10.0.0.1"]).done(),
        make("inst.web", "10.0.0.2"),
        make("_tcp.web", "10.0.0.3"),
    ]);
    for (name, ip) in [("inst.web", "10.0.0.2"), ("_tcp.web", "10.0.0.3")] {
        for name in [format!("{name}.svc.cluster"), format!("{name}.marathon.src.svc.cluster")] {
            cluster.expect(&format!("{name} A"), &["NOERROR aa", &format!("{name}. 5 A {ip}")]);
        }
    }
    cluster.expect(&format!("{}.inst.inst.web.svc.cluster TXT", label("i")), &["NOERROR aa", SOA]);
}

#[test]
fn records_turn_with_the_rotation() {
    let cluster = Cluster::with(vec![web()]);
    let query = crate::cluster::query("web.shop.prod.svc.cluster", "A", None);
    let first = |rotation| cluster.reply(&query, rotation).unwrap().answers[0].data.to_string();
    let seen: std::collections::BTreeSet<String> = (0..4).map(first).collect();
    assert_eq!(seen.len(), 2);
}
