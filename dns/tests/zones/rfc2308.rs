//! RFC 2308: negative answers.

mod name_error {
    //! §2.1
    use crate::cluster::{Cluster, SOA, web};

    #[test]
    fn the_soa_of_the_zone_stands_in_the_authority_section() {
        let cluster = Cluster::with(vec![web()]);
        for question in [
            "nope.svc.cluster A",
            "nope.web.shop.prod.svc.cluster AAAA",
            "_nope._tcp.web.shop.prod.svc.cluster SRV",
            "_http._udp.web.shop.prod.svc.cluster SRV",
            "_port7._tcp.web.shop.prod.svc.cluster SRV",
            "nope.node.svc.cluster A",
        ] {
            cluster.expect(question, &["NXDOMAIN aa", SOA]);
        }
    }
}

mod no_data {
    //! §2.2
    use crate::cluster::{Cluster, SOA, web};

    #[test]
    fn the_soa_of_the_zone_stands_in_the_authority_section() {
        let cluster = Cluster::with(vec![web()]);
        for question in [
            "web.shop.prod.svc.cluster SRV",
            "web.shop.prod.svc.cluster 65280",
            "_http._tcp.web.shop.prod.svc.cluster A",
            "svc.cluster TXT",
            "svc.cluster DS",
            "edge-1.node.svc.cluster AAAA",
        ] {
            cluster.expect(question, &["NOERROR aa", SOA]);
        }
    }
}

mod ttl {
    //! §3 and §5: the SOA's TTL is the time a negative answer may be kept.
    use crate::cluster::{Cluster, query};

    #[test]
    fn ttl_and_minimum_are_the_negative_ttl() {
        let reply = Cluster::with(vec![]).reply(&query("nope.svc.cluster", "A", None), 0).unwrap();
        assert_eq!(reply.authorities[0].ttl, 3);
        assert!(reply.authorities[0].data.to_string().ends_with(" 3"));
    }
}
