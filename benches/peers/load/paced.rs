//! An HTTP/1.1 client at a rate, over plain or encrypted connections that are kept: a request is sent when it is due, on the
//! next free connection, and its latency counts from then. Status, length and octets of every body are compared.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::origin::BODY;
use crate::certificate::HOST;
use crate::sample::{Latencies, Outcome};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n";
const TIMER: u64 = u64::MAX;
/// Longest wait for answers once the time is over.
const LATE: Duration = Duration::from_secs(2);

/// What to do.
#[derive(Debug, Clone)]
pub(crate) struct Paced {
    pub(crate) connections: usize,
    pub(crate) rate: f64,
    /// Octets of every body.
    pub(crate) body: usize,
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Paced {
    /// Loads the server at `port` for `time`.
    pub(crate) fn run(&self, port: u16, time: Duration) -> Result<Outcome, String> {
        let load = Load::new(self, port).and_then(|mut load| load.run(time));
        load.map_err(|e| format!("port {port}: {e}"))
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    fn open(port: u16, tls: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        let Some(config) = tls else {
            stream.set_nonblocking(true)?;
            return Ok(Self::Plain(stream));
        };
        let name = ServerName::try_from(HOST).map_err(io::Error::other)?;
        let mut client = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        while client.is_handshaking() {
            client.complete_io(&mut stream)?;
        }
        stream.set_nonblocking(true)?;
        Ok(Self::Tls(Box::new(StreamOwned::new(client, stream))))
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }

    fn send(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(REQUEST),
            Self::Tls(stream) => stream.write_all(REQUEST).and_then(|()| stream.flush()),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

struct Connection {
    stream: Stream,
    answer: Vec<u8>,
    due: Option<Instant>,
}

struct Load<'a> {
    what: &'a Paced,
    port: u16,
    epoll: OwnedFd,
    timer: TimerFd,
    connections: Vec<Connection>,
    free: VecDeque<usize>,
    sent: u64,
    latencies: Latencies,
    operations: u64,
    errors: u64,
}

impl<'a> Load<'a> {
    fn new(what: &'a Paced, port: u16) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        epoll::add(&epoll, timer.as_fd(), EventData::new_u64(TIMER), EventFlags::IN | EventFlags::ET)?;
        let mut load = Self {
            what,
            port,
            epoll,
            timer,
            connections: Vec::new(),
            free: (0..what.connections).collect(),
            sent: 0,
            latencies: Latencies::default(),
            operations: 0,
            errors: 0,
        };
        for place in 0..what.connections {
            let connection = load.open(place)?;
            load.connections.push(connection);
        }
        Ok(load)
    }

    fn open(&self, place: usize) -> io::Result<Connection> {
        let stream = Stream::open(self.port, self.what.tls.as_ref())?;
        let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, stream.socket(), EventData::new_u64(place as u64), flags)?;
        Ok(Connection { stream, answer: Vec::new(), due: None })
    }

    fn run(&mut self, time: Duration) -> io::Result<Outcome> {
        let begin = Instant::now();
        let (mut events, mut buffer) = (Vec::with_capacity(64), vec![0; 64 << 10]);
        loop {
            let spent = begin.elapsed();
            if spent >= time + LATE || spent >= time && self.free.len() == self.connections.len() {
                break;
            }
            if spent < time {
                self.send_due(begin)?;
            }
            self.sleep_until(begin, time)?;
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            for event in events.drain(..).filter(|event| event.data.u64() != TIMER) {
                self.receive(event.data.u64() as usize, &mut buffer)?;
            }
        }
        self.errors += (self.connections.len() - self.free.len()) as u64;
        let (p50, p99) = (self.latencies.at(0.5), self.latencies.at(0.99));
        Ok(Outcome { operations: self.operations as f64, errors: self.errors, p50, p99 })
    }

    fn due(&self, begin: Instant) -> Instant {
        begin + Duration::from_secs_f64(self.sent as f64 / self.what.rate)
    }

    fn send_due(&mut self, begin: Instant) -> io::Result<()> {
        while let Some(&place) = self.free.front() {
            let due = self.due(begin);
            if due > Instant::now() {
                break;
            }
            self.free.pop_front();
            self.sent += 1;
            let connection = &mut self.connections[place];
            connection.due = Some(due);
            if connection.stream.send().is_err() {
                self.fail(place)?;
            }
        }
        Ok(())
    }

    /// Sets the timer to when the next request is due; with no free connection, to the very end.
    fn sleep_until(&self, begin: Instant, time: Duration) -> io::Result<()> {
        let end = begin + time + LATE;
        let next = if self.free.is_empty() || begin.elapsed() >= time { end } else { self.due(begin) };
        let wait = next.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        Ok(self.timer.set(Expiration::OneShot(wait.into()), TimerSetTimeFlags::empty())?)
    }

    fn receive(&mut self, place: usize, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            let connection = &mut self.connections[place];
            match connection.stream.read(buffer) {
                Ok(0) => return self.fail(place),
                Ok(read) => connection.answer.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return self.fail(place),
            }
            let Some(right) = judge(&connection.answer, self.what.body) else { continue };
            connection.answer.clear();
            let Some(due) = connection.due.take() else { return self.fail(place) };
            self.latencies.add(due.elapsed());
            self.operations += 1;
            self.errors += u64::from(!right);
            self.free.push_back(place);
        }
    }

    /// An error; the connection is replaced.
    fn fail(&mut self, place: usize) -> io::Result<()> {
        self.errors += 1;
        self.connections[place] = self.open(place)?;
        if !self.free.contains(&place) {
            self.free.push_back(place);
        }
        Ok(())
    }
}

/// Whether an answer is right, once it is whole.
pub(crate) fn judge(answer: &[u8], body: usize) -> Option<bool> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut fields);
    match head.parse(answer) {
        Ok(httparse::Status::Complete(end)) => {
            let whole = answer.len() >= end + body;
            let right = head.code == Some(200)
                && answer.len() == end + body
                && answer[end..].iter().all(|&octet| octet == BODY);
            (whole || head.code != Some(200)).then_some(right)
        }
        Ok(httparse::Status::Partial) => None,
        Err(_) => Some(false),
    }
}
