//! HTTP/2 to endpoints: many requests on one connection, whatever their clients speak.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::body::Incoming;
use portolan_proxy::{Config, UpstreamProtocol};
use portolan_table::AppProtocol;

use crate::frames::*;
use crate::h2_server::*;
use crate::harness::*;

pub(crate) fn h2() -> Config {
    let mut config = config();
    config.upstream.protocol = UpstreamProtocol::H2;
    config
}

#[test]
fn a_request_of_http_1_1_arrives_as_one_of_http_2() {
    let server = Server::start(100, tell);
    let node = Node::with(h2(), &[server.address]);
    let response = node.request(
        "POST /a?b HTTP/1.1\r\nHost: app.example:8080\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nCookie: a=1\r\n\
         Content-Length: 4\r\n\r\nbody",
    );
    assert_eq!((response.status, response.field("connection")), (200, Some("close")));
    assert_eq!(response.head.matches("x-a: ").count(), 2);
    let text = response.text();
    assert!(text.starts_with("POST http://app.example:8080/a?b HTTP/2.0\n"), "{text}");
    assert!(text.contains("x-forwarded-for: 127.0.0.1\n") && text.contains("cookie: a=1\n"), "{text}");
    assert!(text.ends_with("body") && !text.contains("x-hop") && !text.contains("connection"), "{text}");
    let response = node.request(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 7\r\n\r\n",
    );
    let text = response.text();
    assert!(text.ends_with("abcde") && text.contains("\"x-sum\": \"7\""), "{text}");
    assert_eq!(server.connections(), 1);
}

#[test]
fn responses_without_content_are_whole() {
    let server = Server::start(100, async |request: http::Request<Incoming>| {
        let status: u16 = request.uri().path()[1..].parse().unwrap();
        let content = if status == 200 { full("hello") } else { full("") };
        http::Response::builder().status(status).body(content).unwrap()
    });
    let node = Node::with(h2(), &[server.address]);
    let mut client = node.connect();
    for (method, path, length) in [
        ("HEAD", "/200", Some("5")),
        ("GET", "/204", None),
        ("GET", "/304", None),
        ("GET", "/404", Some("0")),
    ] {
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let response = client.response_without_body();
        assert_eq!(response.status.to_string(), path[1..]);
        assert_eq!(response.field("content-length"), length, "{method} {path}");
    }
    client.send(get("/200"));
    assert_eq!(client.response().text(), "hello");
}

#[test]
fn many_requests_share_a_connection_and_more_open_another() {
    let hold = async |_: http::Request<Incoming>| {
        tokio::time::sleep(Duration::from_millis(300)).await;
        http::Response::new(full("hello"))
    };
    for (streams_max, connections) in [(100, 1), (8, 3)] {
        let server = Server::start(streams_max, hold);
        let node = Node::with(h2(), &[server.address]);
        // Before the endpoint has said how many there may be, it is asked for one.
        assert_eq!(node.request(&get("/")).text(), "hello");
        let mut clients: Vec<_> = (0..20).map(|_| node.connect()).collect();
        clients.iter_mut().for_each(|client| client.send(get("/")));
        for client in &mut clients {
            assert_eq!(client.response().text(), "hello");
        }
        assert_eq!(server.connections(), connections, "{streams_max} streams");
    }
}

#[test]
fn many_requests_at_once_make_one_connection() {
    let server = Server::start(100, tell);
    let node = Node::with(h2(), &[server.address]);
    let mut clients: Vec<_> = (0..20).map(|_| node.connect()).collect();
    clients.iter_mut().for_each(|client| client.send(get("/")));
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
    assert_eq!(server.connections(), 1);
}

#[test]
fn large_content_passes_both_ways() {
    let content: Vec<u8> = (0..8 << 20).map(|at: u32| ((at * 31) >> 5) as u8).collect();
    let server = Server::start(100, echo);
    let node = Node::with(h2(), &[server.address]);
    let mut client = node.connect();
    let mut sending = Client::of(client.stream.try_clone().unwrap());
    let whole = content.clone();
    let sender = std::thread::spawn(move || {
        sending.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", whole.len()));
        sending.send(whole);
    });
    let response = client.response();
    sender.join().unwrap();
    assert!(response.body == content, "{} octets, or others", response.body.len());
}

