//! HTTP/2 over TLS: from clients, to endpoints, and both.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portolan_proxy::{Config, UpstreamProtocol};
use portolan_table::AppProtocol;
use rustls::{ClientConnection, ServerConfig, ServerConnection, StreamOwned};

use crate::authority::{Authority, NEW, OLD, connect, secure};
use crate::frames::*;
use crate::h2_server::*;
use crate::harness::*;

type TlsFrames = Frames<StreamOwned<ClientConnection, TcpStream>>;
type EndpointFrames = Frames<StreamOwned<ServerConnection, TcpStream>>;

/// A client's connection on which the handshake agreed on HTTP/2.
fn client(node: &Node, authority: &Authority, settings: &[(u16, u32)]) -> TlsFrames {
    let mut believer = authority.believer();
    believer.alpn = &["h2", "http/1.1"];
    let client = connect(node.address, "app.example", &believer.config()).unwrap();
    assert_eq!(client.stream.conn.alpn_protocol(), Some(&b"h2"[..]));
    Frames::over(client, settings)
}

/// `config` with HTTP/2 over TLS to endpoints of this authority.
fn to_endpoints(authority: &Authority, mut config: Config) -> Config {
    config.upstream.protocol = UpstreamProtocol::H2;
    config.upstream.tls.enabled = Some(true);
    config.upstream.tls.ca = Some(authority.write("ca.pem", &authority.pem()));
    config.upstream.retry_budget = 1.0;
    config
}

/// What an endpoint goes by that agrees to these protocols.
fn server(authority: &Authority, protocols: &[&str]) -> ServerConfig {
    let mut server = authority.server(&["127.0.0.1"], false);
    server.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    server
}

fn handshakes(node: &Node) -> f64 {
    node.metric("portolan_proxy_upstream_tls_handshakes_total{resumed=\"false\",version=\"1.3\"}")
}

/// An endpoint over TLS that writes and sees every frame.
fn scripted(
    authority: &Authority,
    serve: impl Fn(&mut EndpointFrames, usize) + Send + Sync + 'static,
) -> Backend {
    let count = std::sync::atomic::AtomicUsize::new(0);
    secure(Arc::new(server(authority, &["h2"])), move |client| {
        let mut frames = Frames { client };
        frames.client.until("SM\r\n\r\n");
        assert!(frames.send(SETTINGS, 0, 0, &[]));
        serve(&mut frames, count.fetch_add(1, std::sync::atomic::Ordering::SeqCst));
    })
}

fn answer<S: Read + Write>(frames: &mut Frames<S>, stream: u32) {
    assert!(frames.send(HEADERS, END_HEADERS, stream, &[0x88]));
    assert!(frames.send(DATA, END_STREAM, stream, b"hello"));
}

/// Keeps what comes and tells of it, for endpoints that run on threads of their own.
fn telling<T: Send>() -> (Arc<Mutex<Sender<T>>>, std::sync::mpsc::Receiver<T>) {
    let (sender, receiver) = channel();
    (Arc::new(Mutex::new(sender)), receiver)
}

#[test]
fn streams_with_content_both_ways_share_a_connection_from_end_to_end() {
    let authority = Authority::new();
    let endpoint = Server::secure(server(&authority, &["h2"]), echo);
    let node = Node::with(to_endpoints(&authority, authority.app()), &[endpoint.address]);
    let mut frames = client(&node, &authority, &[(4, i32::MAX as u32)]);
    assert!(frames.send(WINDOW_UPDATE, 0, 0, &0x4000_0000_u32.to_be_bytes()));
    let piece = |stream: u32| -> Vec<u8> { (0..4000).map(|at: u32| (at * stream) as u8).collect() };
    let streams: Vec<u32> = (0..60).map(|at| 2 * at + 1).collect();
    for stream in &streams {
        assert!(frames.request(*stream, 0, &POST));
    }
    for _ in 0..3 {
        for stream in &streams {
            assert!(frames.send(DATA, 0, *stream, &piece(*stream)));
        }
    }
    for stream in &streams {
        assert!(frames.send(DATA, END_STREAM, *stream, b""));
    }
    let mut contents = vec![Vec::new(); 120];
    let mut open = streams.len();
    while open > 0 {
        let frame = frames.next().unwrap();
        assert_ne!(frame.kind, RST_STREAM, "{frame:?}");
        if frame.kind == DATA {
            contents[frame.stream as usize].extend_from_slice(&frame.payload);
        }
        open -= usize::from(frame.is_end());
    }
    for stream in streams {
        assert!(contents[stream as usize] == piece(stream).repeat(3), "{stream}");
    }
    assert_eq!((endpoint.connections(), handshakes(&node)), (1, 1.0));
}

