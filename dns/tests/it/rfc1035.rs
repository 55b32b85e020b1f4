//! RFC 1035 §4.2.2: messages on TCP, and what is none.

use std::io::Write;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::node::{MS, Node, config, framed, query};

#[test]
fn the_length_and_the_message_may_come_split_anywhere() {
    let node = Node::start(&config());
    let frame = framed(&query(4711, "www.example.", RecordType::A, Some(1232)));
    let mut client = node.connect();
    for split in 1..frame.len() {
        client.stream.write_all(&frame[..split]).unwrap();
        // Let it arrive by itself: what is to be shown is that the server waits for the rest.
        std::thread::sleep(MS);
        client.stream.write_all(&frame[split..]).unwrap();
        let reply = client.read();
        assert_eq!(
            (reply.metadata.id, reply.metadata.response_code),
            (4711, ResponseCode::Refused),
            "{split}"
        );
    }
}

#[test]
fn one_octet_at_a_time_is_a_query_too() {
    let node = Node::start(&config());
    let mut client = node.connect();
    for octet in framed(&query(1, "a.", RecordType::A, None)) {
        client.stream.write_all(&[octet]).unwrap();
        std::thread::sleep(MS / 4);
    }
    assert_eq!(client.read().metadata.response_code, ResponseCode::Refused);
}

#[test]
fn what_is_no_message_ends_its_connection_and_no_other() {
    let node = Node::start(&config());
    let mut good = node.connect();
    let reply = {
        let mut packet = query(1, "a.", RecordType::A, None);
        packet[2] |= 0x80;
        packet
    };
    let closing: [&[u8]; 4] = [&[0, 0], &[0, 1, 7], &framed(&[0; 11]), &framed(&reply)];
    for octets in closing {
        let mut client = node.connect();
        client.stream.write_all(octets).unwrap();
        assert!(client.is_closed(), "{octets:?}");
        assert_eq!(good.ask("a.", RecordType::A).metadata.response_code, ResponseCode::Refused);
    }
    node.wait_for_metric("portolan_dns_tcp_closed_total", Some("malformed"), 4.0);
}

#[test]
fn garbage_behind_a_header_is_formerr_and_the_connection_goes_on() {
    let node = Node::start(&config());
    let mut client = node.connect();
    let mut garbage = query(5, "a.example.", RecordType::A, None);
    garbage.truncate(20);
    let mut trailing = query(5, "a.example.", RecordType::A, None);
    trailing.push(0);
    let mut two = query(5, "a.example.", RecordType::A, None);
    two[5] = 2;
    let mut many = query(5, "a.example.", RecordType::A, None);
    many[4..12].fill(0xff);
    for packet in [garbage, trailing, two, many, [&[0, 5, 1, 0], &[0xc0; 60][..]].concat()] {
        client.send(&packet);
        let reply = client.read();
        assert_eq!((reply.metadata.id, reply.metadata.response_code), (5, ResponseCode::FormErr));
    }
    assert_eq!(client.ask("a.", RecordType::A).metadata.response_code, ResponseCode::Refused);
}

#[test]
fn a_query_too_long_is_formerr_and_the_end() {
    let node = Node::start(&config());
    for len in [4097, 65_535] {
        let mut client = node.connect();
        let mut packet = query(6, "a.example.", RecordType::A, None);
        packet.resize(len, 0);
        client.send(&packet);
        let reply = client.read();
        assert_eq!((reply.metadata.id, reply.metadata.response_code), (6, ResponseCode::FormErr), "{len}");
        assert!(client.is_closed());
    }
}

#[test]
fn other_opcodes_are_not_implemented() {
    let node = Node::start(&config());
    let mut client = node.connect();
    for opcode in [1, 2, 4, 5, 6, 15] {
        let mut packet = query(8, "a.example.", RecordType::A, None);
        packet[2] = opcode << 3;
        client.send(&packet);
        let reply = client.read();
        assert_eq!(reply.metadata.response_code, ResponseCode::NotImp, "opcode {opcode}");
        assert_eq!(reply.metadata.id, 8);
    }
}
