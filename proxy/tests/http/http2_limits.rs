//! HTTP/2 from clients that mean no good, or are slow: what they cost is bounded, and theirs alone (RFC 9113 §10.5).

use std::time::{Duration, Instant};

use portolan_proxy::Config;

use crate::frames::*;
use crate::harness::*;

const ABORTED: &str = "portolan_proxy_requests_total{class=\"aborted\",listener=\"web\"}";

fn quick() -> Config {
    let mut config = config();
    config.timeouts.write_stall = Duration::from_millis(300);
    config.timeouts.request_head = Duration::from_millis(300);
    config
}

/// Sends until the other side has had enough; why it had.
fn flood(node: &Node, mut piece: impl FnMut(u32) -> Vec<u8>) -> u32 {
    let mut frames = Frames::connect(node, &[]);
    for at in 0..20_000 {
        if !frames.client.try_send(piece(2 * at + 1)) {
            break;
        }
    }
    frames.ending()
}

#[test]
fn rapid_resets_end_the_connection_and_no_other() {
    let (backend, _requests) = Backend::answering(HELLO);
    let node = Node::start(&[backend.address]);
    let mut other = Frames::connect(&node, &[]);
    let reason = flood(&node, |stream| {
        let mut octets = compose(HEADERS, END_STREAM | END_HEADERS, stream, &block(&GET));
        octets.extend(compose(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
        octets
    });
    assert_eq!(reason, ENHANCE_YOUR_CALM);
    assert!((100.0..400.0).contains(&node.metric(ABORTED)), "{}", node.metric(ABORTED));
    assert!(other.get(1));
    assert_eq!(other.content(1), b"hello");
}

#[test]
fn floods_of_frames_that_get_nothing_done_end_the_connection() {
    let (backend, _requests) = Backend::answering(HELLO);
    let node = Node::start(&[backend.address]);
    for (what, frame) in [
        ("ping", compose(PING, 0, 0, &[0; 8])),
        ("settings", compose(SETTINGS, 0, 0, &[])),
        ("priority", compose(2, 0, 1, &[0; 5])),
        ("unknown", compose(77, 0, 0, &[])),
    ] {
        assert_eq!(flood(&node, |_| frame.repeat(4)), ENHANCE_YOUR_CALM, "{what}");
    }
    let continued = flood(&node, |stream| match stream {
        1 => compose(HEADERS, END_STREAM, 1, &block(&GET)),
        _ => compose(CONTINUATION, 0, 1, b""),
    });
    assert_eq!(continued, ENHANCE_YOUR_CALM);
    let empty = flood(&node, |stream| match stream {
        1 => compose(HEADERS, END_HEADERS, 1, &block(&POST)),
        _ => compose(DATA, 0, 1, b"").repeat(4),
    });
    assert_eq!(empty, ENHANCE_YOUR_CALM);
    assert_eq!(node.metric("portolan_proxy_http2_broken_total{kind=\"flood\"}"), 6.0);
}

#[test]
fn a_head_too_large_is_431_and_the_connection_goes_on() {
    let (backend, requests) = Backend::answering(HELLO);
    let mut config = config();
    config.limits.request_head_max = 1000;
    let node = Node::with(config, &[backend.address]);
    let mut frames = Frames::connect(&node, &[]);
    let value = "v".repeat(100);
    let mut fields = GET.to_vec();
    fields.extend([("x", &*value); 12]);
    assert!(frames.request(1, END_STREAM, &fields));
    let head = frames.await_frame(HEADERS, 1);
    assert!(head.payload.starts_with(b"\x18\x03431"), "{head:?}");
    assert!(frames.get(3));
    assert_eq!(frames.content(3), b"hello");
    assert_eq!(requests.try_iter().count(), 1);
    let mut fields = GET.to_vec();
    fields.extend([("x", &*value); 60]);
    assert!(frames.request(5, END_STREAM, &fields));
    assert_eq!(frames.ending(), ENHANCE_YOUR_CALM, "nobody means a list many times too large");
}

#[test]
fn a_request_that_is_none_ends_its_stream_alone_and_is_counted() {
    let (backend, requests) = Backend::answering(HELLO);
    let node = Node::start(&[backend.address]);
    let mut frames = Frames::connect(&node, &[]);
    let with = |field| [&GET[..], &[field]].concat();
    let bad = [
        with(("connection", "close")),
        with(("x", "a\r\nb: c")),
        with(("Upper", "1")),
        with(("te", "gzip")),
        with(("content-length", "5")),
        GET[..2].to_vec(),
    ];
    for (at, fields) in bad.iter().enumerate() {
        let stream = 2 * at as u32 + 1;
        assert!(frames.request(stream, END_STREAM, fields));
        assert_eq!(frames.await_frame(RST_STREAM, stream).code(), PROTOCOL_ERROR, "{fields:?}");
    }
    assert!(frames.get(99));
    assert_eq!(frames.content(99), b"hello");
    assert_eq!(requests.try_iter().count(), 1);
    let counted = node.metric("portolan_proxy_requests_total{class=\"4xx\",listener=\"web\"}");
    assert_eq!(counted, bad.len() as f64);
}

#[test]
fn a_stream_whose_window_stays_shut_is_given_up_and_frees_its_endpoint() {
    let (backend, _requests) = Backend::answering(HELLO);
    let node = Node::with(quick(), &[backend.address]);
    let mut frames = Frames::connect(&node, &[(4, 0)]);
    assert!(frames.get(1));
    assert!(frames.await_frame(HEADERS, 1).payload.starts_with(&[0x88]));
    assert_eq!(frames.await_frame(RST_STREAM, 1).code(), CANCEL);
    assert!(frames.get(3));
    frames.await_frame(HEADERS, 3);
    assert!(frames.send(WINDOW_UPDATE, 0, 3, &5_u32.to_be_bytes()));
    assert_eq!(frames.content(3), b"hello");
}

#[test]
fn a_client_that_reads_nothing_is_given_up() {
    let backend = Backend::start(|mut client| {
        client.request();
        client.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 64 << 20));
        let piece = vec![7; 1 << 20];
        for _ in 0..64 {
            if !client.try_send(&piece) {
                return;
            }
        }
    });
    let node = Node::with(quick(), &[backend.address]);
    let mut frames = Frames::connect(&node, &[(4, i32::MAX as u32)]);
    assert!(frames.send(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes()));
    assert!(frames.get(1));
    eventually("the connection is given up", || {
        node.metric("portolan_proxy_connections{listener=\"web\"}") == 0.0
            && node.metric("portolan_proxy_connections_total{listener=\"web\"}") == 1.0
    });
}