#[test]
fn large_content_passes_both_ways_in_both_versions() {
    const SIZE: usize = 4 << 20;
    let content: Vec<u8> = (0..SIZE as u32).map(|at| ((at * 31) >> 5) as u8).collect();
    let authority = Authority::new();
    let endpoint = Server::secure(server(&authority, &["h2"]), echo);
    let node = Node::with(to_endpoints(&authority, authority.app()), &[endpoint.address]);
    for versions in [OLD, NEW] {
        let mut believer = authority.believer();
        (believer.alpn, believer.versions) = (&["h2"], versions);
        let client = connect(node.address, "app.example", &believer.config()).unwrap();
        let mut frames = Frames::over(client, &[(4, i32::MAX as u32)]);
        assert!(frames.send(WINDOW_UPDATE, 0, 0, &0x4000_0000_u32.to_be_bytes()));
        assert!(frames.request(1, 0, &POST));
        // What the windows allow at first, which is what RFC 9113 §6.9.2 says.
        let (mut of_stream, mut of_all) = (65_535_i64, 65_535_i64);
        let (mut sent, mut echoed) = (0, Vec::new());
        loop {
            let room = of_stream.min(of_all).min(16_384).min((SIZE - sent) as i64) as usize;
            if room > 0 {
                let is_end = sent + room == SIZE;
                let flags = if is_end { END_STREAM } else { 0 };
                assert!(frames.send(DATA, flags, 1, &content[sent..sent + room]));
                sent += room;
                (of_stream, of_all) = (of_stream - room as i64, of_all - room as i64);
                continue;
            }
            let frame = frames.next().unwrap();
            match (frame.kind, frame.stream) {
                (WINDOW_UPDATE, 0) => of_all += i64::from(frame.code()),
                (WINDOW_UPDATE, _) => of_stream += i64::from(frame.code()),
                (SETTINGS, _) => of_stream += initial_window(&frame).map_or(0, |window| window - 65_535),
                (DATA, _) => echoed.extend_from_slice(&frame.payload),
                _ => {}
            }
            if frame.is_end() {
                break;
            }
        }
        assert!(echoed == content, "{} octets, or others", echoed.len());
    }
}

fn initial_window(settings: &Frame) -> Option<i64> {
    let entry = settings.payload.chunks(6).find(|entry| entry[..2] == [0, 4])?;
    Some(i64::from(u32::from_be_bytes(entry[2..].try_into().unwrap())))
}

#[test]
fn stopping_says_goaway_lets_streams_end_and_ends_with_a_closing_message() {
    let (release, released) = channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let backend = Backend::start(move |mut client| {
        client.request();
        released.lock().unwrap().recv().unwrap();
        client.send(HELLO);
        client.rest();
    });
    let authority = Authority::new();
    let node = Node::with(authority.app(), &[backend.address]);
    let mut idle = client(&node, &authority, &[]);
    let mut busy = client(&node, &authority, &[]);
    assert!(busy.get(1));
    eventually("the request is in progress", || node.metric("portolan_proxy_upstream_connects_total") > 0.0);
    node.stop();
    for frames in [&mut idle, &mut busy] {
        assert_eq!(frames.await_frame(GOAWAY, 0).code(), 0);
    }
    release.send(()).unwrap();
    assert_eq!(busy.content(1), b"hello");
    for mut frames in [idle, busy] {
        // Without a closing message this would be an error.
        while frames.next().is_some() {}
    }
    node.join();
}

