//! TLS to endpoints: whom the proxy believes, as whom it comes, and what goes over the connection.

use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portolan_proxy::Config;
use portolan_proxy::tls::ServerName;
use portolan_table::AppProtocol;
use rustls::{HandshakeKind, ServerConfig};

use crate::authority::{Authority, Kind, NEW, OLD, TlsServer, secure};
use crate::harness::*;

/// The tests' configuration, which speaks TLS to endpoints and believes this authority.
fn config(authority: &Authority) -> Config {
    let mut config = config_without(authority);
    config.upstream.tls.enabled = Some(true);
    config
}

/// The same without saying whether.
fn config_without(authority: &Authority) -> Config {
    let mut config = crate::harness::config();
    config.upstream.tls.ca = Some(authority.write("ca.pem", &authority.pem()));
    config
}

/// Answers every request with `answer`.
fn answering(config: ServerConfig, answer: &'static str) -> Backend {
    secure(Arc::new(config), move |mut client| while serve(&mut client, answer) {})
}

fn serve(client: &mut TlsServer, answer: &str) -> bool {
    let mut piece = [0; 4096];
    // The proxy drops what it has no more use for, without a closing message.
    let Ok(count @ 1..) = client.stream.read(&mut piece) else { return false };
    client.read.extend_from_slice(&piece[..count]);
    client.request();
    client.try_send(answer)
}

fn handshakes(node: &Node, resumed: bool) -> f64 {
    ["1.2", "1.3"]
        .map(|version| {
            node.metric(&format!(
                "portolan_proxy_upstream_tls_handshakes_total{{resumed=\"{resumed}\",version=\"{version}\"}}"
            ))
        })
        .iter()
        .sum()
}

fn failures(node: &Node, reason: &str) -> f64 {
    node.metric(&format!("portolan_proxy_upstream_tls_failures_total{{reason=\"{reason}\"}}"))
}

#[test]
fn tls_is_spoken_to_ports_that_say_https() {
    let authority = Authority::new();
    let secure = answering(authority.server(&["127.0.0.1"], false), HELLO);
    let (plain, _requests) = Backend::answering(HELLO);
    let mut node = Node::with(config_without(&authority), &[plain.address]);
    assert_eq!(node.request(&get("/")).text(), "hello");
    assert_eq!(handshakes(&node, false), 0.0);
    node.publish(&service_of(AppProtocol::Https, "app", &[secure.address]));
    for _ in 0..3 {
        assert_eq!(node.request(&get("/")).text(), "hello");
    }
    assert_eq!(handshakes(&node, false), 1.0, "the connection is used again");
    assert_eq!(node.metric("portolan_proxy_upstream_reuses_total"), 2.0);
}

#[test]
fn the_configuration_may_know_better_than_the_port() {
    let authority = Authority::new();
    let mut config = config_without(&authority);
    config.upstream.tls.enabled = Some(false);
    let (plain, _requests) = Backend::answering(HELLO);
    let mut node = Node::with(config, &[]);
    node.publish(&service_of(AppProtocol::Https, "app", &[plain.address]));
    assert_eq!(node.request(&get("/")).text(), "hello");
}

#[test]
fn an_idle_connection_without_tls_is_of_no_use_once_tls_is_asked_for() {
    let authority = Authority::new();
    let (plain, _requests) = Backend::answering(HELLO);
    let node = Node::with(config_without(&authority), &[plain.address]);
    assert_eq!(node.request(&get("/")).text(), "hello");
    node.reconfigure(&config(&authority));
    // Policies follow the view; the service's own is read with the next table.
    let mut node = node;
    let tls = answering(authority.server(&["127.0.0.1"], false), HELLO);
    node.publish(&service_of(AppProtocol::Https, "app", &[tls.address]));
    assert_eq!(node.request(&get("/")).text(), "hello");
    assert_eq!(handshakes(&node, false), 1.0);
}

/// Status and text of the answer, and the reason that was counted.
fn refusal(change: impl Fn(&mut Config), server: &ServerConfig) -> (u16, String, &'static str) {
    let authority = Authority::new();
    let mut config = config(&authority);
    change(&mut config);
    let endpoint = answering(server.clone(), HELLO);
    let node = Node::with(config, &[endpoint.address]);
    let response = node.request(&get("/"));
    let reasons = ["closed", "timeout", "plaintext", "protocol", "refused", "overload", "certificate"];
    let counted = reasons.into_iter().find(|reason| failures(&node, reason) > 0.0);
    (response.status, response.text().trim().to_owned(), counted.unwrap_or("none"))
}

