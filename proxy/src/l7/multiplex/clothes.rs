//! Requests of HTTP/1.1 as fields of HTTP/2, and responses back. What is written here was judged before, or will be.

use core::mem::MaybeUninit;

use crate::h2::{Fields, begin_block, push_field, push_indexed, push_named};
use crate::l7::head::{Field, HEADERS_MAX, classify, content_length};
use crate::l7::request::Framing;

/// Places of the static table (RFC 7541 appendix A).
const AUTHORITY: u8 = 1;
const METHOD_GET: u8 = 2;
const METHOD_POST: u8 = 3;
const PATH_ROOT: u8 = 4;
const SCHEME_HTTP: u8 = 6;
const SCHEME_HTTPS: u8 = 7;

/// Fields that a head has at most beyond those of its client: what is said of the framing and of the client.
const ADDED_MAX: usize = 16;

/// Places for the fields of a head; not initialised, as clearing them would show.
pub(super) type Slots<'b> = [MaybeUninit<httparse::Header<'b>>; HEADERS_MAX + ADDED_MAX];

/// Empty [`Slots`].
pub(super) const fn slots<'b>() -> Slots<'b> {
    [const { MaybeUninit::uninit() }; HEADERS_MAX + ADDED_MAX]
}

/// A request head as an exchange writes it.
pub(super) struct Head<'b, 's> {
    method: &'b str,
    path: &'b str,
    headers: &'s [httparse::Header<'b>],
    pub(super) length: usize,
    pub(super) framing: Framing,
    pub(super) is_head: bool,
}

impl<'b, 's> Head<'b, 's> {
    /// `None` if it is not here as a whole.
    pub(super) fn parse(octets: &'b [u8], slots: &'s mut Slots<'b>) -> Option<Self> {
        let mut parsed = httparse::Request::new(&mut []);
        let Ok(httparse::Status::Complete(length)) = parsed.parse_with_uninit_headers(octets, &mut slots[..])
        else {
            return None;
        };
        let (method, path) = (parsed.method?, parsed.path?);
        let mut framing = Framing::None;
        for header in parsed.headers.iter() {
            match classify(header.name) {
                Field::TransferEncoding => framing = Framing::Chunked,
                Field::ContentLength => match content_length(header.value)? {
                    0 => {}
                    length => framing = Framing::Length(length),
                },
                _ => {}
            }
        }
        Some(Self { method, path, headers: parsed.headers, length, framing, is_head: method == "HEAD" })
    }

    pub(super) fn is_end(&self) -> bool {
        self.framing == Framing::None
    }
}

/// Appends a header block, which its session still has to end; where it begins.
pub(super) fn push_request(head: &Head<'_, '_>, is_tls: bool, out: &mut Vec<u8>) -> usize {
    let start = begin_block(out);
    match head.method {
        "GET" => push_indexed(METHOD_GET, out),
        "POST" => push_indexed(METHOD_POST, out),
        other => push_named(METHOD_GET, other.as_bytes(), out),
    }
    push_indexed(if is_tls { SCHEME_HTTPS } else { SCHEME_HTTP }, out);
    match head.path {
        "/" => push_indexed(PATH_ROOT, out),
        other => push_named(PATH_ROOT, other.as_bytes(), out),
    }
    let host = head.headers.iter().find(|header| classify(header.name) == Field::Host);
    if let Some(host) = host.filter(|host| !host.value.is_empty()) {
        push_named(AUTHORITY, host.value, out);
    }
    for header in head.headers {
        match classify(header.name) {
            Field::Host | Field::Connection | Field::Hop | Field::TransferEncoding | Field::Upgrade => {}
            _ => push_field(header.name.as_bytes(), header.value, out),
        }
    }
    start
}

/// Writes a response head down. True if its content follows in chunks.
pub(super) fn write_response(fields: &Fields, is_head: bool, is_end: bool, out: &mut Vec<u8>) -> bool {
    let (status, has_length) = write_fields(fields, out);
    let is_bodiless = is_head || matches!(status, b"204" | b"304");
    let is_chunked = !has_length && !is_end && !is_bodiless;
    if is_chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    } else if !has_length && !is_bodiless {
        out.extend_from_slice(b"content-length: 0\r\n");
    }
    out.extend_from_slice(b"\r\n");
    is_chunked
}

/// Writes the head of a 1xx response down.
pub(super) fn write_interim(fields: &Fields, out: &mut Vec<u8>) {
    write_fields(fields, out);
    out.extend_from_slice(b"\r\n");
}

fn write_fields<'f>(fields: &'f Fields, out: &mut Vec<u8>) -> (&'f [u8], bool) {
    let (mut status, mut has_length) = (&b""[..], false);
    for (name, value) in fields.iter() {
        if name == b":status" {
            status = value;
            out.extend_from_slice(b"HTTP/1.1 ");
            out.extend_from_slice(value);
            out.extend_from_slice(b" \r\n");
            continue;
        }
        // Several that say the same are one.
        if name == b"content-length" && core::mem::replace(&mut has_length, true) {
            continue;
        }
        write_field(name, value, out);
    }
    (status, has_length)
}

fn write_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes content as a chunk, and the end behind the last.
pub(super) fn write_chunk(data: &[u8], is_end: bool, out: &mut Vec<u8>) {
    if !data.is_empty() {
        crate::l7::chunked::push_size(data.len(), out);
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
    if is_end {
        out.extend_from_slice(b"0\r\n\r\n");
    }
}

/// Writes trailers as the end of chunks. Those that may not be trailers are left out.
pub(super) fn write_trailers(fields: &Fields, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in fields.iter().filter(|(name, _)| !crate::l7::chunked::is_forbidden_trailer(name)) {
        write_field(name, value, out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends trailer lines, with their empty line, to a header block that its session still has to end; where it begins.
/// `None` if there are none.
pub(super) fn push_trailers(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let start = begin_block(out);
    let before = out.len();
    for line in text.split(|&octet| octet == b'\n').map(<[u8]>::trim_ascii) {
        if let Some(at) = memchr::memchr(b':', line) {
            push_field(&line[..at], line[at + 1..].trim_ascii(), out);
        }
    }
    if out.len() > before {
        return Some(start);
    }
    out.truncate(start);
    None
}
