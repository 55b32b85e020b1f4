//! A request head: judged raw, then rewritten for the upstream in one pass (RFC 9110, RFC 9112).

mod rewrite;
#[cfg(test)]
mod tests;

pub(crate) use rewrite::ClientFacts;

use super::head::{
    ConnectionOptions, Field, HEADERS_MAX, HeadEnd, Slots, classify, content_length, fields_offset, members,
};
use super::refusal::{self, Refusal};
use crate::config::Limits;

/// How a message's end is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is no content.
    None,
    /// Content-Length; more than 0.
    Length(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
    /// Until the connection closes; responses only.
    UntilClose,
}

/// What is known about a request once its head has been judged. Borrows nothing: the head may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestFacts {
    /// Octets of the head, with the empty line.
    pub(crate) head_length: usize,
    pub(crate) framing: Framing,
    /// The client speaks HTTP/1.0.
    pub(crate) is_http10: bool,
    /// The client wants to send another request on the connection.
    pub(crate) keep_alive: bool,
    pub(crate) is_head: bool,
    /// Sending it twice does what sending it once does (RFC 9110 §9.2.2).
    pub(crate) is_idempotent: bool,
    /// The client wants to speak another protocol on the connection.
    pub(crate) upgrade: bool,
    /// The client waits for 100 (Continue) before it sends the content.
    pub(crate) expects_continue: bool,
}

/// A request head that was judged good.
#[derive(Debug)]
pub(crate) struct RequestHead<'b, 's> {
    pub(crate) facts: RequestFacts,
    pub(crate) method: &'b str,
    /// Path and query, or `*`.
    pub(crate) target: &'b str,
    /// Host and port as the client writes them: of the absolute target, else of the Host field.
    pub(crate) authority: Option<&'b str>,
    pub(crate) headers: &'s [httparse::Header<'b>],
    fields: [Field; HEADERS_MAX],
    options: ConnectionOptions<'b>,
    is_absolute: bool,
    head: &'b [u8],
}

/// How far a request head got.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made and taken apart at once, on the stack")]
pub(crate) enum Verdict<'b, 's> {
    /// More octets are needed.
    Incomplete,
    Complete(RequestHead<'b, 's>),
}

/// Judges a request head.
///
/// # Errors
/// The refusal to answer with; where the next request would begin is unknown then.
pub(crate) fn judge<'b, 's>(
    bytes: &'b [u8],
    end: &mut HeadEnd,
    limits: &Limits,
    slots: &'s mut Slots<'b>,
) -> Result<Verdict<'b, 's>, Refusal> {
    let Some(length) = end.find(bytes).map_err(|_| refusal::BARE_LF)? else {
        return check_size(bytes.len(), end, limits).map(|()| Verdict::Incomplete);
    };
    check_size(length, end, limits)?;
    let head = &bytes[..length];
    let mut parsed = httparse::Request::new(&mut []);
    let most = limits.request_headers_max.min(HEADERS_MAX);
    match parsed.parse_with_uninit_headers(head, &mut slots[..most]) {
        Ok(httparse::Status::Complete(parsed_length)) if parsed_length == length => {}
        Ok(_) => return Err(Refusal::bad(400, "malformed request head")),
        Err(error) => return Err(parse_refusal(error, head)),
    }
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Refusal::bad(400, "malformed request line"));
    };
    let mut request = RequestHead {
        facts: RequestFacts {
            head_length: length,
            framing: Framing::None,
            is_http10: version == 0,
            keep_alive: version == 1,
            is_head: method == "HEAD",
            is_idempotent: matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE"),
            upgrade: false,
            expects_continue: false,
        },
        method,
        target,
        authority: None,
        headers: parsed.headers,
        fields: [Field::Other; HEADERS_MAX],
        options: ConnectionOptions::default(),
        is_absolute: false,
        head,
    };
    request.judge_fields()?;
    request.judge_target()?;
    check_body_size(&request.facts, limits)?;
    Ok(Verdict::Complete(request))
}

fn check_size(length: usize, end: &HeadEnd, limits: &Limits) -> Result<(), Refusal> {
    if length > limits.request_head_max {
        let is_line = end.start_line() > limits.request_head_max;
        return Err(if is_line { refusal::TARGET_TOO_LONG } else { refusal::HEAD_TOO_LARGE });
    }
    if end.lines() > limits.request_headers_max + 1 {
        return Err(refusal::TOO_MANY_FIELDS);
    }
    Ok(())
}

fn check_body_size(facts: &RequestFacts, limits: &Limits) -> Result<(), Refusal> {
    match (facts.framing, limits.request_body_max) {
        (Framing::Length(length), Some(most)) if length > most => Err(refusal::BODY_TOO_LARGE),
        _ => Ok(()),
    }
}

fn parse_refusal(error: httparse::Error, head: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => refusal::TOO_MANY_FIELDS,
        httparse::Error::HeaderName => {
            Refusal::bad(400, "malformed header name, blank before the colon, or folded header")
        }
        httparse::Error::HeaderValue => Refusal::bad(400, "control character in a header value"),
        httparse::Error::Version => version_refusal(head),
        httparse::Error::Token => Refusal::bad(400, "malformed request line"),
        _ => Refusal::bad(400, "malformed request head"),
    }
}

/// A version that is one, but not ours, is told apart from garbage (RFC 9110 §15.6.6).
fn version_refusal(head: &[u8]) -> Refusal {
    let line = &head[..fields_offset(head)];
    let words: smallvec::SmallVec<[&[u8]; 4]> = line.split(|&byte| byte == b' ').take(4).collect();
    match *words {
        [_, _, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor, b'\r', b'\n']]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Refusal::bad(505, "only HTTP/1.0 and HTTP/1.1 requests are served here")
        }
        _ => Refusal::bad(400, "malformed request line"),
    }
}

