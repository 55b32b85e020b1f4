//! The relay of one listener in one worker: datagrams up, datagrams down, and the flows between.

use core::fmt;
use core::net::SocketAddr;
use core::ops::Range;
use core::time::Duration;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno;
use rustix::event::epoll;
use socket2::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UdpSocket;

use super::batch::{self, Batch};
use super::flows::{Flows, Id, Peer};
use super::{Env, socket};
use crate::balance::hash_address;
use crate::upstream::{Counters, Picked, Refusal};

/// Flows whose replies are looked after in one turn.
const READY_MAX: usize = 32;
/// Replies of one flow in one turn.
const REPLIES_MAX: usize = 8;
/// A flow that was not refused for this long has found its endpoint in order.
const PROOF: Duration = Duration::from_secs(1);
/// While the listener drains, flows that are silent for this long are done.
const DRAIN_IDLE: Duration = Duration::from_secs(1);

/// A listener at work.
pub(super) struct Relay {
    env: Env,
    name: Arc<str>,
    fd: RawFd,
    flows: Flows<Flow>,
    batch: Batch,
    /// Tells whose sockets have replies.
    epoll: OwnedFd,
    /// Time of the last tick.
    now: Instant,
    draining: bool,
}

/// One client's way to an endpoint.
struct Flow {
    socket: Socket,
    picked: Picked,
    begun: Instant,
    /// The endpoint was found in order, which need not be said again.
    proven: bool,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("name", &self.name).field("flows", &self.flows.len()).finish()
    }
}

impl Relay {
    /// A relay without flows for this socket, which must live as long.
    pub(super) fn new(env: Env, name: Arc<str>, socket: &UdpSocket) -> io::Result<Self> {
        let knows_asked = socket.local_addr()?.ip().is_unspecified();
        Ok(Self {
            env,
            name,
            fd: socket.as_raw_fd(),
            flows: Flows::new(),
            batch: Batch::new(knows_asked),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            now: Instant::now(),
            draining: false,
        })
    }

