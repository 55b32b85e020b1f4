//! What stands behind the TCP relays: a connection that begins with `E` gets everything back, any other is counted and thrown
//! away. One thread.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::socket::{MsgFlags, recv};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};

use super::origin::UPSTREAMS;

/// The first octet of what is to come back.
pub(crate) const ECHO: u8 = b'E';
const PIECE: usize = 1 << 20;

static ARRIVED: AtomicU64 = AtomicU64::new(0);

/// Octets that have been thrown away so far.
pub(crate) fn arrived() -> u64 {
    ARRIVED.load(Ordering::Relaxed)
}

/// Starts the sinks once; returns their ports.
pub(crate) fn ports() -> Result<Vec<u16>, String> {
    static PORTS: OnceLock<Result<Vec<u16>, String>> = OnceLock::new();
    PORTS.get_or_init(|| start().map_err(|e| format!("sinks: {e}"))).clone()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Unknown,
    Echo,
    Discard,
}

struct Sink {
    epoll: OwnedFd,
    listeners: Vec<TcpListener>,
    clients: Vec<Option<(TcpStream, Purpose)>>,
    free: Vec<usize>,
    buffer: Vec<u8>,
}

fn start() -> io::Result<Vec<u16>> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let listeners =
        (0..UPSTREAMS).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<io::Result<Vec<_>>>()?;
    for (place, listener) in listeners.iter().enumerate() {
        listener.set_nonblocking(true)?;
        epoll::add(&epoll, listener, EventData::new_u64(place as u64), EventFlags::IN)?;
    }
    let ports = listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect();
    let (clients, free) = (Vec::new(), Vec::new());
    let mut sink = Sink { epoll, listeners, clients, free, buffer: vec![0; PIECE] };
    std::thread::spawn(move || sink.serve().expect("the sinks serve"));
    ports
}

impl Sink {
    fn serve(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(256);
        loop {
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            for event in events.drain(..) {
                match (event.data.u64() as usize).checked_sub(self.listeners.len()) {
                    None => self.accept(event.data.u64() as usize)?,
                    Some(place) => self.turn(place),
                }
            }
        }
    }

    fn accept(&mut self, listener: usize) -> io::Result<()> {
        while let Ok((stream, _)) = self.listeners[listener].accept() {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let place = self.free.pop().unwrap_or_else(|| {
                self.clients.push(None);
                self.clients.len() - 1
            });
            let data = EventData::new_u64((place + self.listeners.len()) as u64);
            epoll::add(&self.epoll, &stream, data, EventFlags::IN)?;
            self.clients[place] = Some((stream, Purpose::Unknown));
        }
        Ok(())
    }

    fn turn(&mut self, place: usize) {
        let Some((stream, purpose)) = &mut self.clients[place] else { return };
        if !receive(stream, purpose, &mut self.buffer).unwrap_or(false) {
            self.clients[place] = None;
            self.free.push(place);
        }
    }
}

/// Takes what is there; false at the end.
fn receive(stream: &mut TcpStream, purpose: &mut Purpose, buffer: &mut [u8]) -> io::Result<bool> {
    if *purpose == Purpose::Discard {
        // Thrown away in the kernel, without a copy.
        return match recv(stream.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC) {
            Ok(read) => {
                ARRIVED.fetch_add(read as u64, Ordering::Relaxed);
                Ok(read > 0)
            }
            Err(nix::Error::EAGAIN) => Ok(true),
            Err(error) => Err(error.into()),
        };
    }
    let read = match stream.read(&mut buffer[..64 << 10]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
        other => other?,
    };
    if *purpose == Purpose::Unknown && read > 0 {
        *purpose = if buffer[0] == ECHO { Purpose::Echo } else { Purpose::Discard };
    }
    match *purpose {
        Purpose::Echo if read > 0 => echo(stream, &buffer[..read])?,
        Purpose::Echo => stream.shutdown(Shutdown::Write)?,
        _ => drop(ARRIVED.fetch_add(read as u64, Ordering::Relaxed)),
    }
    Ok(read > 0)
}

/// Echoes are few; a full socket is waited for.
fn echo(stream: &mut TcpStream, octets: &[u8]) -> io::Result<()> {
    if octets.len() == 1 {
        return stream.write_all(octets);
    }
    stream.set_nonblocking(false)?;
    stream.write_all(octets)?;
    stream.set_nonblocking(true)
}
