//! A TCP relay: one thread, readiness by edges, a read first and `splice` through a pipe once a direction proves bulky.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use socket2::{Domain, Socket, Type};

/// Octets of a pipe, and of one move.
const PIPE: usize = 1 << 20;
const SCRATCH: usize = 64 << 10;
/// Moves of one direction before the others get their turn.
const MOVES_MAX: usize = 16;
const LISTENER: u64 = u64::MAX;

/// A direction: what was taken from one side and the other has not taken yet.
#[derive(Default)]
struct Flow {
    pipe: Option<(OwnedFd, OwnedFd)>,
    in_pipe: usize,
    rest: Vec<u8>,
    ended: bool,
    passed_on: bool,
}

/// Two sockets and the two directions between them; `flows[0]` is from `ends[0]` to `ends[1]`.
struct Pair {
    ends: [TcpStream; 2],
    flows: [Flow; 2],
}

struct Relay {
    epoll: OwnedFd,
    upstreams: Vec<u16>,
    turn: usize,
    pairs: Vec<Option<Pair>>,
    free: Vec<usize>,
    pipes: Vec<(OwnedFd, OwnedFd)>,
    scratch: Vec<u8>,
}

/// Serves on `port`.
pub(super) fn run(port: u16, upstreams: Vec<u16>) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let (pairs, free, pipes) = (Vec::new(), Vec::new(), Vec::new());
    let mut relay = Relay { epoll, upstreams, turn: 0, pairs, free, pipes, scratch: vec![0; SCRATCH] };
    let mut events = Vec::with_capacity(256);
    loop {
        match epoll::wait(&relay.epoll, rustix::buffer::spare_capacity(&mut events), None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        for event in events.drain(..) {
            match event.data.u64() {
                LISTENER => relay.accept(&listener)?,
                place => relay.move_both(place as usize),
            }
        }
    }
}

impl Relay {
    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        while let Ok((client, _)) = listener.accept() {
            let upstream = connect(self.upstreams[self.turn % self.upstreams.len()])?;
            self.turn += 1;
            client.set_nonblocking(true)?;
            client.set_nodelay(true)?;
            let place = self.free.pop().unwrap_or_else(|| {
                self.pairs.push(None);
                self.pairs.len() - 1
            });
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            for end in [&client, &upstream] {
                epoll::add(&self.epoll, end, EventData::new_u64(place as u64), flags)?;
            }
            self.pairs[place] = Some(Pair { ends: [client, upstream], flows: Default::default() });
        }
        Ok(())
    }

    /// Moves what can be moved; a pair that has ended or failed is closed.
    fn move_both(&mut self, place: usize) {
        let Some(pair) = &mut self.pairs[place] else { return };
        let tools = (&mut self.pipes, self.scratch.as_mut_slice());
        let done = move_pair(pair, tools.0, tools.1).unwrap_or(true);
        if done && let Some(pair) = self.pairs[place].take() {
            for flow in pair.flows.into_iter().filter(|flow| flow.in_pipe == 0) {
                self.pipes.extend(flow.pipe);
            }
            self.free.push(place);
        }
    }
}

/// True when both directions have ended.
fn move_pair(pair: &mut Pair, pipes: &mut Vec<(OwnedFd, OwnedFd)>, scratch: &mut [u8]) -> io::Result<bool> {
    let ([client, upstream], [forth, back]) = (&pair.ends, &mut pair.flows);
    for (flow, from, to) in [(forth, client, upstream), (back, upstream, client)] {
        // Readiness comes by edges, so a direction is moved until one of its sides blocks.
        while !flow.ended && flow.turn(from, to, pipes, scratch)? {}
        if flow.ended && flow.in_pipe == 0 && flow.rest.is_empty() && !flow.passed_on {
            flow.passed_on = true;
            let _ = to.shutdown(Shutdown::Write);
        } else if flow.ended {
            flow.flush(to)?;
        }
    }
    Ok(pair.flows.iter().all(|flow| flow.passed_on))
}

impl Flow {
    /// Some moves; true if neither side has blocked.
    fn turn(
        &mut self,
        mut from: &TcpStream,
        mut to: &TcpStream,
        pipes: &mut Vec<(OwnedFd, OwnedFd)>,
        scratch: &mut [u8],
    ) -> io::Result<bool> {
        for _ in 0..MOVES_MAX {
            if !self.flush(to)? {
                return Ok(false);
            }
            if let Some((_, write)) = &self.pipe {
                let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
                let Some(moved) = ready(splice(from, None, write, None, PIPE, flags).map_err(Into::into))?
                else {
                    return Ok(false);
                };
                (self.in_pipe, self.ended) = (moved, moved == 0);
            } else {
                let Some(read) = ready(from.read(scratch))? else { return Ok(false) };
                self.ended = read == 0;
                let sent = if read == 0 { 0 } else { ready(to.write(&scratch[..read]))?.unwrap_or(0) };
                self.rest.extend_from_slice(&scratch[sent..read]);
                if read == SCRATCH {
                    self.pipe = Some(pipes.pop().map_or_else(pipe, Ok)?);
                }
            }
            if self.ended {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// True if nothing waits any more.
    fn flush(&mut self, mut to: &TcpStream) -> io::Result<bool> {
        while !self.rest.is_empty() {
            let Some(sent) = ready(to.write(&self.rest))? else { return Ok(false) };
            self.rest.drain(..sent);
        }
        while self.in_pipe > 0 {
            let Some((read, _)) = &self.pipe else { break };
            let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
            let Some(moved) = ready(splice(read, None, to, None, self.in_pipe, flags).map_err(Into::into))?
            else {
                return Ok(false);
            };
            self.in_pipe -= moved;
        }
        Ok(true)
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
    fcntl_setpipe_size(&write, PIPE)?;
    Ok((read, write))
}

/// Begins a connection; its readiness tells when it stands.
fn connect(port: u16) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking().cloexec(), None)?;
    socket.set_tcp_nodelay(true)?;
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
            Err(error)
        }
        _ => Ok(socket.into()),
    }
}

/// `None` if it would block (or is not connected yet).
fn ready<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
