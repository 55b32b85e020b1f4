//! Requests and responses pass through whole, on connections that stay.

use crate::harness::*;

#[test]
fn a_request_goes_out_and_its_response_comes_back() {
    let (backend, requests) = Backend::answering(HELLO);
    let node = Node::start(&[backend.address]);
    let response = node.request(&get("/a/b?c=d"));
    assert_eq!((response.status, response.text()), (200, "hello"));
    let (head, _) = requests.recv().unwrap();
    let port = node.address.port();
    assert_eq!(
        head,
        format!(
            "GET /a/b?c=d HTTP/1.1\r\nHost: app.example\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n\
             X-Forwarded-Port: {port}\r\nX-Forwarded-Host: app.example\r\n\r\n"
        )
    );
}

#[test]
fn connections_stay_on_both_sides() {
    let (backend, requests) = Backend::answering(HELLO);
    let node = Node::start(&[backend.address]);
    let mut client = node.connect();
    for at in 0..20 {
        client.send(get(&format!("/{at}")));
        assert_eq!(client.response().text(), "hello");
        assert!(requests.recv().unwrap().0.starts_with(&format!("GET /{at} ")));
    }
    assert_eq!(backend.connections(), 1);
    assert_eq!(node.metric("portolan_proxy_upstream_reuses_total"), 19.0);
    let counted = "portolan_proxy_requests_total{class=\"2xx\",listener=\"web\"}";
    eventually("all requests are counted", || node.metric(counted) == 20.0);
}

#[test]
fn content_goes_up_whole() {
    let (backend, requests) = Backend::answering(HELLO);
    let node = Node::start(&[backend.address]);
    let mut client = node.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world");
    assert_eq!(client.response().text(), "hello");
    assert_eq!(requests.recv().unwrap().1, b"hello world");
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n",
    );
    assert_eq!(client.response().text(), "hello");
    assert_eq!(requests.recv().unwrap().1, b"hello!");
    assert_eq!(backend.connections(), 1);
}

#[test]
fn no_route_is_404_and_no_endpoint_503() {
    let mut config = config();
    config.routes = vec![route("one", portolan_table::HostMatch::Exact("one.example".into()), "app")];
    let node = Node::with(config, &[]);
    let mut client = node.connect();
    client.send(get("/"));
    assert_eq!(client.response().status, 404);
    client.send("GET / HTTP/1.1\r\nHost: one.example\r\n\r\n");
    let response = client.response();
    assert_eq!(response.status, 503);
    assert!(response.text().contains("no endpoint"), "{response:?}");
    client.send("HEAD / HTTP/1.1\r\nHost: one.example\r\n\r\n");
    assert_eq!(client.response_without_body().status, 503);
    client.send(get("/"));
    assert_eq!(client.response().status, 404, "the connection is at the right place");
}
