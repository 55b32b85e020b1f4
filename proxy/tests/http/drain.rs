//! Stopping, and endpoints that leave: nothing new begins, what is open may end.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::harness::*;

#[test]
fn stopping_lets_requests_end_and_closes_idle_connections() {
    let (release, released) = channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let (began, begin) = channel();
    let began = Arc::new(Mutex::new(began));
    let backend = Backend::start(move |mut client| {
        while client.fill() {
            let (head, _) = client.request();
            if head.starts_with("GET /slow ") {
                began.lock().unwrap().send(()).unwrap();
                released.lock().unwrap().recv().unwrap();
            }
            client.send(HELLO);
        }
    });
    let node = Node::start(&[backend.address]);
    let (mut idle, mut busy) = (node.connect(), node.connect());
    idle.send(get("/"));
    assert_eq!(idle.response().text(), "hello");
    busy.send(get("/slow"));
    begin.recv_timeout(PATIENCE).unwrap();
    node.stop();
    assert!(idle.is_closed());
    release.send(()).unwrap();
    let response = busy.response();
    assert_eq!((response.text(), response.field("connection")), ("hello", Some("close")));
    assert!(busy.is_closed());
    drop(busy);
    node.join();
}

#[test]
fn stopping_ends_what_takes_longer_than_the_drain_time() {
    let backend = Backend::start(|mut client| {
        client.request();
        client.rest();
    });
    let mut config = config();
    config.drain = Duration::from_millis(300);
    let node = Node::with(config, &[backend.address]);
    let mut client = node.connect();
    client.send(get("/"));
    eventually("the request is in progress", || node.metric("portolan_proxy_upstream_connects_total") > 0.0);
    let begun = Instant::now();
    node.join();
    assert!(begun.elapsed() >= Duration::from_millis(300) && begun.elapsed() < PATIENCE);
    assert!(client.is_closed());
}

#[test]
fn an_endpoint_that_leaves_gets_no_new_request_and_finishes_the_open_one() {
    let (release, released) = channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let (began, begin) = channel();
    let began = Arc::new(Mutex::new(began));
    let old = Backend::start(move |mut client| {
        client.request();
        began.lock().unwrap().send(()).unwrap();
        released.lock().unwrap().recv().unwrap();
        client.send(HELLO);
        client.rest();
    });
    let (new, requests) = Backend::answering(HELLO);
    let mut node = Node::start(&[old.address]);
    let mut open = node.connect();
    open.send(get("/open"));
    begin.recv_timeout(PATIENCE).unwrap();
    node.publish(&service("app", &[new.address]));
    for _ in 0..10 {
        assert_eq!(node.request(&get("/new")).text(), "hello");
    }
    assert_eq!(requests.try_iter().count(), 10);
    release.send(()).unwrap();
    assert_eq!(open.response().text(), "hello");
    assert_eq!(old.connections(), 1);
}

#[test]
fn an_endpoint_that_leaves_loses_its_idle_connections_and_after_the_drain_time_the_others() {
    let (ended, end) = channel();
    let ended = Arc::new(Mutex::new(ended));
    let old = Backend::start(move |mut client| {
        let (head, _) = client.request();
        if head.starts_with("GET /quick ") {
            client.send(HELLO);
        }
        client.rest();
        ended.lock().unwrap().send(head.contains("/quick ")).unwrap();
    });
    let (new, _requests) = Backend::answering(HELLO);
    let mut config = config();
    config.drain = Duration::from_millis(1200);
    let mut node = Node::with(config, &[old.address]);
    assert_eq!(node.request(&get("/quick")).text(), "hello");
    let mut open = node.connect();
    open.send(get("/never"));
    eventually("both requests arrived", || {
        node.metric("portolan_proxy_upstream_connects_total") == 2.0
            || node.metric("portolan_proxy_upstream_reuses_total") == 1.0
    });
    let begun = Instant::now();
    node.publish(&service("app", &[new.address]));
    let response = open.response();
    assert_eq!(response.status, 502, "{response:?}");
    assert!(response.text().contains("removed"), "{response:?}");
    assert!(begun.elapsed() >= Duration::from_millis(1200));
    end.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn a_changed_configuration_is_taken_over_while_running() {
    let node = Node::start(&[nobody()]);
    let mut changed = config();
    changed.limits.request_headers_max = 2;
    node.reconfigure(&changed);
    let request = "GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\n\r\n";
    eventually("the new limit holds", || node.request(request).status == 431);
}

#[test]
fn whoever_connected_before_the_stop_is_served() {
    let (backend, _requests) = Backend::answering(HELLO);
    let node = Node::start(&[backend.address]);
    let mut held: Vec<_> = (0..20).map(|_| node.connect()).collect();
    node.stop();
    for client in &mut held {
        client.send(get("/"));
    }
    for client in &mut held {
        let response = client.response();
        assert_eq!((response.text(), response.field("connection")), ("hello", Some("close")));
    }
    drop(held);
    node.join();
}
