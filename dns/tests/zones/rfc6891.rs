//! RFC 6891: EDNS(0).

use portolan_dns::wire::{Rcode, Request};

use crate::cluster::{Cluster, query, web};

/// A query with an OPT record of these fields: size, extended code, version, flags, options.
fn with_opt(size: u16, version: u8, flags: u16, options: &[u8]) -> Vec<u8> {
    let mut packet = query("web.shop.prod.svc.cluster", "A", None);
    packet[11] = 1;
    packet.extend([0, 0, 41]);
    packet.extend(size.to_be_bytes());
    packet.extend([0, version]);
    packet.extend(flags.to_be_bytes());
    packet.extend((options.len() as u16).to_be_bytes());
    packet.extend(options);
    packet
}

#[test]
fn section_6_1_1_a_reply_has_an_opt_record_if_and_only_if_the_query_has() {
    let cluster = Cluster::with(vec![web()]);
    for name in ["web.shop.prod.svc.cluster", "nope.svc.cluster"] {
        let plain = cluster.reply(&query(name, "A", None), 0).unwrap();
        assert!(plain.edns.is_none());
        let edns = cluster.reply(&query(name, "A", Some(4096)), 0).unwrap().edns.unwrap();
        assert_eq!((edns.max_payload(), edns.version(), edns.rcode_high()), (1232, 0, 0));
    }
}

#[test]
fn section_6_1_3_an_unknown_version_is_badvers() {
    let cluster = Cluster::with(vec![web()]);
    let reply = cluster.reply(&with_opt(1232, 1, 0, &[]), 0).unwrap();
    assert_eq!(u16::from(reply.metadata.response_code), 16);
    assert!(reply.answers.is_empty());
    assert_eq!(reply.edns.unwrap().version(), 0);
}

#[test]
fn section_6_1_4_the_do_bit_is_repeated_and_others_are_not() {
    let cluster = Cluster::with(vec![web()]);
    let reply = cluster.octets(&with_opt(1232, 0, 0xffff, &[]), 0).unwrap();
    assert_eq!(reply[reply.len() - 4..reply.len() - 2], [0x80, 0]);
    let reply = cluster.octets(&with_opt(1232, 0, 0x7fff, &[]), 0).unwrap();
    assert_eq!(reply[reply.len() - 4..reply.len() - 2], [0, 0]);
}

#[test]
fn section_6_1_2_unknown_options_are_ignored() {
    let cluster = Cluster::with(vec![web()]);
    let cookie = [0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
    let reply = cluster.reply(&with_opt(1232, 0, 0, &cookie), 0).unwrap();
    assert_eq!(reply.answers.len(), 2);
    assert!(reply.edns.unwrap().options().as_ref().is_empty());
}

#[test]
fn section_6_2_3_a_size_below_512_counts_as_512() {
    let packet = with_opt(0, 0, 0, &[]);
    let Request::Question(query) = Request::read(&packet) else { panic!("a query") };
    assert_eq!(query.udp_limit(1232), 512);
    let packet = with_opt(65_535, 0, 0, &[]);
    let Request::Question(query) = Request::read(&packet) else { panic!("a query") };
    assert_eq!(query.udp_limit(1232), 1232);
}

#[test]
fn section_6_1_1_opt_is_one_and_of_the_root() {
    let good = with_opt(1232, 0, 0, &[]);
    let opt = good[good.len() - 11..].to_vec();
    let mut twice = good.clone();
    twice[11] = 2;
    twice.extend(&opt);
    let mut named = good[..good.len() - 11].to_vec();
    named.extend([1, b'x', 0]);
    named.extend(&opt[1..]);
    let cut_option = with_opt(1232, 0, 0, &[0, 10, 0, 8, 1]);
    for packet in [twice, named, cut_option] {
        assert!(matches!(Request::read(&packet), Request::Malformed(Rcode::FormErr)));
    }
}
