//! RFC 8482 §4.2: ANY gets one synthesised HINFO record.

use crate::cluster::{Cluster, SOA, label, query, web};

#[test]
fn any_is_answered_small() {
    let cluster = Cluster::with(vec![web()]);
    for name in [
        "web.shop.prod.svc.cluster".to_owned(),
        "svc.cluster".to_owned(),
        "_http._tcp.web.shop.prod.svc.cluster".to_owned(),
        "edge-1.node.svc.cluster".to_owned(),
        format!("{}.inst.web.shop.prod.svc.cluster", label("web.1")),
        "1.0.0.10.in-addr.arpa".to_owned(),
    ] {
        let reply = cluster.reply(&query(&name, "ANY", None), 0).unwrap();
        assert_eq!(reply.answers.len(), 1, "{name}");
        assert_eq!(reply.answers[0].record_type().to_string(), "HINFO", "{name}");
        assert!(reply.answers[0].data.to_string().starts_with("RFC8482"), "{name}");
    }
    cluster.expect("nope.svc.cluster ANY", &["NXDOMAIN aa", SOA]);
    cluster.expect("shop.prod.svc.cluster ANY", &["NOERROR aa", SOA]);
}