#[test]
fn a_frame_that_does_not_come_to_its_end_is_waited_for_as_long_as_a_head() {
    let node = Node::with(quick(), &[nobody()]);
    let mut frames = Frames::connect(&node, &[]);
    let begun = Instant::now();
    frames.client.send(&compose(HEADERS, END_STREAM | END_HEADERS, 1, &block(&GET))[..20]);
    assert_eq!(frames.ending(), 0);
    assert!(begun.elapsed() >= Duration::from_millis(300));
}

#[test]
fn a_client_that_asks_for_nothing_is_sent_away_in_order() {
    let node = Node::with(quick(), &[nobody()]);
    let mut frames = Frames::connect(&node, &[]);
    assert_eq!(frames.ending(), 0);
}

#[test]
fn an_upload_that_its_endpoint_does_not_take_holds_no_other_stream_up() {
    let backend = Backend::start(|mut client| {
        if client.head().starts_with("POST") {
            // Longer than the test takes.
            std::thread::sleep(PATIENCE);
        }
        client.send(HELLO);
        client.rest();
    });
    let node = Node::start(&[backend.address]);
    let mut frames = Frames::connect(&node, &[]);
    // The kernel takes some of it; what is beyond fills the window of the stream.
    assert!(frames.request(1, 0, &POST));
    frames.client.stream.set_nonblocking(false).unwrap();
    let mut window: i64 = 128 * 1024;
    while window >= 16_384 {
        assert!(frames.send(DATA, 0, 1, &[7; 16_384]));
        window -= 16_384;
        while window < 16_384 && !is_silent_frame(&mut frames, &mut window) {}
    }
    assert!(frames.get(3));
    assert_eq!(frames.content(3), b"hello");
}

