//! TCP clients: connections that write as fast as they can, and short ones. Before each load some octets go there and back and are
//! compared.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use socket2::{Domain, Socket, Type};

use super::sink::{self, ECHO};
use crate::sample::{Latencies, Outcome};

const BULK: usize = 4;
const SHORT: usize = 64;
/// Octets of one write.
const PIECE: usize = 64 << 10;
/// Octets that are compared.
const COMPARED: usize = 1 << 20;

/// Writes for `time` on four connections; an operation is an octet that has arrived. Octets that were written and did not
/// arrive within two seconds of the end are errors.
pub(crate) fn bulk(port: u16, time: Duration) -> Result<Outcome, String> {
    compare(port)?;
    let before = sink::arrived();
    let writers: Vec<_> = (0..BULK).map(|_| std::thread::spawn(move || write(port, time))).collect();
    let mut written = 0;
    for writer in writers {
        written += writer.join().map_err(|_| "a writer panicked".to_owned())?.map_err(|e| e.to_string())?;
    }
    let deadline = Instant::now() + Duration::from_secs(2);
    while sink::arrived() - before < written && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
    let arrived = sink::arrived() - before;
    Ok(Outcome { operations: arrived as f64, errors: written - arrived, ..Outcome::default() })
}

fn write(port: u16, time: Duration) -> io::Result<u64> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let piece = vec![7; PIECE];
    let (end, mut written) = (Instant::now() + time, 0);
    while Instant::now() < end {
        stream.write_all(&piece)?;
        written += PIECE as u64;
    }
    stream.shutdown(Shutdown::Write)?;
    Ok(written)
}

/// Sends octets that come back, then ends its half and waits for the end of the other.
fn compare(port: u16) -> Result<(), String> {
    let text = |e: io::Error| format!("port {port}: {e}");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(text)?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(text)?;
    let mut random = fastrand::Rng::with_seed(11);
    let mut octets: Vec<u8> = (0..COMPARED).map(|_| random.u8(..)).collect();
    octets[0] = ECHO;
    let mut back = vec![0; COMPARED];
    std::thread::scope(|scope| {
        let mut writer = stream.try_clone()?;
        let octets = &octets;
        let sent = scope.spawn(move || writer.write_all(octets));
        stream.read_exact(&mut back)?;
        sent.join().map_err(|_| io::Error::other("a writer panicked"))??;
        stream.shutdown(Shutdown::Write)?;
        stream.read_to_end(&mut back)
    })
    .map_err(text)?;
    if back == octets { Ok(()) } else { Err(format!("port {port}: other octets came back")) }
}

/// Connects, sends an octet, reads it back and closes, 64 at a time; an operation is a connection.
pub(crate) fn short(port: u16, time: Duration) -> Result<Outcome, String> {
    compare(port)?;
    Short::new(port).and_then(|mut short| short.run(time)).map_err(|e| format!("port {port}: {e}"))
}

struct Short {
    port: u16,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    turn: u8,
}

struct Connection {
    stream: TcpStream,
    begin: Instant,
    asked: bool,
}

impl Short {
    fn new(port: u16) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut short = Self { port, epoll, connections: Vec::new(), turn: 0 };
        for place in 0..SHORT {
            let connection = short.open(place)?;
            short.connections.push(connection);
        }
        Ok(short)
    }

    /// Begins a connection, from one of 64 addresses in turn so that ports last.
    fn open(&mut self, place: usize) -> io::Result<Connection> {
        let begin = Instant::now();
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking().cloexec(), None)?;
        socket.set_tcp_nodelay(true)?;
        self.turn = (self.turn + 1) % 64;
        socket.set_reuse_address(true)?;
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2 + self.turn), 0)).into())?;
        match socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)).into()) {
            Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
                return Err(error);
            }
            _ => {}
        }
        let stream = TcpStream::from(socket);
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        epoll::add(&self.epoll, &stream, EventData::new_u64(place as u64), flags)?;
        Ok(Connection { stream, begin, asked: false })
    }

    fn run(&mut self, time: Duration) -> io::Result<Outcome> {
        let (begin, mut events) = (Instant::now(), Vec::with_capacity(SHORT));
        let (mut outcome, mut latencies) = (Outcome::default(), Latencies::default());
        while begin.elapsed() < time {
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            for event in events.drain(..) {
                let place = event.data.u64() as usize;
                let connection = &mut self.connections[place];
                let Some(right) = connection.turn(event.flags) else { continue };
                if right {
                    outcome.operations += 1.0;
                    latencies.add(connection.begin.elapsed());
                } else {
                    outcome.errors += 1;
                }
                self.connections[place] = self.open(place)?;
            }
        }
        (outcome.p50, outcome.p99) = (latencies.at(0.5), latencies.at(0.99));
        Ok(outcome)
    }
}

impl Connection {
    /// Whether all was right, once it is over.
    fn turn(&mut self, flags: EventFlags) -> Option<bool> {
        if !self.asked {
            if flags.intersects(EventFlags::ERR) {
                return Some(false);
            }
            if !flags.contains(EventFlags::OUT) {
                return None;
            }
            self.asked = true;
            if self.stream.write_all(&[ECHO]).is_err() {
                return Some(false);
            }
        }
        let mut back = [0; 2];
        match self.stream.read(&mut back) {
            Ok(read) => Some(read == 1 && back[0] == ECHO),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(_) => Some(false),
        }
    }
}
