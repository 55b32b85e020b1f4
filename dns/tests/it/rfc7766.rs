//! RFC 7766: DNS over TCP as a first-class transport.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::node::{MS, Node, config, framed, query};
use crate::resolver::Resolver;

#[test]
fn section_6_2_1_several_queries_one_connection() {
    let node = Node::start(&config());
    let mut client = node.connect();
    for id in 0..100 {
        client.send(&query(id, "a.example.", RecordType::A, None));
        assert_eq!(client.read().metadata.id, id);
    }
    assert_eq!(node.metric("portolan_dns_tcp_accepted_total", Some("served")), 1.0);
    assert_eq!(node.metric("portolan_dns_queries_total", Some("tcp")), 100.0);
}

#[test]
fn section_6_2_1_1_pipelined_queries_are_all_answered() {
    let node = Node::start(&config());
    let mut client = node.connect();
    let all: Vec<u8> =
        (0..1000).flat_map(|id| framed(&query(id, "a.example.", RecordType::A, None))).collect();
    client.stream.write_all(&all).unwrap();
    let mut ids: Vec<u16> = (0..1000).map(|_| client.read().metadata.id).collect();
    ids.sort_unstable();
    assert!(ids.iter().copied().eq(0..1000));
}

#[test]
fn section_6_2_1_1_a_slow_answer_does_not_hold_up_the_next() {
    let resolver = Resolver::start();
    let mut config = config();
    config.forward = vec![resolver.address];
    let node = Node::start(&config);
    let mut client = node.connect();
    client.stream.write_all(&framed(&query(1, "d400.example.", RecordType::A, None))).unwrap();
    client.stream.write_all(&framed(&query(2, "d0.example.", RecordType::A, None))).unwrap();
    assert_eq!([client.read().metadata.id, client.read().metadata.id], [2, 1]);
}

#[test]
fn section_6_2_3_an_idle_connection_is_closed() {
    let mut config = config();
    config.tcp_idle = MS * 800;
    let node = Node::start(&config);
    let (mut silent, mut busy, mut partial) = (node.connect(), node.connect(), node.connect());
    let start = Instant::now();
    partial.stream.write_all(&[0, 40, 1]).unwrap();
    while start.elapsed() < MS * 2000 {
        assert_eq!(busy.ask("a.", RecordType::A).metadata.response_code, ResponseCode::Refused);
        std::thread::sleep(MS * 100);
    }
    assert!(silent.is_closed() && partial.is_closed(), "half a query is no query");
    assert_eq!(node.metric("portolan_dns_tcp_closed_total", Some("idle")), 2.0);
    assert_eq!(busy.ask("a.", RecordType::A).metadata.response_code, ResponseCode::Refused);
}

#[test]
fn section_6_2_3_a_connection_with_a_query_in_progress_is_not_idle() {
    let resolver = Resolver::start();
    let mut config = config();
    (config.forward, config.tcp_idle) = (vec![resolver.address], MS * 150);
    let node = Node::start(&config);
    let reply = node.connect().ask("d600.example.", RecordType::A);
    assert_eq!(reply.answers.len(), 1);
}

#[test]
fn section_6_2_4_a_half_closed_connection_gets_its_answers() {
    let resolver = Resolver::start();
    let mut config = config();
    config.forward = vec![resolver.address];
    let node = Node::start(&config);
    let mut client = node.connect();
    client.send(&query(1, "d200.example.", RecordType::A, None));
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.read().answers.len(), 1);
    assert!(client.is_closed());
}

#[test]
fn section_6_2_2_connections_are_bounded_and_the_oldest_idle_one_gives_way() {
    let mut config = config();
    config.tcp_connections_max = 3;
    let node = Node::start(&config);
    let mut clients: Vec<_> = (0..3).map(|_| node.connect()).collect();
    for client in &mut clients {
        client.ask("a.", RecordType::A);
        std::thread::sleep(MS * 5);
    }
    clients[0].ask("a.", RecordType::A);
    let mut newcomer = node.connect();
    assert_eq!(newcomer.ask("a.", RecordType::A).metadata.response_code, ResponseCode::Refused);
    assert!(clients[1].is_closed(), "the one that was silent for longest");
    for index in [0, 2] {
        assert_eq!(clients[index].ask("a.", RecordType::A).metadata.response_code, ResponseCode::Refused);
    }
    assert_eq!(node.metric("portolan_dns_tcp_connections", None), 3.0);
}