    /// Becomes readable when a flow has replies. One place for all flows to be watched at: neither a task nor the
    /// runtime's own record for each.
    #[expect(
        deprecated,
        reason = "its replacement is unsafe for types whose descriptor may change; an OwnedFd's does not"
    )]
    pub(super) fn replies(&self) -> io::Result<AsyncFd<OwnedFd>> {
        AsyncFd::with_interest(self.epoll.try_clone()?, Interest::READABLE)
    }

    /// One batch each way. True if there may be more.
    pub(super) fn turn(&mut self, socket: &UdpSocket, replies: &AsyncFd<OwnedFd>) -> bool {
        let more = |result: io::Result<()>| match result {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => {
                tracing::debug!(%error, "receiving failed");
                true
            }
        };
        let up = more(socket.try_io(Interest::READABLE, || self.turn_up()));
        let down = more(replies.try_io(Interest::READABLE, |_| self.turn_down()));
        up || down
    }

    /// Passes on one batch from clients. "Would block" if that was all.
    pub(super) fn turn_up(&mut self) -> io::Result<()> {
        let received = self.batch.receive(self.fd)?;
        let mut from = 0;
        while from < received {
            let end = self.batch.same_peer(from, received);
            if let Some(peer) = self.batch.peers[from] {
                self.forward(peer, from..end);
            }
            from = end;
        }
        // Fewer than asked for: the socket is empty, the next datagram makes it readable again.
        if received == batch::LEN { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    /// Sends datagrams of one client to its endpoint.
    fn forward(&mut self, peer: Peer, mut places: Range<usize>) {
        let mut id = self.find(&peer).map_or_else(|| self.begin(peer), Ok);
        let mut again = true;
        while !places.is_empty() {
            let Ok(found) = id else { return self.counters().udp_unserved.add(places.len() as u64) };
            let Some((_, flow)) = self.flows.get(found) else { return };
            match self.batch.send_up(flow.socket.as_raw_fd(), places.clone()) {
                Ok(sent) => {
                    let sent = places.start..(places.start + sent.max(1)).min(places.end);
                    self.counters().udp_datagrams_up.add(sent.len() as u64);
                    self.counters().udp_octets_up.add(self.batch.octets(sent.clone()));
                    places.start = sent.end;
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN | Errno::ENOBUFS) => {
                    return self.counters().udp_dropped.add(places.len() as u64);
                }
                Err(Errno::EMSGSIZE) => {
                    self.counters().udp_dropped.increment();
                    places.start += 1;
                }
                // Told of a datagram before: none of these went out, so they may go to another endpoint.
                Err(error) => {
                    self.refused(found, error);
                    id =
                        if core::mem::take(&mut again) { self.begin(peer) } else { Err(Refusal::NoEndpoint) };
                }
            }
        }
    }

    /// The flow of a client, unless its endpoint has left.
    fn find(&mut self, peer: &Peer) -> Option<Id> {
        let id = self.flows.find(peer)?;
        let now = self.now;
        let flow = self.flows.get_mut(id)?;
        if flow.picked.left_at().is_some() {
            self.end(id);
            return None;
        }
        if !flow.proven && now.saturating_duration_since(flow.begun) >= PROOF {
            flow.proven = true;
            flow.picked.endured(now);
        }
        self.flows.touch(id, now);
        Some(id)
    }

    /// Begins a flow, in the place of the least recently used one if there are as many as there may be.
    fn begin(&mut self, peer: Peer) -> Result<Id, Refusal> {
        if self.draining {
            return Err(Refusal::NoEndpoint);
        }
        let now = Instant::now();
        let (picked, max) = self.pick(peer.client, now).inspect_err(|refusal| {
            tracing::debug!(listener = &*self.name, client = %peer.client, %refusal, "datagram not served");
        })?;
        let socket = self.connect(&picked, now).ok_or(Refusal::NoEndpoint)?;
        while self.flows.len() >= max
            && let Some((oldest, _)) = self.flows.oldest()
        {
            self.counters().udp_evicted.increment();
            self.end(oldest);
        }
        let id = self.flows.add(peer, Flow { socket, picked, begun: now, proven: false }, self.now);
        self.counters().udp_flows.increment();
        self.watch(id);
        Ok(id)
    }

    /// An endpoint of the listener's rule, and how many flows there may be.
    fn pick(&self, client: SocketAddr, now: Instant) -> Result<(Picked, usize), Refusal> {
        let snapshot = self.env.table.load();
        let routes = snapshot.view(self.env.routes);
        let route = routes.tcp(&self.name).ok_or(Refusal::NoTarget)?;
        // Whatever is to be hashed, the client's address stands for it.
        let mut attempts = self.env.upstreams.begin(route, |_| hash_address(client.ip()), now)?;
        let picked = attempts.pick(&snapshot, routes, now)?;
        Ok((picked, routes.config().limits.udp_flows_max.max(1)))
    }

    fn connect(&self, picked: &Picked, now: Instant) -> Option<Socket> {
        let error = match socket::connect(picked.address) {
            Ok(socket) => return Some(socket),
            Err(error) => error,
        };
        tracing::debug!(listener = &*self.name, endpoint = %picked.address, %error, "no socket for a flow");
        self.counters().udp_socket_errors.increment();
        if matches!(error.kind(), io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable) {
            picked.failed(now);
        }
        None
    }

    fn watch(&self, id: Id) {
        let Some((_, flow)) = self.flows.get(id) else { return };
        let data = epoll::EventData::new_u64(id.to_bits());
        if let Err(error) = epoll::add(&self.epoll, flow.socket.as_fd(), data, epoll::EventFlags::IN) {
            // The kernel's limit of watched descriptors: datagrams still go up.
            tracing::debug!(listener = &*self.name, %error, "replies of a flow are not heard");
            self.counters().udp_socket_errors.increment();
        }
    }

    /// Passes on replies of at most [`READY_MAX`] flows. "Would block" if there were none.
    pub(super) fn turn_down(&mut self) -> io::Result<()> {
        let none = epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
        let mut ready = [none; READY_MAX];
        let count = epoll::wait(&self.epoll, &mut ready[..], Some(&rustix::event::Timespec::default()))?;
        let mut filled = 0;
        for event in &ready[..count] {
            if filled == batch::LEN {
                self.reply(filled);
                filled = 0;
            }
            let data = event.data;
            filled += self.receive(Id::from_bits(data.u64()), filled);
        }
        self.reply(filled);
        if count > 0 { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    /// Receives replies of one flow into the places from `from`; returns how many.
    fn receive(&mut self, id: Id, from: usize) -> usize {
        let places = from..(from + REPLIES_MAX).min(batch::LEN);
        // A flow that ended in this turn has no replies.
        let Some((peer, flow)) = self.flows.get(id) else { return 0 };
        let count = match self.batch.receive_for(*peer, flow.socket.as_raw_fd(), places) {
            Ok(count) => count,
            Err(Errno::EINTR | Errno::EAGAIN) => return 0,
            Err(error) => {
                self.refused(id, error);
                return 0;
            }
        };
        self.flows.touch(id, self.now);
        if let Some(flow) = self.flows.get_mut(id).filter(|flow| !flow.proven) {
            let now = Instant::now();
            flow.proven = true;
            flow.picked.succeeded(now.saturating_duration_since(flow.begun), now);
        }
        count
    }

    /// Sends the first `count` datagrams to their clients.
    fn reply(&mut self, count: usize) {
        let mut from = 0;
        while from < count {
            let end = self.batch.same_origin(from, count);
            match self.batch.send_down(self.fd, from..end) {
                Ok(sent) => {
                    let sent = from..(from + sent.max(1)).min(end);
                    self.counters().udp_datagrams_down.add(sent.len() as u64);
                    self.counters().udp_octets_down.add(self.batch.octets(sent.clone()));
                    from = sent.end;
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return self.counters().udp_dropped.add((count - from) as u64),
                Err(_) => {
                    self.counters().udp_dropped.increment();
                    from += 1;
                }
            }
        }
    }

    /// The endpoint does not take what is sent to it.
    fn refused(&mut self, id: Id, error: Errno) {
        let Some((_, flow)) = self.flows.get(id) else { return };
        tracing::debug!(listener = &*self.name, endpoint = %flow.picked.address, %error, "datagrams refused");
        flow.picked.failed(Instant::now());
        self.counters().udp_refused.increment();
        self.end(id);
    }

    /// Ends a flow. The socket's close takes it off the watch.
    fn end(&mut self, id: Id) {
        if let Some(flow) = self.flows.remove(id) {
            flow.picked.stop_waiting();
            self.counters().udp_closed.increment();
        }
    }

    /// Ends flows that were silent for too long.
    pub(super) fn tick(&mut self, now: Instant) {
        self.now = now;
        let idle = if self.draining { DRAIN_IDLE } else { self.idle() };
        while let Some((oldest, used)) = self.flows.oldest()
            && now.saturating_duration_since(used) >= idle
        {
            if let Some((_, flow)) = self.flows.get(oldest).filter(|(_, flow)| !flow.proven) {
                flow.picked.endured(now);
            }
            self.end(oldest);
        }
    }

    fn idle(&self) -> Duration {
        self.env.table.load().view(self.env.routes).config().timeouts.udp_idle
    }

    /// Begins no more flows, and ends those there are when they fall silent.
    pub(super) fn drain(&mut self) {
        self.draining = true;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flows.len() == 0
    }

    fn counters(&self) -> &Counters {
        self.env.upstreams.counters()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.counters().udp_closed.add(self.flows.len() as u64);
    }
}
