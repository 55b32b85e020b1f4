//! One query, one answer: the fast path (UDP) and the one through hickory (TCP) say the same.

use std::collections::BTreeSet;
use std::io::{Read, Write};

use hickory_proto::op::Message;
use hickory_proto::rr::Record;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use portolan_dns::tsig::Signer;
use portolan_dns::{Algorithm, Config, Cookies, Network};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;

use crate::node::{Client, Node, config, framed, query};
use crate::zone_client::key;

const NAMES: &[&str] = &[
    ".",
    "svc.cluster.",
    "SVC.cluster.",
    "web.shop.svc.cluster.",
    "Web.SHOP.svc.Cluster.",
    "shop.svc.cluster.",
    "db.svc.cluster.",
    "empty.svc.cluster.",
    "nothing.svc.cluster.",
    "x.web.shop.svc.cluster.",
    "_http._tcp.web.shop.svc.cluster.",
    "_port0._tcp.web.shop.svc.cluster.",
    "_any._tcp.web.shop.svc.cluster.",
    "_none._tcp.web.shop.svc.cluster.",
    "_tcp.web.shop.svc.cluster.",
    "web.shop.vip.svc.cluster.",
    "_http._tcp.web.shop.vip.svc.cluster.",
    "web.shop.test.src.svc.cluster.",
    "inst.web.shop.svc.cluster.",
    "edge.node.svc.cluster.",
    "node.svc.cluster.",
    "0.0.1.10.in-addr.arpa.",
    "9.9.9.10.in-addr.arpa.",
    "1.0.0.127.in-addr.arpa.",
    "other.example.",
    "cluster.",
];

/// Types we answer, types we don't, and those that mean something else.
const TYPES: &[u16] =
    &[0, 1, 2, 5, 6, 12, 13, 15, 16, 28, 33, 41, 46, 64, 65, 250, 251, 252, 255, 257, 65_280];

#[derive(Debug, Clone)]
struct Opt {
    size: u16,
    version: u8,
    flags: u16,
    options: Vec<(u16, Vec<u8>)>,
}

#[derive(Debug, Clone)]
struct Shape {
    name: &'static str,
    kind: u16,
    class: u16,
    flags: [u8; 2],
    edns: Option<Opt>,
    instance: Option<Index>,
    signed: bool,
}

fn shapes() -> impl Strategy<Value = Shape> {
    // Options 3 and 8 have contents of their own, which hickory reads and the fast path doesn't.
    let code = prop_oneof![Just(10_u16), Just(10), Just(12), Just(15), 100..65_000_u16];
    // Lengths at which cookies are cookies, and others.
    let len = prop_oneof![Just(8), Just(24), 0..44_usize];
    let content = len.prop_flat_map(|len| prop::collection::vec(any::<u8>(), len));
    let options = prop::collection::vec((code, content), 0..3);
    let version = prop_oneof![9 => Just(0_u8), 1 => any::<u8>()];
    let edns = (any::<u16>(), version, prop_oneof![Just(0), Just(0x8000)], options)
        .prop_map(|(size, version, flags, options)| Opt { size, version, flags, options });
    let edns = prop::option::of(edns);
    let class = prop_oneof![9 => Just(1_u16), 1 => select(vec![0, 3, 4, 254, 255])];
    let kind = prop_oneof![4 => select(TYPES), 1 => any::<u16>()];
    let flags = (any::<u8>(), any::<u8>()).prop_map(|(high, low)| {
        // Never a reply; another opcode now and then.
        [high & if high & 7 == 0 { 0x7f } else { 0x07 }, low]
    });
    let instance = prop::option::weighted(0.2, any::<Index>());
    let signed = prop::bool::weighted(0.1);
    (select(NAMES), kind, class, flags, edns, instance, signed).prop_map(
        |(name, kind, class, flags, edns, instance, signed)| Shape {
            name,
            kind,
            class,
            flags,
            edns,
            instance,
            signed,
        },
    )
}

fn packet(shape: &Shape, targets: &[String]) -> Vec<u8> {
    let name = shape
        .instance
        .filter(|_| !targets.is_empty())
        .map_or(shape.name, |index| &targets[index.index(targets.len())]);
    let mut packet = query(0x5050, name, 1.into(), None);
    packet[2..4].copy_from_slice(&shape.flags);
    let at = packet.len() - 4;
    packet[at..at + 2].copy_from_slice(&shape.kind.to_be_bytes());
    packet[at + 2..].copy_from_slice(&shape.class.to_be_bytes());
    if let Some(Opt { size, version, flags, options }) = &shape.edns {
        let data: Vec<u8> = options
            .iter()
            .flat_map(|(code, data)| {
                [&code.to_be_bytes()[..], &(data.len() as u16).to_be_bytes(), data].concat()
            })
            .collect();
        packet[11] = 1;
        packet.extend_from_slice(&[0, 0, 41]);
        packet.extend_from_slice(&size.to_be_bytes());
        packet.extend_from_slice(&[0, *version]);
        packet.extend_from_slice(&flags.to_be_bytes());
        packet.extend_from_slice(&(data.len() as u16).to_be_bytes());
        packet.extend_from_slice(&data);
    }
    if shape.signed {
        let key = key("nobody.example", Algorithm::HmacSha256).0;
        let _ = Signer::request(&key, &mut packet, 1_700_000_000);
    }
    packet
}

