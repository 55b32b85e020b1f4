//! When one side breaks in the middle, the other one notices, and nobody takes a part for the whole.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::harness::*;

#[test]
fn a_response_cut_short_never_looks_complete() {
    for (head, body) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", "part"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "4\r\npart\r\n"),
    ] {
        let backend = Backend::start(move |mut client| {
            client.request();
            client.send(format!("{head}{body}"));
        });
        let node = Node::start(&[backend.address]);
        let mut client = node.connect();
        client.send(get("/"));
        client.head();
        let got = String::from_utf8(client.rest()).unwrap();
        assert!(!got.contains("0\r\n\r\n") && got.len() < 100, "{got:?}");
    }
}

#[test]
fn nonsense_behind_a_good_head_never_looks_complete() {
    let (backend, _requests) = Backend::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\nnonsense\r\n0\r\n\r\n",
    );
    let node = Node::start(&[backend.address]);
    let mut client = node.connect();
    client.send(get("/"));
    client.half_close();
    let got = String::from_utf8(client.rest()).unwrap();
    assert!(got.starts_with("HTTP/1.1 502 ") || !got.contains("0\r\n\r\n"), "{got:?}");
}

#[test]
fn a_response_until_close_that_is_reset_is_a_reset_for_the_client() {
    let backend = Backend::start(|mut client| {
        client.request();
        client.send("HTTP/1.1 200 OK\r\n\r\npart");
        socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
        // The part is on its way before the reset.
        std::thread::sleep(Duration::from_millis(50));
    });
    let node = Node::start(&[backend.address]);
    let mut client = node.connect();
    client.send(get("/"));
    client.head();
    assert_eq!(end_of(&mut client), "reset");
}

/// Reads on; how it ends.
fn end_of(client: &mut Client) -> &'static str {
    let mut piece = vec![0; 1 << 16];
    loop {
        match std::io::Read::read(&mut client.stream, &mut piece) {
            Ok(0) => break "end",
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break "reset",
            Err(error) => panic!("neither an end nor a reset: {error}"),
        }
    }
}

/// Responses whose end is the end of the connection, and requests that get them.
const UNTIL_CLOSE: [(&str, &str); 2] = [
    ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"),
    // An old client gets chunks decoded.
    ("GET / HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4000000\r\n"),
];

/// An endpoint that sends more than the kernel takes for a client that reads nothing.
fn sends_much(head: &'static str) -> Backend {
    Backend::start(move |mut client| {
        client.request();
        client.send(head);
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..64 {
            if !client.try_send(&piece) {
                return;
            }
        }
    })
}

#[test]
fn a_response_until_close_cut_off_by_a_slow_client_is_a_reset_for_it() {
    for (request, head) in UNTIL_CLOSE {
        let backend = sends_much(head);
        let mut config = config();
        config.timeouts.write_stall = Duration::from_millis(200);
        let node = Node::with(config, &[backend.address]);
        let mut client = node.connect();
        client.send(request);
        let counted = "portolan_proxy_requests_total{class=\"2xx\",listener=\"web\"}";
        eventually("the response is given up", || node.metric(counted) == 1.0);
        assert_eq!(end_of(&mut client), "reset", "{head:?}");
    }
}

#[test]
fn a_response_until_close_cut_off_by_the_drain_limit_is_a_reset_for_the_client() {
    for (request, head) in UNTIL_CLOSE {
        let backend = sends_much(head);
        let mut config = config();
        config.drain = Duration::from_millis(200);
        let node = Node::with(config, &[backend.address]);
        let mut client = node.connect();
        client.send(request);
        client.head();
        node.join();
        assert_eq!(end_of(&mut client), "reset", "{head:?}");
    }
}

#[test]
fn a_client_that_goes_away_ends_the_request_at_the_endpoint() {
    let (ended, end) = channel();
    let ended = Arc::new(Mutex::new(ended));
    let backend = Backend::start(move |mut client| {
        client.request();
        let closed = client.is_closed();
        ended.lock().unwrap().send(closed).unwrap();
    });
    let node = Node::start(&[backend.address]);
    let mut client = node.connect();
    client.send(get("/slow"));
    while backend.connections() == 0 {
        std::thread::yield_now();
    }
    drop(client);
    assert!(end.recv_timeout(PATIENCE).unwrap());
}

#[test]
fn a_client_that_goes_away_in_the_middle_of_a_body_ends_the_request() {
    let (ended, end) = channel();
    let ended = Arc::new(Mutex::new(ended));
    let backend = Backend::start(move |mut client| {
        client.head();
        let got = client.rest();
        ended.lock().unwrap().send(got).unwrap();
    });
    let node = Node::start(&[backend.address]);
    let mut client = node.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\npart");
    drop(client);
    assert_eq!(end.recv_timeout(PATIENCE).unwrap(), b"part");
}

#[test]
fn a_client_that_only_half_closes_gets_its_answer() {
    let (backend, _requests) = Backend::answering(HELLO);
    let node = Node::start(&[backend.address]);
    let mut client = node.connect();
    client.send(get("/"));
    client.half_close();
    assert_eq!(client.response().text(), "hello");
    assert!(client.is_closed());
}

#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let backend = Backend::start(|mut client| {
        client.head();
        client.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
        client.half_close();
        client.rest();
    });
    let node = Node::start(&[backend.address]);
    let mut client = node.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n");
    client.send(vec![0; 100_000]);
    let response = client.response();
    assert_eq!((response.status, response.text()), (403, "no"));
    assert_eq!(response.field("connection"), Some("close"));
    assert!(client.is_closed());
}

#[test]
fn an_endpoint_that_answers_and_closes_without_reading_the_body_is_heard() {
    let backend = Backend::start(|mut client| {
        client.head();
        client.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno");
    });
    let node = Node::start(&[backend.address]);
    let mut heard = 0;
    for _ in 0..10 {
        let mut client = node.connect();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n");
        heard += u32::from(client.response().status == 413);
    }
    assert_eq!(heard, 10);
}
