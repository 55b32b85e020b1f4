//! What gRPC needs of a proxy: streams both ways at once, trailers, refusals in its own words.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::frames::*;
use crate::harness::*;

#[test]
fn messages_pass_both_ways_one_by_one_and_trailers_end_the_call() {
    let backend = Backend::start(|mut client| {
        let head = client.head();
        assert_eq!(field(&head, "te"), Some("trailers"), "{head}");
        client
            .send("HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n");
        loop {
            let size = client.until("\r\n");
            if size == "0\r\n" {
                break;
            }
            let message = client.until("\r\n");
            client.send(format!("{size}{message}"));
        }
        client.until("\r\n");
        client.send("0\r\ngrpc-status: 0\r\ngrpc-message: fine\r\n\r\n");
        client.rest();
    });
    let node = Node::start(&[backend.address]);
    let mut frames = Frames::connect(&node, &[]);
    assert!(frames.request(1, 0, &CALL));
    frames.await_frame(HEADERS, 1);
    for at in 0..10 {
        let message = format!("message {at}");
        assert!(frames.send(DATA, 0, 1, message.as_bytes()));
        assert_eq!(frames.await_frame(DATA, 1).payload, message.as_bytes());
    }
    assert!(frames.send(DATA, END_STREAM, 1, b""));
    let trailers = frames.await_frame(HEADERS, 1);
    assert!(trailers.is_end());
    let text = String::from_utf8_lossy(&trailers.payload).into_owned();
    assert!(text.contains("grpc-status\x010") && text.contains("grpc-message\x04fine"), "{text:?}");
}

#[test]
fn a_call_that_nobody_can_serve_is_refused_in_its_own_words() {
    let node = Node::start(&[]);
    let mut frames = Frames::connect(&node, &[]);
    assert!(frames.request(1, END_STREAM, &CALL));
    let head = frames.await_frame(HEADERS, 1);
    let text = String::from_utf8_lossy(&head.payload).into_owned();
    assert!(head.is_end() && head.payload[0] == 0x88 && text.contains("grpc-status\x0214"), "{text:?}");
    assert_eq!(node.metric("portolan_proxy_requests_total{class=\"5xx\",listener=\"web\"}"), 1.0);
    let mut web = CALL;
    web[4].1 = "application/grpc-web";
    assert!(frames.request(3, END_STREAM, &web));
    let head = frames.await_frame(HEADERS, 3);
    assert!(head.payload.starts_with(b"\x18\x03503"), "{head:?}");
}

#[test]
fn a_call_that_is_cancelled_ends_at_its_endpoint() {
    let (ended, end) = channel();
    let ended = Arc::new(Mutex::new(ended));
    let backend = Backend::start(move |mut client| {
        client.head();
        client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.rest();
        ended.lock().unwrap().send(()).unwrap();
    });
    let node = Node::start(&[backend.address]);
    let mut frames = Frames::connect(&node, &[]);
    assert!(frames.request(1, 0, &CALL));
    frames.await_frame(HEADERS, 1);
    assert!(frames.send(RST_STREAM, 0, 1, &CANCEL.to_be_bytes()));
    end.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn interim_responses_reach_the_client() {
    let (backend, _requests) =
        Backend::answering(format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{HELLO}"));
    let node = Node::start(&[backend.address]);
    let mut frames = Frames::connect(&node, &[]);
    assert!(frames.get(1));
    let interim = frames.await_frame(HEADERS, 1);
    assert!(interim.payload.starts_with(b"\x18\x03103") && !interim.is_end(), "{interim:?}");
    assert_eq!(frames.content(1), b"hello");
}

#[test]
fn a_response_before_the_end_of_the_request_ends_the_stream_without_an_error() {
    let backend = Backend::start(|mut client| {
        client.head();
        client.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
        client.rest();
    });
    let node = Node::start(&[backend.address]);
    let mut frames = Frames::connect(&node, &[]);
    assert!(frames.request(1, 0, &POST));
    assert!(frames.send(DATA, 0, 1, b"begun"));
    assert_eq!(frames.content(1), b"no");
    assert_eq!(frames.await_frame(RST_STREAM, 1).code(), 0);
    // What was on its way is nobody's fault.
    assert!(frames.send(DATA, END_STREAM, 1, b"more"));
    assert!(frames.send(PING, 0, 0, &[1; 8]));
    frames.await_frame(PING, 0);
}

#[test]
fn the_drain_limit_of_an_endpoint_that_left_ends_its_calls() {
    let backend = Backend::start(|mut client| {
        client.head();
        client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.rest();
    });
    let mut config = config();
    config.drain = Duration::from_millis(1200);
    let mut node = Node::with(config, &[backend.address]);
    let mut frames = Frames::connect(&node, &[]);
    assert!(frames.request(1, 0, &CALL));
    frames.await_frame(HEADERS, 1);
    let (other, _requests) = Backend::answering(HELLO);
    node.publish(&service("app", &[other.address]));
    frames.await_frame(RST_STREAM, 1);
    assert!(frames.get(3));
    assert_eq!(frames.content(3), b"hello");
}
