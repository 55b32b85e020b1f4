//! A DNS load generator: one socket, 256 queries outstanding, batches both ways, every answer checked.

use std::io::{IoSlice, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg, setsockopt, sockopt};

use super::measure::{Sample, Server};
use super::servers::{ADDRESSES, NAMES};

/// Queries outstanding; refilled by halves, so that a server sees batches.
const WINDOW: usize = 256;
const BATCH: usize = WINDOW / 2;
/// Distinct queries prepared beforehand.
const QUERIES: usize = 65_536;
/// A query without an answer for this long is lost.
const LOST: Duration = Duration::from_millis(500);

/// A queries of the whole zone, a fifth of them for names that do not exist.
pub(crate) fn a(server: &Server, time: Duration) -> Result<Sample, String> {
    run(server.port, time, 1, "svc")
}

/// SRV queries likewise.
pub(crate) fn srv(server: &Server, time: Duration) -> Result<Sample, String> {
    run(server.port, time, 33, "_http._tcp.svc")
}

/// True if the last name of the zone is answered in full.
pub(crate) fn answers(port: u16) -> bool {
    let Ok(socket) = UdpSocket::bind("127.0.0.1:0") else { return false };
    let mut query = Vec::new();
    compose(&mut query, &format!("svc{NAMES:05}.svc.cluster"), 1);
    let mut reply = [0; 1500];
    let wait = socket.set_read_timeout(Some(Duration::from_millis(200)));
    wait.is_ok()
        && socket.send_to(&query, ("127.0.0.1", port)).is_ok()
        && socket.recv(&mut reply).is_ok()
        && reply[3] & 15 == 0
        && reply[7] == ADDRESSES
}

struct Query {
    bytes: Vec<u8>,
    exists: bool,
}

fn compose(out: &mut Vec<u8>, name: &str, kind: u16) {
    out.extend_from_slice(&[0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    for label in name.split('.') {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&[0, 1]);
    out.extend_from_slice(&[0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]);
}

fn queries(kind: u16, prefix: &str) -> Vec<Query> {
    let mut random = fastrand::Rng::with_seed(7);
    let one = |_| {
        let exists = random.u32(..5) != 0;
        // What does not exist has the same shape and length.
        let number = random.usize(1..=NAMES) + if exists { 0 } else { 50_000 };
        let mut bytes = Vec::new();
        compose(&mut bytes, &format!("{prefix}{number:05}.svc.cluster"), kind);
        Query { bytes, exists }
    };
    (0..QUERIES).map(one).collect()
}

fn run(port: u16, time: Duration, kind: u16, prefix: &str) -> Result<Sample, String> {
    let text = |error: &dyn std::fmt::Display| format!("DNS load: {error}");
    let socket = UdpSocket::bind("127.0.0.1:0").map_err(|e| text(&e))?;
    socket.connect(("127.0.0.1", port)).map_err(|e| text(&e))?;
    socket.set_nonblocking(true).map_err(|e| text(&e))?;
    setsockopt(&socket, sockopt::RcvBuf, &(4 << 20)).map_err(|e| text(&e))?;
    let mut load = Load::new(queries(kind, prefix));
    load.run(&socket, time).map_err(|e| text(&e))
}

/// The state of a run. The id of a query is its place in the window, so an answer finds what was asked.
struct Load {
    queries: Vec<Query>,
    next: usize,
    asked: Vec<usize>,
    free: Vec<u16>,
    out: Vec<[u8; 128]>,
    lengths: Vec<usize>,
    input: Vec<[u8; 1500]>,
    operations: u64,
    errors: u64,
}

impl Load {
    fn new(queries: Vec<Query>) -> Self {
        Self {
            queries,
            next: 0,
            asked: vec![0; WINDOW],
            free: (0..WINDOW as u16).collect(),
            out: vec![[0; 128]; BATCH],
            lengths: vec![0; BATCH],
            input: vec![[0; 1500]; BATCH],
            operations: 0,
            errors: 0,
        }
    }

    fn run(&mut self, socket: &UdpSocket, time: Duration) -> nix::Result<Sample> {
        let begin = Instant::now();
        let mut last = begin;
        let mut turns = 0_u32;
        loop {
            if self.free.len() >= BATCH {
                self.send(socket)?;
            }
            let received = self.receive(socket)?;
            turns = turns.wrapping_add(1);
            if received > 0 || turns.is_multiple_of(64) {
                let now = Instant::now();
                if received > 0 {
                    last = now;
                } else if now - last > LOST {
                    // Everything outstanding is lost: count it and begin anew.
                    self.errors += (WINDOW - self.free.len()) as u64;
                    self.free = (0..WINDOW as u16).collect();
                    last = now;
                }
                if now - begin > time {
                    return Ok(self.sample());
                }
            }
        }
    }

    fn sample(&self) -> Sample {
        Sample {
            operations: self.operations as f64,
            errors: self.errors,
            seconds: 0.0,
            server: 0.0,
            load: 0.0,
            resident: 0,
        }
    }

    fn send(&mut self, socket: &UdpSocket) -> nix::Result<()> {
        for slot in 0..BATCH {
            let Some(id) = self.free.pop() else { break };
            let query = &self.queries[self.next].bytes;
            self.out[slot][..query.len()].copy_from_slice(query);
            self.out[slot][..2].copy_from_slice(&id.to_be_bytes());
            self.lengths[slot] = query.len();
            self.asked[usize::from(id)] = self.next;
            self.next = (self.next + 1) % self.queries.len();
        }
        let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
        let slices: Vec<[IoSlice<'_>; 1]> =
            self.out.iter().zip(&self.lengths).map(|(bytes, len)| [IoSlice::new(&bytes[..*len])]).collect();
        let nowhere = vec![None; BATCH];
        let sent =
            sendmmsg(socket.as_raw_fd(), &mut headers, &slices, &nowhere, [], MsgFlags::empty())?.count();
        assert_eq!(sent, BATCH, "the send buffer holds a batch");
        Ok(())
    }

    fn receive(&mut self, socket: &UdpSocket) -> nix::Result<usize> {
        let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
        let mut slices: Vec<[IoSliceMut<'_>; 1]> =
            self.input.iter_mut().map(|b| [IoSliceMut::new(b)]).collect();
        let lengths: Vec<usize> =
            match recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None)
            {
                Ok(messages) => messages.map(|message| message.bytes).collect(),
                Err(nix::Error::EAGAIN) => return Ok(0),
                Err(error) => return Err(error),
            };
        for (slot, len) in lengths.iter().enumerate() {
            let reply = &self.input[slot][..*len];
            let id = u16::from_be_bytes([reply[0], reply[1]]);
            let exists = self.queries[self.asked[usize::from(id) % WINDOW]].exists;
            let right = match (exists, reply[3] & 15) {
                (true, 0) => reply[7] == ADDRESSES && reply[2] & 2 == 0,
                (false, 3) => reply[7] == 0,
                _ => false,
            };
            self.errors += u64::from(!right);
            self.operations += 1;
            self.free.push(id);
        }
        Ok(lengths.len())
    }
}
