//! Clients of an `https` listener that are slow, wrong or malicious: none of them costs the others anything.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;

use crate::authority::{Authority, NEW, connect};
use crate::harness::{Backend, Client, HELLO, Node, eventually, get};

const APP: &str = "app.example";

fn failures(node: &Node, reason: &str) -> f64 {
    node.metric(&format!(
        "portolan_proxy_tls_handshake_failures_total{{listener=\"web\",reason=\"{reason}\"}}"
    ))
}

/// The first message of a client, in one record.
fn hello() -> Vec<u8> {
    let config = Authority::new().believer().config();
    let mut client = rustls::ClientConnection::new(config, APP.try_into().unwrap()).unwrap();
    let mut octets = Vec::new();
    client.write_tls(&mut octets).unwrap();
    octets
}

#[test]
fn a_request_without_tls_gets_an_answer_that_says_so() {
    let authority = Authority::new();
    let node = Node::with(authority.app(), &[]);
    let mut client = node.connect();
    client.send(get("/"));
    let answer = client.response();
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("HTTPS"), "{}", answer.text());
    assert_eq!(answer.field("connection"), Some("close"));
    assert!(client.is_closed());
    assert_eq!(failures(&node, "plaintext"), 1.0);
}

#[test]
fn a_handshake_has_a_limit_in_time_however_it_drips() {
    let authority = Authority::new();
    let mut config = authority.app();
    config.timeouts.tls_handshake = Duration::from_millis(300);
    let node = Node::with(config, &[]);
    let begun = Instant::now();
    let mut silent = node.connect();
    let mut dripping = node.connect();
    let hello = hello();
    let mut drips = hello[..hello.len() - 1].chunks(1);
    while begun.elapsed() < Duration::from_millis(250) {
        dripping.try_send(drips.next().unwrap_or_default());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(silent.is_closed() && dripping.is_closed());
    assert!(begun.elapsed() < Duration::from_secs(5));
    eventually("counted", || failures(&node, "timeout") == 2.0);
}

#[test]
fn a_client_that_goes_away_is_counted() {
    let authority = Authority::new();
    let node = Node::with(authority.app(), &[]);
    drop(node.connect());
    let mut half = node.connect();
    half.send(&hello()[..10]);
    drop(half);
    eventually("counted", || failures(&node, "closed") == 2.0);
}

#[test]
fn a_first_message_may_be_spread_but_not_be_huge() {
    let (backend, _requests) = Backend::answering(HELLO);
    let authority = Authority::new();
    let node = Node::with(authority.app(), &[backend.address]);
    let message = &hello()[5..];
    let mut spread = node.connect();
    for octet in message {
        spread.send([0x16, 3, 1, 0, 1, *octet]);
    }
    assert_eq!(spread.exactly(6)[0], 0x16, "a flight of the server, no alert");
    let mut huge = node.connect();
    // A first message of 16 MB, of which as much comes as is taken.
    huge.try_send([0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff]);
    huge.try_send(vec![0; 64 * 1024]);
    huge.rest();
    eventually("counted", || failures(&node, "protocol") == 1.0);
}

#[test]
fn what_is_no_handshake_is_refused_with_an_alert() {
    let authority = Authority::new();
    let node = Node::with(authority.app(), &[]);
    let mut client = node.connect();
    client.send(b"\x16\x03\x01\0\x06\x01\0\0\x02\xff\xff");
    assert_eq!(client.exactly(2)[0], 0x15, "an alert");
    client.rest();
    eventually("counted", || failures(&node, "protocol") == 1.0);
}

/// The second message waits in the library while the alert about the first is made.
#[test]
fn two_messages_in_one_record_of_which_the_first_is_wrong_are_refused() {
    let (backend, _requests) = Backend::answering(HELLO);
    let authority = Authority::new();
    let node = Node::with(authority.app(), &[backend.address]);
    for _ in 0..8 {
        let mut client = node.connect();
        client.send(b"\x16\x03\x01\0\x0a\x01\0\0\x02\xff\xff\0\0\0\0");
        assert_eq!(client.exactly(2)[0], 0x15, "an alert");
        client.rest();
    }
    let mut client = connect(node.address, APP, &authority.believer().config()).unwrap();
    client.send(get("/"));
    assert_eq!(client.response().text(), "hello", "the threads for handshakes still work");
}

/// A record with the first octets of a handshake message, the second record under these keys.
fn part_of_a_message(secrets: &ConnectionTrafficSecrets) -> Vec<u8> {
    let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else { panic!("another cipher") };
    // KeyUpdate (RFC 8446 §4.6.3) without its last octet; then the type of the record's content.
    let mut record = vec![24, 0, 0, 1, 22];
    let head = [23, 3, 3, 0, 5 + 16];
    let mut nonce: [u8; 12] = iv.as_ref().try_into().unwrap();
    nonce[11] ^= 1;
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).unwrap());
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(head), &mut record).unwrap();
    [&head[..], &record].concat()
}

