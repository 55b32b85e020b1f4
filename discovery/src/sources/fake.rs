//! An HTTP/1.1 server of a test: a function from requests to replies, on a port of the kernel's choice.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    /// By lower-case name.
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Asked {
    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// A parameter of the query, as it stands there.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What is sent back.
#[derive(Debug)]
pub(super) enum Reply {
    /// Status, header fields, body.
    Whole(u16, Vec<(String, String)>, Vec<u8>),
    /// Header fields, and a body that goes on until the sender is dropped.
    Stream(Vec<(String, String)>, mpsc::Receiver<Vec<u8>>),
    /// The connection is closed without an answer.
    Close,
    /// No answer at all.
    Hang,
}

impl Reply {
    pub(super) fn json(body: impl Into<Vec<u8>>) -> Self {
        Self::Whole(200, vec![("Content-Type".to_owned(), "application/json".to_owned())], body.into())
    }

    pub(super) fn status(status: u16) -> Self {
        Self::Whole(status, Vec::new(), format!("status {status}").into_bytes())
    }

    /// This answer with one more header field.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        if let Self::Whole(_, headers, _) | Self::Stream(headers, _) = &mut self {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }
}

type Handler = Arc<dyn Fn(Asked) -> Pending + Send + Sync>;
type Pending = std::pin::Pin<Box<dyn Future<Output = Reply> + Send>>;

pub(super) struct Fake {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    _server: JoinSet<()>,
}

impl Fake {
    pub(super) async fn start<F, R>(handler: F) -> Self
    where
        F: Fn(Asked) -> R + Send + Sync + 'static,
        R: Future<Output = Reply> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (handler, log) = (handler_of(handler), Arc::clone(&asked));
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                connections.spawn(serve(connection, Arc::clone(&handler), Arc::clone(&log)));
            }
        });
        Self { address, asked, _server: server }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn handler_of<F, R>(handler: F) -> Handler
where
    F: Fn(Asked) -> R + Send + Sync + 'static,
    R: Future<Output = Reply> + Send + 'static,
{
    Arc::new(move |asked| Box::pin(handler(asked)))
}

async fn serve(
    mut connection: impl AsyncRead + AsyncWrite + Unpin,
    handler: Handler,
    log: Arc<Mutex<Vec<Asked>>>,
) {
    let mut held = Vec::new();
    while let Some(asked) = read(&mut connection, &mut held).await {
        log.lock().unwrap().push(asked.clone());
        if !reply(&mut connection, handler(asked).await).await {
            return;
        }
    }
}

/// The next request of a connection; `held` is what was read beyond the one before. `None` at the end.
pub(super) async fn read(connection: &mut (impl AsyncRead + Unpin), held: &mut Vec<u8>) -> Option<Asked> {
    let head_end = loop {
        if let Some(at) = held.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if connection.read_buf(held).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&held[..head_end]).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    while held.len() < head_end + length {
        if connection.read_buf(held).await.ok()? == 0 {
            return None;
        }
    }
    let body = held[head_end..head_end + length].to_vec();
    held.drain(..head_end + length);
    Some(Asked { method, target, headers, body })
}

/// False when the connection is to be closed.
async fn reply(connection: &mut (impl AsyncRead + AsyncWrite + Unpin), reply: Reply) -> bool {
    let lines = |headers: &[(String, String)]| -> String {
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
    };
    match reply {
        Reply::Whole(status, headers, body) => {
            let length = body.len();
            let head =
                format!("HTTP/1.1 {status} Status\r\n{}Content-Length: {length}\r\n\r\n", lines(&headers));
            let written = connection.write_all(&[head.into_bytes(), body].concat()).await;
            written.is_ok()
        }
        Reply::Stream(headers, mut chunks) => {
            let head = format!("HTTP/1.1 200 OK\r\n{}Transfer-Encoding: chunked\r\n\r\n", lines(&headers));
            if connection.write_all(head.as_bytes()).await.is_err() {
                return false;
            }
            let mut ignored = [0; 64];
            loop {
                tokio::select! {
                    chunk = chunks.recv() => {
                        let Some(chunk) = chunk else { return connection.write_all(b"0\r\n\r\n").await.is_ok() };
                        let framed = [format!("{:x}\r\n", chunk.len()).into_bytes(), chunk, b"\r\n".to_vec()];
                        if connection.write_all(&framed.concat()).await.is_err() {
                            return false;
                        }
                    }
                    read = connection.read(&mut ignored) => if read.is_ok_and(|n| n == 0) { return false },
                }
            }
        }
        Reply::Close => false,
        Reply::Hang => core::future::pending().await,
    }
}