#[test]
fn a_grpc_call_streams_both_ways_between_http_2_and_http_2() {
    let server = Server::start(100, echo);
    // The port says what is spoken.
    let mut node = Node::start(&[]);
    let mut calls = (*service("app", &[server.address])).clone();
    calls.ports[0].app_protocol = AppProtocol::Grpc;
    node.publish(&Arc::new(calls));
    let mut frames = Frames::connect(&node, &[]);
    for stream in [1, 3] {
        assert!(frames.request(stream, 0, &CALL));
        frames.await_frame(HEADERS, stream);
        for at in 0..20 {
            let message = format!("message {at}");
            assert!(frames.send(DATA, 0, stream, message.as_bytes()));
            assert_eq!(frames.await_frame(DATA, stream).payload, message.as_bytes());
        }
        assert!(frames.send(HEADERS, END_STREAM | END_HEADERS, stream, &block(&[("grpc-status", "0")])));
        let trailers = frames.await_frame(HEADERS, stream);
        assert!(trailers.is_end());
        assert!(String::from_utf8_lossy(&trailers.payload).contains("grpc-status\x010"));
    }
    assert_eq!(server.connections(), 1);
}

#[test]
fn what_grpc_needs_of_a_request_arrives() {
    let server = Server::start(100, tell);
    let node = Node::with(h2(), &[server.address]);
    let mut frames = Frames::connect(&node, &[]);
    assert!(frames.request(1, 0, &CALL));
    assert!(frames.send(DATA, END_STREAM, 1, b"message"));
    let text = String::from_utf8(frames.content(1)).unwrap();
    assert!(text.starts_with("POST http://app.example/package.Service/Method HTTP/2.0\n"), "{text}");
    assert!(text.contains("te: trailers\n") && text.contains("content-type: application/grpc\n"), "{text}");
    assert!(!text.contains("transfer-encoding") && text.ends_with("message"), "{text}");
}

#[test]
fn a_response_that_is_trailers_only_stays_one() {
    let server = Server::start(100, async |_: http::Request<Incoming>| {
        http::Response::builder().header("grpc-status", "12").body(full("")).unwrap()
    });
    let node = Node::with(h2(), &[server.address]);
    let mut frames = Frames::connect(&node, &[]);
    assert!(frames.request(1, END_STREAM, &CALL));
    let head = frames.await_frame(HEADERS, 1);
    assert!(
        head.is_end() && String::from_utf8_lossy(&head.payload).contains("grpc-status\x0212"),
        "{head:?}"
    );
}

pub(crate) const POST_TEXT: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";

pub(crate) fn generous() -> Config {
    let mut config = h2();
    config.upstream.retry_budget = 1.0;
    config
}

#[test]
fn what_an_endpoint_refused_is_sent_again_whatever_the_method() {
    let backend = scripted(|frames, _| {
        frames.await_frame(HEADERS, 1);
        assert!(frames.send(RST_STREAM, 0, 1, &7_u32.to_be_bytes()));
        frames.await_frame(HEADERS, 3);
        answer(frames, 3);
    });
    let node = Node::with(generous(), &[backend.address]);
    assert_eq!(node.request(POST_TEXT).text(), "hello");
    let mut config = generous();
    config.upstream.attempts_max = 1;
    let backend = scripted(|frames, _| {
        frames.await_frame(HEADERS, 1);
        assert!(frames.send(RST_STREAM, 0, 1, &7_u32.to_be_bytes()));
    });
    assert_eq!(Node::with(config, &[backend.address]).request(POST_TEXT).status, 502);
}

#[test]
fn what_lies_above_the_last_stream_of_goaway_is_sent_again_elsewhere_and_the_rest_ends() {
    let backend = scripted(|frames, connection| {
        frames.await_frame(HEADERS, 1);
        if connection == 0 {
            frames.await_frame(HEADERS, 3);
            assert!(frames.send(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]));
        }
        answer(frames, 1);
    });
    let node = Node::with(generous(), &[backend.address]);
    let mut first = node.connect();
    first.send(POST_TEXT);
    eventually("there is a connection", || node.metric("portolan_proxy_upstream_connects_total") == 1.0);
    std::thread::sleep(Duration::from_millis(100));
    let mut second = node.connect();
    second.send(POST_TEXT);
    assert_eq!(second.response().text(), "hello");
    assert_eq!(first.response().text(), "hello");
    assert_eq!(backend.connections(), 2);
}

#[test]
fn a_connection_that_is_lost_costs_what_may_not_be_repeated_and_nothing_else() {
    let backend = scripted(|frames, connection| {
        frames.await_frame(HEADERS, 1);
        if connection == 0 {
            let _ = frames.client.stream.shutdown(std::net::Shutdown::Both);
            return;
        }
        answer(frames, 1);
    });
    let node = Node::with(generous(), &[backend.address]);
    assert_eq!(node.request(&get("/")).text(), "hello", "GET may be repeated");
    let backend = scripted(|frames, _| {
        frames.await_frame(HEADERS, 1);
        let _ = frames.client.stream.shutdown(std::net::Shutdown::Both);
    });
    let node = Node::with(generous(), &[backend.address]);
    assert_eq!(node.request(POST_TEXT).status, 502);
}