#[test]
fn a_message_that_comes_in_part_behind_the_handshake_hinders_no_answer() {
    let authority = Authority::new();
    let node = Node::with(authority.app(), &[]);
    let mut believer = authority.believer();
    believer.versions = NEW;
    let mut config = Arc::unwrap_or_clone(believer.config());
    config.enable_secret_extraction = true;
    let mut client = rustls::ClientConnection::new(config.into(), APP.try_into().unwrap()).unwrap();
    let mut socket = node.connect();
    let mut flight = Vec::new();
    while client.is_handshaking() {
        client.write_tls(&mut flight).unwrap();
        socket.send(std::mem::take(&mut flight));
        client.read_tls(&mut socket.stream).unwrap();
        client.process_new_packets().unwrap();
    }
    // More than is read at once, and refused at once.
    client.writer().write_all(&[&b"nonsense\r\n\r\n"[..], &[b'a'; 9000]].concat()).unwrap();
    while client.wants_write() {
        client.write_tls(&mut flight).unwrap();
    }
    let (number, secrets) = client.dangerous_extract_secrets().unwrap().tx;
    assert_eq!(number, 1);
    flight.extend(part_of_a_message(&secrets));
    socket.send(flight);
    // Tickets, an answer and the closing message; nobody is left to decrypt them.
    assert!(socket.rest().len() > 200);
}

#[test]
fn rubbish_after_the_handshake_ends_one_connection_and_no_other() {
    let (backend, _requests) = Backend::answering(HELLO);
    let authority = Authority::new();
    let node = Node::with(authority.app(), &[backend.address]);
    let config = authority.believer().config();
    let mut other = connect(node.address, APP, &config).unwrap();
    for rubbish in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x17\x03\x03\0\x20aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        b"\x17\x03\x03\xff\xff",
    ] {
        let mut client = connect(node.address, APP, &config).unwrap();
        client.stream.sock.write_all(rubbish).unwrap();
        let mut raw = Client::of(client.stream.sock.try_clone().unwrap());
        raw.rest();
    }
    other.send(get("/"));
    assert_eq!(other.response().text(), "hello");
}

#[test]
fn records_that_arrive_octet_by_octet_are_requests_like_others() {
    let (backend, _requests) = Backend::answering(HELLO);
    let authority = Authority::new();
    let node = Node::with(authority.app(), &[backend.address]);
    let mut client = connect(node.address, APP, &authority.believer().config()).unwrap();
    // The request in records of a few octets, on the wire in single ones.
    let mut wire = Vec::new();
    for piece in get("/").as_bytes().chunks(7) {
        client.stream.conn.writer().write_all(piece).unwrap();
        client.stream.conn.write_tls(&mut wire).unwrap();
    }
    for octet in wire {
        client.stream.sock.write_all(&[octet]).unwrap();
    }
    assert_eq!(client.response().text(), "hello");
}

#[test]
fn renegotiation_is_refused_and_bounded() {
    let (backend, _requests) = Backend::answering(HELLO);
    let authority = Authority::new();
    let node = Node::with(authority.app(), &[backend.address]);
    let mut client = connect(node.address, APP, &authority.believer().config()).unwrap();
    // TLS 1.3 has no renegotiation: a key update is what costs the server something, and it may be asked for often.
    for _ in 0..20 {
        client.stream.conn.refresh_traffic_keys().unwrap();
        client.send(get("/"));
        assert_eq!(client.response().text(), "hello");
    }
}

#[test]
fn more_handshakes_than_allowed_are_turned_away_and_the_rest_goes_on() {
    let (backend, _requests) = Backend::answering(HELLO);
    let authority = Authority::new();
    let mut config = authority.app();
    config.limits.tls_handshakes_max = 2;
    let node = Node::with(config, &[backend.address]);
    let waiting = [node.connect(), node.connect()];
    eventually("both wait", || node.metric("portolan_proxy_connections{listener=\"web\"}") == 2.0);
    let mut third = node.connect();
    assert!(third.is_closed());
    eventually("counted", || failures(&node, "overload") == 1.0);
    drop(waiting);
    eventually("they are gone", || failures(&node, "closed") == 2.0);
    let mut client = connect(node.address, APP, &authority.believer().config()).unwrap();
    client.send(get("/"));
    assert_eq!(client.response().text(), "hello");
}
