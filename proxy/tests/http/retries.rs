//! A request is sent again only where that is safe, elsewhere, and not for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::*;

#[test]
fn an_endpoint_that_refuses_is_passed_over_whatever_the_method() {
    let (backend, requests) = Backend::answering(HELLO);
    let mut config = config();
    config.upstream.retry_budget = 1.0;
    config.upstream.ejection = None;
    let node = Node::with(config, &[nobody(), backend.address]);
    let mut client = node.connect();
    for at in 0..10 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
        assert_eq!(client.response().text(), "hello", "request {at}");
        assert_eq!(requests.recv().unwrap().1, b"body");
    }
    assert!(requests.try_recv().is_err());
    assert!(node.metric("portolan_proxy_retries_total") > 0.0);
}

#[test]
fn when_nobody_accepts_the_answer_says_so() {
    let node = Node::start(&[nobody(), nobody()]);
    let response = node.request(&get("/"));
    assert_eq!(response.status, 502);
    assert!(response.text().contains("does not accept"), "{response:?}");
}

/// An endpoint that answers one request of each connection and closes when the next has been read.
fn closes_on_the_second() -> (Backend, Arc<AtomicUsize>) {
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    let backend = Backend::start(move |mut client| {
        client.request();
        counted.fetch_add(1, Ordering::SeqCst);
        client.send(HELLO);
        client.request();
        counted.fetch_add(1, Ordering::SeqCst);
    });
    (backend, seen)
}

#[test]
fn a_get_lost_on_an_idle_connection_is_sent_again() {
    let (backend, seen) = closes_on_the_second();
    let node = Node::start(&[backend.address]);
    let mut client = node.connect();
    for _ in 0..2 {
        client.send(get("/"));
        assert_eq!(client.response().text(), "hello");
    }
    assert_eq!(seen.load(Ordering::SeqCst), 3);
}

#[test]
fn a_post_is_never_sent_twice() {
    let (backend, seen) = closes_on_the_second();
    let node = Node::start(&[backend.address]);
    let mut client = node.connect();
    client.send(get("/"));
    client.response();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    let response = client.response();
    assert_eq!(response.status, 502);
    assert!(response.text().contains("closed"), "{response:?}");
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}

#[test]
fn a_post_without_content_is_never_sent_twice() {
    let (backend, seen) = closes_on_the_second();
    let node = Node::start(&[backend.address]);
    let mut client = node.connect();
    client.send(get("/"));
    client.response();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.response().status, 502);
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}

#[test]
fn idle_connections_that_the_endpoint_closed_are_not_used() {
    let (backend, closed) = {
        let closed = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&closed);
        let backend = Backend::start(move |mut client| {
            client.request();
            client.send(HELLO);
            drop(client);
            counted.fetch_add(1, Ordering::SeqCst);
        });
        (backend, closed)
    };
    let node = Node::start(&[backend.address]);
    let mut client = node.connect();
    for at in 1..=10 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
        assert_eq!(client.response().text(), "hello");
        eventually("the endpoint has closed", || closed.load(Ordering::SeqCst) == at);
    }
    assert_eq!(node.metric("portolan_proxy_retries_total"), 0.0);
}

#[test]
fn attempts_are_bounded() {
    let seen = Arc::new(AtomicUsize::new(0));
    let resetting = || {
        let counted = Arc::clone(&seen);
        Backend::start(move |mut client| {
            client.request();
            counted.fetch_add(1, Ordering::SeqCst);
        })
    };
    let backends: Vec<_> = (0..6).map(|_| resetting()).collect();
    let node = Node::start(&backends.iter().map(|backend| backend.address).collect::<Vec<_>>());
    assert_eq!(node.request(&get("/")).status, 502);
    assert_eq!(seen.load(Ordering::SeqCst), 3, "attempts_max is 3");
}

#[test]
fn a_response_that_began_is_not_asked_for_again() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    let backend = Backend::start(move |mut client| {
        client.request();
        counted.fetch_add(1, Ordering::SeqCst);
        client.send("HTTP/1.1 200 OK\r\nContent-");
    });
    let node = Node::start(&[backend.address]);
    assert_eq!(node.request(&get("/")).status, 502);
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

#[test]
fn an_endpoint_whose_bodies_break_off_is_ejected() {
    let broken = Backend::start(|mut client| {
        client.request();
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
    });
    let (good, _requests) = Backend::answering(HELLO);
    let node = Node::start(&[broken.address, good.address]);
    for _ in 0..40 {
        let mut client = node.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        client.rest();
    }
    // Five failures in a row are the default, however good the heads before them.
    assert_eq!(broken.connections(), 5);
}
