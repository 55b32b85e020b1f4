//! Stopping while queries are in progress.

use std::net::UdpSocket;
use std::time::Instant;

use hickory_proto::rr::RecordType;

use crate::node::{MS, Node, PATIENCE, config, query};
use crate::resolver::Resolver;

#[test]
fn a_forwarded_udp_query_in_progress_is_answered() {
    let resolver = Resolver::start();
    let mut config = config();
    config.forward = vec![resolver.address];
    let node = Node::start(&config);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(&query(1, "d400.example.", RecordType::A, None), node.address).unwrap();
    node.wait_for_metric("portolan_dns_forward_in_flight", None, 1.0);
    node.stop();
    assert!(socket.recv(&mut [0; 512]).unwrap() > 12);
}

#[test]
fn with_nothing_in_progress_it_is_over_at_once() {
    let node = Node::with_workers(&config(), 2);
    let _idle = node.connect();
    let start = Instant::now();
    drop(node);
    assert!(start.elapsed() < MS * 1000, "{:?}", start.elapsed());
}