#[test]
fn an_endpoint_must_have_the_name_and_an_authority_that_is_believed() {
    let believed = Authority::new();
    let believe = |config: &mut Config| {
        config.upstream.tls.ca = Some(believed.write("ca.pem", &believed.pem()));
    };
    let named = |name: &'static str| {
        move |config: &mut Config| {
            believe(config);
            config.upstream.tls.server_name = Some(ServerName::try_from(name).unwrap());
        }
    };
    let server = believed.server(&["app.internal"], false);
    let not_believed =
        (502, "upstream: the endpoint's certificate is not to be believed".to_owned(), "certificate");
    let served = (200, "hello".to_owned(), "none");
    // By default it is the address.
    assert_eq!(refusal(believe, &server), not_believed);
    assert_eq!(refusal(named("app.internal"), &server), served);
    assert_eq!(refusal(named("other.internal"), &server), not_believed);
    assert_eq!(refusal(|_| (), &believed.server(&["127.0.0.1"], false)), not_believed, "another authority");
    assert_eq!(refusal(|config| config.upstream.tls.ca = None, &server), not_believed, "the built-in ones");
    let look_away = |config: &mut Config| {
        config.upstream.tls.ca = None;
        config.upstream.tls.verify = false;
    };
    assert_eq!(refusal(look_away, &server), served);
}

#[test]
fn the_name_that_is_expected_is_asked_for() {
    let authority = Authority::new();
    let (asked, names) = channel();
    let asked = Mutex::new(asked);
    let config_of_server = Arc::new(authority.server(&["app.internal"], false));
    let endpoint = secure(config_of_server, move |mut client| {
        let name = client.stream.conn.server_name().map(str::to_owned);
        asked.lock().unwrap().send(name).unwrap();
        while serve(&mut client, HELLO) {}
    });
    let mut config = config(&authority);
    config.upstream.tls.server_name = Some(ServerName::try_from("app.internal").unwrap());
    let node = Node::with(config, &[endpoint.address]);
    assert_eq!(node.request(&get("/")).status, 200);
    assert_eq!(names.recv().unwrap().as_deref(), Some("app.internal"));
}

#[test]
fn an_endpoint_may_ask_who_comes() {
    let authority = Authority::new();
    let server = authority.server(&["127.0.0.1"], true);
    let believe = |config: &mut Config| {
        config.upstream.tls.ca = Some(authority.write("ca.pem", &authority.pem()));
    };
    let (chain, key) = authority.issue(&["edge-1"], Kind::Ecdsa);
    let identity: (PathBuf, PathBuf) = (authority.write("own.crt", &chain), authority.write("own.key", &key));
    let known = |config: &mut Config| {
        believe(config);
        config.upstream.tls.identity = Some(identity.clone());
    };
    assert_eq!(refusal(known, &server).0, 200);
    // In TLS 1.3 the refusal comes behind the handshake, as the answer to the request.
    let (status, text, _) = refusal(believe, &server);
    assert_eq!((status, &*text), (502, "upstream: the endpoint closed the connection before it answered"));
}

#[test]
fn sessions_are_resumed_in_both_versions() {
    const LAST: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    for versions in [OLD, NEW] {
        let authority = Authority::new();
        let mut server = authority.server(&["127.0.0.1"], false);
        if versions == OLD {
            server = only_old(&authority);
        }
        let (kinds, kind) = channel();
        let kinds = Mutex::new(kinds);
        let endpoint = secure(Arc::new(server), move |mut client| {
            kinds.lock().unwrap().send(client.stream.conn.handshake_kind().unwrap()).unwrap();
            serve(&mut client, LAST);
            client.stream.conn.send_close_notify();
            let _ = client.stream.conn.complete_io(&mut client.stream.sock);
        });
        let node = Node::with(config(&authority), &[endpoint.address]);
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
            assert_eq!(node.request(&get("/")).text(), "hello");
            assert_eq!(kind.recv().unwrap(), expected);
        }
        assert_eq!((handshakes(&node, false), handshakes(&node, true)), (1.0, 2.0));
    }
}

