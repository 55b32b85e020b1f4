//! A client that makes a new connection and a full TLS 1.3 handshake for every request. That each handshake was full, and
//! every answer whole, is checked.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion};

use super::paced::judge;
use crate::certificate::HOST;
use crate::sample::{Latencies, Outcome};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";
/// Connections at a time.
const CLIENTS: usize = 32;

struct Connection {
    stream: TcpStream,
    tls: ClientConnection,
    asked: bool,
    answer: Vec<u8>,
    begin: Instant,
}

/// Loads the server at `port` for `time`.
pub(crate) fn run(
    port: u16,
    time: Duration,
    tls: &Arc<ClientConfig>,
    body: usize,
) -> Result<Outcome, String> {
    clients(port, time, tls, body).map_err(|e| format!("port {port}: {e}"))
}

fn clients(port: u16, time: Duration, tls: &Arc<ClientConfig>, body: usize) -> io::Result<Outcome> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut connections =
        (0..CLIENTS).map(|place| open(&epoll, place, port, tls)).collect::<io::Result<Vec<_>>>()?;
    let (mut outcome, mut latencies) = (Outcome::default(), Latencies::default());
    let (begin, mut events) = (Instant::now(), Vec::with_capacity(64));
    while begin.elapsed() < time {
        match epoll::wait(&epoll, spare_capacity(&mut events), None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        for event in events.drain(..) {
            let place = event.data.u64() as usize;
            let right = match connections[place].turn(body) {
                Ok(None) => continue,
                Ok(Some(right)) => right,
                Err(_) => false,
            };
            latencies.add(connections[place].begin.elapsed());
            outcome.operations += 1.0;
            outcome.errors += u64::from(!right);
            connections[place] = open(&epoll, place, port, tls)?;
        }
    }
    (outcome.p50, outcome.p99) = (latencies.at(0.5), latencies.at(0.99));
    Ok(outcome)
}

fn open(epoll: &OwnedFd, place: usize, port: u16, tls: &Arc<ClientConfig>) -> io::Result<Connection> {
    let begin = Instant::now();
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
    epoll::add(epoll, &stream, EventData::new_u64(place as u64), flags)?;
    let name = ServerName::try_from(HOST).map_err(io::Error::other)?;
    let tls = ClientConnection::new(Arc::clone(tls), name).map_err(io::Error::other)?;
    Ok(Connection { stream, tls, asked: false, answer: Vec::new(), begin })
}

impl Connection {
    /// Goes on as far as it can; whether all was right, once the answer is whole.
    fn turn(&mut self, body: usize) -> io::Result<Option<bool>> {
        loop {
            while self.tls.wants_write() {
                match self.tls.write_tls(&mut self.stream) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                    other => other?,
                };
            }
            if !self.asked && !self.tls.is_handshaking() {
                self.asked = true;
                self.tls.writer().write_all(REQUEST)?;
                continue;
            }
            match self.tls.read_tls(&mut self.stream) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
            self.tls.process_new_packets().map_err(io::Error::other)?;
            match self.tls.reader().read_to_end(&mut self.answer) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
            if let Some(right) = judge(&self.answer, body).filter(|_| !self.answer.is_empty()) {
                let full = self.tls.handshake_kind() == Some(HandshakeKind::Full)
                    && self.tls.protocol_version() == Some(ProtocolVersion::TLSv1_3);
                return Ok(Some(right && full));
            }
        }
    }
}
