//! DESIGN §7: what a source that has not spoken might hold is SERVFAIL, never "no such name".

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
