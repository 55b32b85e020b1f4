//! RFC 9112: message framing and connections. Each case is sent in full, with a second request behind the first:
//! nothing of a refused message may reach an endpoint, and nothing behind it may be served.

use proptest::prelude::*;

use crate::harness::*;

/// What a client gets for `sent` up to the end of its connection, and the request lines endpoints got.
fn exchange(sent: &[u8]) -> (String, Vec<String>) {
    let (backend, requests) = Backend::answering(HELLO);
    let node = Node::start(&[backend.address]);
    let mut client = node.connect();
    client.send(sent);
    client.half_close();
    let got = String::from_utf8(client.rest()).unwrap();
    let lines = requests.try_iter().map(|(head, _)| head.lines().next().unwrap().to_owned()).collect();
    (got, lines)
}

#[test]
fn section_11_2_smuggling_forms_are_refused_and_end_the_connection() {
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let cases: &[(&str, &str)] = &[
        // CL.TE and TE.CL
        ("Content-Length: 44\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", "2c\r\n"),
        ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", ""),
        // TE.TE: one of two parsers does not see the coding
        ("Transfer-Encoding: xchunked\r\n", ""),
        ("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nTransfer-encoding: cow\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding:\u{b}chunked\r\n", "0\r\n\r\n"),
        (" Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("X: X\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding\r\n: chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: identity, chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked\u{0}\r\n", "0\r\n\r\n"),
        // Content-Length
        ("Content-Length: 0\r\nContent-Length: 44\r\n", ""),
        ("Content-Length: 0, 44\r\n", ""),
        ("Content-Length: 0,0\r\n", ""),
        ("Content-Length: +0\r\n", ""),
        ("Content-Length: 0x0\r\n", ""),
        ("Content-Length: 0 \u{b}\r\n", ""),
        ("Content-Length: 18446744073709551616\r\n", ""),
        // Connection-level tricks
        ("Host: b\r\n", ""),
        ("Foo\u{0}: x\r\n", ""),
        ("Foo: a\u{0}b\r\n", ""),
        ("Foo: a\rb\r\n", ""),
    ];
    for (fields, body) in cases {
        let sent = format!("POST /first HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}{smuggled}");
        let (got, lines) = exchange(sent.as_bytes());
        assert!(got.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{fields:?} got {got:?}");
        assert_eq!(got.matches("HTTP/1.1 ").count(), 1, "{fields:?}");
        assert!(got.contains("\r\nConnection: close\r\n"), "{fields:?}");
        assert!(lines.is_empty(), "{fields:?} reached the endpoint: {lines:?}");
    }
}

#[test]
fn section_7_1_a_malformed_chunk_ends_the_connection_and_what_follows_is_not_served() {
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "ffffffffffffffff1\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "-1\r\n\r\n",
        "5;a\nGET / HTTP/1.1\r\nhello\r\n0\r\n\r\n",
        "5;\r\r\nhello\r\n0\r\n\r\n",
        "0\r\nContent-Length: 5\r\n\r\n",
        "0\n\n",
        "0\r\n\n",
        " 0\r\n\r\n",
    ] {
        let sent =
            format!("POST /first HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}{smuggled}");
        let (got, lines) = exchange(sent.as_bytes());
        assert!(got.starts_with("HTTP/1.1 400 "), "{body:?} got {got:?}");
        assert_eq!(got.matches("HTTP/1.1 ").count(), 1, "{body:?}");
        assert!(lines.is_empty(), "{body:?} reached the endpoint: {lines:?}");
    }
}

#[test]
fn section_7_1_1_chunk_extensions_and_trailers_pass_through() {
    let (backend, requests) = Backend::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3;q=1\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n",
    );
    let node = Node::start(&[backend.address]);
    let mut client = node.connect();
    for _ in 0..2 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;x=\"y\"\r\nhi\r\n0\r\nX-T: 1\r\n\r\n");
        let head = client.head();
        assert_eq!(field(&head, "trailer"), Some("X-Sum"));
        let (content, trailers) = client.chunks();
        assert_eq!((content.as_slice(), trailers.as_str()), (&b"abc"[..], "X-Sum: 7\r\n\r\n"));
        assert_eq!(requests.recv().unwrap().1, b"hi");
    }
}

