//! Every phase has a limit in time, every message one in size, and memory stays what it is.

use std::time::{Duration, Instant};

use portolan_proxy::{Config, Timeouts};

use crate::harness::*;

const SHORT: Duration = Duration::from_millis(150);

fn with_timeouts(change: impl FnOnce(&mut Timeouts)) -> Config {
    let mut config = config();
    change(&mut config.timeouts);
    config
}

#[test]
fn a_slow_request_head_is_408_however_steadily_it_drips() {
    let node = Node::with(with_timeouts(|t| t.request_head = SHORT), &[nobody()]);
    let mut client = node.connect();
    client.send("GET / HTTP/1.1\r\n");
    let begun = Instant::now();
    while begun.elapsed() < 2 * SHORT && client.try_send("X: y\r\n") {
        std::thread::sleep(Duration::from_millis(20));
    }
    let response = client.response();
    assert_eq!(response.status, 408, "{response:?}");
    assert!(begun.elapsed() < PATIENCE);
}

#[test]
fn a_connection_on_which_nothing_comes_is_closed_without_a_word() {
    let node = Node::with(with_timeouts(|t| t.request_head = SHORT), &[nobody()]);
    assert!(node.connect().is_closed());
}

#[test]
fn an_idle_connection_is_closed_after_keep_alive() {
    let (backend, _requests) = Backend::answering(HELLO);
    let node = Node::with(with_timeouts(|t| t.keep_alive = SHORT), &[backend.address]);
    let mut client = node.connect();
    client.send(get("/"));
    assert_eq!(client.response().text(), "hello");
    let begun = Instant::now();
    assert!(client.is_closed());
    assert!(begun.elapsed() >= SHORT, "closed after {:?}", begun.elapsed());
}

#[test]
fn a_request_body_that_stops_is_408() {
    let (backend, requests) = Backend::answering(HELLO);
    let node = Node::with(with_timeouts(|t| t.request_body_idle = SHORT), &[backend.address]);
    let mut client = node.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\npart");
    assert_eq!(client.response().status, 408);
    assert!(client.is_closed());
    assert!(requests.try_recv().is_err(), "the endpoint never saw a whole request");
}

#[test]
fn a_connect_that_gets_no_answer_is_504() {
    // A listener whose queue is full answers no connect.
    let full = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = full.local_addr().unwrap();
    let socket = socket2::SockRef::from(&full);
    socket.listen(0).unwrap();
    let _held: Vec<_> =
        (0..4).filter_map(|_| std::net::TcpStream::connect_timeout(&address, SHORT).ok()).collect();
    let node = Node::with(with_timeouts(|t| t.connect = SHORT), &[address]);
    let response = node.request(&get("/"));
    assert_eq!(response.status, 504);
    assert!(response.text().contains("connecting"), "{response:?}");
}

#[test]
fn an_endpoint_that_does_not_answer_is_504_and_not_asked_again() {
    let (asked, asking) = std::sync::mpsc::channel();
    let asked = std::sync::Mutex::new(asked);
    let backend = Backend::start(move |mut client| {
        client.request();
        asked.lock().unwrap().send(()).unwrap();
        client.rest();
    });
    let node = Node::with(with_timeouts(|t| t.response_head = SHORT), &[backend.address]);
    let mut client = node.connect();
    client.send(get("/"));
    let response = client.response();
    assert_eq!(response.status, 504);
    assert!(response.text().contains("did not answer"), "{response:?}");
    assert_eq!(asking.try_iter().count(), 1);
}

