//! `https` listeners: what is spoken behind a handshake, and resumption.

use std::sync::Arc;
use std::time::Duration;

use portolan_proxy::tls::TlsVersion;
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion};

use crate::authority::{Authority, NEW, OLD, TlsClient, connect};
use crate::harness::{Backend, HELLO, Node, eventually, get};

const APP: &str = "app.example";

/// A node with one certificate, and clients that believe it.
struct Bench {
    node: Node,
    config: Arc<ClientConfig>,
    authority: Authority,
}

impl Bench {
    fn new(backend: &Backend) -> Self {
        let authority = Authority::new();
        let node = Node::with(authority.app(), &[backend.address]);
        Self { node, config: authority.believer().config(), authority }
    }

    fn connect(&self) -> TlsClient {
        connect(self.node.address, APP, &self.config).unwrap()
    }

    fn handshakes(&self, version: &str, resumed: bool) -> f64 {
        self.node.metric(&format!(
            "portolan_proxy_tls_handshakes_total{{listener=\"web\",resumed=\"{resumed}\",version=\"{version}\"}}"
        ))
    }
}

#[test]
fn requests_follow_each_other_on_one_connection_and_say_that_it_is_encrypted() {
    let (backend, requests) = Backend::answering(HELLO);
    let authority = Authority::new();
    let mut config = authority.app();
    config.forwarded = true;
    let node = Node::with(config, &[backend.address]);
    let mut client = connect(node.address, APP, &authority.believer().config()).unwrap();
    for _ in 0..3 {
        client.send(get("/"));
        assert_eq!(client.response().text(), "hello");
        let (head, _) = requests.recv().unwrap();
        assert!(head.contains("X-Forwarded-Proto: https\r\n"), "{head}");
        assert!(head.contains(&format!("X-Forwarded-Port: {}\r\n", node.address.port())), "{head}");
        assert!(head.contains("Forwarded: for=127.0.0.1;proto=https;host=\"app.example\"\r\n"), "{head}");
    }
}

#[test]
fn the_connection_ends_with_a_closing_message() {
    let (backend, _requests) = Backend::answering(HELLO);
    let bench = Bench::new(&backend);
    let mut client = bench.connect();
    client.send("GET / HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n");
    assert_eq!(client.response().text(), "hello");
    // Without it this would be an error.
    assert!(client.is_closed());
}

#[test]
fn http2_is_spoken_where_the_client_offers_it() {
    let (backend, _requests) = Backend::answering(HELLO);
    let authority = Authority::new();
    let node = Node::with(authority.app(), &[backend.address]);
    for (offer, chosen) in [(&["h2", "http/1.1"][..], &b"h2"[..]), (&["http/1.1"], b"http/1.1")] {
        let mut believer = authority.believer();
        believer.alpn = offer;
        let client = connect(node.address, APP, &believer.config()).unwrap();
        assert_eq!(client.stream.conn.alpn_protocol(), Some(chosen));
    }
    let mut believer = authority.believer();
    believer.alpn = &["h2"];
    let mut client = connect(node.address, APP, &believer.config()).unwrap();
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    // HEADERS with END_STREAM and END_HEADERS: GET, https, /, :authority.
    client.send([&b"\0\0\x10\x01\x05\0\0\0\x01\x82\x87\x84\x41\x0b"[..], b"app.example"].concat());
    loop {
        let head = client.exactly(9);
        let payload = client.exactly(usize::from(head[1]) << 8 | usize::from(head[2]));
        if (head[3], head[8]) == (1, 1) {
            assert_eq!(payload[0], 0x88, ":status 200");
            break;
        }
    }
}

#[test]
fn both_versions_are_spoken_and_counted() {
    let (backend, _requests) = Backend::answering(HELLO);
    let bench = Bench::new(&backend);
    for (versions, number, label) in
        [(OLD, ProtocolVersion::TLSv1_2, "1.2"), (NEW, ProtocolVersion::TLSv1_3, "1.3")]
    {
        let mut believer = bench.authority.believer();
        believer.versions = versions;
        let mut client = connect(bench.node.address, APP, &believer.config()).unwrap();
        assert_eq!(client.stream.conn.protocol_version(), Some(number));
        client.send(get("/"));
        assert_eq!(client.response().status, 200);
        assert_eq!(bench.handshakes(label, false), 1.0);
    }
}