impl<'b> RequestHead<'b, '_> {
    fn judge_fields(&mut self) -> Result<(), Refusal> {
        let (mut length, mut chunked, mut hosts) = (None, false, 0);
        for (header, field) in self.headers.iter().zip(&mut self.fields) {
            *field = classify(header.name);
            match *field {
                Field::ContentLength => {
                    let value = content_length(header.value)
                        .filter(|value| length.is_none_or(|before| before == *value))
                        .ok_or(Refusal::bad(400, "malformed or differing Content-Length"))?;
                    length = Some(value);
                }
                Field::TransferEncoding => {
                    if chunked || !header.value.eq_ignore_ascii_case(b"chunked") {
                        return Err(Refusal::bad(400, "Transfer-Encoding is not exactly one chunked"));
                    }
                    chunked = true;
                }
                Field::Host => {
                    hosts += 1;
                    self.authority = Some(authority(header.value)?);
                }
                Field::Connection if !self.options.read(header.value) => {
                    return Err(Refusal::bad(400, "Connection names too many fields"));
                }
                Field::Expect if !header.value.eq_ignore_ascii_case(b"100-continue") => {
                    return Err(Refusal::bad(417, "unknown expectation"));
                }
                Field::Expect => self.facts.expects_continue = !self.facts.is_http10,
                _ => {}
            }
        }
        self.judge_framing(length, chunked)?;
        self.judge_connection();
        if hosts > 1 || (hosts == 0 && !self.facts.is_http10) {
            return Err(Refusal::bad(400, "a request has exactly one Host field"));
        }
        Ok(())
    }

    /// RFC 9112 §6.1 and §6.3: what could be read in two ways is refused.
    fn judge_framing(&mut self, length: Option<u64>, chunked: bool) -> Result<(), Refusal> {
        self.facts.framing = match (length, chunked) {
            (Some(_), true) => {
                return Err(Refusal::bad(400, "both Content-Length and Transfer-Encoding"));
            }
            (None, true) if self.facts.is_http10 => {
                return Err(Refusal::bad(400, "Transfer-Encoding in an HTTP/1.0 request"));
            }
            (None, true) => Framing::Chunked,
            (Some(0) | None, false) => Framing::None,
            (Some(length), false) => Framing::Length(length),
        };
        Ok(())
    }

    fn judge_connection(&mut self) {
        let upgrade = self.options.upgrade && !self.facts.is_http10 && self.names_protocols();
        let facts = &mut self.facts;
        facts.keep_alive = !self.options.close && (!facts.is_http10 || self.options.keep_alive);
        facts.upgrade = upgrade;
        if facts.framing == Framing::None {
            facts.expects_continue = false;
        }
    }

    /// Whether the protocols of all Upgrade fields, which are one list, may be spoken past this hop.
    fn names_protocols(&self) -> bool {
        let mut fields = self
            .headers
            .iter()
            .zip(&self.fields)
            .filter(|(_, field)| **field == Field::Upgrade)
            .flat_map(|(header, _)| members(header.value))
            .peekable();
        fields.peek().is_some() && !fields.any(carries_requests)
    }

    /// RFC 9112 §3.2: origin, absolute, asterisk and authority form.
    fn judge_target(&mut self) -> Result<(), Refusal> {
        const BAD: Refusal = Refusal::bad(400, "malformed request target");
        if self.method == "CONNECT" {
            return Err(Refusal::bad(405, "CONNECT is not served here"));
        }
        if !self.target.bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b'#') {
            return Err(BAD);
        }
        if self.target.starts_with('/') || (self.target == "*" && self.method == "OPTIONS") {
            return Ok(());
        }
        let (scheme, rest) = self.target.split_once("://").ok_or(BAD)?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(BAD);
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let named = authority(&rest.as_bytes()[..end])?;
        if named.is_empty() {
            return Err(BAD);
        }
        // The host of the target replaces the field's, whatever that says (§3.2.2).
        self.authority = Some(named);
        self.is_absolute = true;
        self.target = &rest[end..];
        Ok(())
    }

    /// The path without the query; `/` if the target has none.
    pub(crate) fn path(&self) -> &'b str {
        let path = self.target.split_once('?').map_or(self.target, |(path, _)| path);
        if path.is_empty() { "/" } else { path }
    }
}

/// Protocols that would carry further requests past the routes: HTTP in any form (h2c by upgrade was dropped by RFC
/// 9113), and TLS with HTTP in it (RFC 2817).
fn carries_requests(protocol: &[u8]) -> bool {
    let name = protocol.split(|&octet| octet == b'/').next().unwrap_or_default().trim_ascii();
    [b"h2c".as_slice(), b"h2", b"http", b"tls"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Host and port (RFC 9110 §7.2) as text that can stand in a log, a header and a route's key.
fn authority(value: &[u8]) -> Result<&str, Refusal> {
    const BAD: Refusal = Refusal::bad(400, "malformed host");
    let good = |byte: &u8| {
        matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'.' | b'_' | b'~' | b':' | b'['
            | b']' | b'%' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=')
    };
    if !value.iter().all(good) {
        return Err(BAD);
    }
    let text = core::str::from_utf8(value).map_err(|_| BAD)?;
    let port = match text.strip_prefix('[') {
        Some(rest) => {
            rest.split_once(']').ok_or(BAD)?.1.strip_prefix(':').or_else(|| text.ends_with(']').then_some(""))
        }
        None => Some(text.split_once(':').map_or("", |(_, port)| port)),
    };
    let is_port = |port: &str| port.is_empty() || (port.len() <= 5 && port.parse::<u16>().is_ok());
    if port.is_some_and(is_port) { Ok(text) } else { Err(BAD) }
}
