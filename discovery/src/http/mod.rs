//! HTTP/1.1 for the APIs of schedulers: few requests, small or very large answers, long streams.
//!
//! ```text
//!   Client ──► Auth      which Authorization goes with a request; renewed once per refusal
//!     └──────► Transport dial, TLS, one request at a time per connection, idle connections kept per origin
//!                └► Body chunk by chunk, each within the idle limit, the whole within a size limit
//! ```
//!
//! What it does not do: redirects (a source knows which hosts may see its credentials), compression (it delays
//! streams), HTTP/2, cookies, proxies. Every error names its place and never a secret.

mod auth;
mod body;
mod lines;
mod members;
mod tls;
mod transport;
mod url;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub(crate) use auth::read_secret;
pub(crate) use body::Body;
pub(crate) use lines::Lines;

pub(crate) use members::Members;
pub(crate) use transport::Limits;
pub(crate) use url::{Base, Url};

use crate::config::{Auth, TlsConfig};
use crate::source::SourceError;
use auth::Credentials;
use transport::{Ask, Transport};

/// A client for one API: its trust, its credentials, its idle connections. Cheap to share by reference.
pub(crate) struct Client {
    transport: Transport,
    credentials: Credentials,
    headers: HeaderMap,
}

impl core::fmt::Debug for Client {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// The head of an answer, and its body to be read.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

impl Client {
    /// A client that identifies itself by `auth` and `tls`; `base` is where a DC/OS login is sent by default.
    ///
    /// # Errors
    /// [`SourceError::Setup`] when a certificate, key or URL cannot be used.
    pub(crate) fn new(
        auth: &Auth,
        tls: &TlsConfig,
        base: &Base,
        limits: Limits,
    ) -> Result<Self, SourceError> {
        Ok(Self {
            transport: Transport::new(tls::client_config(tls)?, limits),
            credentials: Credentials::new(auth, base)?,
            headers: HeaderMap::new(),
        })
    }

    /// The client with these headers in every request.
    pub(crate) fn with_headers(mut self, headers: HeaderMap) -> Self {
        self.headers = headers;
        self
    }

    /// Sends a POST of JSON, which must change nothing: it may be sent twice. Otherwise as [`Client::get`].
    ///
    /// # Errors
    /// As [`Client::get`].
    pub(crate) async fn post(
        &self,
        url: &Url,
        accept: &'static str,
        body: impl Into<Bytes>,
    ) -> Result<Answer, SourceError> {
        self.ask(Method::POST, url, accept, body.into()).await
    }

    /// Sends a GET. The head must come within the request limit. A 401 leads to one renewal of the
    /// credentials and one more try; a second 401 is given back like any other status.
    ///
    /// # Errors
    /// [`SourceError::Connect`], [`SourceError::Idle`], [`SourceError::Setup`] for a secret that cannot be read.
    pub(crate) async fn get(&self, url: &Url, accept: &'static str) -> Result<Answer, SourceError> {
        self.ask(Method::GET, url, accept, Bytes::new()).await
    }

    async fn ask(
        &self,
        method: Method,
        url: &Url,
        accept: &'static str,
        body: Bytes,
    ) -> Result<Answer, SourceError> {
        let ask = |authorization| {
            let headers = self.headers.clone();
            ask(method.clone(), url, headers, accept, authorization, body.clone())
        };
        let shown = self.credentials.current(url, &self.transport).await?;
        let answer = self.transport.send(ask(shown.value)).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        match self.credentials.renew(shown.generation, url, &self.transport).await? {
            Some(renewed) => self.transport.send(ask(renewed.value)).await,
            None => Ok(answer),
        }
    }
}

fn ask<'a>(
    method: Method,
    url: &'a Url,
    mut headers: HeaderMap,
    accept: &'static str,
    authorization: Option<HeaderValue>,
    body: Bytes,
) -> Ask<'a> {
    headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
    if let Some(value) = authorization {
        headers.insert(header::AUTHORIZATION, value);
    }
    if method == Method::POST {
        // Exactly this: Mesos compares it as text.
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    Ask { method, url, headers, body }
}

impl Answer {
    /// The answer, if its status is a success.
    ///
    /// # Errors
    /// [`SourceError::Status`] with advice for the operator.
    pub(crate) fn success(self, url: &Url) -> Result<Self, SourceError> {
        if self.status.is_success() { Ok(self) } else { Err(refused(url, self.status)) }
    }

    /// The whole body of a success, read as JSON.
    ///
    /// # Errors
    /// As [`Answer::success`] and [`Body::all`]; [`SourceError::Malformed`] if it is none of `T`.
    pub(crate) async fn json<T: DeserializeOwned>(
        self,
        url: &Url,
        size_max: usize,
    ) -> Result<T, SourceError> {
        let body = self.success(url)?.body.all(size_max).await?;
        from_json(url, &body)
    }
}

/// Reads JSON that came from `url`.
///
/// # Errors
/// [`SourceError::Malformed`] with the position.
pub(crate) fn from_json<'a, T: Deserialize<'a>>(url: &Url, body: &'a [u8]) -> Result<T, SourceError> {
    serde_json::from_slice(body)
        .map_err(|error| SourceError::Malformed { place: url.to_string(), message: error.to_string() })
}

/// The error for a status that is not a success.
pub(crate) fn refused(url: &Url, status: StatusCode) -> SourceError {
    let advice = match status.as_u16() {
        401 => ": the credentials are refused; check [source.auth]",
        403 => ": not allowed; the account lacks the permission to read",
        404 => ": no such path; check the URL",
        405 | 406 => ": the API does not offer this; check the URL and its version",
        429 => ": too many requests; raise `refresh`",
        300..=399 => ": redirected to a host that is not configured; add it to `urls`",
        502..=504 => ": no leader at present or overloaded; the next URL is tried",
        500..=599 => ": an error inside the API; see its log",
        _ => "",
    };
    SourceError::Status { place: url.to_string(), status: status.as_u16(), hint: advice.to_owned() }
}

#[cfg(test)]
mod tests;
