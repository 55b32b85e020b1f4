//! A DNS load generator: 256 queries outstanding, batches both ways, every answer checked. Without a rate it keeps its
//! window full and refills it by halves, so that a server sees batches; with one it asks when a query is due, whether or not
//! the last has been answered, and takes latency from then.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg, setsockopt, sockopt};

use super::questions::Questions;
pub(crate) use super::questions::wire;
use crate::sample::{Latencies, Outcome};

const WINDOW: usize = 256;
const BATCH: usize = WINDOW / 2;
/// Octets of the largest query.
const QUERY_MAX: usize = 128;
/// A query without an answer for this long is lost.
const LOST: Duration = Duration::from_millis(500);
/// One answer of so many is compared address by address.
const CLOSELY: u64 = 64;

/// How to ask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// Client sockets; several, so that the kernel spreads them over a server's sockets.
    pub(crate) sockets: usize,
    /// Queries per second.
    pub(crate) rate: Option<f64>,
}

/// Asks the server at `port` for `time`.
pub(crate) fn run(
    port: u16,
    time: Duration,
    questions: &Questions,
    manner: Manner,
) -> Result<Outcome, String> {
    let lanes = (0..manner.sockets).map(|number| Lane::new(port, number, WINDOW / manner.sockets));
    let lanes = lanes.collect::<io::Result<Vec<_>>>().map_err(|e| format!("DNS load: {e}"))?;
    let mut load = Load::new(questions, manner, time);
    load.run(lanes, time).map_err(|e| format!("DNS load: {e}"))
}

/// A socket and the ids of its part of the window that are free.
struct Lane {
    socket: UdpSocket,
    ids: std::ops::Range<u16>,
    free: Vec<u16>,
}

impl Lane {
    fn new(port: u16, number: usize, window: usize) -> io::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(("127.0.0.1", port))?;
        socket.set_nonblocking(true)?;
        setsockopt(&socket, sockopt::RcvBuf, &(4 << 20))?;
        let ids = (number * window) as u16..((number + 1) * window) as u16;
        Ok(Self { socket, free: ids.clone().collect(), ids })
    }

    fn outstanding(&self) -> usize {
        self.ids.len() - self.free.len()
    }
}

/// The state of a run. The id of a query is its place in the window, so an answer finds what was asked.
struct Load<'a> {
    questions: &'a Questions,
    rate: Option<f64>,
    next: usize,
    sent: u64,
    begin: Instant,
    asked: [(usize, Instant); WINDOW],
    out: Box<[[u8; QUERY_MAX]; BATCH]>,
    input: Box<[[u8; 1500]; BATCH]>,
    headers: MultiHeaders<SockaddrIn>,
    latencies: Latencies,
    operations: u64,
    errors: u64,
}

impl<'a> Load<'a> {
    fn new(questions: &'a Questions, manner: Manner, time: Duration) -> Self {
        let begin = Instant::now();
        Self {
            questions,
            rate: manner.rate,
            // Another place each time, so that a short warm-up does not warm what is measured.
            next: (time.as_millis() as usize * 7919) % questions.count(),
            sent: 0,
            begin,
            asked: [(0, begin); WINDOW],
            out: Box::new([[0; QUERY_MAX]; BATCH]),
            input: Box::new([[0; 1500]; BATCH]),
            headers: MultiHeaders::preallocate(BATCH, None),
            latencies: Latencies::default(),
            operations: 0,
            errors: 0,
        }
    }

    fn run(&mut self, mut lanes: Vec<Lane>, time: Duration) -> nix::Result<Outcome> {
        self.begin = Instant::now();
        let (end, mut last, mut now) = (self.begin + time, self.begin, self.begin);
        loop {
            let open = now < end;
            if !open && lanes.iter().all(|lane| lane.outstanding() == 0) {
                break;
            }
            let mut received = 0;
            for lane in &mut lanes {
                if open {
                    self.refill(lane, now)?;
                }
                received += self.receive(lane)?;
            }
            now = Instant::now();
            if received > 0 {
                last = now;
            } else if now - last > LOST {
                // Everything outstanding is lost: count it and begin anew.
                for lane in &mut lanes {
                    self.errors += lane.outstanding() as u64;
                    lane.free = lane.ids.clone().collect();
                }
                last = now;
            }
        }
        let (p50, p99) = match self.rate {
            Some(_) => (self.latencies.at(0.5), self.latencies.at(0.99)),
            None => (None, None),
        };
        Ok(Outcome { operations: self.operations as f64, errors: self.errors, p50, p99 })
    }

    /// Sends what is due.
    fn refill(&mut self, lane: &mut Lane, now: Instant) -> nix::Result<()> {
        let half = lane.ids.len() / 2;
        let count = match self.rate {
            None if lane.free.len() >= half => half,
            None => 0,
            Some(rate) => {
                let due = ((now - self.begin).as_secs_f64() * rate) as u64;
                (due.saturating_sub(self.sent) as usize).min(lane.free.len()).min(BATCH)
            }
        };
        if count == 0 { Ok(()) } else { self.send(lane, count, now) }
    }

    fn send(&mut self, lane: &mut Lane, count: usize, now: Instant) -> nix::Result<()> {
        let len = self.questions.len();
        for slot in 0..count {
            let Some(id) = lane.free.pop() else { break };
            let out = &mut self.out[slot];
            out[..len].copy_from_slice(self.questions.query(self.next));
            out[..2].copy_from_slice(&id.to_be_bytes());
            let due = self.rate.map(|rate| self.begin + Duration::from_secs_f64(self.sent as f64 / rate));
            self.asked[usize::from(id)] = (self.next, due.unwrap_or(now));
            self.next = (self.next + 1) % self.questions.count();
            self.sent += 1;
        }
        let mut slices = [[IoSlice::new(&[])]; BATCH];
        for (slice, bytes) in slices.iter_mut().zip(self.out.iter()) {
            *slice = [IoSlice::new(&bytes[..len])];
        }
        let (fd, flags) = (lane.socket.as_raw_fd(), MsgFlags::empty());
        let sent = sendmmsg(fd, &mut self.headers, &slices[..count], [None; BATCH], [], flags)?.count();
        assert_eq!(sent, count, "the send buffer holds a batch");
        Ok(())
    }

    fn receive(&mut self, lane: &mut Lane) -> nix::Result<usize> {
        let mut lengths = [0; BATCH];
        let mut count = 0;
        {
            let mut slices = self.input.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
            let (fd, flags) = (lane.socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
            match recvmmsg(fd, &mut self.headers, &mut slices, flags, None) {
                Ok(messages) => {
                    for (message, len) in messages.zip(&mut lengths) {
                        *len = message.bytes;
                        count += 1;
                    }
                }
                Err(nix::Error::EAGAIN) => return Ok(0),
                Err(error) => return Err(error),
            }
        }
        let now = Instant::now();
        for (slot, len) in lengths.into_iter().take(count).enumerate() {
            let reply = &self.input[slot][..len];
            let id = reply.get(..2).map_or(u16::MAX, |id| u16::from_be_bytes([id[0], id[1]]));
            if !lane.ids.contains(&id) || lane.free.len() == lane.ids.len() {
                self.errors += 1;
                continue;
            }
            let (asked, due) = self.asked[usize::from(id)];
            let closely = self.operations.is_multiple_of(CLOSELY);
            self.errors += u64::from(!self.questions.right(asked, reply, closely));
            self.operations += 1;
            if self.rate.is_some() {
                self.latencies.add(now - due);
            }
            lane.free.push(id);
        }
        Ok(count)
    }
}
