//! An HTTP client for one request on one connection.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer, read until the server closed.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// GET with `Connection: close`; panics if there is no answer.
pub(crate) async fn get(server: SocketAddr, host: &str, path: &str) -> Answer {
    try_get(server, host, path).await.unwrap_or_else(|error| panic!("GET {host}{path} at {server}: {error}"))
}

/// GET with `Connection: close`.
pub(crate) async fn try_get(server: SocketAddr, host: &str, path: &str) -> std::io::Result<Answer> {
    request(server, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await
}

/// Sends the octets as they are and reads until the server closes.
pub(crate) async fn request(server: SocketAddr, request: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    parse(&answer)
        .ok_or_else(|| std::io::Error::other(format!("no answer: {:?}", String::from_utf8_lossy(&answer))))
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        unchunk(&answer[end..])?
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
