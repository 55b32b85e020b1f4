//! HTTP/2 from clients that look for what costs them less than it costs us (RFC 9113 §10.5).

use std::time::{Duration, Instant};

use crate::frames::*;
use crate::harness::*;

/// A request without a host, which is refused at once: 12 octets.
const NONE: [u8; 3] = [0x82, 0x86, 0x84];

#[test]
fn requests_that_are_refused_pay_for_no_resets() {
    let (backend, _requests) = Backend::answering(HELLO);
    let node = Node::start(&[backend.address]);
    let mut frames = Frames::connect(&node, &[]);
    for at in 0..5_000_u32 {
        let stream = 4 * at + 1;
        let mut octets = compose(HEADERS, END_STREAM | END_HEADERS, stream, &NONE);
        octets.extend(compose(HEADERS, END_STREAM | END_HEADERS, stream + 2, &block(&GET)));
        octets.extend(compose(RST_STREAM, 0, stream + 2, &CANCEL.to_be_bytes()));
        if !frames.client.try_send(octets) {
            break;
        }
        // Nothing stands in the way of a client that reads.
        frames.client.stream.set_nonblocking(true).unwrap();
        let mut piece = [0; 65_536];
        while let Ok(1..) = std::io::Read::read(&mut frames.client.stream, &mut piece) {}
        frames.client.stream.set_nonblocking(false).unwrap();
    }
    eventually("the flood is seen for what it is", || {
        node.metric("portolan_proxy_http2_broken_total{kind=\"flood\"}") == 1.0
    });
}

#[test]
fn a_client_that_gives_up_less_than_it_lets_finish_is_served() {
    let (backend, _requests) = Backend::answering(HELLO);
    let node = Node::start(&[backend.address]);
    let mut frames = Frames::connect(&node, &[]);
    let mut stream = 1;
    for _ in 0..400 {
        for _ in 0..3 {
            assert!(frames.get(stream));
            assert_eq!(frames.content(stream), b"hello");
            stream += 2;
        }
        assert!(frames.get(stream));
        assert!(frames.send(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
        stream += 2;
    }
}

/// CVE-2019-9511.
#[test]
fn windows_that_are_opened_octet_by_octet_end_the_connection() {
    for is_chunked in [false, true] {
        let backend = Backend::start(move |mut client| {
            client.request();
            let content = "7".repeat(50_000);
            client.send(if is_chunked {
                format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nc350\r\n{content}\r\n0\r\n\r\n")
            } else {
                format!("HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n{content}")
            });
            client.rest();
        });
        let node = Node::start(&[backend.address]);
        let mut frames = Frames::connect(&node, &[(4, 0)]);
        assert!(frames.get(1));
        frames.await_frame(HEADERS, 1);
        let reason = (0..20_000).find_map(|_| {
            frames.send(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes());
            let frame = frames.next().expect("a word at the end");
            (frame.kind == GOAWAY).then(|| frame.code())
        });
        assert_eq!(reason, Some(ENHANCE_YOUR_CALM), "chunked: {is_chunked}");
    }
}

#[test]
fn pings_in_pieces_do_not_keep_an_idle_connection_open() {
    let (backend, _requests) = Backend::answering(HELLO);
    let mut config = config();
    config.timeouts.keep_alive = Duration::from_millis(1500);
    let node = Node::with(config, &[backend.address]);
    let mut frames = Frames::connect(&node, &[]);
    assert!(frames.get(1));
    assert_eq!(frames.content(1), b"hello");
    let ping = compose(PING, 0, 0, &[1; 8]);
    let begun = Instant::now();
    loop {
        // Half of a frame is waited for as such; then the other half comes.
        if !frames.client.try_send(&ping[..8]) {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
        if !frames.client.try_send(&ping[8..]) || frames.next().is_none_or(|frame| frame.kind == GOAWAY) {
            break;
        }
        std::thread::sleep(Duration::from_millis(300));
        assert!(begun.elapsed() < Duration::from_secs(5), "it is still open");
    }
}
