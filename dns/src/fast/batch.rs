//! Up to 32 packets received, answered and sent with one system call each way.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, sendmmsg};
use tokio::net::UdpSocket;

use super::family::Family;
use super::{Peer, SlowPath};
use crate::Zones;
use crate::answer::{Outcome, Terms, answer, bare};
use crate::gate::{Entry, Gate};
use crate::metrics::Tally;
use crate::wire::{HEADER_LEN, Query, Rcode, Request, error_reply, rtype};

/// Packets in a batch.
pub(super) const LEN: usize = 32;
/// Longest query that is read whole; a longer one is cut and does not parse. Nobody pads beyond the size
/// that we say we take.
const QUERY_LEN: usize = 1280;
/// Replies of one batch stand in one buffer, one behind the other, so that they share cache lines; when the
/// next might not fit, those before it are sent.
const REPLIES_LEN: usize = 64 << 10;

/// Of a packet that cannot be read nothing is known.
const UNKNOWN: Entry = Entry::Pass { cookie: None, known: false };
const NO_TERMS: Terms = Terms::udp(HEADER_LEN, 0);

/// Buffers of one worker's socket, made once.
pub(super) struct Batch<F: Family> {
    queries: Box<[[u8; QUERY_LEN]; LEN]>,
    replies: Box<[u8]>,
    packets: [Packet<F>; LEN],
    received: usize,
    receive: MultiHeaders<F>,
    send: MultiHeaders<F>,
    /// The same with room for a control message.
    send_from: MultiHeaders<F>,
    knows_asked: bool,
    rotation: u32,
}

/// A received packet.
#[derive(Clone, Copy)]
struct Packet<F: Family> {
    len: usize,
    client: Option<F>,
    asked: Option<F::Info>,
}

/// Replies that wait to be sent.
struct Waiting<F: Family> {
    count: usize,
    /// Octets used in the buffer.
    used: usize,
    ends: [usize; LEN],
    clients: [Option<F>; LEN],
    asked: [Option<F::Info>; LEN],
}

impl<F: Family> Batch<F> {
    pub(super) fn new(knows_asked: bool, rotation: u32) -> Self {
        let control = || knows_asked.then(F::control);
        Self {
            queries: Box::new([[0; QUERY_LEN]; LEN]),
            replies: vec![0; REPLIES_LEN].into(),
            packets: [Packet { len: 0, client: None, asked: None }; LEN],
            received: 0,
            receive: MultiHeaders::preallocate(LEN, control()),
            send: MultiHeaders::preallocate(LEN, None),
            send_from: MultiHeaders::preallocate(LEN, control()),
            knows_asked,
            rotation,
        }
    }

    /// Receives what is there, at most a batch; returns how many.
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.received = 0;
        let mut slices = self.queries.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
        let flags = MsgFlags::MSG_DONTWAIT;
        let received = recvmmsg(socket.as_raw_fd(), &mut self.receive, &mut slices, flags, None)?;
        for (message, packet) in received.zip(&mut self.packets) {
            packet.len = message.bytes;
            packet.client = message.address;
            packet.asked = if self.knows_asked {
                message.cmsgs().ok().and_then(|mut all| all.find_map(|message| F::info(&message)))
            } else {
                None
            };
            self.received += 1;
        }
        Ok(self.received)
    }

    /// Answers what was received and sends the replies.
    pub(super) fn answer(
        &mut self,
        socket: &UdpSocket,
        zones: &Zones,
        (slow, gate): (&impl SlowPath, &mut Gate),
        tally: &mut Tally,
    ) {
        let (udp_size, forwards) = (slow.udp_size_max(), slow.forwards());
        let reply_max = usize::from(udp_size).clamp(crate::wire::UDP_SIZE_PLAIN, REPLIES_LEN);
        let mut waiting = Waiting::new();
        for index in 0..self.received {
            if REPLIES_LEN - waiting.used < reply_max {
                self.flush(socket, &mut waiting, tally);
            }
            let packet = self.packets[index];
            let Some(client) = packet.client else { continue };
            let octets = &self.queries[index][..packet.len];
            let room = &mut self.replies[waiting.used..];
            let len = match Request::read(octets) {
                Request::Ignore => {
                    tally.ignored();
                    0
                }
                Request::Malformed(rcode) => {
                    let len = error_reply(octets, rcode, room);
                    let client = client.client().ip();
                    let len = gate.limit((rcode, len), client, None, (&NO_TERMS, &UNKNOWN), (room, tally));
                    if len > 0 {
                        tally.reply(rcode, false);
                    }
                    len
                }
                Request::Question(query) => {
                    self.rotation = self.rotation.wrapping_add(1);
                    let asker = Asker { slow, client: &client, asked: packet.asked.as_ref() };
                    asker.answer((zones, gate), &query, (udp_size, forwards, self.rotation), room, tally)
                }
            };
            if len >= HEADER_LEN {
                waiting.push(len, client, packet.asked);
            }
        }
        self.flush(socket, &mut waiting, tally);
    }

    /// Sends the waiting replies. One that the kernel refuses is left out, the others go on.
    fn flush(&mut self, socket: &UdpSocket, waiting: &mut Waiting<F>, tally: &mut Tally) {
        let mut from = 0;
        while from < waiting.count {
            let until = waiting.run(from);
            match self.send_run(socket, waiting, from, until) {
                Ok(sent) => from += sent.max(1),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    tally.send_failures((waiting.count - from) as u32);
                    break;
                }
                Err(_) => {
                    tally.send_failures(1);
                    from += 1;
                }
            }
        }
        waiting.clear();
    }

    /// Sends replies `from..until`, which all leave from one address; returns how many went.
    fn send_run(
        &mut self,
        socket: &UdpSocket,
        waiting: &Waiting<F>,
        from: usize,
        until: usize,
    ) -> Result<usize, Errno> {
        let mut slices = [[IoSlice::new(&[])]; LEN];
        for (slice, index) in slices.iter_mut().zip(from..until) {
            *slice = [IoSlice::new(&self.replies[waiting.range(index)])];
        }
        let (slices, clients) = (&slices[..until - from], &waiting.clients[from..until]);
        let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        let sent = match &waiting.asked[from] {
            Some(info) => sendmmsg(fd, &mut self.send_from, slices, clients, [F::message(info)], flags)?,
            None => sendmmsg(fd, &mut self.send, slices, clients, [], flags)?,
        };
        Ok(sent.count())
    }
}

