//! RFC 9110: what a proxy does with interim responses, expectations, upgrades and fields of one hop.

use crate::harness::*;

#[test]
fn section_15_2_interim_responses_pass_through() {
    let (backend, _requests) = Backend::answering(format!(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: x\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n{HELLO}"
    ));
    let node = Node::start(&[backend.address]);
    let mut client = node.connect();
    for _ in 0..2 {
        client.send(get("/"));
        assert_eq!(client.head(), "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
        assert_eq!(client.head(), "HTTP/1.1 102 Processing\r\n\r\n");
        assert_eq!(client.response().text(), "hello");
    }
    assert_eq!(node.request("GET / HTTP/1.0\r\n\r\n").text(), "hello", "an old client is not told");
}

#[test]
fn section_15_2_endless_interim_responses_are_502() {
    let backend = Backend::start(|mut client| {
        client.request();
        while client.try_send("HTTP/1.1 102 Processing\r\n\r\n") {}
    });
    let node = Node::start(&[backend.address]);
    let mut client = node.connect();
    client.send(get("/"));
    let mut interims = 0;
    while client.response().status == 102 {
        interims += 1;
    }
    assert_eq!(interims, 32);
}

#[test]
fn section_10_1_1_the_content_waits_for_100_continue() {
    let backend = Backend::start(|mut client| {
        for _ in 0..2 {
            let head = client.head();
            assert_eq!(field(&head, "expect"), Some("100-continue"));
            assert!(client.read.is_empty(), "nothing is sent before it is asked for");
            client.send("HTTP/1.1 100 Continue\r\n\r\n");
            let body = client.body(&head);
            client.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
            client.send(body);
        }
    });
    let node = Node::start(&[backend.address]);
    let mut client = node.connect();
    for _ in 0..2 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
        client.send("hello");
        assert_eq!(client.response().text(), "hello");
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn section_10_1_1_a_final_answer_instead_of_100_ends_the_connection() {
    let backend = Backend::start(|mut client| {
        client.head();
        client.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno");
        client.rest();
    });
    let node = Node::start(&[backend.address]);
    let mut client = node.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    let response = client.response();
    assert_eq!((response.status, response.text()), (413, "no"));
    assert_eq!(response.field("connection"), Some("close"));
    assert!(client.is_closed(), "whether content comes is not known");
}

#[test]
fn section_7_8_an_upgraded_connection_carries_octets_both_ways() {
    let backend = Backend::start(|mut client| {
        let head = client.head();
        assert_eq!(field(&head, "upgrade"), Some("websocket"));
        assert_eq!(field(&head, "connection"), Some("Upgrade"));
        client.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nX: y\r\n\r\nfirst");
        let mut echoed = 0;
        while echoed < 100_005 {
            let octets = client.exactly(5);
            echoed += octets.len();
            client.send(octets);
        }
        assert!(client.is_closed(), "the end of one direction arrives");
        client.send("last");
    });
    let node = Node::start(&[backend.address]);
    let mut client = node.connect();
    // "early" comes with the request, before the protocol has changed.
    client.send(
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\nearly",
    );
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert_eq!((field(&head, "connection"), field(&head, "upgrade")), (Some("Upgrade"), Some("websocket")));
    assert_eq!(field(&head, "x"), Some("y"));
    assert_eq!(client.exactly(10), b"firstearly");
    let octets = vec![b'x'; 100_000];
    client.send(&octets);
    assert_eq!(client.exactly(octets.len()), octets);
    client.half_close();
    assert_eq!(client.rest(), b"last");
}

#[test]
fn section_7_8_no_upgrade_field_of_several_leads_to_h2c() {
    let (backend, requests) = Backend::answering(HELLO);
    let node = Node::start(&[backend.address]);
    let response = node.request(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\
         Upgrade: websocket\r\nUpgrade: h2c\r\n\r\n",
    );
    assert_eq!(response.text(), "hello");
    let (head, _) = requests.recv().unwrap();
    assert!(!head.contains("h2c") && !head.contains("pgrade") && !head.contains("HTTP2"), "{head}");
}

#[test]
fn section_7_8_a_switch_to_a_protocol_that_was_not_asked_for_is_502() {
    for switched in ["Upgrade: h2c\r\n", "Upgrade: websocket, h2c\r\n", ""] {
        let (backend, _requests) = Backend::answering(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n{switched}\r\n"
        ));
        let node = Node::start(&[backend.address]);
        let response =
            node.request("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        assert_eq!(response.status, 502, "{switched:?}");
    }
}

#[test]
fn section_7_8_an_upgrade_may_be_declined() {
    let (backend, _requests) = Backend::answering(HELLO);
    let node = Node::start(&[backend.address]);
    let mut client = node.connect();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        assert_eq!(client.response().text(), "hello");
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn section_7_6_1_fields_of_one_hop_stay_on_it() {
    let (backend, requests) = Backend::answering(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nX-End: 2\r\n\
         Content-Length: 2\r\n\r\nok",
    );
    let node = Node::start(&[backend.address]);
    let response = node.request(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Mine\r\nX-Mine: 1\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n",
    );
    assert_eq!(response.head, "HTTP/1.1 200 OK\r\nX-End: 2\r\nContent-Length: 2\r\n\r\n");
    let (head, _) = requests.recv().unwrap();
    assert_eq!(field(&head, "x-mine"), None);
    assert_eq!(field(&head, "connection"), None);
    assert_eq!(field(&head, "x-forwarded-for"), Some("127.0.0.1"));
}

#[test]
fn section_7_6_1_an_endpoint_that_closes_is_not_used_again() {
    let backend = Backend::start(|mut client| {
        client.request();
        client.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
        client.rest();
    });
    let node = Node::start(&[backend.address]);
    let mut client = node.connect();
    for _ in 0..3 {
        client.send(get("/"));
        let response = client.response();
        assert_eq!(response.text(), "ok");
        assert_eq!(response.field("connection"), None, "the client's connection is another one");
    }
    assert_eq!(backend.connections(), 3);
}
