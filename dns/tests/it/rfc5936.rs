//! RFC 5936: zones whole.

use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use portolan_dns::{Config, Network, Transfer};

use crate::node::{Client, Node, PATIENCE, query};
use crate::zone_client::{APEX, asked, axfr, axfr_of, open_config, serial_of, transfer};

#[test]
fn a_zone_begins_and_ends_with_its_soa_and_holds_what_is_answered() {
    let mut node = Node::start(&open_config());
    node.publish(&[
        ("web.shop", 3),
        ("db", 1),
        ("empty", 0),
        ("_tcp.web.shop", 2),
        ("inst.db", 1),
        ("_http._tcp.db", 1),
    ]);
    let got = axfr_of(node.address);
    assert_eq!(got.code, ResponseCode::NoError);
    let soas: Vec<usize> =
        (0..got.records.len()).filter(|at| serial_of(&got.records[*at]).is_some()).collect();
    assert_eq!(soas, [0, got.records.len() - 1], "§2.2");
    assert_eq!(serial_of(&got.records[0]), Some(node.zones().serial()));
    let content = got.content();
    assert_eq!(content, asked(&node));
    assert_eq!(content.len(), got.records.len() - 2, "each record once (§2.2)");
    let named = |name: &str| content.iter().any(|record| record.starts_with(&format!("{name} ")));
    assert!(named("web.shop.svc.cluster.") && named("svc.cluster.") && named("edge.node.svc.cluster."));
    assert!(!named("shop.svc.cluster.") && !named("empty.svc.cluster."), "empty names have no records");
}

#[test]
fn a_large_zone_comes_in_many_messages_of_one_snapshot() {
    let mut node = Node::start(&open_config());
    node.publish(&[("large", 3000), ("web", 2)]);
    let mut client = node.connect();
    client.send(&axfr(APEX));
    let first = client.read();
    let serial = node.zones().serial();
    // The table moves on while the zone is on its way.
    node.publish(&[("web", 7)]);
    node.remove(&["large"]);
    let mut records = first.answers;
    while records.len() < 2 || serial_of(records.last().unwrap()).is_none() {
        let message = client.read();
        assert_eq!(message.queries[0].query_type(), RecordType::AXFR);
        assert!(message.metadata.authoritative && !message.metadata.truncation);
        records.extend(message.answers);
    }
    assert!(records.len() > 20_000, "{} records", records.len());
    assert_eq!(serial_of(&records[0]), Some(serial));
    assert_eq!(serial_of(records.last().unwrap()), Some(serial));
    let web = records.iter().filter(|record| {
        record.name.to_ascii() == "web.svc.cluster." && record.record_type() == RecordType::A
    });
    assert_eq!(web.count(), 2);
    assert!(client.ask("web.svc.cluster.", RecordType::A).answers.len() == 7, "the connection goes on");
}

#[test]
fn a_set_larger_than_a_message_is_transferred_whole() {
    let mut node = Node::start(&open_config());
    node.publish(&[("large", 5000)]);
    let got = axfr_of(node.address);
    let named = |name: &str, kind| {
        got.records
            .iter()
            .filter(|record| record.name.to_ascii() == name && record.record_type() == kind)
            .count()
    };
    assert_eq!(named("large.svc.cluster.", RecordType::A), 5000);
    assert_eq!(named("_http._tcp.large.svc.cluster.", RecordType::SRV), 5000);
}

#[test]
fn nobody_may_by_default_and_those_on_the_list_may() {
    let elsewhere = vec![Network { address: IpAddr::from([192, 0, 2, 0]), prefix: 24 }];
    let listed = Config { transfer: Transfer { allow: elsewhere, ..Transfer::default() }, ..open_config() };
    for config in [crate::node::config(), listed] {
        let mut node = Node::start(&config);
        node.publish(&[("web", 1)]);
        let got = axfr_of(node.address);
        assert_eq!((got.code, got.records.len()), (ResponseCode::Refused, 0));
        node.wait_for_metric("portolan_dns_transfers_total", Some("refused"), 1.0);
        node.reconfigure(&open_config());
        assert_eq!(axfr_of(node.address).code, ResponseCode::NoError);
    }
}

#[test]
fn names_that_are_no_apex_are_not_ours_to_give() {
    let mut node = Node::start(&open_config());
    node.publish(&[("web", 1)]);
    for name in [".", "cluster.", "web.svc.cluster.", "other.example.", "1.0.0.10.in-addr.arpa."] {
        let got = transfer(&mut node.connect(), &axfr(name));
        assert_eq!((got.code, got.records.len()), (ResponseCode::NotAuth, 0), "{name} (§2.2.1)");
    }
}

#[test]
fn over_udp_there_is_none() {
    let mut node = Node::start(&open_config());
    node.publish(&[("web", 1)]);
    assert_eq!(node.ask_udp(APEX, RecordType::AXFR, None).metadata.response_code, ResponseCode::Refused);
}

#[test]
fn a_zone_that_lacks_a_source_is_not_given_away() {
    let mut node = Node::start(&open_config());
    node.publish_as(&[("web", 1)], false);
    assert_eq!(axfr_of(node.address).code, ResponseCode::ServFail, "unknown is not empty");
    node.publish(&[("db", 1)]);
    let got = axfr_of(node.address);
    assert_eq!((got.code, got.content()), (ResponseCode::NoError, asked(&node)));
}

#[test]
fn transfers_at_once_are_limited_and_a_slow_client_costs_its_own() {
    let config = open_config();
    let transfer_config = Transfer { transfers_max: 1, ..config.transfer.clone() };
    let mut node = Node::start(&Config { transfer: transfer_config, tcp_idle: PATIENCE / 60, ..config });
    node.publish(&[("large", 6000)]);
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&node.address.into()).unwrap();
    let mut slow = Client::new(socket.into());
    slow.send(&axfr(APEX));
    node.wait_for_metric("portolan_dns_transfers_open", None, 1.0);
    assert_eq!(axfr_of(node.address).code, ResponseCode::ServFail);
    // It takes nothing: it is cut off, and its place is free.
    node.wait_for_metric("portolan_dns_transfers_total", Some("broken"), 1.0);
    node.wait_until("the place is free", |node| node.metric("portolan_dns_transfers_open", None) == 0.0);
    let mut fast = node.connect();
    fast.send(&axfr(APEX));
    assert_eq!(fast.read().metadata.response_code, ResponseCode::NoError);
}

#[test]
fn queries_behind_a_transfer_are_answered() {
    let mut node = Node::start(&open_config());
    node.publish(&[("large", 500), ("web", 1)]);
    let mut client = node.connect();
    client.send(&axfr(APEX));
    client.send(&query(77, "web.svc.cluster.", RecordType::A, None));
    let (mut answered, mut ends) = (false, 0);
    while !answered || ends < 2 {
        let message = client.read();
        answered |= message.metadata.id == 77;
        ends += message.answers.iter().filter(|record| serial_of(record).is_some()).count();
    }
}
