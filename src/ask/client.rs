//! One GET of the admin API, by TCP or by the Unix socket.

use core::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Request, Response, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer read: a table of a million endpoints.
const ANSWER_MAX: usize = 1 << 30;

/// The body of `GET <base><path>`. `base` is `http://HOST:PORT`, or `unix://` and the path of a socket.
pub(super) async fn get(base: &str, path: &str) -> Result<Bytes> {
    let asking = ask(base, path);
    let answer = tokio::time::timeout(TIMEOUT, asking).await;
    answer.unwrap_or_else(|_| bail!("{base} does not answer within {} s", TIMEOUT.as_secs()))
}

/// Either kind of stream.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn ask(base: &str, path: &str) -> Result<Bytes> {
    let (stream, host, path) = open(base, path).await?;
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::ACCEPT, "application/json")
        .body(Empty::<Bytes>::new());
    let request = request.with_context(|| format!("{base} is not a URL"))?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.with_context(|| missing(base))?;
    let response = exchange(sender, connection, request).await.with_context(|| missing(base))?;
    let (status, body) = response;
    let body = body.map_err(|error| anyhow::anyhow!("the answer of {base} broke off: {error}"))?;
    if !status.is_success() {
        bail!("{base} answers {status}: {}", said(&body));
    }
    Ok(body)
}

fn missing(base: &str) -> String {
    format!("no daemon answers at {base}; is it running? (--admin URL names another)")
}

/// A connection to `base`, its Host header, and the path to ask for.
async fn open(base: &str, path: &str) -> Result<(Box<dyn Stream>, String, String)> {
    if let Some(socket) = base.strip_prefix("unix://") {
        let stream = UnixStream::connect(socket).await.with_context(|| missing(base))?;
        return Ok((Box::new(stream), "localhost".to_owned(), path.to_owned()));
    }
    let uri: Uri = format!("{base}{path}").parse().with_context(|| format!("{base} is not a URL"))?;
    if uri.scheme_str() != Some("http") {
        bail!("{base} is neither an http:// URL nor a unix:// one");
    }
    let authority = uri.authority().with_context(|| format!("{base} has no host"))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let address = (host, authority.port_u16().unwrap_or(80));
    let stream = TcpStream::connect(address).await.with_context(|| missing(base))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok((Box::new(stream), authority.as_str().to_owned(), path.to_owned()))
}

type Answer = (http::StatusCode, Result<Bytes, Box<dyn std::error::Error + Send + Sync>>);

/// Sends the request and reads the answer while the connection does its work beside.
async fn exchange(
    mut sender: SendRequest<Empty<Bytes>>,
    connection: Connection<TokioIo<Box<dyn Stream>>, Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
) -> hyper::Result<Answer> {
    let asking = async {
        let response: Response<Incoming> = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        // Dropped only now: without it the connection ends.
        drop(sender);
        Ok((status, body.map(http_body_util::Collected::to_bytes)))
    };
    let (answer, _) = tokio::join!(asking, connection);
    answer
}

/// What the daemon says is wrong, short enough for a line.
fn said(body: &[u8]) -> String {
    let told: Option<Value> = serde_json::from_slice(body).ok();
    let error = told.as_ref().and_then(|told| told.get("error")?.as_str());
    let text = error.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    text.trim().chars().take(300).collect()
}