#[test]
fn section_9_3_2_pipelined_requests_are_served_in_order() {
    let (got, lines) = exchange(
        b"\r\nGET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\r\n\
          GET /3 HTTP/1.1\r\nHost: a\r\n\r\nGET /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n\
          GET /5 HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    assert_eq!(got.matches("HTTP/1.1 200 OK\r\n").count(), 4, "{got}");
    assert_eq!(lines, ["GET /1 HTTP/1.1", "POST /2 HTTP/1.1", "GET /3 HTTP/1.1", "GET /4 HTTP/1.1"]);
    assert!(got.contains("\r\nConnection: close\r\n\r\nhello"), "{got}");
}

#[test]
fn section_9_3_clients_of_http_1_0_keep_the_connection_only_if_they_ask() {
    let (got, lines) = exchange(b"GET /1 HTTP/1.0\r\n\r\nGET /2 HTTP/1.0\r\n\r\n");
    assert_eq!(lines, ["GET /1 HTTP/1.1"]);
    assert!(got.contains("\r\nConnection: close\r\n"), "{got}");
    let (got, lines) = exchange(b"GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n");
    assert_eq!(lines.len(), 2);
    assert!(got.contains("\r\nConnection: keep-alive\r\n"), "{got}");
}

#[test]
fn section_6_1_a_client_of_http_1_0_gets_no_chunks() {
    let (backend, _requests) = Backend::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;q=1\r\nabc\r\n4\r\ndefg\r\n0\r\nX: 7\r\n\r\n",
    );
    let node = Node::start(&[backend.address]);
    let response = node.request("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(response.field("transfer-encoding"), None);
    assert_eq!(response.field("connection"), Some("close"));
    assert_eq!(response.text(), "abcdefg");
}

#[test]
fn section_6_3_a_response_until_close_ends_both_connections() {
    let backend = Backend::start(|mut client| {
        client.request();
        client.send("HTTP/1.1 200 OK\r\n\r\nall of ");
        client.send("it");
    });
    let node = Node::start(&[backend.address]);
    let mut client = node.connect();
    client.send(get("/"));
    let response = client.response();
    assert_eq!((response.text(), response.field("connection")), ("all of it", Some("close")));
    assert!(client.is_closed());
}

#[test]
fn section_6_3_responses_without_content() {
    for (request, answer, status) in [
        ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", "200"),
        (
            "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "200",
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n", "204"),
        (
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
            "304",
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200"),
    ] {
        let (backend, _requests) = Backend::answering(answer);
        let node = Node::start(&[backend.address]);
        let mut client = node.connect();
        for _ in 0..3 {
            client.send(request);
            assert_eq!(client.head()[9..12], *status, "{request:?}");
        }
        assert_eq!(backend.connections(), 1, "{answer:?} leaves the connection usable");
    }
}

#[test]
fn section_11_1_a_response_with_ambiguous_framing_is_502() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\nhello",
        "nonsense\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    ] {
        let (backend, _requests) = Backend::answering(answer);
        let node = Node::start(&[backend.address]);
        let mut client = node.connect();
        client.send(get("/"));
        let response = client.response();
        assert_eq!(response.status, 502, "{answer:?}");
        assert!(response.text().contains("upstream"), "{response:?}");
        client.send(get("/"));
        assert_eq!(client.response().status, 502, "the client's connection is not to blame");
        assert_eq!(backend.connections(), 2, "the endpoint's connection is not used again");
    }
}

#[test]
fn section_6_3_octets_behind_a_response_poison_the_endpoints_connection() {
    let backend = Backend::start(|mut client| {
        client.request();
        client.send(format!("{HELLO}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"));
        client.rest();
    });
    let node = Node::start(&[backend.address]);
    let mut client = node.connect();
    for _ in 0..5 {
        client.send(get("/"));
        assert_eq!(client.response().text(), "hello");
    }
    assert_eq!(backend.connections(), 5);
}

#[test]
fn section_3_each_status_names_what_is_wrong() {
    for (request, status, word) in [
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n".to_owned(), 405, "CONNECT"),
        ("GET / HTTP/3.1\r\nHost: a\r\n\r\n".to_owned(), 505, "HTTP/1.1"),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(33_000)), 414, "line"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(33_000)), 431, "head"),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: x\r\n".repeat(101)), 431, "fields"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400, "Host"),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\n 2\r\n\r\n".to_owned(), 400, "folded"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: x\r\n\r\n".to_owned(),
            417,
            "expectation",
        ),
    ] {
        let node = Node::start(&[nobody()]);
        let mut client = node.connect();
        client.try_send(&request);
        let response = client.response();
        assert_eq!(response.status, status, "{:?}", &request[..40]);
        assert!(response.text().contains(word), "{response:?}");
        assert!(client.is_closed());
    }
}

