//! Names outside our zones, through the whole server. The forwarder's own tests stand beside it.

use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use portolan_dns::Network;

use crate::node::{Node, config, query};
use crate::resolver::Resolver;

fn forwarding() -> (Resolver, Node) {
    let resolver = Resolver::start();
    let mut config = config();
    config.forward = vec![resolver.address];
    let node = Node::start(&config);
    (resolver, node)
}

#[test]
fn answers_denials_and_flags() {
    let (resolver, node) = forwarding();
    let mut client = node.connect();
    let reply = client.ask("Www.Example.", RecordType::A);
    assert_eq!(reply.answers[0].data.to_string(), "192.0.2.1");
    assert_eq!(reply.queries[0].name.to_ascii(), "Www.Example.");
    let flags = reply.metadata;
    assert!(flags.recursion_available && flags.recursion_desired && !flags.authoritative);
    let denial = client.ask("nx.example.", RecordType::A);
    assert_eq!((denial.metadata.response_code, denial.authorities.len()), (ResponseCode::NXDomain, 1));
    assert_eq!(client.ask("dead.example.", RecordType::A).metadata.response_code, ResponseCode::ServFail);
    assert!(resolver.queries() >= 3);
}

#[test]
fn who_does_not_ask_for_recursion_is_refused() {
    let (resolver, node) = forwarding();
    let mut packet = query(1, "a.example.", RecordType::A, None);
    packet[2] &= !1;
    let mut client = node.connect();
    client.send(&packet);
    assert_eq!(client.read().metadata.response_code, ResponseCode::Refused);
    assert_eq!(resolver.queries(), 0);
}

#[test]
fn who_may_not_is_refused_and_told_that_there_is_no_recursion() {
    let resolver = Resolver::start();
    let mut config = config();
    config.forward = vec![resolver.address];
    config.allow_forward = vec![Network { address: IpAddr::from([192, 0, 2, 0]), prefix: 24 }];
    let node = Node::start(&config);
    let reply = node.connect().ask("a.example.", RecordType::A);
    assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
    assert!(!reply.metadata.recursion_available);
    assert_eq!(resolver.queries(), 0);
    config.allow_forward = vec![Network { address: IpAddr::from([127, 0, 0, 0]), prefix: 8 }];
    node.reconfigure(&config);
    let reply = node.connect().ask("a.example.", RecordType::A);
    assert_eq!(reply.answers.len(), 1);
    assert!(reply.metadata.recursion_available);
}

#[test]
fn a_large_answer_is_whole_over_tcp() {
    let (_resolver, node) = forwarding();
    let reply = node.connect().ask("big.example.", RecordType::A);
    assert_eq!(reply.answers.len(), 150);
    assert!(!reply.metadata.truncation);
}

#[test]
fn forwarding_to_ourselves_ends_at_once() {
    let mut config = config();
    let node = Node::start(&config);
    config.forward = vec![node.address];
    node.reconfigure(&config);
    let reply = node.connect().ask("a.example.", RecordType::A);
    assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
    assert!(!reply.metadata.recursion_available);
}

#[test]
fn over_udp_as_over_tcp_and_from_the_same_cache() {
    let (resolver, node) = forwarding();
    let over_udp = node.ask_udp("Www.example.", RecordType::A, Some(1232));
    let over_tcp = node.connect().ask("wWW.example.", RecordType::A);
    assert_eq!(over_udp.answers[0].data, over_tcp.answers[0].data);
    assert_eq!(over_udp.queries[0].name.to_ascii(), "Www.example.");
    assert!(over_udp.metadata.recursion_available && over_udp.edns.is_some());
    assert_eq!(resolver.queries(), 1);
}

#[test]
fn what_does_not_fit_the_clients_udp_size_has_tc_and_its_opt_record() {
    let (_resolver, node) = forwarding();
    let cut = node.ask_udp("big.example.", RecordType::A, Some(1232));
    assert!(cut.metadata.truncation && cut.answers.is_empty() && cut.edns.is_some());
    assert!(node.ask_udp("big.example.", RecordType::A, None).metadata.truncation);
    assert_eq!(node.connect().ask("big.example.", RecordType::A).answers.len(), 150);
}