fn exchange_tcp(client: &mut Client, packet: &[u8]) -> Vec<u8> {
    client.stream.write_all(&framed(packet)).unwrap();
    let mut len = [0; 2];
    client.stream.read_exact(&mut len).unwrap();
    let mut reply = vec![0; u16::from_be_bytes(len).into()];
    client.stream.read_exact(&mut reply).unwrap();
    reply
}

fn set(records: &[Record]) -> BTreeSet<String> {
    records.iter().map(ToString::to_string).collect()
}

/// Everything but the order of records; of a cut answer, that each record is one of the whole answer's.
fn assert_same(udp: &[u8], tcp: &[u8], packet: &[u8]) {
    let (fast, full) = (Message::from_vec(udp).unwrap(), Message::from_vec(tcp).unwrap());
    let mut flags = fast.metadata;
    flags.truncation = full.metadata.truncation;
    assert_eq!(flags, full.metadata, "{packet:02x?}");
    assert_eq!(fast.queries, full.queries, "{packet:02x?}");
    assert_eq!(question(udp), question(tcp), "in the client's spelling");
    assert_eq!(edns(&fast), edns(&full), "{packet:02x?}");
    assert_eq!(signature(udp), signature(tcp), "{packet:02x?}");
    let sections =
        |message: &Message| [set(&message.answers), set(&message.authorities), set(&message.additionals)];
    let (ours, whole) = (sections(&fast), sections(&full));
    if fast.metadata.truncation {
        assert!(ours.iter().zip(&whole).all(|(ours, whole)| ours.is_subset(whole)), "{fast:?}\n{full:?}");
    } else {
        assert_eq!(ours[..2], whole[..2], "{packet:02x?}");
        // Additional records that don't fit are left out without TC (RFC 2181 §9).
        assert!(ours[2].is_subset(&whole[2]), "{fast:?}\n{full:?}");
        assert!(udp.len() > 400 || ours[2] == whole[2], "{fast:?}\n{full:?}");
    }
}

/// What the OPT record says, but not when a cookie was made.
fn edns(message: &Message) -> Option<(u8, u16, bool, Option<Vec<u8>>)> {
    let edns = message.edns.as_ref()?;
    let cookie = match edns.option(EdnsCode::Cookie) {
        Some(EdnsOption::Unknown(_, cookie)) => Some(cookie[..12].to_vec()),
        other => other.map(|_| panic!("a cookie is octets")),
    };
    Some((edns.version(), edns.max_payload(), edns.flags().dnssec_ok, cookie))
}

/// The TSIG record at the end of a reply, if it has one: by its algorithm's name.
fn signature(reply: &[u8]) -> Option<&[u8]> {
    let at = reply.windows(13).position(|octets| octets == b"\x0bhmac-sha256\0")?;
    Some(&reply[at..])
}

fn question(reply: &[u8]) -> &[u8] {
    let end = reply.iter().skip(12).position(|octet| *octet == 0).map_or(12, |at| 12 + at);
    &reply[12..end]
}

#[test]
fn the_same_answer_on_both_paths() {
    same_answers(&config());
}

#[test]
fn the_same_answer_on_both_paths_with_cookies() {
    same_answers(&Config { cookies: Cookies { enabled: true, ..Cookies::default() }, ..config() });
}

#[test]
fn the_same_answer_on_both_paths_to_who_may_not_ask() {
    let elsewhere = vec![Network { address: "192.0.2.0".parse().unwrap(), prefix: 24 }];
    same_answers(&Config { allow_query: Some(elsewhere), ..config() });
}

fn same_answers(config: &Config) {
    let mut node = Node::start(config);
    node.publish(&[("web.shop", 3), ("db", 1), ("empty", 0), ("large", 200)]);
    let mut client = node.connect();
    let targets: Vec<String> = client
        .ask("_http._tcp.web.shop.svc.cluster.", 33.into())
        .additionals
        .iter()
        .map(|record| record.name.to_ascii())
        .collect();
    assert_eq!(targets.len(), if config.allow_query.is_some() { 0 } else { 3 }, "instances have names");
    let client = std::cell::RefCell::new(client);
    let mut runner = TestRunner::new(ProptestConfig { cases: 1500, ..ProptestConfig::default() });
    let outcome = runner.run(&shapes(), |shape| {
        let packet = packet(&shape, &targets);
        let udp = node.exchange_udp(&packet).expect("a query is answered");
        assert_same(&udp, &exchange_tcp(&mut client.borrow_mut(), &packet), &packet);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn large_answers_are_the_same_as_far_as_they_go() {
    let mut node = Node::start(&config());
    node.publish(&[("large", 200)]);
    let mut client = node.connect();
    for (name, kind) in [("large.svc.cluster.", 1), ("_any._tcp.large.svc.cluster.", 33)] {
        for size in [None, Some(512), Some(1232), Some(4096)] {
            let packet = query(1, name, kind.into(), size);
            let (udp, tcp) = (node.exchange_udp(&packet).unwrap(), exchange_tcp(&mut client, &packet));
            assert_same(&udp, &tcp, &packet);
            assert_eq!(Message::from_vec(&tcp).unwrap().answers.len(), 200);
        }
    }
}
