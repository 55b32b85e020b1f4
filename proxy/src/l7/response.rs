//! A response head: judged as strictly as a request's, and changed only where this hop must.

use super::head::{
    ConnectionOptions, Field, HeadEnd, LineCopier, classify, content_length, fields_offset, members,
    push_number, slots,
};
use super::refusal::{self, Refusal};
use super::request::{Framing, RequestFacts};

/// What is known about a response once its head has been judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResponseFacts {
    /// Octets of the head as it came, with the empty line.
    pub(crate) head_length: usize,
    pub(crate) status: u16,
    pub(crate) framing: Framing,
    /// The endpoint will read another request on the connection.
    pub(crate) keep_alive: bool,
    /// The head can't go on as it is.
    needs_rewrite: bool,
}

impl ResponseFacts {
    /// 1xx other than 101: a response is still to come.
    pub(crate) fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

/// What the head must say to the client about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Downstream {
    pub(crate) is_http10: bool,
    /// The connection stays open after this response.
    pub(crate) keep_alive: bool,
}

/// Judges a response head. `Ok(None)`: more octets are needed.
///
/// # Errors
/// The refusal to give the client in its place.
pub(crate) fn judge(
    bytes: &[u8],
    end: &mut HeadEnd,
    head_max: usize,
    request: &RequestFacts,
) -> Result<Option<ResponseFacts>, Refusal> {
    judge_with(bytes, end, head_max, request, |_, _| ())
}

/// The same, with a look at the fields of a head that is good while they are at hand.
pub(crate) fn judge_with(
    bytes: &[u8],
    end: &mut HeadEnd,
    head_max: usize,
    request: &RequestFacts,
    look: impl FnOnce(&ResponseFacts, &[httparse::Header<'_>]),
) -> Result<Option<ResponseFacts>, Refusal> {
    let found = end.find(bytes).map_err(|_| refusal::UPSTREAM_MALFORMED)?;
    if found.unwrap_or(bytes.len()) > head_max {
        return Err(refusal::UPSTREAM_HEAD_TOO_LARGE);
    }
    let Some(length) = found else { return Ok(None) };
    with_parsed(&bytes[..length], |parsed| {
        let facts = judge_parsed(parsed, length, request)?;
        look(&facts, parsed.headers);
        Ok(facts)
    })
    .map(Some)
}

fn with_parsed<'b, T>(
    head: &'b [u8],
    act: impl FnOnce(&httparse::Response<'_, 'b>) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    let mut slots = slots();
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut parsed, head, &mut slots) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => act(&parsed),
        Err(httparse::Error::TooManyHeaders) => Err(refusal::UPSTREAM_HEAD_TOO_LARGE),
        _ => Err(refusal::UPSTREAM_MALFORMED),
    }
}

fn judge_parsed(
    parsed: &httparse::Response<'_, '_>,
    head_length: usize,
    request: &RequestFacts,
) -> Result<ResponseFacts, Refusal> {
    let status = parsed.code.filter(|code| (100..1000).contains(code)).ok_or(refusal::UPSTREAM_MALFORMED)?;
    let is_http10 = parsed.version != Some(1);
    let (mut length, mut chunked, mut needs_rewrite) = (None, false, is_http10);
    let mut options = ConnectionOptions::default();
    for header in parsed.headers.iter() {
        match classify(header.name) {
            Field::ContentLength => {
                needs_rewrite |= length.is_some();
                let value = content_length(header.value)
                    .filter(|value| length.is_none_or(|before| before == *value))
                    .ok_or(refusal::UPSTREAM_MALFORMED)?;
                length = Some(value);
            }
            Field::TransferEncoding => {
                if chunked || is_http10 || !header.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(refusal::UPSTREAM_MALFORMED);
                }
                chunked = true;
            }
            Field::Connection => {
                needs_rewrite = true;
                if !options.read(header.value) {
                    return Err(refusal::UPSTREAM_MALFORMED);
                }
            }
            Field::Hop | Field::Upgrade => needs_rewrite = true,
            _ => {}
        }
    }
    if chunked && length.is_some() {
        return Err(refusal::UPSTREAM_MALFORMED);
    }
    let is_bodiless = request.is_head || status < 200 || matches!(status, 204 | 304);
    // Fields that speak of content where none may be (RFC 9110 §8.6, RFC 9112 §6.1) are taken out.
    needs_rewrite |= (chunked || length.is_some()) && (status < 200 || status == 204);
    needs_rewrite |= chunked && request.is_http10;
    let framing = match (chunked, length) {
        _ if is_bodiless => Framing::None,
        (true, _) => Framing::Chunked,
        (false, Some(0)) => Framing::None,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::UntilClose,
    };
    let keep_alive = !options.close && (!is_http10 || options.keep_alive) && framing != Framing::UntilClose;
    Ok(ResponseFacts { head_length, status, framing, keep_alive, needs_rewrite })
}