#[test]
fn own_names_are_answered_at_once_while_the_resolvers_are_dead() {
    let resolver = Resolver::start();
    let mut config = config();
    config.forward = vec![resolver.address];
    let mut node = Node::start(&config);
    node.publish(&[("web.shop", 2)]);
    let sockets: Vec<_> = (0..50).map(|_| std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    for (index, socket) in sockets.iter().enumerate() {
        let packet = query(1, &format!("dead.n{index}.example."), RecordType::A, None);
        socket.send_to(&packet, node.address).unwrap();
    }
    node.wait_for_metric("portolan_dns_forward_in_flight", None, 50.0);
    let start = std::time::Instant::now();
    for _ in 0..20 {
        assert_eq!(node.ask_udp("web.shop.svc.cluster.", RecordType::A, None).answers.len(), 2);
    }
    assert!(start.elapsed() < std::time::Duration::from_millis(1500), "{:?}", start.elapsed());
    assert!(node.metric("portolan_dns_forward_in_flight", None) > 0.0, "the resolvers were dead meanwhile");
    for socket in sockets {
        let mut buffer = [0; 512];
        socket.set_read_timeout(Some(crate::node::PATIENCE)).unwrap();
        let len = socket.recv(&mut buffer).unwrap();
        let reply = hickory_proto::op::Message::from_vec(&buffer[..len]).unwrap();
        assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    }
}

#[test]
fn counts_tell_what_was_asked_and_answered() {
    let (_resolver, mut node) = forwarding();
    node.publish(&[("web", 1)]);
    node.ask_udp("web.svc.cluster.", RecordType::A, None);
    node.ask_udp("nx.example.", RecordType::A, None);
    node.connect().ask("nx.example.", RecordType::A);
    node.wait_for_metric("portolan_dns_queries_total", Some("udp"), 2.0);
    node.wait_for_metric("portolan_dns_queries_total", Some("tcp"), 1.0);
    node.wait_for_metric("portolan_dns_replies_total", Some("NXDOMAIN"), 2.0);
    node.wait_for_metric("portolan_dns_handed_over_total", Some("udp"), 1.0);
    assert_eq!(node.metric("portolan_dns_replies_total", None), 3.0);
}

#[test]
fn rfc6840_5_8_ad_is_for_those_who_understand_it() {
    let (_resolver, node) = forwarding();
    let mut client = node.connect();
    let plain = query(1, "a.example.", RecordType::A, Some(1232));
    let mut with_ad = plain.clone();
    with_ad[3] |= 0x20;
    let mut with_do = plain.clone();
    let flags = with_do.len() - 4;
    with_do[flags] |= 0x80;
    for (packet, expected) in [(plain, false), (with_ad, true), (with_do, true)] {
        client.send(&packet);
        let reply = client.read();
        assert_eq!((reply.answers.len(), reply.metadata.authentic_data), (1, expected));
    }
}

#[test]
fn two_that_forward_to_each_other_find_out() {
    let (mut first, mut second) = (config(), config());
    let (one, other) = (Node::start(&first), Node::start(&second));
    (first.forward, second.forward) = (vec![other.address], vec![one.address]);
    one.reconfigure(&first);
    other.reconfigure(&second);
    let start = std::time::Instant::now();
    let reply = one.ask_udp("round-and-round.example.", RecordType::A, None);
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    assert!(start.elapsed() < first.forward_timeout / 2, "{:?}", start.elapsed());
    one.wait_for_metric("portolan_dns_forward_queries_total", Some("loop"), 1.0);
    let asked =
        one.metric("portolan_dns_queries_total", None) + other.metric("portolan_dns_queries_total", None);
    assert!(asked <= 6.0, "{asked} queries for one");
}