/// One client's question.
struct Asker<'a, F: Family, S> {
    slow: &'a S,
    client: &'a F,
    asked: Option<&'a F::Info>,
}

impl<F: Family, S: SlowPath> Asker<'_, F, S> {
    /// Writes the reply; its length, or 0 if there is none: the slow path has taken the query, or nobody answers it.
    #[inline]
    fn answer(
        &self,
        (zones, gate): (&Zones, &mut Gate),
        query: &Query<'_>,
        (udp_size, forwards, rotation): (u16, bool, u32),
        room: &mut [u8],
        tally: &mut Tally,
    ) -> usize {
        tally.query(query.qtype());
        let client = self.client.client();
        let entry = gate.enter(query, client.ip(), tally);
        let terms = Terms {
            size_max: query.udp_limit(udp_size) - entry.reserve(),
            udp_size,
            recursion_available: forwards && self.slow.offers_recursion(client.ip()),
            stream: false,
            client: Some(client.ip()),
        };
        let written = match entry {
            Entry::Drop => return 0,
            Entry::Refuse { rcode, .. } => bare(query, rcode, &terms, room),
            Entry::Pass { known, .. } => {
                let peer = Peer { client, asked: self.asked.map(F::asked), known };
                let special = query.is_signed() || query.qtype() == rtype::IXFR;
                if special && self.slow.take_special(query, peer) {
                    return 0;
                }
                match answer(zones, query, &terms, rotation, room) {
                    Outcome::Reply(written) => written,
                    Outcome::Silence => return 0,
                    Outcome::NotOurs if forwards && self.slow.take(query, peer) => {
                        tally.handed_over();
                        return 0;
                    }
                    Outcome::NotOurs => bare(query, Rcode::Refused, &terms, room),
                }
            }
        };
        let len = entry.finish(room, written.len);
        let outcome = (written.rcode, len);
        let len = gate.limit(outcome, client.ip(), Some(query), (&terms, &entry), (room, tally));
        if len > 0 {
            tally.reply(written.rcode, written.truncated);
        }
        len
    }
}

impl<F: Family> Waiting<F> {
    fn new() -> Self {
        Self { count: 0, used: 0, ends: [0; LEN], clients: [None; LEN], asked: [None; LEN] }
    }

    fn clear(&mut self) {
        self.count = 0;
        self.used = 0;
    }

    #[inline]
    fn push(&mut self, len: usize, client: F, asked: Option<F::Info>) {
        self.used += len;
        self.ends[self.count] = self.used;
        self.clients[self.count] = Some(client);
        self.asked[self.count] = asked;
        self.count += 1;
    }

    fn range(&self, index: usize) -> core::ops::Range<usize> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        start..self.ends[index]
    }

    /// Where the run of replies that leave from the same address as `from` ends.
    fn run(&self, from: usize) -> usize {
        let address = |index: usize| self.asked[index].as_ref().map(F::asked);
        let first = address(from);
        (from + 1..self.count).find(|index| address(*index) != first).unwrap_or(self.count)
    }
}
