//! RFC 6891 over TCP: EDNS(0) is answered with EDNS(0), and only then.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::node::{Node, config, query};
use crate::resolver::Resolver;

#[test]
fn section_6_1_1_opt_is_answered_with_opt_and_only_then() {
    let resolver = Resolver::start();
    let mut config = config();
    config.forward = vec![resolver.address];
    let node = Node::start(&config);
    let mut client = node.connect();
    for name in ["a.example.", "nx.example."] {
        client.send(&query(1, name, RecordType::A, None));
        assert!(client.read().edns.is_none());
        client.send(&query(1, name, RecordType::A, Some(4096)));
        let edns = client.read().edns.unwrap();
        assert_eq!((edns.version(), edns.max_payload()), (0, 1232));
    }
}

#[test]
fn section_6_1_3_an_unknown_version_is_badvers() {
    let node = Node::start(&config());
    let mut client = node.connect();
    let mut packet = query(1, "a.example.", RecordType::A, Some(1232));
    let version = packet.len() - 5;
    packet[version] = 1;
    client.send(&packet);
    let reply = client.read();
    assert_eq!(u16::from(reply.metadata.response_code), 16);
    assert_eq!(reply.edns.unwrap().version(), 0);
}

#[test]
fn section_6_1_1_two_opt_records_are_formerr() {
    let node = Node::start(&config());
    let mut client = node.connect();
    let mut packet = query(1, "a.example.", RecordType::A, Some(1232));
    let opt = packet[packet.len() - 11..].to_vec();
    packet.extend_from_slice(&opt);
    packet[11] = 2;
    client.send(&packet);
    assert_eq!(client.read().metadata.response_code, ResponseCode::FormErr);
}