/// Writes the head as the client gets it into `out`. False, and nothing written, if it can go as it is.
pub(crate) fn rewrite(head: &[u8], facts: &ResponseFacts, downstream: Downstream, out: &mut Vec<u8>) -> bool {
    // Our version is 1.1 whatever the client's: an end must be said, and to an old client also that there is none.
    let is_default = downstream.keep_alive && !downstream.is_http10;
    if !facts.needs_rewrite && (is_default || facts.is_interim()) {
        return false;
    }
    let written = with_parsed(head, |parsed| {
        push_head(parsed, head, facts, downstream, out);
        Ok(())
    });
    debug_assert!(written.is_ok(), "a head that was judged parses again");
    true
}

fn push_head(
    parsed: &httparse::Response<'_, '_>,
    head: &[u8],
    facts: &ResponseFacts,
    downstream: Downstream,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    push_number(out, u64::from(facts.status));
    out.push(b' ');
    out.extend_from_slice(parsed.reason.unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    let mut options = ConnectionOptions::default();
    for header in parsed.headers.iter().filter(|header| classify(header.name) == Field::Connection) {
        options.read(header.value);
    }
    let without_content = facts.status < 200 || facts.status == 204;
    let mut has_length = false;
    let mut copier = LineCopier::new(head, fields_offset(head));
    for header in parsed.headers.iter() {
        let passes = match classify(header.name) {
            Field::Connection | Field::Hop | Field::Upgrade => false,
            Field::ContentLength => !without_content && !core::mem::replace(&mut has_length, true),
            Field::TransferEncoding => !without_content && !downstream.is_http10,
            _ => !options.names(header.name),
        };
        if !passes {
            copier.skip(header, out);
        }
    }
    copier.finish(out);
    if facts.status == 101 {
        out.extend_from_slice(b"Connection: Upgrade\r\n");
        for header in parsed.headers.iter().filter(|header| classify(header.name) == Field::Upgrade) {
            out.extend_from_slice(b"Upgrade: ");
            out.extend_from_slice(header.value);
            out.extend_from_slice(b"\r\n");
        }
    } else if !facts.is_interim() {
        match (downstream.keep_alive, downstream.is_http10) {
            (false, _) => out.extend_from_slice(b"Connection: close\r\n"),
            (true, true) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
            (true, false) => {}
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether the protocol of a 101 response is among those that the request, as the endpoint got it, asked for (RFC 9110
/// §7.8). Another one might carry requests past the routes.
pub(crate) fn switches_as_asked(response: &[u8], request: &[u8]) -> bool {
    let mut slots_of_request = slots();
    let mut asked = httparse::Request::new(&mut []);
    if !matches!(
        asked.parse_with_uninit_headers(request, &mut slots_of_request),
        Ok(httparse::Status::Complete(_))
    ) {
        return false;
    }
    let switched = with_parsed(response, |parsed| {
        let mut protocols = protocols(parsed.headers).peekable();
        Ok(protocols.peek().is_some()
            && protocols.all(|to| self::protocols(asked.headers).any(|other| other.eq_ignore_ascii_case(to))))
    });
    switched.unwrap_or(false)
}

/// The members of all Upgrade fields.
fn protocols<'b>(headers: &[httparse::Header<'b>]) -> impl Iterator<Item = &'b [u8]> {
    headers
        .iter()
        .filter(|header| classify(header.name) == Field::Upgrade)
        .flat_map(|header| members(header.value))
}

/// Octets a rewritten head may be longer than the one that came.
pub(crate) const HEADROOM: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const GET: RequestFacts = RequestFacts {
        head_length: 0,
        framing: Framing::None,
        is_http10: false,
        keep_alive: true,
        is_head: false,
        is_idempotent: true,
        upgrade: false,
        expects_continue: false,
    };
    const KEEP: Downstream = Downstream { is_http10: false, keep_alive: true };
    const CLOSE: Downstream = Downstream { is_http10: false, keep_alive: false };

    fn judged(head: &str, request: &RequestFacts) -> Result<ResponseFacts, u16> {
        judge(head.as_bytes(), &mut HeadEnd::default(), 4096, request)
            .map(|facts| facts.expect("the head is complete"))
            .map_err(|refusal| refusal.status)
    }

    fn passed_on(head: &str, request: &RequestFacts, downstream: Downstream) -> String {
        let facts = judged(head, request).unwrap();
        let mut out = Vec::new();
        if !rewrite(head.as_bytes(), &facts, downstream, &mut out) {
            return head.to_owned();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rfc9112_6_3_the_end_of_a_response() {
        let head = RequestFacts { is_head: true, ..GET };
        for (text, request, framing) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", GET, Framing::Length(5)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", GET, Framing::None),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", GET, Framing::Length(5)),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", GET, Framing::Chunked),
            ("HTTP/1.1 200 OK\r\n\r\n", GET, Framing::UntilClose),
            ("HTTP/1.0 200 OK\r\n\r\n", GET, Framing::UntilClose),
            ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", GET, Framing::None),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", GET, Framing::None),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", head, Framing::None),
            ("HTTP/1.1 100 Continue\r\n\r\n", GET, Framing::None),
        ] {
            assert_eq!(judged(text, &request).map(|facts| facts.framing), Ok(framing), "{text:?}");
        }
    }

    #[test]
    fn rfc9112_11_1_a_response_that_could_be_split_is_the_upstreams_fault() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 099 Low\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        ] {
            assert_eq!(judged(text, &GET), Err(502), "{text:?}");
        }
    }

    #[test]
    fn a_head_without_anything_for_this_hop_goes_as_it_is() {
        let text = "HTTP/1.1 200 Fine\r\nServer: x\r\nContent-Length: 5\r\n\r\n";
        let facts = judged(text, &GET).unwrap();
        assert!(facts.keep_alive);
        assert!(!rewrite(text.as_bytes(), &facts, KEEP, &mut Vec::new()));
    }

    #[test]
    fn rfc9110_7_6_1_fields_for_this_hop_are_taken_out() {
        let text = "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nA: 1\r\nConnection: keep-alive, B\r\nB: 2\r\n\
                    Proxy-Authenticate: x\r\nUpgrade: h2\r\nContent-Length: 1\r\nC: 3\r\n\r\n";
        assert_eq!(
            passed_on(text, &GET, KEEP),
            "HTTP/1.1 200 OK\r\nA: 1\r\nContent-Length: 1\r\nC: 3\r\n\r\n"
        );
        assert_eq!(
            passed_on("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", &GET, CLOSE),
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn an_old_client_gets_no_chunks_and_is_told_that_the_connection_stays() {
        let request = RequestFacts { is_http10: true, ..GET };
        let to = |keep_alive| Downstream { is_http10: true, keep_alive };
        assert_eq!(
            passed_on("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: 1\r\n\r\n", &request, to(false)),
            "HTTP/1.1 200 OK\r\nA: 1\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(
            passed_on("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", &request, to(true)),
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n"
        );
    }

    #[test]
    fn rfc9110_8_6_no_length_where_no_content_may_be() {
        assert_eq!(
            passed_on("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", &GET, KEEP),
            "HTTP/1.1 204 No Content\r\n\r\n"
        );
    }

    #[test]
    fn the_endpoint_says_whether_its_connection_stays() {
        for (text, stays) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: Close\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\n\r\n", false),
        ] {
            assert_eq!(judged(text, &GET).unwrap().keep_alive, stays, "{text:?}");
        }
    }
}
