//! RFC 1995: differences between versions of a zone.

use std::collections::BTreeSet;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Record, RecordType};
use portolan_dns::{Config, Transfer};

use crate::node::{Node, query};
use crate::zone_client::{APEX, axfr_of, ixfr, open_config, serial_of, texts, transfer};

/// Applies the differences in an answer to what a secondary has; panics where they don't fit.
fn apply(records: &[Record], mut have: BTreeSet<String>, mut serial: u32) -> (BTreeSet<String>, u32) {
    let newest = serial_of(&records[0]).unwrap();
    let mut rest = &records[1..records.len() - 1];
    while let Some((from, after)) = rest.split_first() {
        assert_eq!(serial_of(from), Some(serial), "a difference begins where the one before ended (§4)");
        let end = after.iter().position(|record| serial_of(record).is_some()).unwrap();
        serial = serial_of(&after[end]).unwrap();
        for gone in texts(&after[..end]) {
            assert!(have.remove(&gone), "{gone} is taken away and was not there");
        }
        let added = &after[end + 1..];
        let end = added.iter().position(|record| serial_of(record).is_some()).unwrap_or(added.len());
        for new in texts(&added[..end]) {
            assert!(have.insert(new.clone()), "{new} is added and was there");
        }
        rest = &added[end..];
    }
    assert_eq!(serial, newest);
    (have, serial)
}

fn version(node: &Node) -> (BTreeSet<String>, u32) {
    let got = axfr_of(node.address);
    assert_eq!(got.code, ResponseCode::NoError);
    (got.content(), serial_of(&got.records[0]).unwrap())
}

#[test]
fn differences_make_the_new_version_of_the_old() {
    let mut node = Node::start(&open_config());
    node.publish(&[("web.shop", 3), ("db", 1), ("large", 40)]);
    let (before, serial) = version(&node);
    let steps: [&dyn Fn(&mut Node); 5] = [
        &|node| node.publish(&[("web.shop", 4)]),
        &|node| node.publish(&[("new.one", 2), ("db", 0)]),
        &|node| node.remove(&["web.shop"]),
        &|node| node.publish(&[("inst.db", 1), ("_tcp.large", 1)]),
        &|node| node.publish(&[("large", 39), ("web.shop", 3)]),
    ];
    for step in steps {
        step(&mut node);
        let got = transfer(&mut node.connect(), &ixfr(APEX, serial));
        assert!(serial_of(&got.records[1]).is_some(), "differences, not a whole zone");
        assert!(got.records.len() < before.len(), "{} records", got.records.len());
        assert_eq!(apply(&got.records, before.clone(), serial), version(&node));
    }
    assert_eq!(node.metric("portolan_dns_transfers_total", Some("differences")), 5.0);
}

#[test]
fn who_has_the_latest_gets_its_soa_alone() {
    let mut node = Node::start(&open_config());
    node.publish(&[("web", 3)]);
    let (_, serial) = version(&node);
    for have in [serial, serial.wrapping_add(1), serial.wrapping_add(1 << 30)] {
        let got = transfer(&mut node.connect(), &ixfr(APEX, have));
        assert_eq!(got.records.len(), 1, "§2");
        assert_eq!(serial_of(&got.records[0]), Some(serial));
    }
}

#[test]
fn who_has_a_version_that_is_not_known_gets_the_zone_whole() {
    let mut node = Node::start(&open_config());
    node.publish(&[("web", 3)]);
    let (content, serial) = version(&node);
    for have in [serial - 1, 1, serial.wrapping_sub(1 << 30)] {
        let got = transfer(&mut node.connect(), &ixfr(APEX, have));
        assert_eq!(got.content(), content, "§4: a whole zone in the form of AXFR");
        assert!(serial_of(&got.records[1]).is_none());
    }
}

#[test]
fn the_journal_is_bounded_and_forgets_the_oldest() {
    let config = open_config();
    let bounded = Transfer { journal_max: 30_000, ..config.transfer.clone() };
    let mut node = Node::start(&Config { transfer: bounded, ..config });
    node.publish(&[("web", 1)]);
    let (_, first) = version(&node);
    let mut last = (BTreeSet::new(), 0);
    for instances in 2..40 {
        last = version(&node);
        node.publish(&[("web", instances)]);
    }
    let _ = version(&node);
    let octets = node.metric("portolan_dns_journal_octets", None);
    assert!(octets > 0.0 && octets <= 30_000.0, "{octets}");
    let got = transfer(&mut node.connect(), &ixfr(APEX, first));
    assert!(serial_of(&got.records[1]).is_none(), "the first is forgotten");
    let got = transfer(&mut node.connect(), &ixfr(APEX, last.1));
    assert_eq!(apply(&got.records, last.0, last.1), version(&node));
}

#[test]
fn differences_over_udp_or_the_soa_alone_if_they_are_too_large() {
    let mut node = Node::start(&Config { udp_size_max: 8192, ..open_config() });
    node.publish(&[("web", 1), ("db", 1)]);
    let (before, serial) = version(&node);
    node.remove(&["db"]);
    let ask = |node: &Node, size: Option<u16>| {
        let mut packet = Message::from_vec(&ixfr(APEX, serial)).unwrap();
        let edns = Message::from_vec(&query(0, APEX, RecordType::IXFR, size)).unwrap().edns;
        packet.edns = edns;
        let reply = node.exchange_udp(&packet.to_vec().unwrap()).unwrap();
        assert!(reply.len() <= size.unwrap_or(512).into());
        Message::from_vec(&reply).unwrap()
    };
    let small = ask(&node, None);
    assert!(!small.metadata.truncation && small.answers.len() == 1, "§2: {small:?}");
    let large = ask(&node, Some(8192));
    assert_eq!(apply(&large.answers, before, serial), version(&node));
    node.publish(&[("large", 500)]);
    let large = ask(&node, Some(8192));
    assert_eq!((large.answers.len(), large.metadata.truncation), (1, false));
    assert_eq!(serial_of(&large.answers[0]), Some(node.zones().serial()));
}

#[test]
fn requests_that_are_none_are_malformed() {
    let mut node = Node::start(&open_config());
    node.publish(&[("web", 1)]);
    let without_soa = query(1, APEX, RecordType::IXFR, None);
    let mut other_record = ixfr(APEX, 1);
    let at = without_soa.len() + 3;
    assert_eq!(other_record[at], 6);
    other_record[at] = 1;
    for packet in [without_soa, other_record] {
        let got = transfer(&mut node.connect(), &packet);
        assert_eq!((got.code, got.records.len()), (ResponseCode::FormErr, 0));
    }
}

#[test]
fn a_zone_that_lost_a_source_is_refused_and_then_given_whole() {
    let mut node = Node::start(&open_config());
    node.publish(&[("web", 1)]);
    let (before, serial) = version(&node);
    node.publish_as(&[("web", 2)], false);
    let got = transfer(&mut node.connect(), &ixfr(APEX, serial));
    assert_eq!(got.code, ResponseCode::ServFail);
    node.publish(&[("db", 1)]);
    // The version before was let go: no memory is held for as long as a source may be away.
    let got = transfer(&mut node.connect(), &ixfr(APEX, serial));
    let (now, _) = version(&node);
    assert_eq!(got.content(), now);
    assert_ne!(now, before);
}
