//! A request, read and taken apart.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::message;
use crate::sim::cluster::Caller;
use crate::sim::server::Body;

/// Largest body taken.
const BODY_MAX: usize = 16 << 20;

/// One request with its whole body.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) peer: SocketAddr,
}

impl Call {
    /// Reads the body and decodes the path and the query.
    pub(super) async fn read(request: Request<Incoming>, peer: SocketAddr) -> Result<Self, Response<Body>> {
        let (head, body) = request.into_parts();
        let body = match Limited::new(body, BODY_MAX).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => {
                return Err(message(StatusCode::PAYLOAD_TOO_LARGE, "Request entity too large or cut short"));
            }
        };
        let path = percent_decode_str(head.uri.path()).decode_utf8_lossy().into_owned();
        let query = parse_query(head.uri.query().unwrap_or_default());
        Ok(Self { method: head.method, path, query, headers: head.headers, body, peer })
    }

    /// The path's segments, empty ones left out.
    pub(super) fn segments(&self) -> Vec<&str> {
        self.path.split('/').filter(|segment| !segment.is_empty()).collect()
    }

    /// The first value of a query parameter.
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        self.params(name).next()
    }

    /// All values of a query parameter, `name[]` included.
    pub(super) fn params(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = move |key: &str| key == name || key.strip_suffix("[]") == Some(name);
        self.query.iter().filter(move |(key, _)| named(key)).map(|(_, value)| value.as_str())
    }

    /// Whether a query parameter says yes. Python clients write `True`.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.param(name).is_some_and(|value| value.is_empty() || value.eq_ignore_ascii_case("true"))
    }

    /// A number in the query; `Err` is the answer to a wrong one.
    pub(super) fn number<T: core::str::FromStr>(&self, name: &str) -> Result<Option<T>, Response<Body>> {
        let wrong =
            |_| message(StatusCode::BAD_REQUEST, &format!("parameter '{name}' is not a proper number"));
        self.param(name).map(|text| text.parse().map_err(wrong)).transpose()
    }

    /// The body as JSON.
    pub(super) fn json(&self) -> Result<Value, Response<Body>> {
        serde_json::from_slice(&self.body)
            .map_err(|error| message(StatusCode::BAD_REQUEST, &format!("Invalid JSON: {error}")))
    }

    /// The body as a JSON object.
    pub(super) fn object(&self) -> Result<Map<String, Value>, Response<Body>> {
        match self.json()? {
            Value::Object(object) => Ok(object),
            _ => Err(message(StatusCode::BAD_REQUEST, "Invalid JSON: an object is expected")),
        }
    }

    /// Who asks, as events tell it.
    pub(super) fn caller(&self) -> Caller {
        Caller { client: self.peer.ip().to_string(), uri: self.path.clone() }
    }
}

/// Takes a query apart; `+` is a blank.
pub(super) fn parse_query(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(k, v)| (decode(k), decode(v)))
        .collect()
}
