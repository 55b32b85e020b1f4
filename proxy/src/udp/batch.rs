//! Datagrams by the batch: received and sent with one system call for up to 32 of them.

use core::array;
use core::ops::Range;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::RawFd;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};

use super::flows::Peer;
use super::socket::{self, Origin};

/// Datagrams in a batch.
pub(super) const LEN: usize = 32;
/// Room for one: more than any datagram holds (65,507 octets over IPv4, 65,527 over IPv6), so none is ever cut.
/// What is not written to is not resident.
const ROOM: usize = 1 << 16;
const FLAGS: MsgFlags = MsgFlags::MSG_DONTWAIT;

type Headers = MultiHeaders<SockaddrStorage>;

/// Buffers of one listener in one worker, made once.
pub(super) struct Batch {
    octets: Box<[u8]>,
    lens: [usize; LEN],
    /// Whose each datagram is; `None` if it came from nowhere, which does not happen.
    pub(super) peers: [Option<Peer>; LEN],
    receive: Headers,
    /// The same with room for a control message.
    receive_asked: Option<Headers>,
    send: Headers,
    send_from: Option<Headers>,
}

impl Batch {
    pub(super) fn new(knows_asked: bool) -> Self {
        let asked = || knows_asked.then(|| Headers::preallocate(LEN, Some(socket::control_room())));
        Self {
            octets: vec![0; LEN * ROOM].into(),
            lens: [0; LEN],
            peers: [None; LEN],
            receive: Headers::preallocate(LEN, None),
            receive_asked: asked(),
            send: Headers::preallocate(LEN, None),
            send_from: asked(),
        }
    }

    /// Receives from clients, at most a batch; returns how many.
    pub(super) fn receive(&mut self, from: RawFd) -> Result<usize, Errno> {
        let knows_asked = self.receive_asked.is_some();
        let headers = self.receive_asked.as_mut().unwrap_or(&mut self.receive);
        let mut rooms = rooms(&mut self.octets);
        let mut count = 0;
        for message in recvmmsg(from, headers, rooms.iter_mut(), FLAGS, None)? {
            let mut asked = None;
            if knows_asked {
                asked = message.cmsgs().ok().and_then(|mut all| all.find_map(|one| socket::asked(&one)));
            }
            let client = message.address.as_ref().and_then(socket::sender);
            self.lens[count] = message.bytes;
            self.peers[count] = client.map(|client| Peer { client, asked });
            count += 1;
        }
        Ok(count)
    }

    /// Receives from an endpoint for `peer` into these places; returns how many.
    pub(super) fn receive_for(
        &mut self,
        peer: Peer,
        from: RawFd,
        places: Range<usize>,
    ) -> Result<usize, Errno> {
        let mut rooms = rooms(&mut self.octets);
        let messages = recvmmsg(from, &mut self.receive, rooms[places.clone()].iter_mut(), FLAGS, None)?;
        let mut count = 0;
        for (message, place) in messages.zip(places) {
            self.lens[place] = message.bytes;
            self.peers[place] = Some(peer);
            count += 1;
        }
        Ok(count)
    }

    /// Sends these to the endpoint that `to` is connected to; returns how many went.
    pub(super) fn send_up(&mut self, to: RawFd, places: Range<usize>) -> Result<usize, Errno> {
        let nowhere = [None; LEN];
        let slices = slices(&self.octets, &self.lens, places.clone());
        let count = places.len();
        Ok(sendmmsg(to, &mut self.send, &slices[..count], &nowhere[..count], [], FLAGS)?.count())
    }

    /// Sends these to their clients, all of which asked the same address; returns how many went.
    pub(super) fn send_down(&mut self, by: RawFd, places: Range<usize>) -> Result<usize, Errno> {
        let peers = &self.peers[places.clone()];
        let mut clients = [None; LEN];
        for (client, peer) in clients.iter_mut().zip(peers) {
            *client = peer.map(|peer| SockaddrStorage::from(peer.client));
        }
        let origin = peers.first().copied().flatten().and_then(|peer| peer.asked).map(Origin::new);
        let slices = slices(&self.octets, &self.lens, places.clone());
        let (slices, clients) = (&slices[..places.len()], &clients[..places.len()]);
        let sent = match (&mut self.send_from, &origin) {
            (Some(headers), Some(origin)) => {
                sendmmsg(by, headers, slices, clients, [origin.message()], FLAGS)?
            }
            _ => sendmmsg(by, &mut self.send, slices, clients, [], FLAGS)?,
        };
        Ok(sent.count())
    }

    /// Octets of these.
    pub(super) fn octets(&self, places: Range<usize>) -> u64 {
        self.lens[places].iter().sum::<usize>() as u64
    }

    /// Where the run of datagrams of the same client that begins at `from` ends.
    pub(super) fn same_peer(&self, from: usize, end: usize) -> usize {
        (from + 1..end).find(|at| self.peers[*at] != self.peers[from]).unwrap_or(end)
    }

    /// Where the run of datagrams that leave from the same address as `from` ends.
    pub(super) fn same_origin(&self, from: usize, end: usize) -> usize {
        let origin = |at: usize| self.peers[at].and_then(|peer| peer.asked);
        (from + 1..end).find(|at| origin(*at) != origin(from)).unwrap_or(end)
    }
}

fn rooms(octets: &mut [u8]) -> [[IoSliceMut<'_>; 1]; LEN] {
    let mut rooms = octets.chunks_exact_mut(ROOM);
    array::from_fn(|_| [IoSliceMut::new(rooms.next().unwrap_or_default())])
}

fn slices<'a>(octets: &'a [u8], lens: &[usize; LEN], places: Range<usize>) -> [[IoSlice<'a>; 1]; LEN] {
    let mut slices = [[IoSlice::new(&[])]; LEN];
    for (slice, place) in slices.iter_mut().zip(places) {
        *slice = [IoSlice::new(&octets[place * ROOM..][..lens[place]])];
    }
    slices
}
