//! DESIGN §7: what a source that has not spoken might hold is SERVFAIL, never "no such name".

use portolan_dns::wire::{name_to_text, reverse_name};
use portolan_table::{Admission, Outside, Protocol};

use crate::cluster::{Cluster, SOA, Task, config, service, web, zone};

#[test]
fn unknown_names_are_servfail_until_every_required_source_has_data() {
    let mut cluster = Cluster::with(vec![web()]);
    cluster.sources(false);
    cluster.expect("nope.svc.cluster A", &["SERVFAIL"]);
    cluster.expect("shop.prod.svc.cluster A", &["SERVFAIL"]);
    cluster.expect_code("web.shop.prod.svc.cluster A", "NOERROR aa");
    cluster.expect("web.shop.prod.svc.cluster MX", &["NOERROR aa", SOA]);
    cluster.expect_code("svc.cluster SOA", "NOERROR aa");
    cluster.sources(true);
    cluster.expect("nope.svc.cluster A", &["NXDOMAIN aa", SOA]);
    cluster.expect("shop.prod.svc.cluster A", &["NOERROR aa", SOA]);
}

#[test]
fn a_zone_waits_only_for_the_sources_it_shows() {
    let mut config = config();
    config.zones = vec![zone("marathon.example", &["marathon"]), zone("all.example", &[])];
    let mut cluster = Cluster::new(&config);
    // The first source has data, the second has not.
    cluster.sources(false);
    cluster.expect_code("nope.marathon.example A", "NXDOMAIN aa");
    cluster.expect_code("nope.all.example A", "SERVFAIL");
}

#[test]
fn a_service_without_endpoints_has_no_data_and_a_removed_one_no_name() {
    let empty = service("web").defined_by(0, &[]).port("http", Protocol::Tcp, 80).done();
    let mut cluster = Cluster::with(vec![empty]);
    cluster.expect("web.svc.cluster A", &["NOERROR aa", SOA]);
    cluster.expect("_http._tcp.web.svc.cluster SRV", &["NOERROR aa", SOA]);
    cluster.remove("web");
    cluster.expect("web.svc.cluster A", &["NXDOMAIN aa", SOA]);
}

#[test]
fn private_addresses_are_not_asked_for_elsewhere_until_every_required_source_has_data() {
    let reverse = |address: &str| name_to_text(&reverse_name(address.parse().unwrap()));
    let mut cluster = Cluster::with(vec![web()]);
    let private = [
        "10.9.9.9",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "169.254.0.1",
        "fc00::1",
        "fdff::1",
        "::1",
        "fe80::1",
    ];
    let public =
        ["9.9.9.9", "172.32.0.1", "100.63.0.1", "100.128.0.1", "192.169.0.1", "2001:db8::9", "fec0::1"];
    for complete in [false, true] {
        cluster.sources(complete);
        for address in private {
            let expected = if complete { "not ours" } else { "SERVFAIL" };
            cluster.expect(&format!("{} PTR", reverse(address)), &[expected]);
        }
        for address in public {
            cluster.expect(&format!("{} PTR", reverse(address)), &["not ours"]);
        }
        cluster.expect_code(&format!("{} PTR", reverse("10.0.0.1")), "NOERROR aa");
        cluster.expect("10.in-addr.arpa SOA", &["not ours"]);
    }
}

#[test]
fn a_service_without_endpoints_may_have_some_of_a_source_that_has_not_spoken() {
    let down = Task {
        id: "a",
        addresses: &["10.0.0.1"],
        zone: Some("rack-1"),
        admission: Admission::Out(Outside::Unhealthy),
        ..Task::default()
    };
    let maker = |name| service(name).defined_by(0, &[]).port("http", Protocol::Tcp, 80);
    let mut cluster = Cluster::with(vec![
        maker("idle").done(),
        maker("down").member(down).done(),
        maker("web").port("admin", Protocol::Udp, 81).instance("b", &["10.0.0.2"]).done(),
    ]);
    let no_data: &[&str] = &["NOERROR aa", SOA];
    for complete in [false, true] {
        cluster.sources(complete);
        let open: &[&str] = if complete { no_data } else { &["SERVFAIL"] };
        for name in ["idle", "down"] {
            for kind in ["A", "AAAA"] {
                cluster.expect(&format!("{name}.svc.cluster {kind}"), open);
                cluster.expect(&format!("{name}.marathon.src.svc.cluster {kind}"), no_data);
            }
            cluster.expect(&format!("_http._tcp.{name}.svc.cluster SRV"), open);
            cluster.expect(&format!("_http._tcp.{name}.marathon.src.svc.cluster SRV"), no_data);
            cluster.expect(&format!("{name}.svc.cluster MX"), no_data);
            cluster.expect_code(&format!("{name}.svc.cluster TXT"), "NOERROR aa");
            cluster.expect_code(&format!("{name}.vip.svc.cluster A"), "NOERROR aa");
            cluster.expect_code(&format!("_http._tcp.{name}.vip.svc.cluster SRV"), "NOERROR aa");
        }
        cluster.expect("web.svc.cluster AAAA", no_data);
        cluster.expect_code("web.svc.cluster A", "NOERROR aa");
    }
}

#[test]
fn a_fault_domain_or_port_without_endpoints_may_get_some_of_a_source_that_has_not_spoken() {
    let placeless = Task { id: "a", zone: Some("rack-1"), ..Task::default() };
    let maker = service("web").defined_by(0, &[]).port("http", Protocol::Tcp, 80);
    let mut web = maker.member(placeless).instance("b", &["10.0.0.2"]).port("new", Protocol::Tcp, 81).done();
    // The second port is of a definition that no running instance has yet.
    web.ports[1].endpoints = Box::default();
    let mut cluster = Cluster::with(vec![web]);
    for complete in [false, true] {
        cluster.sources(complete);
        let open: &[&str] = if complete { &["NOERROR aa", SOA] } else { &["SERVFAIL"] };
        cluster.expect("web.rack-1.zone.svc.cluster A", open);
        cluster.expect("_new._tcp.web.svc.cluster SRV", open);
        cluster.expect_code("_any._tcp.web.svc.cluster SRV", "NOERROR aa");
        cluster.expect("_new._tcp.web.marathon.src.svc.cluster SRV", &["NOERROR aa", SOA]);
    }
}
