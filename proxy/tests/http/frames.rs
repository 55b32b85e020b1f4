//! A client of HTTP/2 that writes and sees every frame.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::*;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    pub(crate) fn is_end(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

pub(crate) struct Frames<S = TcpStream> {
    pub(crate) client: Client<S>,
}

impl Frames {
    /// With these settings: pairs of number and value.
    pub(crate) fn connect(node: &Node, settings: &[(u16, u32)]) -> Self {
        Self::over(node.connect(), settings)
    }

    /// The reason of the GOAWAY that ends the connection.
    pub(crate) fn ending(&mut self) -> u32 {
        let mut code = None;
        while let Some(frame) = self.next() {
            if frame.kind == GOAWAY {
                code = Some(frame.code());
                // The other side waits for ours.
                let _ = self.client.stream.shutdown(std::net::Shutdown::Write);
            }
        }
        code.expect("the connection ended without a word")
    }
}

impl<S: Read + Write> Frames<S> {
    pub(crate) fn over(mut client: Client<S>, settings: &[(u16, u32)]) -> Self {
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut frames = Self { client };
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        assert!(frames.send(SETTINGS, 0, 0, &payload));
        frames
    }

    /// False if the other side no longer takes it.
    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        self.client.try_send(compose(kind, flags, stream, payload))
    }

    pub(crate) fn request(&mut self, stream: u32, flags: u8, fields: &[(&str, &str)]) -> bool {
        self.send(HEADERS, flags | END_HEADERS, stream, &block(fields))
    }

    /// A header block in as many frames as it takes.
    pub(crate) fn long(&mut self, stream: u32, flags: u8, fields: &[(&str, &str)]) {
        let block = block(fields);
        let mut pieces = block.chunks(16_384).peekable();
        let mut kind = HEADERS;
        while let Some(piece) = pieces.next() {
            let last = if pieces.peek().is_none() { END_HEADERS } else { 0 };
            assert!(self.send(kind, if kind == HEADERS { flags | last } else { last }, stream, piece));
            kind = CONTINUATION;
        }
    }

    pub(crate) fn get(&mut self, stream: u32) -> bool {
        self.request(stream, END_STREAM, &GET)
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        while self.client.read.len() < 9 {
            if !self.client.fill() {
                return None;
            }
        }
        let head = self.client.exactly(9);
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
        Some(Frame { kind: head[3], flags: head[4], stream, payload: self.client.exactly(length) })
    }

    /// The next frame of this kind and stream.
    pub(crate) fn await_frame(&mut self, kind: u8, stream: u32) -> Frame {
        loop {
            let frame = self.next().expect("the connection ended before the frame came");
            if (frame.kind, frame.stream) == (kind, stream) {
                return frame;
            }
        }
    }

    /// The content of a stream's response, to its end.
    pub(crate) fn content(&mut self, stream: u32) -> Vec<u8> {
        let mut content = Vec::new();
        loop {
            let frame = self.next().expect("the connection ended before the stream did");
            assert!((frame.kind, frame.stream) != (RST_STREAM, stream), "reset: {}", frame.code());
            if frame.stream == stream && frame.kind == DATA {
                content.extend_from_slice(&frame.payload);
            }
            if frame.stream == stream && frame.is_end() {
                return content;
            }
        }
    }
}

pub(crate) fn compose(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A header block of literals.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            push_length(text.len(), &mut block);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// RFC 7541 §5.1, in the last seven bits of an octet.
fn push_length(length: usize, block: &mut Vec<u8>) {
    let Some(mut rest) = length.checked_sub(127) else { return block.push(length as u8) };
    block.push(127);
    while rest >= 128 {
        block.push(rest as u8 | 128);
        rest >>= 7;
    }
    block.push(rest as u8);
}

pub(crate) const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "app.example")];
/// A call of gRPC.
pub(crate) const CALL: [(&str, &str); 6] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/package.Service/Method"),
    (":authority", "app.example"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
];
pub(crate) const POST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "app.example")];

/// An endpoint that writes and sees every frame; connections are numbered.
pub(crate) fn scripted(serve: impl Fn(&mut Frames, usize) + Send + Sync + 'static) -> Backend {
    let count = AtomicUsize::new(0);
    Backend::start(move |client| {
        let mut frames = Frames { client };
        frames.client.until("SM\r\n\r\n");
        assert!(frames.send(SETTINGS, 0, 0, &[]));
        serve(&mut frames, count.fetch_add(1, Ordering::SeqCst));
        frames.client.rest();
    })
}

/// Answers as an endpoint.
pub(crate) fn answer<S: Read + Write>(frames: &mut Frames<S>, stream: u32) {
    assert!(frames.send(HEADERS, END_HEADERS, stream, &[0x88]));
    assert!(frames.send(DATA, END_STREAM, stream, b"hello"));
}
