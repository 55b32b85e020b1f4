//! What cannot be carried out is refused at once, in the client's own words, and nobody else is blamed.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use portolan_proxy::{Config, EjectionConfig};

use crate::frames::*;
use crate::h2_server::{Server, tell};
use crate::harness::*;
use crate::http2_upstream::h2;

fn fault(node: &Node, whose: &str) -> f64 {
    node.metric(&format!("portolan_proxy_refusals_total{{fault=\"{whose}\"}}"))
}

/// One failure of an endpoint shows.
fn strict(mut config: Config) -> Config {
    config.upstream.ejection = Some(EjectionConfig { failures: 1, ..EjectionConfig::default() });
    config
}

fn blamed(node: &Node) -> f64 {
    let names = ["portolan_proxy_ejections_total", "portolan_proxy_ejections_refused_total"];
    names.iter().map(|name| node.metric(name)).sum()
}

#[test]
fn refusals_of_heads_fit_what_was_asked() {
    let node = Node::start(&[nobody()]);
    let mut frames = Frames::connect(&node, &[]);
    let value = "v".repeat(20_000);
    let large = [("a", &*value), ("b", &*value)];
    let head = [("HEAD", &GET[1..]), ("GET", &GET[1..])]
        .map(|(method, rest)| [&[(":method", method)], rest, &large].concat());
    frames.long(1, END_STREAM, &head[0]);
    let answer = frames.await_frame(HEADERS, 1);
    assert!(answer.is_end(), "HEAD gets no content: {answer:?}");
    assert!(String::from_utf8_lossy(&answer.payload).contains("431"), "{answer:?}");
    frames.long(3, END_STREAM, &head[1]);
    assert!(!frames.content(3).is_empty());
    frames.long(5, 0, &[&CALL[..], &large].concat());
    let answer = frames.await_frame(HEADERS, 5);
    let text = String::from_utf8_lossy(&answer.payload).into_owned();
    assert!(answer.is_end() && answer.payload[0] == 0x88 && text.contains("grpc-status\x018"), "{text:?}");
}

#[test]
fn content_beyond_the_limit_ends_the_upload_for_good() {
    let (seen, came) = channel();
    let seen = Mutex::new(seen);
    let backend = Backend::start(move |mut client| {
        client.head();
        client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        client.until("6\r\n666666\r\n");
        client.send("5\r\nhello\r\n");
        seen.lock().unwrap().send(client.rest()).unwrap();
    });
    let mut config = config();
    config.limits.request_body_max = Some(10);
    config.timeouts.response_body_idle = Duration::from_millis(500);
    let config = strict(config);
    let node = Node::with(config, &[backend.address]);
    let mut frames = Frames::connect(&node, &[]);
    assert!(frames.request(1, 0, &POST));
    frames.await_frame(DATA, 1);
    assert!(frames.send(DATA, 0, 1, b"666666"));
    frames.await_frame(DATA, 1);
    assert!(frames.send(DATA, 0, 1, b"666666"));
    assert!(frames.send(DATA, END_STREAM, 1, b"333"));
    assert_eq!(came.recv_timeout(PATIENCE).unwrap(), b"", "content with a hole in it");
    frames.await_frame(RST_STREAM, 1);
    assert_eq!(blamed(&node), 0.0);
}

fn many_fields() -> Config {
    let mut config = h2();
    config.limits.request_headers_max = 1000;
    config.timeouts.response_head = Duration::from_secs(5);
    config
}

#[test]
fn as_many_fields_as_there_may_be_reach_an_endpoint_that_speaks_http_2() {
    let server = Server::start(100, tell);
    let node = Node::with(many_fields(), &[server.address]);
    for (count, status) in [(250, 200), (256, 200), (257, 431), (300, 431)] {
        let begun = Instant::now();
        // Host is one of them.
        let fields: String = (1..count).map(|at| format!("x-{at}: {at}\r\n")).collect();
        let response = node.request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        assert_eq!(response.status, status, "{count} fields");
        assert!(begun.elapsed() < Duration::from_secs(4));
    }
    let mut frames = Frames::connect(&node, &[]);
    let names: Vec<String> = (1..255).map(|at| format!("x-{at}")).collect();
    let fields: Vec<_> = names.iter().map(|name| (&**name, "1")).collect();
    frames.long(1, END_STREAM, &[&GET[..], &fields].concat());
    assert_eq!(frames.await_frame(HEADERS, 1).payload[0], 0x88);
}

#[test]
fn trailers_that_are_too_large_are_refused_at_once() {
    let server = Server::start(100, tell);
    let (backend, requests) = Backend::answering(HELLO);
    for (config, address) in [(h2(), server.address), (config(), backend.address)] {
        let node = Node::with(strict(config), &[address]);
        let mut frames = Frames::connect(&node, &[]);
        let value = "v".repeat(10_000);
        assert!(frames.request(1, 0, &POST));
        assert!(frames.send(DATA, 0, 1, b"content"));
        let begun = Instant::now();
        frames.long(1, END_STREAM, &[("x-a", &value), ("x-b", &value)]);
        let head = frames.await_frame(HEADERS, 1);
        assert!(String::from_utf8_lossy(&head.payload).contains("431"), "{head:?}");
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!((fault(&node, "upstream"), fault(&node, "downstream"), blamed(&node)), (0.0, 1.0, 0.0));
        assert!(frames.request(3, 0, &POST));
        frames.long(3, END_STREAM, &[("x-a", &value)]);
        assert_eq!(frames.await_frame(HEADERS, 3).payload[0], 0x88);
    }
    assert!(requests.try_iter().count() > 0);
}

#[test]
fn trailers_of_a_connection_do_not_cross_into_http_2() {
    let server = Server::start(100, tell);
    let node = Node::with(h2(), &[server.address]);
    for name in ["Keep-Alive", "Proxy-Connection"] {
        let response = node.request(&format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{name}: 5\r\n\r\n"
        ));
        assert_eq!(response.status, 400, "{name}");
        let (backend, _requests) = Backend::answering(format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n{name}: 5\r\n\r\n"
        ));
        let node = Node::start(&[backend.address]);
        let mut frames = Frames::connect(&node, &[]);
        assert!(frames.get(1));
        let mut last = frames.await_frame(HEADERS, 1);
        while !last.is_end() && last.kind != RST_STREAM {
            last = frames.next().unwrap();
        }
        assert_eq!(last.kind, RST_STREAM, "{name}: {last:?}");
    }
}
