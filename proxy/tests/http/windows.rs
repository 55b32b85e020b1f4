//! Windows of HTTP/2 (RFC 9113 §5.2): what one stream holds or leaves behind costs no other stream anything.

use portolan_proxy::{Config, UpstreamProtocol};
use portolan_table::HostMatch;

use crate::frames::*;
use crate::harness::*;

/// What clients are told that may be on its way on all streams, and on one.
const WINDOW: i64 = 1 << 20;
const STREAM_WINDOW: i64 = 128 * 1024;
const PIECE: usize = 16_384;

/// Routes one host alone.
fn narrow() -> Config {
    let mut config = config();
    config.routes = vec![route("app", HostMatch::Exact("app.example".into()), "app")];
    config
}

/// A client that counts what it may send.
struct Uploader {
    frames: Frames,
    left: i64,
}

impl Uploader {
    fn new(node: &Node) -> Self {
        Self { frames: Frames::connect(node, &[]), left: WINDOW }
    }

    fn send(&mut self, stream: u32, flags: u8, octets: usize) {
        assert!(self.left >= octets as i64, "no window left");
        assert!(self.frames.send(DATA, flags, stream, &vec![7; octets]));
        self.left -= octets as i64;
    }

    /// Takes in one frame.
    fn next(&mut self) -> Frame {
        let frame = self.frames.next().expect("the connection ended");
        if (frame.kind, frame.stream) == (WINDOW_UPDATE, 0) {
            self.left += i64::from(frame.code());
        }
        frame
    }

    /// Takes in all that the other side says up to now.
    fn settle(&mut self) {
        assert!(self.frames.send(PING, 0, 0, b"up to me"));
        while self.next().kind != PING {}
    }

    /// Uploads so much on a stream of its own, and gives the answer.
    fn upload(&mut self, stream: u32, mut octets: usize) -> Vec<u8> {
        let mut window = STREAM_WINDOW;
        assert!(self.frames.request(stream, 0, &POST));
        let mut content = Vec::new();
        loop {
            while octets > 0 && self.left >= PIECE as i64 && window >= PIECE as i64 {
                let count = octets.min(PIECE);
                octets -= count;
                window -= count as i64;
                self.send(stream, if octets == 0 { END_STREAM } else { 0 }, count);
            }
            let frame = self.next();
            if frame.stream != stream {
                continue;
            }
            match frame.kind {
                WINDOW_UPDATE => window += i64::from(frame.code()),
                DATA => content.extend_from_slice(&frame.payload),
                RST_STREAM => panic!("reset: {}", frame.code()),
                _ => {}
            }
            if frame.is_end() {
                return content;
            }
        }
    }
}

fn elsewhere() -> Vec<(&'static str, &'static str)> {
    [&POST[..3], &[(":authority", "elsewhere.example")]].concat()
}

#[test]
fn uploads_that_are_refused_leave_the_window_as_it_was() {
    let (backend, _requests) = Backend::answering(HELLO);
    let node = Node::with(narrow(), &[backend.address]);
    let mut client = Uploader::new(&node);
    for at in 0..400 {
        // So little that both frames are read at once, and the content is there when the answer is made.
        let octets = 3000;
        let mut frames = compose(HEADERS, END_HEADERS, 2 * at + 1, &block(&elsewhere()));
        frames.extend(compose(DATA, END_STREAM, 2 * at + 1, &vec![7; octets]));
        client.frames.client.send(frames);
        client.left -= octets as i64;
        client.settle();
        assert!(client.left > WINDOW / 3, "{} left after {at}", client.left);
    }
    assert_eq!(client.upload(801, 2 << 20), b"hello");
}

#[test]
fn uploads_that_are_given_up_leave_the_window_as_it_was() {
    let backend = Backend::start(|mut client| {
        let head = client.head();
        if !head.contains("give-up") {
            client.body(&head);
            client.send(HELLO);
        }
        client.rest();
    });
    let node = Node::with(narrow(), &[backend.address]);
    let mut client = Uploader::new(&node);
    let fields = [&POST[..], &[("give-up", "1")]].concat();
    for at in 0..100 {
        assert!(client.frames.request(2 * at + 1, 0, &fields));
        client.send(2 * at + 1, 0, PIECE);
        assert!(client.frames.send(RST_STREAM, 0, 2 * at + 1, &CANCEL.to_be_bytes()));
        client.settle();
        assert!(client.left > WINDOW / 3, "{} left after {at}", client.left);
    }
    assert_eq!(client.upload(201, 2 << 20), b"hello");
}

#[test]
fn uploads_beyond_the_limit_leave_the_window_as_it_was() {
    let (backend, _requests) = Backend::answering(HELLO);
    let mut config = narrow();
    config.limits.request_body_max = Some(10);
    let node = Node::with(config, &[backend.address]);
    let mut client = Uploader::new(&node);
    for at in 0..100 {
        assert!(client.frames.request(2 * at + 1, 0, &POST));
        client.send(2 * at + 1, END_STREAM, PIECE);
        client.settle();
        assert!(client.left > WINDOW / 3, "{} left after {at}", client.left);
    }
    assert_eq!(client.upload(201, 10), b"hello");
}

#[test]
fn twenty_uploads_that_nobody_takes_hold_no_other_up() {
    // An endpoint that gives no stream a window, but those that ask for it.
    let backend = Backend::start(|client| {
        let mut frames = Frames { client };
        frames.client.until("SM\r\n\r\n");
        assert!(frames.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
        assert!(frames.send(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes()));
        let mut taken = None;
        while let Some(frame) = frames.next() {
            if frame.kind == HEADERS && String::from_utf8_lossy(&frame.payload).contains("taken") {
                taken = Some(frame.stream);
                frames.send(WINDOW_UPDATE, 0, frame.stream, &(1_u32 << 30).to_be_bytes());
            }
            if frame.is_end() && taken == Some(frame.stream) {
                frames.send(HEADERS, END_HEADERS, frame.stream, &[0x88]);
                frames.send(DATA, END_STREAM, frame.stream, b"hello");
            }
        }
    });
    let mut config = config();
    config.upstream.protocol = UpstreamProtocol::H2;
    let node = Node::with(config, &[backend.address]);
    let mut client = Uploader::new(&node);
    for at in 0..20 {
        assert!(client.frames.request(2 * at + 1, 0, &POST));
        for _ in 0..STREAM_WINDOW as usize / PIECE {
            while client.left < PIECE as i64 {
                client.next();
            }
            client.send(2 * at + 1, 0, PIECE);
        }
    }
    assert!(client.frames.request(101, 0, &[&POST[..], &[("taken", "1")]].concat()));
    let mut window = STREAM_WINDOW;
    for piece in (0..128).rev() {
        while client.left < PIECE as i64 || window < PIECE as i64 {
            let frame = client.next();
            if (frame.kind, frame.stream) == (WINDOW_UPDATE, 101) {
                window += i64::from(frame.code());
            }
        }
        window -= PIECE as i64;
        client.send(101, if piece == 0 { END_STREAM } else { 0 }, PIECE);
    }
    assert_eq!(client.frames.content(101), b"hello");
}
