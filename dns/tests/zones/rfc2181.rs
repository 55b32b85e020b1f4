//! RFC 2181 §9: the TC bit, and what may be left out without it.

use hickory_proto::op::Message;
use portolan_dns::answer::{Outcome, Terms, answer};
use portolan_dns::wire::Request;
use portolan_table::Protocol;

use crate::cluster::{Cluster, query, service, text};

fn many(count: u8) -> Cluster {
    let maker = service("web").defined_by(0, &[]).port("http", Protocol::Tcp, 0);
    let ips: Vec<String> = (0..count).map(|n| format!("10.0.0.{n}")).collect();
    let maker = ips.iter().fold(maker, |maker, ip| maker.instance(ip, &[ip]));
    Cluster::with(vec![maker.done()])
}

#[test]
fn a_set_that_does_not_fit_is_cut_with_tc() {
    let cluster = many(200);
    // Header and question take 33 octets, OPT 11, each record 16.
    for (size, fits) in [(None, 29), (Some(1232), 74), (Some(4096), 74), (Some(100), 29)] {
        let packet = query("web.svc.cluster", "A", size);
        let reply = cluster.reply(&packet, 7).unwrap();
        assert!(reply.metadata.truncation, "{size:?}");
        assert_eq!(reply.answers.len(), fits, "{size:?}");
    }
}

#[test]
fn a_set_that_fits_exactly_is_whole() {
    let packet = query("web.svc.cluster", "A", None);
    for (count, truncated) in [(29, false), (30, true)] {
        let reply = many(count).reply(&packet, 0).unwrap();
        assert_eq!(reply.metadata.truncation, truncated, "{count} addresses");
    }
}

#[test]
fn additional_addresses_are_left_out_without_tc() {
    // Each target takes 56 octets, each address 16 more.
    let reply = many(8).reply(&query("_http._tcp.web.svc.cluster", "SRV", None), 0).unwrap();
    assert!(!reply.metadata.truncation);
    assert_eq!(reply.answers.len(), 8);
    assert!((1..8).contains(&reply.additionals.len()), "{}", text(&reply));
}

#[test]
fn over_tcp_the_set_is_whole() {
    let cluster = many(200);
    for (rtype, records) in [("A", 200), ("SRV", 200)] {
        let name = if rtype == "A" { "web.svc.cluster" } else { "_http._tcp.web.svc.cluster" };
        let packet = query(name, rtype, Some(1232));
        let Request::Question(query) = Request::read(&packet) else { panic!("a query") };
        let terms = Terms::tcp(1232);
        let mut out = vec![0; 65_535];
        let outcome = cluster.zones(|zones| answer(zones, &query, &terms, 3, &mut out));
        let Outcome::Reply(written) = outcome else { panic!("ours") };
        let reply = Message::from_vec(&out[..written.len]).unwrap();
        assert!(!reply.metadata.truncation);
        assert_eq!(reply.answers.len(), records);
    }
}
