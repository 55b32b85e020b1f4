//! The admin HTTP server: accepts, bounds, and hands requests to the API.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::access::Refusal;
use super::{State, api};

/// Connections open at once per admin listener. Scrapers and people; more are closed at once.
const CONNECTIONS_MAX: usize = 256;
/// Answers composed at once per listener. A whole table of 100,000 endpoints takes some tenths of a second, off
/// the runtime's threads: those apply what schedulers say.
const READS_MAX: usize = 2;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;
/// From accept to the end of a request head, and between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// What a listener shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// Everything.
    All,
    /// `/metrics`, `/healthz` and `/readyz` alone.
    Metrics,
}

/// A bound admin listener.
#[derive(Debug)]
pub(crate) enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // The file is ours: it was made when we bound it. Nobody is helped by an error here.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Binds a TCP address; needs a runtime. `SO_REUSEPORT`, so that on reload a listener can be bound before the one
/// it replaces is closed; whoever calls sees to it that nobody else has the address.
pub(crate) fn bind_tcp(address: SocketAddr) -> io::Result<(Bound, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from_std(socket.into())?;
    let address = listener.local_addr()?;
    Ok((Bound::Tcp(listener), address))
}

/// Binds a Unix socket with mode 0600. A socket file nobody listens on is replaced; any other file is left alone.
pub(crate) fn bind_unix(path: &Path) -> io::Result<Bound> {
    if let Ok(found) = std::fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is not a socket is there"));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on this socket"));
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(Bound::Unix(listener, path.to_owned()))
}

/// Serves until `stop`, then finishes the requests in progress.
pub(crate) async fn serve(bound: Bound, endpoint: Endpoint, state: Arc<State>, stop: CancellationToken) {
    let trusted = matches!(bound, Bound::Unix(..));
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let reads = Arc::new(Semaphore::new(READS_MAX));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        // Cancel-safe: accept loses no connection, join_next no result.
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&bound) => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "admin listener cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { continue };
        let state = Arc::clone(&state);
        let reads = Arc::clone(&reads);
        let service = service_fn(move |request| {
            let (state, reads) = (Arc::clone(&state), Arc::clone(&reads));
            async move { Ok::<_, Infallible>(respond(state, &reads, endpoint, trusted, &request).await) }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service));
        connections.spawn(async move {
            let _permit = permit;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "admin connection ended");
            }
        });
    }
    let _ = tokio::time::timeout(Duration::from_secs(2), graceful.shutdown()).await;
}

/// Either kind of stream, so that one loop serves both.
trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send> Stream for T {}

async fn accept(bound: &Bound) -> io::Result<Box<dyn Stream>> {
    Ok(match bound {
        Bound::Tcp(listener) => Box::new(listener.accept().await?.0),
        Bound::Unix(listener, _) => Box::new(listener.accept().await?.0),
    })
}

async fn respond(
    state: Arc<State>,
    reads: &Semaphore,
    endpoint: Endpoint,
    trusted: bool,
    request: &Request<Incoming>,
) -> Response<Full<Bytes>> {
    if !trusted
        && let Err(refusal) = state.access.load().check(request.method(), request.uri(), request.headers())
    {
        return refused(refusal);
    }
    let path = request.uri().path();
    let probe = matches!(path, "/metrics" | "/healthz" | "/readyz");
    if endpoint == Endpoint::Metrics && !probe {
        return text(StatusCode::NOT_FOUND, "this listener shows /metrics, /healthz and /readyz\n");
    }
    if *request.method() == Method::POST {
        return api::command(&state, path);
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD read, POST commands\n");
    }
    let query = request.uri().query().unwrap_or_default();
    if probe && path != "/metrics" {
        return api::read(&state, path, query);
    }
    let (path, query) = (path.to_owned(), query.to_owned());
    // Never closed; and without a permit the answer would still be right.
    let _permit = reads.acquire().await;
    let read = tokio::task::spawn_blocking(move || api::read(&state, &path, &query)).await;
    read.unwrap_or_else(|error| {
        tracing::error!(%error, "an admin answer failed");
        text(StatusCode::INTERNAL_SERVER_ERROR, "the answer failed; see the log\n")
    })
}

fn refused(refusal: Refusal) -> Response<Full<Bytes>> {
    match refusal {
        Refusal::Host => text(
            StatusCode::MISDIRECTED_REQUEST,
            "this Host is not known here; use an address, localhost, the node's name, or add it to [admin] allowed_hosts\n",
        ),
        Refusal::Token => text(
            StatusCode::FORBIDDEN,
            "changes need the Unix socket or 'Authorization: Bearer' with the token of [admin] token_file\n",
        ),
    }
}

/// A plain-text answer.
pub(super) fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", Bytes::from_static(body.as_bytes()))
}

/// An answer with a body of any type.
pub(super) fn answer(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("admin.sock");
        std::fs::write(&path, "precious").unwrap();
        let error = bind_unix(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");

        std::fs::remove_file(&path).unwrap();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let bound = bind_unix(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(bind_unix(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(bound);
        assert!(!path.exists());
    }
}
