//! Who may ask what: the Host header against DNS rebinding, the token for changes.

use std::net::IpAddr;

use http::{HeaderMap, Method, Uri, header};

/// The rules of access of one admin listener.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access {
    /// Host names by which this node may be addressed, lower case, without port. Addresses and `localhost`
    /// are always allowed: a page in a browser cannot make those resolve to us under another name.
    pub(crate) hosts: Vec<std::sync::Arc<str>>,
    /// The token that allows changes over TCP; `None` refuses them all.
    pub(crate) token: Option<String>,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No usable Host header, or one that is not ours.
    Host,
    /// A change without the right token.
    Token,
}

impl Access {
    /// Judges a request that came by TCP.
    pub(crate) fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let host = match uri.authority() {
            Some(authority) => Some(authority.host()),
            None => headers.get(header::HOST).and_then(|value| value.to_str().ok()).map(without_port),
        };
        if !host.is_some_and(|host| self.knows(host)) {
            return Err(Refusal::Host);
        }
        if matches!(*method, Method::GET | Method::HEAD) || self.has_token(headers) {
            return Ok(());
        }
        Err(Refusal::Token)
    }

    fn knows(&self, host: &str) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<IpAddr>().is_ok()
            || host.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return false };
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        given
            .and_then(|value| value.strip_prefix("Bearer "))
            .is_some_and(|given| same(given.as_bytes(), token.as_bytes()))
    }
}

fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if host[colon + 1..].bytes().all(|b| b.is_ascii_digit()) && !host.ends_with(']') => {
            &host[..colon]
        }
        _ => host,
    }
}

/// Compares in a time that depends on the length alone.
fn same(given: &[u8], token: &[u8]) -> bool {
    given.len() == token.len() && given.iter().zip(token).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: Option<&str>, method: &Method, token: Option<&str>) -> Result<(), Refusal> {
        let access = Access { hosts: vec!["edge-1".into()], token: Some("s3cret".into()) };
        let mut headers = HeaderMap::new();
        if let Some(host) = host {
            headers.insert(header::HOST, host.parse().unwrap());
        }
        if let Some(token) = token {
            headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        }
        access.check(method, &Uri::from_static("/api/v1/table"), &headers)
    }

    #[test]
    fn hosts_that_are_not_ours_are_refused() {
        for host in ["edge-1", "EDGE-1:9090", "127.0.0.1:9090", "[::1]:9090", "localhost", "10.1.2.3"] {
            assert_eq!(check(Some(host), &Method::GET, None), Ok(()), "{host}");
        }
        for host in ["evil.example", "edge-1.evil.example:9090", "127.0.0.1.evil.example", ""] {
            assert_eq!(check(Some(host), &Method::GET, None), Err(Refusal::Host), "{host}");
        }
        assert_eq!(check(None, &Method::GET, None), Err(Refusal::Host));
    }

    #[test]
    fn changes_need_the_token() {
        assert_eq!(check(Some("edge-1"), &Method::POST, None), Err(Refusal::Token));
        assert_eq!(check(Some("edge-1"), &Method::POST, Some("s3creT")), Err(Refusal::Token));
        assert_eq!(check(Some("edge-1"), &Method::POST, Some("s3cret")), Ok(()));
        let open = Access::default();
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "localhost".parse().unwrap());
        headers.insert(header::AUTHORIZATION, "Bearer ".parse().unwrap());
        assert_eq!(open.check(&Method::POST, &Uri::from_static("/"), &headers), Err(Refusal::Token));
    }
}
