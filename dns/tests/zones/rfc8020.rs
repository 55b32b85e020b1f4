//! RFC 8020: NXDOMAIN means that nothing is below; so names with something below exist.

use crate::cluster::{Cluster, SOA, label, service, web};

#[test]
fn section_2_empty_non_terminals_have_no_data() {
    let cluster = Cluster::with(vec![web()]);
    for name in [
        "prod",
        "shop.prod",
        "src",
        "marathon.src",
        "shop.prod.marathon.src",
        "vip",
        "prod.vip",
        "node",
        "_tcp.web.shop.prod",
        "_udp.web.shop.prod",
        "inst.web.shop.prod",
        "inst.web.shop.prod.marathon.src",
    ] {
        cluster.expect(&format!("{name}.svc.cluster A"), &["NOERROR aa", SOA]);
    }
    cluster
        .expect(&format!("_tcp.{}.inst.web.shop.prod.svc.cluster A", label("web.1")), &["NOERROR aa", SOA]);
}

#[test]
fn section_2_names_with_nothing_below_any_more_do_not_exist() {
    let other = || service("other.prod").defined_by(0, &[]).done();
    let mut cluster = Cluster::with(vec![web(), other()]);
    cluster.remove("web.shop.prod");
    cluster.expect_code("shop.prod.svc.cluster A", "NXDOMAIN aa");
    cluster.expect_code("prod.svc.cluster A", "NOERROR aa");
    cluster.remove("other.prod");
    for name in ["prod", "src", "prod.marathon.src", "vip"] {
        cluster.expect_code(&format!("{name}.svc.cluster A"), "NXDOMAIN aa");
    }
}

#[test]
fn section_2_a_service_above_another_leaves_an_empty_name() {
    let above = || service("prod").defined_by(0, &[]).instance("p", &["10.0.0.9"]).done();
    let mut cluster = Cluster::with(vec![web(), above()]);
    cluster.expect("prod.svc.cluster A", &["NOERROR aa", "prod.svc.cluster. 5 A 10.0.0.9"]);
    cluster.remove("prod");
    cluster.expect("prod.svc.cluster A", &["NOERROR aa", SOA]);
    cluster.put(vec![above()]);
    cluster.remove("web.shop.prod");
    cluster.expect("prod.svc.cluster A", &["NOERROR aa", "prod.svc.cluster. 5 A 10.0.0.9"]);
}