#[test]
fn a_response_that_breaks_off_is_no_whole_one() {
    let breaks = |reason: Option<u32>| {
        scripted(move |frames, _| {
            frames.await_frame(HEADERS, 1);
            assert!(frames.send(HEADERS, END_HEADERS, 1, &[0x88]));
            assert!(frames.send(DATA, 0, 1, b"part"));
            match reason {
                Some(reason) => assert!(frames.send(RST_STREAM, 0, 1, &reason.to_be_bytes())),
                None => drop(frames.client.stream.shutdown(std::net::Shutdown::Both)),
            }
        })
    };
    for (reason, told) in [(Some(CANCEL), CANCEL), (Some(2), 2), (None, 2)] {
        let backend = breaks(reason);
        let node = Node::with(generous(), &[backend.address]);
        let mut frames = Frames::connect(&node, &[]);
        assert!(frames.get(1));
        assert_eq!(frames.await_frame(RST_STREAM, 1).code(), told, "{reason:?}");
        let backend = breaks(reason);
        let node = Node::with(generous(), &[backend.address]);
        let mut client = node.connect();
        client.send(get("/"));
        assert!(!String::from_utf8(client.rest()).unwrap().ends_with("0\r\n\r\n"));
    }
}

#[test]
fn an_endpoint_that_speaks_no_http_2_is_502() {
    let (backend, _requests) = Backend::answering(HELLO);
    let node = Node::with(h2(), &[backend.address]);
    assert_eq!(node.request(POST_TEXT).status, 502);
}

#[test]
fn a_client_that_goes_away_cancels_its_stream_alone() {
    let (cancelled, reason) = channel();
    let cancelled = Arc::new(Mutex::new(cancelled));
    let backend = scripted(move |frames, _| {
        frames.await_frame(HEADERS, 1);
        let reset = frames.await_frame(RST_STREAM, 1);
        cancelled.lock().unwrap().send(reset.code()).unwrap();
        frames.await_frame(HEADERS, 3);
        answer(frames, 3);
    });
    let node = Node::with(h2(), &[backend.address]);
    let mut frames = Frames::connect(&node, &[]);
    assert!(frames.get(1));
    eventually("the request went out", || node.metric("portolan_proxy_upstream_connects_total") == 1.0);
    std::thread::sleep(Duration::from_millis(100));
    assert!(frames.send(RST_STREAM, 0, 1, &CANCEL.to_be_bytes()));
    assert_eq!(reason.recv_timeout(PATIENCE).unwrap(), CANCEL);
    assert_eq!(node.request(&get("/")).text(), "hello");
}

#[test]
fn connections_end_when_they_are_idle_or_their_endpoint_left() {
    let (ended, end) = channel();
    let ended = Arc::new(Mutex::new(ended));
    let backend = scripted(move |frames, _| {
        frames.await_frame(HEADERS, 1);
        answer(frames, 1);
        while frames.next().is_some() {}
        ended.lock().unwrap().send(()).unwrap();
    });
    let mut config = h2();
    config.upstream.idle_timeout = Duration::from_millis(200);
    let node = Node::with(config, &[backend.address]);
    assert_eq!(node.request(&get("/")).text(), "hello");
    end.recv_timeout(PATIENCE).unwrap();
    let mut node = Node::with(h2(), &[backend.address]);
    assert_eq!(node.request(&get("/")).text(), "hello");
    node.publish(&service("app", &[]));
    end.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn one_client_that_takes_nothing_holds_no_other_up() {
    const LARGE: usize = 4 << 20;
    let server = Server::start(100, async |request: http::Request<Incoming>| {
        let size = if request.uri().path() == "/large" { LARGE } else { 5 };
        http::Response::new(full(vec![7; size]))
    });
    let node = Node::with(h2(), &[server.address]);
    let mut slow: Vec<_> = (0..20).map(|_| node.connect()).collect();
    slow.iter_mut().for_each(|client| client.send(get("/large")));
    let heads: Vec<_> = slow.iter_mut().map(Client::head).collect();
    for _ in 0..20 {
        assert_eq!(node.request(&get("/small")).body.len(), 5);
    }
    assert_eq!(server.connections(), 1);
    for (client, head) in slow.iter_mut().zip(&heads) {
        assert_eq!(client.body(head).len(), LARGE);
    }
}