#[test]
fn a_head_of_the_largest_size_passes() {
    let (backend, requests) = Backend::answering(HELLO);
    let node = Node::start(&[backend.address]);
    let mut client = node.connect();
    let value = "x".repeat(32 * 1024 - 60);
    for _ in 0..2 {
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {value}\r\n\r\n"));
        assert_eq!(client.response().text(), "hello");
        assert_eq!(field(&requests.recv().unwrap().0, "x-long"), Some(value.as_str()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Wherever the network cuts a stream of requests, the endpoint reads the same.
    #[test]
    fn any_split_of_a_stream_gives_the_same_requests(cuts in prop::collection::vec(1_usize..60, 1..12)) {
        let stream = b"GET /1 HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n\
            0123456789POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\na\r\n0123456789\r\n0\r\n\
            T: v\r\n\r\nGET /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let (backend, requests) = Backend::answering(HELLO);
        let node = Node::start(&[backend.address]);
        let mut client = node.connect();
        let (mut at, mut cuts) = (0, cuts.iter().cycle());
        while at < stream.len() {
            let end = (at + cuts.next().unwrap()).min(stream.len());
            client.send(&stream[at..end]);
            at = end;
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        let got = String::from_utf8(client.rest()).unwrap();
        prop_assert_eq!(got.matches("HTTP/1.1 200 OK").count(), 4);
        let seen: Vec<_> = requests.try_iter().map(|(head, body)| {
            (head.split(' ').nth(1).unwrap().to_owned(), String::from_utf8(body).unwrap())
        }).collect();
        let want = [("/1", ""), ("/2", "0123456789"), ("/3", "hello0123456789"), ("/4", "")];
        prop_assert_eq!(seen, want.map(|(path, body)| (path.to_owned(), body.to_owned())));
    }

    /// Wherever the network cuts a response, the client reads the same.
    #[test]
    fn any_split_of_a_response_gives_the_same_octets(cut in 1_usize..9, kind in 0_usize..3) {
        let answer = [
            "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 26\r\n\r\nabcdefghijklmnopqrstuvwxyz",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nabcdefghijklmnop\r\na;x\r\nqrstuvwxyz\r\n0\r\nT: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nabcdefghijklmnopqrstuvwxyz",
        ][kind];
        let backend = Backend::start(move |mut client| {
            client.request();
            for piece in answer.as_bytes().chunks(cut) {
                client.send(piece);
                std::thread::sleep(std::time::Duration::from_micros(100));
            }
        });
        let node = Node::start(&[backend.address]);
        let response = node.request(&get("/"));
        prop_assert_eq!(response.text(), "abcdefghijklmnopqrstuvwxyz");
    }
}

#[test]
fn section_3_2_a_request_of_http_1_0_without_host_goes_out_with_one() {
    let (backend, requests) = Backend::answering(HELLO);
    let node = Node::start(&[backend.address]);
    assert_eq!(node.request("GET / HTTP/1.0\r\n\r\n").text(), "hello");
    let (head, _) = requests.recv().unwrap();
    assert_eq!(field(&head, "host"), Some(&*node.address.to_string()), "{head}");
}

#[test]
fn section_7_1_2_trailers_that_speak_for_a_proxy_are_refused() {
    for name in ["Forwarded", "X-Forwarded-For", "X-Forwarded-Whatever-It-Is", "X-Real-IP"] {
        let body = format!("1\r\nx\r\n0\r\n{name}: 10.0.0.1\r\n\r\n");
        let (got, lines) = exchange(
            format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}").as_bytes(),
        );
        assert!(got.starts_with("HTTP/1.1 400 "), "{name}: {got:?}");
        assert!(lines.is_empty(), "{name}");
    }
}