#[test]
fn a_client_that_says_that_it_sends_no_more_still_gets_its_answers() {
    let authority = Authority::new();
    let backend = Backend::start(|mut client| {
        client.request();
        std::thread::sleep(Duration::from_millis(100));
        client.send(HELLO);
    });
    let node = Node::with(authority.app(), &[backend.address]);
    let mut frames = client(&node, &authority, &[]);
    assert!(frames.get(1));
    frames.client.stream.conn.send_close_notify();
    frames.client.stream.conn.complete_io(&mut frames.client.stream.sock).unwrap();
    assert_eq!(frames.content(1), b"hello");
    while frames.next().is_some() {}
}

#[test]
fn a_connection_that_is_cut_off_cancels_its_streams() {
    let authority = Authority::new();
    let backend = Backend::start(|mut client| {
        client.request();
        client.rest();
    });
    let node = Node::with(authority.app(), &[backend.address]);
    let mut frames = client(&node, &authority, &[]);
    assert!(frames.get(1));
    assert!(frames.get(3));
    eventually("the requests went out", || node.metric("portolan_proxy_upstream_connects_total") == 2.0);
    // No closing message: somebody may have cut the stream off.
    frames.client.stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
    let aborted = "portolan_proxy_requests_total{class=\"aborted\",listener=\"web\"}";
    eventually("the streams are cancelled", || node.metric(aborted) == 2.0);
}

#[test]
fn frames_that_arrive_octet_by_octet_in_records_of_their_own_are_frames_like_others() {
    let (backend, _requests) = Backend::answering(HELLO);
    let authority = Authority::new();
    let node = Node::with(authority.app(), &[backend.address]);
    let mut frames = client(&node, &authority, &[]);
    for stream in [1, 3] {
        for octet in compose(HEADERS, END_STREAM | END_HEADERS, stream, &block(&GET)) {
            frames.client.send([octet]);
        }
        assert_eq!(frames.content(stream), b"hello");
    }
}

#[test]
fn a_request_of_http_1_1_arrives_at_an_endpoint_over_tls_as_one_of_http_2() {
    let authority = Authority::new();
    let endpoint = Server::secure(server(&authority, &["http/1.1", "h2"]), tell);
    let node = Node::with(to_endpoints(&authority, config()), &[endpoint.address]);
    let mut clients: Vec<_> = (0..20).map(|_| node.connect()).collect();
    let request = "POST /a?b HTTP/1.1\r\nHost: app.example\r\nContent-Length: 4\r\n\r\nbody";
    clients.iter_mut().for_each(|client| client.send(request));
    for client in &mut clients {
        let response = client.response();
        let text = response.text();
        assert!(text.starts_with("POST https://app.example/a?b HTTP/2.0\n"), "{text}");
        assert!(text.ends_with("body"), "{text}");
    }
    // Those that came while the handshake went on waited for it.
    assert_eq!((endpoint.connections(), handshakes(&node)), (1, 1.0));
}

/// The protocol that a handshake with this port is asked for, or else what the client gets.
fn offered(app: AppProtocol, change: impl Fn(&mut Config)) -> String {
    let authority = Authority::new();
    let (chosen, choice) = telling();
    let endpoint = secure(Arc::new(server(&authority, &["h2", "http/1.1"])), move |mut client| {
        let name = client.stream.conn.alpn_protocol().map(|name| String::from_utf8(name.to_vec()).unwrap());
        chosen.lock().unwrap().send(name.unwrap()).unwrap();
        let _ = client.stream.read(&mut [0; 4096]);
    });
    let mut config = config();
    config.upstream.tls.ca = Some(authority.write("ca.pem", &authority.pem()));
    change(&mut config);
    let mut node = Node::with(config, &[]);
    node.publish(&service_of(app, "app", &[endpoint.address]));
    node.request(&get("/"));
    choice.recv_timeout(PATIENCE).unwrap()
}

#[test]
fn the_port_and_the_configuration_say_what_the_handshake_offers() {
    let over_tls = |config: &mut Config| config.upstream.tls.enabled = Some(true);
    assert_eq!(offered(AppProtocol::Https, |_| ()), "http/1.1");
    assert_eq!(offered(AppProtocol::Unknown, over_tls), "http/1.1");
    assert_eq!(offered(AppProtocol::Grpc, over_tls), "h2");
    assert_eq!(offered(AppProtocol::H2c, over_tls), "h2");
    assert_eq!(offered(AppProtocol::Https, |config| config.upstream.protocol = UpstreamProtocol::H2), "h2");
    let not_shared = |config: &mut Config| {
        over_tls(config);
        config.upstream.protocol = UpstreamProtocol::Http1;
    };
    assert_eq!(offered(AppProtocol::Grpc, not_shared), "http/1.1");
}

