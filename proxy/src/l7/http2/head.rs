//! Heads in either notation: HTTP/2's fields as an HTTP/1.1 head, and a response head of HTTP/1.1 as fields.

use http::header::{CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue};

use crate::l7::head::{Field, classify, slots};

/// How the content of a stream is framed on the way to the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upload {
    None,
    Length,
    Chunked,
}

/// Writes a stream's head down as HTTP/1.1 (RFC 9113 §8.3). It is judged afterwards like any other.
pub(super) fn write_down(request: &http::request::Parts, has_content: bool, out: &mut Vec<u8>) -> Upload {
    out.extend_from_slice(request.method.as_str().as_bytes());
    out.push(b' ');
    let path = request.uri.path_and_query().map_or("/", |path| path.as_str());
    out.extend_from_slice(path.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    match request.uri.authority() {
        Some(authority) => push(out, "Host", authority.as_str().as_bytes()),
        None => request.headers.get_all(HOST).iter().for_each(|host| push(out, "Host", host.as_bytes())),
    }
    for (name, value) in &request.headers {
        // The content comes when it comes: an endpoint's 100 could not be passed on.
        if *name != HOST && *name != COOKIE && *name != EXPECT {
            push(out, name.as_str(), value.as_bytes());
        }
    }
    push_cookie(out, &request.headers);
    let upload = match (has_content, request.headers.contains_key(CONTENT_LENGTH)) {
        (false, _) => Upload::None,
        (true, true) => Upload::Length,
        (true, false) => Upload::Chunked,
    };
    if upload == Upload::Chunked {
        push(out, "Transfer-Encoding", b"chunked");
    }
    out.extend_from_slice(b"\r\n");
    upload
}

/// RFC 9113 §8.2.3: the pieces of a cookie are one field again.
fn push_cookie(out: &mut Vec<u8>, headers: &HeaderMap) {
    let mut pieces = headers.get_all(COOKIE).iter();
    let Some(first) = pieces.next() else { return };
    out.extend_from_slice(b"Cookie: ");
    out.extend_from_slice(first.as_bytes());
    for piece in pieces {
        out.extend_from_slice(b"; ");
        out.extend_from_slice(piece.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

fn push(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The fields of a response head that was judged and rewritten for this hop. Fields of the connection have no place
/// in HTTP/2 (RFC 9113 §8.2.2).
pub(super) fn read_response(head: &[u8]) -> Option<HeaderMap> {
    let mut slots = slots();
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    config.parse_response_with_uninit_headers(&mut parsed, head, &mut slots).ok()?;
    let mut fields = HeaderMap::with_capacity(parsed.headers.len());
    for header in parsed.headers.iter() {
        if matches!(
            classify(header.name),
            Field::Connection | Field::Hop | Field::TransferEncoding | Field::Upgrade
        ) {
            continue;
        }
        append(&mut fields, header.name, header.value)?;
    }
    Some(fields)
}

/// Trailer fields, with their empty line, as the chunk scanner let them through.
pub(super) fn read_trailers(text: &[u8]) -> Option<HeaderMap> {
    let mut fields = HeaderMap::new();
    for line in text.split(|&octet| octet == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
        let at = memchr::memchr(b':', line)?;
        append(&mut fields, core::str::from_utf8(&line[..at]).ok()?, line[at + 1..].trim_ascii())?;
    }
    Some(fields)
}

fn append(fields: &mut HeaderMap, name: &str, value: &[u8]) -> Option<()> {
    fields.append(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_bytes(value).ok()?);
    Some(())
}

/// Trailers of a stream as the end of a chunked body. Fields that may not be trailers are left out.
pub(super) fn write_trailers(trailers: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in trailers {
        if classify(name.as_str()) == Field::Other {
            push(out, name.as_str(), value.as_bytes());
        }
    }
}