#[test]
fn a_response_head_that_drips_is_504() {
    let backend = Backend::start(|mut client| {
        client.request();
        client.send("HTTP/1.1 200 OK\r\n");
        while client.try_send("X: y\r\n") {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let node = Node::with(with_timeouts(|t| t.response_head = SHORT), &[backend.address]);
    assert_eq!(node.request(&get("/")).status, 504);
}

#[test]
fn a_response_body_that_stops_breaks_the_connection() {
    let backend = Backend::start(|mut client| {
        client.request();
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
        client.rest();
    });
    let node = Node::with(with_timeouts(|t| t.response_body_idle = SHORT), &[backend.address]);
    let mut client = node.connect();
    client.send(get("/"));
    assert!(client.head().contains("Content-Length: 100"));
    assert!(client.rest().len() < 100);
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let (ended, end) = std::sync::mpsc::channel();
    let ended = std::sync::Mutex::new(ended);
    let backend = Backend::start(move |mut client| {
        client.request();
        client.send("HTTP/1.1 200 OK\r\n\r\n");
        while client.try_send([0; 65536]) {}
        ended.lock().unwrap().send(()).unwrap();
    });
    let node = Node::with(with_timeouts(|t| t.write_stall = SHORT), &[backend.address]);
    let mut client = node.connect();
    client.send(get("/"));
    client.head();
    end.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn an_idle_tunnel_ends() {
    let backend = Backend::start(|mut client| {
        client.request();
        client.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
        client.rest();
    });
    let node = Node::with(with_timeouts(|t| t.tunnel_idle = SHORT), &[backend.address]);
    let mut client = node.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    client.head();
    assert!(client.is_closed());
}

#[test]
fn a_body_larger_than_allowed_is_413() {
    let (backend, requests) = Backend::answering(HELLO);
    let mut config = config();
    config.limits.request_body_max = Some(1000);
    let node = Node::with(config, &[backend.address]);
    let mut client = node.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n");
    assert_eq!(client.response().status, 413);
    let mut client = node.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..11 {
        client.try_send(format!("64\r\n{}\r\n", "x".repeat(100)));
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(client.response().status, 413);
    assert!(requests.try_recv().is_err());
    let mut client = node.connect();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{}", "x".repeat(1000)));
    assert_eq!(client.response().status, 200);
}

#[test]
fn a_response_head_larger_than_allowed_is_502() {
    let (backend, _requests) =
        Backend::answering(format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(70_000)));
    let node = Node::start(&[backend.address]);
    let response = node.request(&get("/"));
    assert_eq!(response.status, 502);
    assert!(response.text().contains("too large"), "{response:?}");
}

#[test]
fn connections_above_the_limit_are_turned_away() {
    let (backend, _requests) = Backend::answering(HELLO);
    let mut config = config();
    config.limits.connections_max = 2;
    let node = Node::with(config, &[backend.address]);
    let mut held: Vec<_> = (0..2).map(|_| node.connect()).collect();
    for client in &mut held {
        client.send(get("/"));
        assert_eq!(client.response().status, 200);
    }
    let mut client = node.connect();
    assert_eq!(client.response().status, 503);
    assert!(client.is_closed());
    drop(held);
    eventually("a place is free again", || {
        let mut client = node.connect();
        client.try_send(get("/")) && client.response().status == 200
    });
}

#[test]
fn large_bodies_pass_both_ways_in_little_memory() {
    const SIZE: usize = 64 * 1024 * 1024;
    let backend = Backend::start(|mut client| {
        let head = client.head();
        let length: usize = field(&head, "content-length").unwrap().parse().unwrap();
        client.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"));
        let mut left = length;
        // Echoed while it comes: the response begins long before the request ends.
        while left > 0 {
            let octets = std::mem::take(&mut client.read);
            left -= octets.len();
            client.send(&octets);
            if left > 0 {
                assert!(client.fill());
            }
        }
    });
    let node = Node::start(&[backend.address]);
    let mut client = node.connect();
    let mut sender = client.stream.try_clone().unwrap();
    let before = resident();
    let sending = std::thread::spawn(move || {
        use std::io::Write;
        write!(sender, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n").unwrap();
        let block: Vec<u8> = (0..65536_u32).map(|at| ((at * 31) >> 3) as u8).collect();
        for _ in 0..SIZE / block.len() {
            sender.write_all(&block).unwrap();
        }
    });
    let head = client.head();
    assert_eq!(field(&head, "content-length"), Some(SIZE.to_string().as_str()));
    let (mut got, block) = (0, (0..65536_u32).map(|at| ((at * 31) >> 3) as u8).collect::<Vec<_>>());
    while got < SIZE {
        let octets = client.exactly(65536);
        assert!(octets == block, "the block at {got} differs");
        got += octets.len();
    }
    sending.join().unwrap();
    let grown = resident().saturating_sub(before);
    assert!(grown < 24 * 1024 * 1024, "{grown} octets more after {SIZE} octets each way");
}

/// Resident memory of this process in octets.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
