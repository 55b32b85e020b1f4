//! Heads in either notation: HTTP/2's fields as an HTTP/1.1 head, and a response head of HTTP/1.1 as fields.

use crate::h2::{Fields, push_field, push_status};
use crate::l7::chunked::{TRAILERS_MAX, is_forbidden_trailer};
use crate::l7::head::{ConnectionOptions, Field, classify};

/// What is known of a request from its fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// Content-Length is among them.
    pub(super) has_length: bool,
    /// gRPC: it wants to be refused in its own words.
    pub(super) is_grpc: bool,
    /// HEAD: it wants no content.
    pub(super) is_head: bool,
}

/// Writes a stream's head down as HTTP/1.1 (RFC 9113 §8.3). The fields are those of a request that is none malformed:
/// the pseudo-header fields come first, and nothing in them can end a line or a word. Judged afterwards like any
/// other. `cookie` is scratch.
pub(super) fn write_down(fields: &Fields, is_end: bool, out: &mut Vec<u8>, cookie: &mut Vec<u8>) -> Written {
    let (mut method, mut path, mut authority) = (&b""[..], None, None);
    let mut written = Written::default();
    let mut has_line = false;
    cookie.clear();
    for (name, value) in fields.iter() {
        match name {
            b":method" => {
                method = value;
                written.is_head = method == b"HEAD";
            }
            b":path" => path = Some(value),
            b":authority" => authority = Some(value),
            b":scheme" => {}
            _ => {
                if !core::mem::replace(&mut has_line, true) {
                    push_line(method, path, authority, out);
                }
                push_one(name, value, authority.is_some(), &mut written, (&mut *out, &mut *cookie));
            }
        }
    }
    if !has_line {
        push_line(method, path, authority, out);
    }
    if !cookie.is_empty() {
        push(b"Cookie", cookie, out);
    }
    if !is_end && !written.has_length {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
    written
}

fn push_line(method: &[u8], path: Option<&[u8]>, authority: Option<&[u8]>, out: &mut Vec<u8>) {
    out.extend_from_slice(method);
    out.push(b' ');
    // CONNECT has no path; the authority is its target.
    out.extend_from_slice(path.or(authority).unwrap_or(b"/"));
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(authority) = authority {
        push(b"Host", authority, out);
    }
}

fn push_one(
    name: &[u8],
    value: &[u8],
    has_authority: bool,
    written: &mut Written,
    (out, cookie): (&mut Vec<u8>, &mut Vec<u8>),
) {
    match name {
        // The session has seen that it says the same.
        b"host" if has_authority => return,
        // RFC 9113 §8.2.3: the pieces of a cookie are one field again.
        b"cookie" => {
            if !cookie.is_empty() {
                cookie.extend_from_slice(b"; ");
            }
            return cookie.extend_from_slice(value);
        }
        b"content-length" => written.has_length = true,
        b"content-type" => written.is_grpc = is_grpc(value),
        _ => {}
    }
    push(name, value, out);
}

/// `application/grpc`, with or without the coding of its messages; gRPC-Web is another protocol.
fn is_grpc(value: &[u8]) -> bool {
    let behind = value.strip_prefix(b"application/grpc");
    behind.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

fn push(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends the fields of a response head to a header block. Fields of the connection have no place in it (RFC 9113
/// §8.2.2), nor have lengths where there is no content.
pub(super) fn push_response(status: u16, headers: &[httparse::Header<'_>], out: &mut Vec<u8>) {
    push_status(status, out);
    let mut options = ConnectionOptions::default();
    for header in headers.iter().filter(|header| classify(header.name) == Field::Connection) {
        options.read(header.value);
    }
    let mut has_length = status < 200 || status == 204;
    for header in headers {
        let passes = match classify(header.name) {
            Field::Connection | Field::Hop | Field::TransferEncoding | Field::Upgrade => false,
            Field::ContentLength => !core::mem::replace(&mut has_length, true),
            _ => !options.names(header.name),
        };
        if passes {
            push_field(header.name.as_bytes(), header.value, out);
        }
    }
}

/// Appends trailer fields, as the chunk scanner let them through, to a header block. False if there are none.
pub(super) fn push_trailers(text: &[u8], out: &mut Vec<u8>) -> bool {
    let mut has_any = false;
    for line in text.split(|&octet| octet == b'\n').map(<[u8]>::trim_ascii) {
        let Some(at) = memchr::memchr(b':', line) else { continue };
        push_field(&line[..at], line[at + 1..].trim_ascii(), out);
        has_any = true;
    }
    has_any
}

/// Trailers of a stream as the end of a chunked body. Fields that may not be trailers are left out.
pub(super) fn write_trailers(fields: &Fields, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    trailers(fields).for_each(|(name, value)| push(name, value, out));
    out.extend_from_slice(b"\r\n");
}

/// Whether trailers are no larger than those of a chunked body may be.
pub(super) fn has_fitting_trailers(fields: &Fields) -> bool {
    let length: usize = trailers(fields).map(|(name, value)| name.len() + value.len() + 4).sum();
    length <= TRAILERS_MAX as usize
}

fn trailers(fields: &Fields) -> impl Iterator<Item = (&[u8], &[u8])> {
    fields.iter().filter(|(name, _)| !is_forbidden_trailer(name))
}
