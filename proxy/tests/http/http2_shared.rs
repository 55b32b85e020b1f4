//! Shared connections to endpoints when something goes wrong on them: whom it costs what.

use std::sync::Arc;
use std::time::Duration;

use crate::authority::{Authority, secure};
use crate::frames::*;
use crate::h2_server::{Server, full};
use crate::harness::*;
use crate::http2_upstream::{POST_TEXT, generous, h2};

/// GOAWAY that takes on none of the streams.
fn away() -> Vec<u8> {
    compose(GOAWAY, 0, 0, &[0; 8])
}

#[test]
fn an_endpoint_that_closes_right_behind_goaway_costs_nothing() {
    let backend = scripted(|frames, connection| {
        frames.await_frame(HEADERS, 1);
        if connection == 0 {
            frames.client.send(away());
            let _ = frames.client.stream.shutdown(std::net::Shutdown::Both);
        } else {
            answer(frames, 1);
        }
    });
    let node = Node::with(generous(), &[backend.address]);
    assert_eq!(node.request(POST_TEXT).text(), "hello");
    assert_eq!(backend.connections(), 2);
}

#[test]
fn nor_does_one_that_does_so_over_tls_in_one_record() {
    let authority = Authority::new();
    let mut server = authority.server(&["127.0.0.1"], false);
    server.alpn_protocols = vec![b"h2".to_vec()];
    let count = std::sync::atomic::AtomicUsize::new(0);
    let backend = secure(Arc::new(server), move |client| {
        let mut frames = Frames { client };
        frames.client.until("SM\r\n\r\n");
        assert!(frames.send(SETTINGS, 0, 0, &[]));
        frames.await_frame(HEADERS, 1);
        if count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
            let stream = &mut frames.client.stream;
            // In one write, with the closing message.
            std::io::Write::write_all(&mut stream.conn.writer(), &away()).unwrap();
            stream.conn.send_close_notify();
            let mut octets = Vec::new();
            while stream.conn.wants_write() {
                stream.conn.write_tls(&mut octets).unwrap();
            }
            std::io::Write::write_all(&mut stream.sock, &octets).unwrap();
        } else {
            answer(&mut frames, 1);
        }
        while frames.next().is_some() {}
    });
    let mut config = generous();
    config.upstream.tls.enabled = Some(true);
    config.upstream.tls.ca = Some(authority.write("ca.pem", &authority.pem()));
    let node = Node::with(config, &[backend.address]);
    assert_eq!(node.request(POST_TEXT).text(), "hello");
    assert_eq!(backend.connections(), 2);
}

#[test]
fn requests_given_up_at_once_cost_other_clients_nothing() {
    // Endpoints take a connection for hostile on which many streams are reset before anybody looked at them.
    let server = Server::start(1000, async |request: http::Request<hyper::body::Incoming>| {
        let is_held = request.uri().path() == "/held";
        tokio::time::sleep(Duration::from_millis(if is_held { 700 } else { 0 })).await;
        http::Response::new(full("hello"))
    });
    let node = Node::with(h2(), &[server.address]);
    assert_eq!(node.request(&get("/")).text(), "hello");
    let mut held = node.connect();
    held.send(get("/held"));
    for _ in 0..10 {
        let mut frames = Frames::connect(&node, &[]);
        let mut octets = Vec::new();
        for at in 0..25 {
            octets.extend(compose(HEADERS, END_STREAM | END_HEADERS, 2 * at + 1, &block(&GET)));
        }
        // What comes behind is read by itself: by then the requests are on their way.
        for _ in 0..8 {
            octets.extend(compose(77, 0, 0, &[0; 1000]));
        }
        for at in 0..25 {
            octets.extend(compose(RST_STREAM, 0, 2 * at + 1, &CANCEL.to_be_bytes()));
        }
        octets.extend(compose(PING, 0, 0, &[1; 8]));
        frames.client.send(octets);
        frames.await_frame(PING, 0);
    }
    assert_eq!(held.response().text(), "hello");
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_connection_on_which_nothing_comes_gets_no_more_requests() {
    let backend = scripted(|frames, connection| {
        frames.await_frame(HEADERS, 1);
        if connection > 0 {
            answer(frames, 1);
        }
    });
    for is_old_client in [true, false] {
        let before = backend.connections();
        let mut config = h2();
        config.timeouts.response_head = Duration::from_millis(300);
        let node = Node::with(config, &[backend.address]);
        if before == 0 {
            // The first of all its connections is the one that is dead.
            assert_eq!(ask(&node, is_old_client), 504);
        }
        assert_eq!(ask(&node, is_old_client), 200);
    }
}

fn ask(node: &Node, is_old_client: bool) -> u16 {
    if is_old_client {
        return node.request(&get("/")).status;
    }
    let mut frames = Frames::connect(node, &[]);
    assert!(frames.get(1));
    if frames.await_frame(HEADERS, 1).payload[0] == 0x88 { 200 } else { 504 }
}

#[test]
fn a_slow_answer_alone_costs_no_connection() {
    let backend = scripted(|frames, _| {
        while let Some(frame) = frames.next() {
            if frame.kind == HEADERS && frame.stream > 1 {
                answer(frames, frame.stream);
            }
        }
    });
    let mut config = h2();
    config.timeouts.response_head = Duration::from_millis(500);
    let node = Node::with(config, &[backend.address]);
    let mut slow = node.connect();
    slow.send(get("/"));
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_millis(400) {
        assert!(node.request(&get("/")).status < 505);
    }
    assert_eq!(slow.response().status, 504);
    assert_eq!(node.request(&get("/")).text(), "hello");
    assert_eq!(backend.connections(), 1);
}