/// An endpoint that knows TLS 1.2 alone.
fn only_old(authority: &Authority) -> ServerConfig {
    let mut server = authority.server(&["127.0.0.1"], false);
    let (chain, key) = authority.issue(&["127.0.0.1"], Kind::Rsa);
    let provider = Arc::clone(server.crypto_provider());
    let key = rustls::pki_types::pem::PemObject::from_pem_slice(key.as_bytes()).unwrap();
    let chain = rustls::pki_types::pem::PemObject::from_pem_slice(chain.as_bytes()).unwrap();
    server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(OLD)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .unwrap();
    server
}

#[test]
fn an_endpoint_that_fails_in_its_handshake_is_passed_over() {
    let (authority, other) = (Authority::new(), Authority::new());
    let good = answering(authority.server(&["127.0.0.1"], false), HELLO);
    let stranger = answering(other.server(&["127.0.0.1"], false), "HTTP/1.1 500 Never\r\n\r\n");
    let (plain, _requests) = Backend::answering("HTTP/1.1 500 Never\r\nContent-Length: 0\r\n\r\n");
    let closes = Backend::start(drop);
    let endpoints: [SocketAddr; 4] = [good.address, stranger.address, plain.address, closes.address];
    let mut config = config(&authority);
    config.upstream.attempts_max = 4;
    config.upstream.retry_budget = 1.0;
    config.upstream.idle_connections_max = 0;
    let node = Node::with(config, &endpoints);
    for _ in 0..8 {
        let request = "POST / HTTP/1.1\r\nHost: app.example\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(
            node.request(request).text(),
            "hello",
            "nothing was sent yet: any request may be tried again"
        );
    }
    assert!(failures(&node, "certificate") > 0.0);
    assert!(failures(&node, "closed") > 0.0);
}

#[test]
fn what_speaks_no_tls_is_counted_as_that() {
    let endpoint = Backend::start(|mut client| {
        client.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        client.rest();
    });
    let authority = Authority::new();
    let mut config = config(&authority);
    config.upstream.attempts_max = 1;
    let node = Node::with(config, &[endpoint.address]);
    let response = node.request(&get("/"));
    assert_eq!((response.status, response.text().trim()), (502, "upstream: TLS with the endpoint failed"));
    assert_eq!(failures(&node, "plaintext"), 1.0);
}

#[test]
fn a_handshake_has_the_time_of_a_connection() {
    let endpoint = Backend::start(|mut client| {
        client.rest();
    });
    let authority = Authority::new();
    let mut config = config(&authority);
    config.timeouts.connect = Duration::from_millis(300);
    config.upstream.attempts_max = 1;
    let node = Node::with(config, &[endpoint.address]);
    let begun = Instant::now();
    let response = node.request(&get("/"));
    assert_eq!(
        (response.status, response.text().trim()),
        (504, "upstream: connecting to the endpoint timed out")
    );
    assert!(begun.elapsed() < PATIENCE / 2);
    assert_eq!(failures(&node, "timeout"), 1.0);
}

#[test]
fn large_bodies_go_both_ways_unchanged_for_clients_of_both_protocols() {
    let body: Vec<u8> = (0..2_000_000_u32).map(|n| (n % 251) as u8).collect();
    let authority = Authority::new();
    let expected = body.clone();
    let server = Arc::new(authority.server(&["127.0.0.1"], false));
    let endpoint = secure(server, move |mut client| {
        for _ in 0..2 {
            assert!(client.request().1 == expected);
            client.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", expected.len()));
            client.send(&expected);
        }
    });
    let node = Node::with(config(&authority), &[endpoint.address]);
    let mut client = node.connect();
    for _ in 0..2 {
        client
            .send(format!("POST / HTTP/1.1\r\nHost: app.example\r\nContent-Length: {}\r\n\r\n", body.len()));
        client.send(&body);
        std::thread::sleep(Duration::from_millis(100));
        assert!(client.response().body == body);
    }
    assert_eq!(handshakes(&node, false), 1.0);
}