#[test]
fn section_6_2_2_with_all_connections_busy_a_new_one_is_refused() {
    let resolver = Resolver::start();
    let mut config = config();
    (config.forward, config.tcp_connections_max) = (vec![resolver.address], 2);
    let node = Node::start(&config);
    let mut busy: Vec<_> = (0..2).map(|_| node.connect()).collect();
    for (index, client) in busy.iter_mut().enumerate() {
        client.send(&query(1, &format!("d800.n{index}.example."), RecordType::A, None));
    }
    node.wait_for_metric("portolan_dns_forward_in_flight", None, 2.0);
    assert!(node.connect().is_closed());
    assert_eq!(node.metric("portolan_dns_tcp_accepted_total", Some("refused")), 1.0);
    for client in &mut busy {
        assert_eq!(client.read().answers.len(), 1);
    }
}

#[test]
fn a_client_that_takes_no_replies_is_cut_off_and_disturbs_nobody() {
    let mut config = config();
    config.tcp_idle = MS * 400;
    let node = Node::start(&config);
    let mut greedy = node.connect();
    greedy.stream.set_write_timeout(Some(MS * 50)).unwrap();
    let queries: Vec<u8> =
        (0..2000).flat_map(|id| framed(&query(id, "a.example.", RecordType::A, None))).collect();
    let (start, mut sent) = (Instant::now(), 0);
    // Queries without end; the server stops reading when its replies don't go out any more, and then gives up.
    while node.metric("portolan_dns_tcp_closed_total", Some("slow")) == 0.0 {
        assert!(start.elapsed() < Duration::from_secs(20), "still open after {sent} octets");
        match greedy.stream.write(&queries[sent % queries.len()..]) {
            Ok(written) => sent += written,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => std::thread::sleep(MS),
        }
    }
    assert_eq!(node.connect().ask("a.", RecordType::A).metadata.response_code, ResponseCode::Refused);
}

#[test]
fn a_client_that_vanishes_leaves_nothing_behind() {
    let resolver = Resolver::start();
    let mut config = config();
    config.forward = vec![resolver.address];
    let node = Node::start(&config);
    for _ in 0..20 {
        node.connect().send(&query(1, "d50.example.", RecordType::A, None));
    }
    node.wait_for_metric("portolan_dns_tcp_closed_total", None, 20.0);
    assert_eq!(node.metric("portolan_dns_tcp_connections", None), 0.0);
}

#[test]
fn stopping_answers_what_was_asked_and_takes_no_more() {
    let resolver = Resolver::start();
    let mut config = config();
    config.forward = vec![resolver.address];
    let node = Node::start(&config);
    let (mut asking, mut idle) = (node.connect(), node.connect());
    idle.ask("nx.", RecordType::A);
    asking.send(&query(1, "d500.example.", RecordType::A, None));
    node.wait_for_metric("portolan_dns_forward_in_flight", None, 1.0);
    node.stop();
    assert!(idle.is_closed());
    assert_eq!(asking.read().answers.len(), 1);
    assert!(asking.is_closed());
    let refused = std::net::TcpStream::connect(node.address).map(|mut stream| stream.read(&mut [0; 1]));
    assert!(!matches!(refused, Ok(Ok(1..))), "{refused:?}");
    if let Err(error) = refused {
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
}

#[test]
fn section_5_a_cut_answer_is_whole_over_tcp() {
    let mut node = Node::start(&config());
    node.publish(&[("big", 700)]);
    for (udp_size, kind) in
        [(None, RecordType::A), (Some(4096), RecordType::A), (Some(1232), RecordType::SRV)]
    {
        let name = if kind == RecordType::SRV { "_http._tcp.big.svc.cluster." } else { "big.svc.cluster." };
        let cut = node.ask_udp(name, kind, udp_size);
        assert!(cut.metadata.truncation && cut.answers.len() < 700);
        let whole = node.connect().ask(name, kind);
        assert!(!whole.metadata.truncation);
        let mut data: Vec<String> = whole.answers.iter().map(|record| record.data.to_string()).collect();
        data.sort();
        data.dedup();
        assert_eq!(data.len(), 700, "each of them, once");
    }
}

#[test]
fn a_set_too_large_even_for_tcp_is_cut_there_too() {
    let mut node = Node::start(&config());
    node.publish(&[("huge", 6000)]);
    let reply = node.connect().ask("huge.svc.cluster.", RecordType::A);
    assert!(reply.metadata.truncation);
}

#[test]
fn all_workers_serve() {
    let node = Node::with_workers(&config(), 3);
    for _ in 0..60 {
        assert_eq!(node.connect().ask("a.", RecordType::A).metadata.response_code, ResponseCode::Refused);
    }
}
