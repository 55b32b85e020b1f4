//! Single requests whose answer is compared octet by octet: before a load, and now and then beside it.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::origin::BODY;
use super::questions::{Kind, Questions, compose};
use crate::certificate::HOST;

/// Pause between the requests beside a load.
const PAUSE: Duration = Duration::from_millis(200);

/// Where and how to ask over HTTP/1.1.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    pub(crate) port: u16,
    /// The `Host` field.
    pub(crate) host: String,
    /// Octets of the body.
    pub(crate) body: usize,
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Probe {
    /// One request on a connection of its own; the complaint if the answer is not the upstream's.
    pub(crate) fn once(&self) -> Result<(), String> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).map_err(|e| self.wrong(&e))?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(|e| self.wrong(&e))?;
        match &self.tls {
            None => self.ask(stream),
            Some(config) => {
                let name = ServerName::try_from(HOST).map_err(|e| self.wrong(&e))?;
                let client = ClientConnection::new(Arc::clone(config), name).map_err(|e| self.wrong(&e))?;
                self.ask(StreamOwned::new(client, stream))
            }
        }
    }

    fn wrong(&self, what: &dyn std::fmt::Display) -> String {
        format!("port {}: {what}", self.port)
    }

    fn ask(&self, mut stream: impl Read + Write) -> Result<(), String> {
        write!(stream, "GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.host)
            .map_err(|e| self.wrong(&e))?;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            // A peer may close without TLS's own farewell; the length tells whether all is there.
            Err(error) if !matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof) => {
                return Err(self.wrong(&error));
            }
            _ => {}
        }
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
        let right = answer.starts_with(b"HTTP/1.1 200")
            && end.is_some_and(|end| {
                answer.len() - end == self.body && answer[end..].iter().all(|&octet| octet == BODY)
            });
        if right {
            return Ok(());
        }
        let shown = String::from_utf8_lossy(&answer[..answer.len().min(300)]).into_owned();
        Err(self.wrong(&format!("not the upstream's answer ({} octets): {shown}", answer.len())))
    }

    /// Runs `load` with such requests beside it; requests and wrong answers.
    pub(crate) fn beside<T>(&self, load: impl FnOnce() -> T) -> (T, u64, u64) {
        let (stop, asked, wrong) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let result = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    asked.fetch_add(1, Ordering::Relaxed);
                    wrong.fetch_add(u64::from(self.once().is_err()), Ordering::Relaxed);
                    std::thread::sleep(PAUSE);
                }
            });
            let result = load();
            stop.store(true, Ordering::Relaxed);
            result
        });
        (result, asked.into_inner(), wrong.into_inner())
    }
}

/// True if the last of `names` names is answered in full.
pub(crate) fn dns(port: u16, names: usize) -> bool {
    let Ok(socket) = UdpSocket::bind("127.0.0.1:0") else { return false };
    let mut reply = [0; 1500];
    let wait = socket.set_read_timeout(Some(Duration::from_millis(200)));
    let sent = socket.send_to(&compose(names, Kind::A), ("127.0.0.1", port));
    let Ok(len) = wait.and(sent).and_then(|_| socket.recv(&mut reply)) else { return false };
    Questions::one(Kind::A, names).right(0, &reply[..len], true)
}
