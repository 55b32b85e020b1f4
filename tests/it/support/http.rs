//! An HTTP client for one request on one connection.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::PATIENCE;

/// An answer, read until the server closed.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The first header field of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// A connection for one request after another.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// Read and not yet used.
    rest: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(server: SocketAddr) -> io::Result<Self> {
        let stream = limited(TcpStream::connect(server)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, rest: Vec::new() })
    }

    /// Sends a request as it is and reads one answer, which must have a Content-Length or chunks.
    pub(crate) async fn exchange(&mut self, request: &str) -> io::Result<Answer> {
        limited(async {
            self.stream.write_all(request.as_bytes()).await?;
            loop {
                if let Some((answer, used)) = first(&self.rest) {
                    self.rest.drain(..used);
                    return Ok(answer);
                }
                if self.stream.read_buf(&mut self.rest).await? == 0 {
                    let got = String::from_utf8_lossy(&self.rest).into_owned();
                    return Err(io::Error::other(format!("closed after {got:?}")));
                }
            }
        })
        .await
    }
}

/// A server that says nothing more is an error, not the end of the test run.
async fn limited<T>(exchange: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let silent = |_| io::Error::new(io::ErrorKind::TimedOut, format!("nothing within {PATIENCE:?}"));
    tokio::time::timeout(PATIENCE, exchange).await.map_err(silent)?
}

/// The first whole answer in `octets` and its length.
fn first(octets: &[u8]) -> Option<(Answer, usize)> {
    let end = octets.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let head = parse(&octets[..end])?;
    let len = match head.header("content-length") {
        Some(len) => end + len.parse::<usize>().ok()?,
        None => end + octets[end..].windows(5).position(|w| w == b"0\r\n\r\n")? + 5,
    };
    Some((parse(octets.get(..len)?)?, len))
}

/// GET with `Connection: close`; panics if there is no answer.
pub(crate) async fn get(server: SocketAddr, host: &str, path: &str) -> Answer {
    try_get(server, host, path).await.unwrap_or_else(|error| panic!("GET {host}{path} at {server}: {error}"))
}

/// GET with `Connection: close`.
pub(crate) async fn try_get(server: SocketAddr, host: &str, path: &str) -> io::Result<Answer> {
    request(server, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await
}

/// Sends the octets as they are and reads until the server closes.
pub(crate) async fn request(server: SocketAddr, request: &str) -> io::Result<Answer> {
    let answer = limited(async {
        let mut stream = TcpStream::connect(server).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok(answer)
    })
    .await?;
    parse(&answer)
        .ok_or_else(|| io::Error::other(format!("no answer: {:?}", String::from_utf8_lossy(&answer))))
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        // A head by itself has no chunks yet.
        if answer.len() == end { Vec::new() } else { unchunk(&answer[end..])? }
    } else {
        answer[end..].to_vec()
    };
    Some(Answer { status, head, body: String::from_utf8_lossy(&body).into_owned() })
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|w| w == b"\r\n")?;
        let size =
            usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?.split(';').next()?.trim(), 16)
                .ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(line + 2..line + 2 + size)?);
        rest = rest.get(line + 2 + size + 2..)?;
    }
}

/// GET of a JSON document.
pub(crate) async fn json(server: SocketAddr, path: &str) -> serde_json::Value {
    let answer = get(server, "localhost", path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}
