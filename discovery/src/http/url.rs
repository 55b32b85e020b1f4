//! Where an API is: origins, base URLs and full URLs, with nothing secret in them.

use core::fmt;
use portolan_table::SharedStr;

use http::Uri;
use http::uri::Scheme;

use crate::source::SourceError;

/// Scheme, host and port: what credentials and connections belong to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) tls: bool,
    /// Without the brackets of an IPv6 address; lower case. Of a Unix socket its path, which begins with a slash.
    pub(crate) host: SharedStr,
    pub(crate) port: u16,
}

/// A base URL: an origin and the path in front of everything the API offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) origin: Origin,
    /// Empty, or with a leading and no trailing slash.
    prefix: SharedStr,
    /// With a leading question mark, or empty. Only [`Base::itself`] has it.
    query: SharedStr,
}

/// One thing to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) origin: Origin,
    /// Path and query.
    pub(crate) target: String,
}

impl Base {
    /// Reads `http(s)://host[:port][/path]` or `unix:///path`.
    ///
    /// # Errors
    /// [`SourceError::Setup`] naming what is wrong; a text with credentials in it is not repeated.
    pub(crate) fn parse(text: &str) -> Result<Self, SourceError> {
        if let Some(path) = text.strip_prefix("unix://") {
            if !path.starts_with('/') {
                return Err(setup(format!("{text:?} names no absolute path; write unix:///run/docker.sock")));
            }
            let origin = Origin { tls: false, host: path.into(), port: 0 };
            return Ok(Self { origin, prefix: "".into(), query: "".into() });
        }
        let url = Url::parse(text)?;
        let end = url.target.find(['?', '#']).unwrap_or(url.target.len());
        let (path, query) = url.target.split_at(end);
        let query = query.split('#').next().unwrap_or_default();
        Ok(Self { origin: url.origin, prefix: path.trim_end_matches('/').into(), query: query.into() })
    }

    /// The URL of `target` (with a leading slash) below this base.
    pub(crate) fn url(&self, target: &str) -> Url {
        Url { origin: self.origin.clone(), target: format!("{}{target}", self.prefix) }
    }

    /// The base itself, with the query that it was written with.
    pub(crate) fn itself(&self) -> Url {
        let path = if self.prefix.is_empty() { "/" } else { &*self.prefix };
        Url { origin: self.origin.clone(), target: format!("{path}{}", self.query) }
    }

    /// The same API at the origin of `url`.
    pub(crate) fn at(&self, url: &Url) -> Self {
        Self { origin: url.origin.clone(), prefix: self.prefix.clone(), query: "".into() }
    }

    /// The same API on another host.
    pub(crate) fn with_host(&self, host: &str, port: u16) -> Self {
        let origin = Origin { tls: self.origin.tls, host: host.to_ascii_lowercase().into(), port };
        Self { origin, prefix: self.prefix.clone(), query: "".into() }
    }

    /// Its host and port.
    pub(crate) fn host(&self) -> (&str, u16) {
        (&self.origin.host, self.origin.port)
    }

    /// The base for which [`Base::url`] of `target` is `url`, if there is one.
    pub(crate) fn of(url: &Url, target: &str) -> Option<Self> {
        let path = url.target.split('?').next()?;
        let prefix = path.strip_suffix(target.split('?').next()?)?;
        Some(Self { origin: url.origin.clone(), prefix: prefix.into(), query: "".into() })
    }
}

impl Url {
    /// Reads an absolute URL.
    ///
    /// # Errors
    /// As [`Base::parse`].
    pub(crate) fn parse(text: &str) -> Result<Self, SourceError> {
        if text.contains('@') {
            return Err(setup("a URL holds credentials; write them in [source.auth] instead"));
        }
        let uri: Uri = text.parse().map_err(|_| setup(format!("{text:?} is not a URL")))?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(setup(format!("{text:?} does not begin with http:// or https://"))),
        };
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(setup(format!("{text:?} names no host")));
        }
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let target = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { origin: Origin { tls, host: host.to_ascii_lowercase().into(), port }, target })
    }
}

impl Url {
    /// Where a `Location` leads from here (RFC 3986 §4.2): a whole URL, one without a scheme, or a path.
    ///
    /// # Errors
    /// As [`Base::parse`].
    pub(crate) fn follow(&self, location: &str) -> Result<Self, SourceError> {
        if location.starts_with("//") {
            return Self::parse(&format!("{}:{location}", self.origin.scheme()));
        }
        match location.starts_with('/') {
            true => Self::parse(&format!("{}{location}", self.origin)),
            false => Self::parse(location),
        }
    }
}

impl Origin {
    const fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// True if `authority` (`host[:port]`) is this host and port; a port that is not written is the scheme's own.
    pub(crate) fn is_at(&self, authority: &str) -> bool {
        Url::parse(&format!("{}://{authority}", self.scheme())).is_ok_and(|url| url.origin == *self)
    }

    /// The path of the Unix socket, if it is one.
    pub(crate) fn socket(&self) -> Option<&str> {
        self.host.starts_with('/').then_some(&*self.host)
    }

    /// `host[:port]` as it stands in the Host header (RFC 9110 §7.2).
    pub(crate) fn authority(&self) -> String {
        if self.socket().is_some() {
            return "localhost".to_owned();
        }
        let default = if self.tls { 443 } else { 80 };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        if self.port == default {
            format!("{open}{}{close}", self.host)
        } else {
            format!("{open}{}{close}:{}", self.host, self.port)
        }
    }
}

fn setup(message: impl Into<String>) -> SourceError {
    SourceError::Setup { message: message.into() }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.socket() {
            Some(path) => write!(f, "unix://{path}"),
            None => write!(f, "{}://{}", self.scheme(), self.authority()),
        }
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.prefix)
    }
}

impl fmt::Display for Url {
    /// Without the query: it is long and tells an operator nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.target.split('?').next().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_followed_by_its_form() {
        let from = Url::parse("https://m1:5050/api/v1").unwrap();
        for (location, to) in [
            ("//10.0.0.2:5050", "https://10.0.0.2:5050/"),
            ("//m2:5050/api/v1", "https://m2:5050/api/v1"),
            ("/redirect", "https://m1:5050/redirect"),
            ("http://m2:5050/api/v1", "http://m2:5050/api/v1"),
        ] {
            assert_eq!(from.follow(location).unwrap().to_string(), to, "{location}");
        }
        assert!(from.follow("m2:5050").is_err());
    }

    #[test]
    fn an_authority_is_compared_with_the_port_that_it_means() {
        let table = [
            ("http://leader:80", "leader:80", true),
            ("http://leader", "leader:80", true),
            ("http://leader:80", "Leader", true),
            ("https://leader", "leader:443", true),
            ("https://leader", "leader:80", false),
            ("http://leader:8080", "leader:8080", true),
            ("http://leader:8080", "leader", false),
            ("http://[2001:db8::1]:80", "[2001:db8::1]", true),
            ("http://leader", "user@leader", false),
            ("http://leader", "", false),
        ];
        for (url, authority, same) in table {
            assert_eq!(Url::parse(url).unwrap().origin.is_at(authority), same, "{url} {authority}");
        }
    }
}
