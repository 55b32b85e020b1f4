//! Why a request gets an answer of ours instead of an upstream's, and whose fault that is.

use core::fmt;

use super::head::push_number;
use crate::upstream;

/// A request answered by the proxy itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The status code.
    pub(crate) status: u16,
    /// One line for the person who reads the answer.
    pub(crate) text: &'static str,
    /// Whose fault it is; also a metric's label.
    pub(crate) fault: Fault,
    /// The connection can't be used any more: where the next request begins is not known.
    pub(crate) close: bool,
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The client's.
    Downstream,
    /// The endpoint's.
    Upstream,
    /// Nobody is there to answer: the table's or ours.
    Us,
}

impl Refusal {
    /// The client's message is not one; its connection ends with the answer.
    pub(crate) const fn bad(status: u16, text: &'static str) -> Self {
        Self { status, text, fault: Fault::Downstream, close: true }
    }

    /// The message is fine but can't be served.
    pub(crate) const fn unserved(status: u16, text: &'static str) -> Self {
        Self { status, text, fault: Fault::Us, close: false }
    }

    /// The endpoint failed.
    pub(crate) const fn upstream(status: u16, text: &'static str) -> Self {
        Self { status, text, fault: Fault::Upstream, close: false }
    }

    /// The answer in full. `head_only` for HEAD requests.
    pub(crate) fn compose(&self, out: &mut Vec<u8>, head_only: bool, close: bool) {
        out.extend_from_slice(b"HTTP/1.1 ");
        push_number(out, u64::from(self.status));
        out.push(b' ');
        out.extend_from_slice(reason(self.status).as_bytes());
        out.extend_from_slice(b"\r\nDate: ");
        out.extend_from_slice(httpdate::fmt_http_date(std::time::SystemTime::now()).as_bytes());
        out.extend_from_slice(b"\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ");
        push_number(out, self.text.len() as u64 + 1);
        if self.status == 405 {
            out.extend_from_slice(b"\r\nAllow: GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH, TRACE");
        }
        out.extend_from_slice(if close {
            b"\r\nConnection: close\r\n\r\n".as_slice()
        } else {
            b"\r\n\r\n".as_slice()
        });
        if !head_only {
            out.extend_from_slice(self.text.as_bytes());
            out.push(b'\n');
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.text)
    }
}

fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason()).unwrap_or("Refused")
}

/// No endpoint gets the request.
pub(crate) const fn nobody(why: upstream::Refusal) -> Refusal {
    Refusal::unserved(
        503,
        match why {
            upstream::Refusal::NoTarget => "every target of the route has weight 0",
            upstream::Refusal::NoService => "the route's service does not exist",
            upstream::Refusal::NoPort => "the route's service has no such port",
            upstream::Refusal::NoEndpoint => "no endpoint of the service may get traffic",
            upstream::Refusal::Saturated => "every endpoint of the service has as many requests as it may",
            upstream::Refusal::AttemptsSpent | upstream::Refusal::BudgetSpent => {
                "no further attempt is allowed"
            }
        },
    )
}

/// There is no connection to the endpoint.
pub(crate) fn not_connected(error: &std::io::Error) -> Refusal {
    use std::io::ErrorKind;
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
    match (error.kind(), tls) {
        (_, Some(rustls::Error::NoApplicationProtocol)) => UPSTREAM_NO_HTTP2,
        (_, Some(rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol))) => {
            UPSTREAM_NO_HTTP2
        }
        (_, Some(rustls::Error::InvalidCertificate(_))) => UPSTREAM_NOT_BELIEVED,
        (ErrorKind::InvalidData, _) => UPSTREAM_TLS_FAILED,
        (ErrorKind::ResourceBusy, _) => UPSTREAM_TLS_BUSY,
        _ => CONNECT_FAILED,
    }
}

pub(crate) const NO_ROUTE: Refusal = Refusal::unserved(404, "no route for this host and path");
pub(crate) const OVERLOADED: Refusal =
    Refusal { status: 503, text: "too many connections to this listener", fault: Fault::Us, close: true };
pub(crate) const PLAIN_HTTP: Refusal =
    Refusal::bad(400, "this port speaks HTTPS, and a request without TLS came to it: use https://");
pub(crate) const CONNECT_FAILED: Refusal =
    Refusal::upstream(502, "upstream: the endpoint does not accept connections");
pub(crate) const UPSTREAM_TLS_FAILED: Refusal =
    Refusal::upstream(502, "upstream: TLS with the endpoint failed");
pub(crate) const UPSTREAM_NO_HTTP2: Refusal =
    Refusal::upstream(502, "upstream: the endpoint does not speak HTTP/2 over TLS");
pub(crate) const UPSTREAM_NOT_BELIEVED: Refusal =
    Refusal::upstream(502, "upstream: the endpoint's certificate is not to be believed");
pub(crate) const UPSTREAM_TLS_BUSY: Refusal =
    Refusal::unserved(503, "upstream: too many TLS handshakes at once");
pub(crate) const CONNECT_TIMED_OUT: Refusal =
    Refusal::upstream(504, "upstream: connecting to the endpoint timed out");
pub(crate) const UPSTREAM_CLOSED: Refusal =
    Refusal::upstream(502, "upstream: the endpoint closed the connection before it answered");
pub(crate) const UPSTREAM_MALFORMED: Refusal =
    Refusal::upstream(502, "upstream: the endpoint's answer is not valid HTTP");
pub(crate) const UPSTREAM_HEAD_TOO_LARGE: Refusal =
    Refusal::upstream(502, "upstream: the head of the endpoint's answer is too large");
pub(crate) const UPSTREAM_TIMED_OUT: Refusal =
    Refusal::upstream(504, "upstream: the endpoint did not answer in time");
pub(crate) const UPSTREAM_WRITE_STALLED: Refusal =
    Refusal::upstream(504, "upstream: the endpoint does not take the request");
pub(crate) const ENDPOINT_GONE: Refusal =
    Refusal::upstream(502, "upstream: the endpoint was removed and did not finish in time");
pub(crate) const HEAD_TIMED_OUT: Refusal = Refusal::bad(408, "the request head did not arrive in time");
pub(crate) const BODY_TIMED_OUT: Refusal = Refusal::bad(408, "the request body did not arrive in time");
pub(crate) const BODY_TOO_LARGE: Refusal = Refusal::bad(413, "the request body is larger than allowed");
pub(crate) const BODY_MALFORMED: Refusal = Refusal::bad(400, "the chunked request body is malformed");
pub(crate) const TRAILERS_TOO_LARGE: Refusal =
    Refusal::bad(431, "the trailers of the request are larger than allowed");
pub(crate) const UNFIT: Refusal = Refusal::unserved(500, "the request cannot be passed on over HTTP/2");
pub(crate) const BARE_LF: Refusal = Refusal::bad(400, "a line of the request head does not end in CRLF");
pub(crate) const TARGET_TOO_LONG: Refusal = Refusal::bad(414, "the request line is longer than allowed");
pub(crate) const HEAD_TOO_LARGE: Refusal = Refusal::bad(431, "the request head is larger than allowed");
pub(crate) const TOO_MANY_FIELDS: Refusal =
    Refusal::bad(431, "the request has more header fields than allowed");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_ours_is_a_valid_message() {
        let mut out = Vec::new();
        NO_ROUTE.compose(&mut out, false, true);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 404 Not Found\r\nDate: "), "{head}");
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
        assert!(head.ends_with("\r\nConnection: close"), "{head}");
        let mut out = Vec::new();
        NO_ROUTE.compose(&mut out, true, false);
        assert!(out.ends_with(b"\r\n\r\n"));
    }
}
