//! One prober: tries one instance, again and again.

use core::time::Duration;
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::{Aim, Identity, Outcome};
use crate::CheckKind;
use crate::tls::{Alpn, Clients};

/// The first try comes within this time, at random, so that a start does not try everybody at once.
const FIRST_WITHIN: Duration = Duration::from_secs(1);
/// How far the time between two tries is off the interval either way, as a share of it.
const JITTER: f64 = 0.1;
/// Octets of a response that are looked at for its head.
const HEAD_MAX: usize = 16 * 1024;

/// What a prober knows.
pub(super) struct Probe {
    pub(super) aim: Aim,
    pub(super) clients: Clients,
    pub(super) identity: Identity,
    pub(super) number: u64,
    pub(super) outcomes: mpsc::Sender<Outcome>,
    pub(super) tries: Arc<Semaphore>,
}

impl Probe {
    /// Tries until nobody listens to the outcomes any more.
    pub(super) async fn run(self) {
        let check = &self.aim.check;
        sleep(check.interval.min(FIRST_WITHIN).mul_f64(fastrand::f64())).await;
        loop {
            let good = {
                // The semaphore is never closed.
                let _permit = self.tries.acquire().await;
                matches!(timeout(check.timeout, self.attempt()).await, Ok(Ok(true)))
            };
            let outcome = Outcome { identity: self.identity.clone(), number: self.number, good };
            if self.outcomes.send(outcome).await.is_err() {
                return;
            }
            sleep(check.interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * fastrand::f64())).await;
        }
    }

    async fn attempt(&self) -> io::Result<bool> {
        let stream = TcpStream::connect(self.aim.address).await?;
        let CheckKind::Http { path, host } = &self.aim.check.kind else { return Ok(true) };
        let host = host.as_deref().map_or_else(|| self.aim.address.to_string(), str::to_owned);
        let Some(tls) = &self.aim.tls else { return http(stream, path, &host).await };
        let client = self.clients.with(tls).ok_or(io::ErrorKind::NotFound)?;
        // Resumed most of the time, and then short enough for a thread of the control side.
        let (config, name) = client.towards(self.aim.address, Alpn::Http1);
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        http(stream, path, &host).await
    }
}

/// True if a GET is answered with 200 to 399. What follows the head of the response is not read.
async fn http(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str, host: &str) -> io::Result<bool> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: portolan-check\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut head = Vec::with_capacity(1024);
    loop {
        if head.len() >= HEAD_MAX || stream.read_buf(&mut head).await? == 0 {
            return Ok(false);
        }
        while let Some((status, len)) = status(&head)? {
            if status >= 200 {
                return Ok((200..400).contains(&status));
            }
            // An interim response (RFC 9110 §15.2); the final one follows.
            head.drain(..len);
        }
    }
}

/// Status and length of the response head at the beginning of `octets`; `None` if it is not there as a whole.
fn status(octets: &[u8]) -> io::Result<Option<(u16, usize)>> {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(octets) {
        Ok(httparse::Status::Complete(len)) => Ok(response.code.map(|code| (code, len))),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}