#[test]
fn a_client_of_http2_is_served_by_an_endpoint_over_tls() {
    let authority = Authority::new();
    let endpoint = answering(authority.server(&["127.0.0.1"], false), HELLO);
    let node = Node::with(config(&authority), &[endpoint.address]);
    let mut client = node.connect();
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    // HEADERS with END_STREAM and END_HEADERS: GET, http, /, :authority.
    client.send([&b"\0\0\x10\x01\x05\0\0\0\x01\x82\x86\x84\x41\x0b"[..], b"app.example"].concat());
    let mut content = Vec::new();
    while content != b"hello" {
        let head = client.exactly(9);
        let payload = client.exactly(usize::from(head[1]) << 8 | usize::from(head[2]));
        match (head[3], head[8]) {
            (0, 1) => content.extend(payload),
            (1, 1) => assert_eq!(payload[0], 0x88, ":status 200"),
            _ => {}
        }
    }
}

#[test]
fn an_upgraded_connection_is_a_tunnel_to_its_end() {
    let authority = Authority::new();
    let endpoint = secure(Arc::new(authority.server(&["127.0.0.1"], false)), |mut client| {
        client.head();
        client.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
        while client.fill() {
            let octets = std::mem::take(&mut client.read);
            client.send(octets);
        }
        client.send("bye");
        client.stream.conn.send_close_notify();
        client.stream.conn.complete_io(&mut client.stream.sock).unwrap();
    });
    let node = Node::with(config(&authority), &[endpoint.address]);
    let mut client = node.connect();
    client.send("GET / HTTP/1.1\r\nHost: app.example\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 101 "));
    let octets: Vec<u8> = (0..300_000_u32).map(|n| (n % 241) as u8).collect();
    for piece in octets.chunks(100_000) {
        client.send(piece);
        assert!(client.exactly(piece.len()) == piece);
    }
    // The endpoint sees the end as one in order, and what it says then still arrives.
    client.half_close();
    assert_eq!(client.rest(), b"bye");
}

/// RFC 8446 §6.1, RFC 9112 §9.8: only the closing message tells the end from a cut.
#[test]
fn content_up_to_the_end_is_whole_only_with_a_closing_message() {
    for says_end in [true, false] {
        let authority = Authority::new();
        let endpoint = secure(Arc::new(authority.server(&["127.0.0.1"], false)), move |mut client| {
            client.request();
            client.send("HTTP/1.1 200 OK\r\n\r\nhello");
            if says_end {
                client.stream.conn.send_close_notify();
            }
            let _ = client.stream.conn.complete_io(&mut client.stream.sock);
        });
        let node = Node::with(config(&authority), &[endpoint.address]);
        let mut client = node.connect();
        client.send(get("/"));
        // A reset may overtake the content.
        let whole = client.try_rest();
        assert_eq!(whole.is_ok_and(|octets| octets.ends_with(b"hello")), says_end);
    }
}

#[test]
fn an_idle_connection_that_the_endpoint_closed_is_not_used() {
    let authority = Authority::new();
    let (closed, closing) = channel();
    let closed = Mutex::new(closed);
    let endpoint = secure(Arc::new(authority.server(&["127.0.0.1"], false)), move |mut client| {
        client.request();
        client.send(HELLO);
        client.stream.conn.send_close_notify();
        let _ = client.stream.conn.complete_io(&mut client.stream.sock);
        drop(client);
        closed.lock().unwrap().send(()).unwrap();
    });
    let node = Node::with(config(&authority), &[endpoint.address]);
    for _ in 0..3 {
        let request = "POST / HTTP/1.1\r\nHost: app.example\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(node.request(request).text(), "hello");
        closing.recv().unwrap();
    }
    assert_eq!(node.metric("portolan_proxy_upstream_reuses_total"), 0.0);
}

#[test]
fn another_authority_is_believed_once_its_file_is_there() {
    let (old, new) = (Authority::new(), Authority::new());
    let endpoint = answering(new.server(&["127.0.0.1"], false), HELLO);
    let config = config(&old);
    let node = Node::with(config.clone(), &[endpoint.address]);
    assert_eq!(node.request(&get("/")).status, 502);
    old.write("ca.pem", &new.pem());
    node.reconfigure(&config);
    eventually("the new authority is believed", || node.request(&get("/")).status == 200);
}
