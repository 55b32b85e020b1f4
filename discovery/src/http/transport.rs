//! Connections: dialled when needed, kept while idle, one request at a time on each.

use core::fmt;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, header};
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::url::{Origin, Url};
use super::{Answer, Body};
use crate::source::SourceError;

/// Idle connections kept for one origin. More requests than this at once open connections of their own.
const IDLE_PER_ORIGIN_MAX: usize = 8;
/// Dialling and the TLS handshake together take no longer than this, whatever the request limit.
const DIAL_TIME_MAX: Duration = Duration::from_secs(5);

/// A silent connection is probed after this, so often, this many times: given up after half a minute.
const PROBE_AFTER: Duration = Duration::from_secs(15);
const PROBE_PERIOD: Duration = Duration::from_secs(5);
const PROBES_MAX: u32 = 3;

/// Limits of every request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// From sending a request to the head of its answer, and between two chunks of a body.
    pub(crate) request: Duration,
    /// Octets of a body.
    pub(crate) body: usize,
}

/// A request, complete but for the headers that follow from the URL.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) url: &'a Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

pub(super) struct Transport {
    tls: Arc<ClientConfig>,
    limits: Limits,
    pool: Arc<Pool>,
}

/// Idle connections by origin.
#[derive(Default)]
pub(super) struct Pool(Mutex<HashMap<Origin, Vec<Connection>>>);

/// One connection and the task that moves its bytes, which ends with it.
pub(super) struct Connection {
    origin: Origin,
    requests: SendRequest<Full<Bytes>>,
    _driver: JoinSet<()>,
}

impl Transport {
    pub(super) fn new(tls: Arc<ClientConfig>, limits: Limits) -> Self {
        Self { tls, limits, pool: Arc::default() }
    }

    /// Sends a request and waits for the head of its answer. If a kept connection turns out to be closed, a new one is
    /// tried once: every request here may be repeated.
    pub(super) async fn send(&self, ask: Ask<'_>) -> Result<Answer, SourceError> {
        let limit = self.limits.request;
        timeout(limit, self.exchange(&ask)).await.unwrap_or_else(|_| {
            Err(SourceError::Idle { place: ask.url.to_string(), seconds: limit.as_secs() })
        })
    }

    async fn exchange(&self, ask: &Ask<'_>) -> Result<Answer, SourceError> {
        while let Some(mut kept) = self.pool.take(&ask.url.origin) {
            if kept.requests.ready().await.is_ok()
                && let Ok(answer) = self.attempt(kept, ask).await
            {
                return Ok(answer);
            }
        }
        let fresh = self.dial(&ask.url.origin).await?;
        self.attempt(fresh, ask).await
    }

    async fn attempt(&self, mut connection: Connection, ask: &Ask<'_>) -> Result<Answer, SourceError> {
        let answer = connection.requests.send_request(request(ask)?).await.map_err(|e| broken(ask.url, e))?;
        let (head, incoming) = answer.into_parts();
        let body = Body::new(incoming, connection, &self.pool, ask.url.to_string(), self.limits);
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    async fn dial(&self, origin: &Origin) -> Result<Connection, SourceError> {
        let limit = self.limits.request.min(DIAL_TIME_MAX);
        let opened = timeout(limit, self.open(origin)).await;
        let opened = opened.unwrap_or_else(|_| Err("no connection within the limit".into()));
        opened.map_err(|cause| SourceError::Connect { place: origin.to_string(), cause })
    }

    async fn open(&self, origin: &Origin) -> Result<Connection, Box<dyn std::error::Error + Send + Sync>> {
        let stream: Box<dyn Stream> = if let Some(path) = origin.socket() {
            Box::new(UnixStream::connect(path).await?)
        } else if origin.tls {
            let tcp = connect(origin).await?;
            let name = ServerName::try_from(origin.host.to_string())?;
            Box::new(TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await?)
        } else {
            Box::new(connect(origin).await?)
        };
        let (requests, connection) = handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // The request in flight sees the same error; idle connections may end as they like.
            let _ = connection.await;
        });
        Ok(Connection { origin: origin.clone(), requests, _driver: driver })
    }
}

/// A TCP connection whose other side is asked for a sign of life while the stream on it is silent: a stream may well have
/// nothing to say for hours, and a host that has vanished says nothing either.
async fn connect(origin: &Origin) -> std::io::Result<TcpStream> {
    let tcp = TcpStream::connect((&*origin.host, origin.port)).await?;
    tcp.set_nodelay(true)?;
    sockopt::set_socket_keepalive(&tcp, true)?;
    sockopt::set_tcp_keepidle(&tcp, PROBE_AFTER)?;
    sockopt::set_tcp_keepintvl(&tcp, PROBE_PERIOD)?;
    sockopt::set_tcp_keepcnt(&tcp, PROBES_MAX)?;
    Ok(tcp)
}

fn request(ask: &Ask<'_>) -> Result<Request<Full<Bytes>>, SourceError> {
    let unusable = || SourceError::Setup { message: format!("{}: cannot be sent as a request", ask.url) };
    let host = HeaderValue::from_str(&ask.url.origin.authority()).map_err(|_| unusable())?;
    let mut request = Request::builder()
        .method(ask.method.clone())
        .uri(&*ask.url.target)
        .body(Full::new(ask.body.clone()))
        .map_err(|_| unusable())?;
    *request.headers_mut() = ask.headers.clone();
    request.headers_mut().insert(header::HOST, host);
    request.headers_mut().insert(
        header::USER_AGENT,
        HeaderValue::from_static(concat!("portolan/", env!("CARGO_PKG_VERSION"))),
    );
    Ok(request)
}

pub(super) fn broken(url: &dyn fmt::Display, error: hyper::Error) -> SourceError {
    SourceError::Connect { place: url.to_string(), cause: Box::new(error) }
}

impl Pool {
    fn take(&self, origin: &Origin) -> Option<Connection> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.get_mut(origin)?;
        kept.retain(|connection| !connection.requests.is_closed());
        kept.pop()
    }

    /// Keeps a connection whose last answer was read to its end.
    pub(super) fn give_back(&self, connection: Connection) {
        if connection.requests.is_closed() {
            return;
        }
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.entry(connection.origin.clone()).or_default();
        if kept.len() < IDLE_PER_ORIGIN_MAX {
            kept.push(connection);
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}