/// Takes one frame in if one comes soon, and counts the window of stream 1.
fn is_silent_frame(frames: &mut Frames, window: &mut i64) -> bool {
    if frames.client.read.is_empty() {
        frames.client.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut piece = [0; 4096];
        let count = std::io::Read::read(&mut frames.client.stream, &mut piece).unwrap_or(0);
        frames.client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        frames.client.read.extend_from_slice(&piece[..count]);
        if count == 0 {
            return true;
        }
    }
    let frame = frames.next().unwrap();
    if (frame.kind, frame.stream) == (WINDOW_UPDATE, 1) {
        *window += i64::from(frame.code());
    }
    false
}

#[test]
fn streams_beyond_the_limit_are_refused_and_may_come_again() {
    let backend = Backend::start(|mut client| {
        client.request();
        client.rest();
    });
    let mut config = config();
    config.limits.h2_streams_max = 2;
    let node = Node::with(config, &[backend.address]);
    let mut frames = Frames::connect(&node, &[]);
    for stream in [1, 3, 5] {
        assert!(frames.get(stream));
    }
    assert_eq!(frames.await_frame(RST_STREAM, 5).code(), 7, "REFUSED_STREAM");
    assert_eq!(node.metric("portolan_proxy_http2_streams_refused_total"), 1.0);
    assert!(frames.send(RST_STREAM, 0, 1, &CANCEL.to_be_bytes()));
    assert!(frames.get(7));
    assert!(frames.send(PING, 0, 0, &[1; 8]));
    frames.await_frame(PING, 0);
    eventually("the cancelled request is counted", || node.metric(ABORTED) == 1.0);
    drop(frames);
    eventually("so are those of a client that went away", || node.metric(ABORTED) == 3.0);
}

#[test]
fn a_connection_that_was_at_rest_goes_on() {
    let (backend, _requests) = Backend::answering(HELLO);
    let mut config = config();
    config.timeouts.keep_alive = Duration::from_secs(3);
    let node = Node::with(config, &[backend.address]);
    let mut frames = Frames::connect(&node, &[]);
    let begun = Instant::now();
    for round in 0..2_u32 {
        let streams: Vec<u32> = (0..50).map(|at| 100 * round + 2 * at + 1).collect();
        streams.iter().for_each(|stream| assert!(frames.get(*stream)));
        let mut ended = 0;
        while ended < streams.len() {
            ended += usize::from(frames.next().unwrap().is_end());
        }
        // Its places are given back after a second.
        std::thread::sleep(Duration::from_millis(1200));
    }
    let goes_on = Instant::now();
    assert_eq!(frames.ending(), 0);
    assert!(begun.elapsed() > Duration::from_secs(4), "after {:?}", goes_on.elapsed());
}

#[test]
fn large_responses_take_turns_within_their_windows() {
    let body: Vec<u8> = (0..1_000_000_u32).map(|at| (at >> 3) as u8).collect();
    let answer =
        [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), &body].concat();
    let (backend, _requests) = Backend::answering(answer);
    let node = Node::start(&[backend.address]);
    let mut frames = Frames::connect(&node, &[(4, 60_000)]);
    assert!(frames.send(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes()));
    let streams = [1, 3, 5, 7];
    streams.iter().for_each(|stream| assert!(frames.get(*stream)));
    let mut got: Vec<Vec<u8>> = vec![Vec::new(); 8];
    let mut ended = 0;
    while ended < streams.len() {
        let frame = frames.next().unwrap();
        if frame.kind == DATA {
            got[frame.stream as usize].extend_from_slice(&frame.payload);
            let more = (frame.payload.len() as u32).to_be_bytes();
            assert!(
                frame.payload.is_empty()
                    || frame.is_end()
                    || frames.send(WINDOW_UPDATE, 0, frame.stream, &more)
            );
        }
        ended += usize::from(frame.is_end());
    }
    assert!(streams.iter().all(|stream| got[*stream as usize] == body));
}
