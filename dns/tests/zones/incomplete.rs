//! DESIGN §7: what a source that has not spoken might hold is SERVFAIL, never "no such name".

use portolan_dns::wire::{name_to_text, reverse_name};
use portolan_table::Protocol;

use crate::cluster::{Cluster, SOA, config, service, web, zone};

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