#[test]
fn a_version_that_is_too_old_is_refused() {
    let authority = Authority::new();
    let mut config = authority.app();
    config.tls.min_version = TlsVersion::V1_3;
    let node = Node::with(config, &[]);
    let mut believer = authority.believer();
    believer.versions = OLD;
    let error = connect(node.address, APP, &believer.config()).err().unwrap();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    eventually("counted", || {
        node.metric("portolan_proxy_tls_handshake_failures_total{listener=\"web\",reason=\"protocol\"}")
            == 1.0
    });
}

#[test]
fn the_second_connection_of_a_client_resumes() {
    let (backend, _requests) = Backend::answering(HELLO);
    let bench = Bench::new(&backend);
    for versions in [OLD, NEW] {
        let mut believer = bench.authority.believer();
        believer.versions = versions;
        let config = believer.config();
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
            let mut client = connect(bench.node.address, APP, &config).unwrap();
            client.send(get("/"));
            assert_eq!(client.response().status, 200);
            assert_eq!(client.stream.conn.handshake_kind(), Some(kind));
        }
    }
    assert_eq!((bench.handshakes("1.2", true), bench.handshakes("1.3", true)), (2.0, 2.0));
}

#[test]
fn a_request_in_the_last_flight_of_the_handshake_is_served() {
    let (backend, _requests) = Backend::answering(HELLO);
    let bench = Bench::new(&backend);
    let name = rustls::pki_types::ServerName::try_from(APP).unwrap();
    let connection = rustls::ClientConnection::new(Arc::clone(&bench.config), name).unwrap();
    let socket = std::net::TcpStream::connect(bench.node.address).unwrap();
    let mut client =
        crate::harness::Client { stream: rustls::StreamOwned::new(connection, socket), read: Vec::new() };
    std::io::Write::write_all(&mut client.stream.conn.writer(), get("/").as_bytes()).unwrap();
    assert_eq!(client.response().text(), "hello");
}

#[test]
fn a_client_that_ends_in_the_last_flight_of_the_handshake_is_done_after_its_answer() {
    let (backend, _requests) = Backend::answering(HELLO);
    let bench = Bench::new(&backend);
    for versions in [OLD, NEW] {
        let mut believer = bench.authority.believer();
        believer.versions = versions;
        let name = rustls::pki_types::ServerName::try_from(APP).unwrap();
        let mut connection = rustls::ClientConnection::new(believer.config(), name).unwrap();
        let mut socket = std::net::TcpStream::connect(bench.node.address).unwrap();
        while connection.is_handshaking() {
            while connection.wants_write() {
                connection.write_tls(&mut socket).unwrap();
            }
            connection.read_tls(&mut socket).unwrap();
            connection.process_new_packets().unwrap();
        }
        std::io::Write::write_all(&mut connection.writer(), get("/").as_bytes()).unwrap();
        connection.send_close_notify();
        let mut flight = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut flight).unwrap();
        }
        let stream = rustls::StreamOwned::new(connection, socket);
        let mut client = crate::harness::Client { stream, read: Vec::new() };
        std::io::Write::write_all(&mut client.stream.sock, &flight).unwrap();
        assert_eq!(client.response().text(), "hello");
        assert!(client.is_closed());
    }
}

#[test]
fn large_bodies_go_both_ways_unchanged() {
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let answer =
        [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat();
    let (backend, requests) = Backend::answering(answer);
    let bench = Bench::new(&backend);
    let mut client = bench.connect();
    client.send(format!("POST / HTTP/1.1\r\nHost: app.example\r\nContent-Length: {}\r\n\r\n", body.len()));
    client.send(&body);
    assert!(requests.recv().unwrap().1 == body);
    // The client reads nothing for a while: what it has not taken waits at the endpoint.
    std::thread::sleep(Duration::from_millis(200));
    assert!(client.response().body == body);
    client.send(get("/"));
    assert!(client.response().body == body);
}

#[test]
fn an_upgraded_connection_is_a_tunnel() {
    let backend = Backend::start(|mut client| {
        client.head();
        client.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
        while client.fill() {
            let octets = std::mem::take(&mut client.read);
            client.send(octets);
        }
    });
    let bench = Bench::new(&backend);
    let mut client = bench.connect();
    client.send("GET / HTTP/1.1\r\nHost: app.example\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    let octets: Vec<u8> = (0..300_000_u32).map(|n| (n % 241) as u8).collect();
    for piece in octets.chunks(100_000) {
        client.send(piece);
        assert!(client.exactly(piece.len()) == piece);
    }
    client.stream.conn.send_close_notify();
    client.stream.conn.complete_io(&mut client.stream.sock).unwrap();
    assert!(client.is_closed(), "the end is passed on both ways");
}
