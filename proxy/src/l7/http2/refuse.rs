//! Answers of ours on a stream.

use std::io::Write as _;

use super::line::Line;
use crate::h2::{Key, begin_block, push_field, push_status};
use crate::l7::refusal::Refusal;

/// Answers in the place of an endpoint: octets sent. Where the client has left no room for the text, it goes without.
pub(super) fn answer(line: &mut Line, key: Key, refusal: &Refusal, is_head: bool) -> u64 {
    let before = line.out.len();
    let text = refusal.text.as_bytes();
    let has_text = !is_head && line.session.room(key) > text.len();
    let start = begin_block(&mut line.out);
    let out = &mut line.out;
    push_status(refusal.status, out);
    push_field(b"date", httpdate::fmt_http_date(std::time::SystemTime::now()).as_bytes(), out);
    push_field(b"content-type", b"text/plain; charset=utf-8", out);
    if has_text || is_head {
        let mut digits = [0; 20];
        push_field(b"content-length", number(&mut digits, text.len() + 1), out);
    }
    if refusal.status == 405 {
        push_field(b"allow", b"GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH, TRACE", out);
    }
    line.session.end_headers(key, start, !has_text, &mut line.out);
    if has_text {
        let mut content = [0; 256];
        let length = text.len().min(content.len() - 1);
        content[..length].copy_from_slice(&text[..length]);
        content[length] = b'\n';
        line.send(key, &content[..=length], true);
    }
    (line.out.len() - before) as u64
}

/// The same for gRPC: status 200, and the failure in its own fields, which stand where trailers would.
pub(super) fn answer_grpc(line: &mut Line, key: Key, refusal: &Refusal) -> u64 {
    let before = line.out.len();
    let start = begin_block(&mut line.out);
    push_status(200, &mut line.out);
    push_field(b"content-type", b"application/grpc", &mut line.out);
    let mut digits = [0; 20];
    push_field(b"grpc-status", number(&mut digits, grpc_status(refusal.status)), &mut line.out);
    push_field(b"grpc-message", refusal.text.as_bytes(), &mut line.out);
    line.session.end_headers(key, start, true, &mut line.out);
    (line.out.len() - before) as u64
}

/// As gRPC's own table of HTTP statuses has it, with two exceptions: what ran out of time is DEADLINE_EXCEEDED, which no
/// client repeats by itself, and what is too large is RESOURCE_EXHAUSTED.
fn grpc_status(status: u16) -> usize {
    match status {
        400 => 13,
        404 | 405 => 12,
        408 | 504 => 4,
        413 | 414 | 431 => 8,
        429 | 502 | 503 => 14,
        _ => 2,
    }
}

fn number(digits: &mut [u8; 20], value: usize) -> &[u8] {
    let room = digits.len();
    let mut rest = &mut digits[..];
    // A number of 64 bits has at most 20 digits.
    let _ = write!(rest, "{value}");
    let left = rest.len();
    &digits[..room - left]
}
