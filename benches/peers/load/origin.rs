//! HTTP upstreams with one canned answer: one thread, edge-triggered, as little work as possible.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};

/// What bodies consist of.
pub(crate) const BODY: u8 = b'x';
/// Endpoints behind every proxy.
pub(crate) const UPSTREAMS: usize = 4;
const HEAD_END: &[u8; 4] = b"\r\n\r\n";

/// Starts upstreams that answer with `body` octets, on a thread of this process; returns their ports.
pub(crate) fn start(body: usize) -> Result<Vec<u16>, String> {
    let text = |e: io::Error| format!("upstreams: {e}");
    let listeners = (0..UPSTREAMS)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<io::Result<Vec<_>>>()
        .map_err(text)?;
    let ports = listeners.iter().map(|listener| listener.local_addr().map(|address| address.port()));
    let ports = ports.collect::<io::Result<Vec<_>>>().map_err(text)?;
    let mut origin = Origin::new(listeners, body).map_err(text)?;
    std::thread::spawn(move || origin.serve().expect("the upstreams serve"));
    Ok(ports)
}

/// One client of an upstream.
struct Client {
    stream: TcpStream,
    /// Octets of the end of a head that have been seen.
    matched: usize,
    /// Octets of answers that are due.
    due: usize,
}

struct Origin {
    epoll: OwnedFd,
    listeners: Vec<TcpListener>,
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    answer: Vec<u8>,
}

impl Origin {
    fn new(listeners: Vec<TcpListener>, body: usize) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (place, listener) in listeners.iter().enumerate() {
            listener.set_nonblocking(true)?;
            epoll::add(&epoll, listener, EventData::new_u64(place as u64), EventFlags::IN)?;
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {body}\r\n\r\n");
        let answer = [head.as_bytes(), &vec![BODY; body]].concat();
        Ok(Self { epoll, listeners, clients: Vec::new(), free: Vec::new(), answer })
    }

    fn serve(&mut self) -> io::Result<()> {
        let (mut events, mut buffer) = (Vec::with_capacity(256), vec![0; 64 << 10]);
        loop {
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            for event in events.drain(..) {
                match (event.data.u64() as usize).checked_sub(self.listeners.len()) {
                    None => self.accept(event.data.u64() as usize)?,
                    Some(place) => self.turn(place, &mut buffer),
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
            epoll::add(&self.epoll, &stream, data, EventFlags::IN | EventFlags::OUT | EventFlags::ET)?;
            self.clients[place] = Some(Client { stream, matched: 0, due: 0 });
        }
        Ok(())
    }

    fn turn(&mut self, place: usize, buffer: &mut [u8]) {
        let Some(client) = &mut self.clients[place] else { return };
        if client.turn(buffer, &self.answer).is_err() {
            self.clients[place] = None;
            self.free.push(place);
        }
    }
}

impl Client {
    /// Reads what is there and writes what can be written; an error ends it.
    fn turn(&mut self, buffer: &mut [u8], answer: &[u8]) -> io::Result<()> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    let heads = self.heads(&buffer[..read]);
                    self.due += heads * answer.len();
                    // A short read has emptied the socket; what comes later is another edge.
                    if read < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        while self.due > 0 {
            let from = (answer.len() - self.due % answer.len()) % answer.len();
            match self.stream.write(&answer[from..]) {
                Ok(written) => self.due -= written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Ends of heads; requests of the load have no bodies.
    fn heads(&mut self, octets: &[u8]) -> usize {
        let mut heads = 0;
        for &octet in octets {
            self.matched =
                if octet == HEAD_END[self.matched] { self.matched + 1 } else { usize::from(octet == b'\r') };
            if self.matched == HEAD_END.len() {
                (heads, self.matched) = (heads + 1, 0);
            }
        }
        heads
    }
}