#[test]
fn an_endpoint_that_does_not_agree_to_http_2_gets_no_request() {
    let authority = Authority::new();
    for protocols in [&[][..], &["http/1.1"]] {
        let endpoint = secure(Arc::new(server(&authority, protocols)), |mut client| {
            assert!(!matches!(client.stream.read(&mut [0; 100]), Ok(1..)), "something was sent");
        });
        let mut config = to_endpoints(&authority, config());
        config.upstream.attempts_max = 1;
        let response = Node::with(config, &[endpoint.address]).request(&get("/"));
        let expected = "upstream: the endpoint does not speak HTTP/2 over TLS";
        assert_eq!((response.status, response.text().trim()), (502, expected), "{protocols:?}");
    }
}

#[test]
fn a_grpc_call_streams_both_ways_over_tls_from_end_to_end() {
    let authority = Authority::new();
    let endpoint = Server::secure(server(&authority, &["h2"]), echo);
    let mut config = authority.app();
    config.upstream.tls.enabled = Some(true);
    config.upstream.tls.ca = Some(authority.write("ca.pem", &authority.pem()));
    let mut node = Node::with(config, &[]);
    node.publish(&service_of(AppProtocol::Grpc, "app", &[endpoint.address]));
    let mut frames = client(&node, &authority, &[]);
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
    assert_eq!(endpoint.connections(), 1);
}

#[test]
fn an_endpoint_that_goes_away_is_told_goodbye_and_asked_on_another_connection() {
    let authority = Authority::new();
    let (ended, end) = telling();
    let endpoint = scripted(&authority, move |frames, connection| {
        frames.await_frame(HEADERS, 1);
        if connection == 0 {
            assert!(frames.send(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]));
        }
        answer(frames, 1);
        // Without a closing message this would be an error.
        while frames.next().is_some() {}
        ended.lock().unwrap().send(connection).unwrap();
    });
    let mut config = to_endpoints(&authority, config());
    config.upstream.idle_timeout = Duration::from_millis(200);
    let node = Node::with(config, &[endpoint.address]);
    for connection in [0, 1] {
        assert_eq!(node.request(&get("/")).text(), "hello");
        assert_eq!(end.recv_timeout(PATIENCE).unwrap(), connection);
    }
}

#[test]
fn an_idle_connection_that_the_endpoint_ended_is_not_used() {
    let authority = Authority::new();
    let endpoint = scripted(&authority, |frames, _| {
        frames.await_frame(HEADERS, 1);
        answer(frames, 1);
        frames.client.stream.conn.send_close_notify();
        frames.client.stream.conn.complete_io(&mut frames.client.stream.sock).unwrap();
        frames.client.rest();
    });
    let node = Node::with(to_endpoints(&authority, config()), &[endpoint.address]);
    let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
    for connections in [1.0, 2.0] {
        assert_eq!(node.request(request).text(), "hello");
        assert_eq!(node.metric("portolan_proxy_upstream_connects_total"), connections);
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_response_is_whole_only_if_its_stream_ends() {
    let authority = Authority::new();
    for says_goodbye in [true, false] {
        let endpoint = scripted(&authority, move |frames, _| {
            frames.await_frame(HEADERS, 1);
            assert!(frames.send(HEADERS, END_HEADERS, 1, &[0x88]));
            assert!(frames.send(DATA, 0, 1, b"part"));
            if says_goodbye {
                frames.client.stream.conn.send_close_notify();
                frames.client.stream.conn.complete_io(&mut frames.client.stream.sock).unwrap();
            }
        });
        let node = Node::with(to_endpoints(&authority, authority.app()), &[endpoint.address]);
        let mut frames = client(&node, &authority, &[]);
        assert!(frames.get(1));
        assert_eq!(frames.await_frame(RST_STREAM, 1).code(), 2);
    }
}
