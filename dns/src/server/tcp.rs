//! DNS over TCP (RFC 1035 §4.2.2, RFC 7766), with a limit on everything a client can make us hold.
//!
//! ```text
//!            octets                 whole message          reply at once, or when it comes
//!  reading ─────────► input, a query ─────────────► handler ───────────────────────────────► output ─► writing
//!     ▲                                            ≤ PIPELINE_MAX in progress                            │
//!     └──────────────── nothing is read while replies wait for the client to take them ──────────────────┘
//! ```
//!
//! A connection ends when the client closes it, when no whole query comes for `tcp_idle` while none is in progress,
//! when replies are not taken for `tcp_idle`, on what is no DNS message, or when it is the oldest idle one and
//! a new one needs its place.

use core::cell::{Cell, RefCell};
use core::future::Future;
use core::net::SocketAddr;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Buf, BytesMut};
use hickory_server::net::xfer::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::metrics::Closed;
use super::pace::Pace;
use super::reply::Reply;
use super::{DRAIN_MAX, Server};
use crate::metrics::{Cells, Tally, Transport};
use crate::transfer::Messages;
use crate::wire::{HEADER_LEN, Rcode, error_reply};

/// Longest query taken. UDP's are no longer; only updates, which we don't serve, could be.
const QUERY_LEN_MAX: usize = 4096;

/// Read at least so much at once, if it is there.
const READ_LEN: usize = 1024;

/// Queries of one connection in progress at once; more wait in the kernel's buffer.
const PIPELINE_MAX: usize = 64;

/// Replies are written when there are so many octets of them, or nothing more to answer.
const OUTPUT_FLUSH: usize = 32 * 1024;

/// What a client that sent nonsense may still send before the connection is closed for good.
const PART_OCTETS_MAX: usize = 256 * 1024;
const PART_TIME_MAX: Duration = Duration::from_secs(1);

/// After the kernel refused a connection (no file descriptors, no memory) it is asked again this much later.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts and serves until `stop`, then drains.
pub(super) async fn serve(
    server: Arc<Server>,
    listener: TcpListener,
    cells: Arc<Cells>,
    stop: CancellationToken,
) {
    let open = Rc::new(Open { cells, places: RefCell::default(), last: Cell::new(0) });
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // Cancel-safe, all: a connection not yet accepted stays in the backlog.
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, client)) => {
                    if let Some(place) = Place::take(&server, &open) {
                        server.metrics.accepted("served");
                        connections.spawn_local(Connection::new(stream, client, place).run(stop.clone()));
                    } else {
                        server.metrics.accepted("refused");
                    }
                }
                Err(error) => {
                    server.metrics.accepted("failed");
                    tracing::debug!(%error, "TCP connection not accepted");
                    if !is_of_one_connection(&error) {
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_MAX, drained).await.is_err() {
        tracing::info!(connections = connections.len(), "TCP connections cut off at the end of draining");
        connections.shutdown().await;
    }
}

/// True for errors of the connection that was to be accepted, after which the next may be fine (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// One worker's open connections of one listener.
struct Open {
    cells: Arc<Cells>,
    places: RefCell<HashMap<u64, Rc<Activity>>>,
    last: Cell<u64>,
}

/// What is known of a connection from outside.
struct Activity {
    /// Since when it waits for a query; `None` while one is in progress.
    idle_since: Cell<Option<Instant>>,
    evicted: CancellationToken,
}

impl Activity {
    fn note(&self, busy: bool) {
        match (busy, self.idle_since.get()) {
            (true, _) => self.idle_since.set(None),
            (false, None) => self.idle_since.set(Some(Instant::now())),
            (false, Some(_)) => {}
        }
    }
}

impl Open {
    /// Closes the connection that has been idle for longest; `false` if none is.
    fn evict(&self) -> bool {
        let places = self.places.borrow();
        let idle = places.values().filter(|activity| !activity.evicted.is_cancelled());
        let oldest = idle
            .filter_map(|activity| Some((activity.idle_since.get()?, activity)))
            .min_by_key(|idle| idle.0);
        oldest.inspect(|(_, activity)| activity.evicted.cancel()).is_some()
    }
}

/// A connection's place among `tcp_connections_max`. Freed when dropped.
struct Place {
    server: Arc<Server>,
    open: Rc<Open>,
    id: u64,
    activity: Rc<Activity>,
}

impl Place {
    /// A place, if need be that of the oldest idle connection of this worker, which closes right after; so the limit
    /// is passed for that moment only.
    fn take(server: &Arc<Server>, open: &Rc<Open>) -> Option<Self> {
        let max = server.limits.load().connections_max;
        if server.connections.fetch_add(1, Ordering::Relaxed) >= max && !(max > 0 && open.evict()) {
            server.connections.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let id = open.last.get() + 1;
        open.last.set(id);
        let activity = Rc::new(Activity {
            idle_since: Cell::new(Some(Instant::now())),
            evicted: CancellationToken::new(),
        });
        open.places.borrow_mut().insert(id, Rc::clone(&activity));
        server.metrics.connections.inc();
        Some(Self { server: Arc::clone(server), open: Rc::clone(open), id, activity })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.server.connections.fetch_sub(1, Ordering::Relaxed);
        self.server.metrics.connections.dec();
        self.open.places.borrow_mut().remove(&self.id);
    }
}

type Pending = Pin<Box<dyn Future<Output = Option<Reply>>>>;

/// One connection.
struct Connection {
    stream: TcpStream,
    client: SocketAddr,
    place: Place,
    idle: Duration,
    input: BytesMut,
    output: Vec<u8>,
    in_progress: JoinSet<Option<Reply>>,
    /// Transfers whose messages are still to come; the first one's go first.
    transfers: VecDeque<Messages>,
    /// Of the first of them.
    pace: Pace,
}

/// What stands at the front of the input.
enum Front {
    Whole(Vec<u8>),
    Partial,
    TooShort,
    TooLong,
}

impl Connection {
    fn new(stream: TcpStream, client: SocketAddr, place: Place) -> Self {
        let idle = place.server.limits.load().idle;
        Self {
            stream,
            client,
            place,
            idle,
            input: BytesMut::new(),
            output: Vec::new(),
            in_progress: JoinSet::new(),
            transfers: VecDeque::new(),
            pace: Pace::default(),
        }
    }

    async fn run(mut self, stop: CancellationToken) {
        // Replies are written whole; waiting for more would only delay them.
        let _ = self.stream.set_nodelay(true);
        let (Ok(reason) | Err(reason)) = self.converse(stop).await;
        if reason == Closed::Malformed {
            self.part().await;
        }
        self.place.server.metrics.closed(reason);
    }

    /// Reads, answers and writes until there is a reason to close.
    async fn converse(&mut self, stop: CancellationToken) -> Result<Closed, Closed> {
        let evicted = self.place.activity.evicted.clone();
        let mut ending = None;
        let mut deadline = Instant::now() + self.idle;
        loop {
            if let Err(reason) = self.answer_input() {
                ending = Some(reason);
            }
            if !self.output.is_empty() {
                self.flush(&evicted).await?;
                deadline = Instant::now() + self.idle;
                self.place.activity.idle_since.set(None);
                continue;
            }
            let busy = !self.in_progress.is_empty() || !self.transfers.is_empty();
            if let (Some(reason), false) = (ending, busy) {
                return Ok(reason);
            }
            self.place.activity.note(busy);
            let replies = self.in_progress.len() + self.transfers.len();
            let may_read = ending.is_none() && replies < PIPELINE_MAX;
            self.input.reserve(READ_LEN);
            tokio::select! {
                // Cancel-safe, all: octets read are in the input, replies that are ready stay in the set.
                () = evicted.cancelled() => return Ok(Closed::Evicted),
                () = stop.cancelled(), if ending.is_none() => ending = Some(Closed::Stopped),
                message = next_message(&mut self.transfers), if !self.transfers.is_empty() => {
                    if let Some(message) = message {
                        if !self.pace.is_kept(message.len(), Instant::now()) {
                            return Ok(Closed::Slow);
                        }
                        self.frame(&message);
                    } else {
                        self.pace = Pace::default();
                    }
                }
                Some(reply) = self.in_progress.join_next() => {
                    if let Some(reply) = reply.ok().flatten() {
                        self.put(reply);
                    }
                }
                read = self.stream.read_buf(&mut self.input), if may_read => match read {
                    Ok(0) => ending = Some(Closed::Client),
                    Ok(_) => {}
                    Err(_) => return Ok(Closed::Broken),
                },
                () = tokio::time::sleep_until(deadline), if !busy => return Ok(Closed::Idle),
            }
        }
    }

    /// Takes whole queries from the input while there is room for their replies. An error on what is no query: there
    /// is no telling where the next one would begin, or what the client would make of an answer.
    fn answer_input(&mut self) -> Result<(), Closed> {
        while self.in_progress.len() + self.transfers.len() < PIPELINE_MAX && self.output.len() < OUTPUT_FLUSH
        {
            let packet = match front(&mut self.input) {
                Front::Whole(packet) => packet,
                Front::Partial => break,
                Front::TooShort => {
                    self.count(|tally| tally.ignored());
                    return Err(Closed::Malformed);
                }
                Front::TooLong => {
                    self.refuse_long();
                    return Err(Closed::Malformed);
                }
            };
            let (server, client) = (Arc::clone(&self.place.server), self.client);
            let mut reply: Pending =
                Box::pin(async move { server.handler.reply(&packet, client, Protocol::Tcp).await });
            // Nearly all are answered without waiting. A waker is not missed: a task polls again from the start.
            match reply.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Some(reply)) if reply.is_silence() => {
                    self.put(reply);
                    return Err(Closed::Denied);
                }
                Poll::Ready(Some(reply)) => self.put(reply),
                Poll::Ready(None) => {
                    self.count(|tally| tally.ignored());
                    return Err(Closed::Malformed);
                }
                Poll::Pending => drop(self.in_progress.spawn_local(reply)),
            }
        }
        Ok(())
    }

    fn refuse_long(&mut self) {
        let mut out = [0; HEADER_LEN];
        let packet = &self.input[2..];
        // What claims to be a reply is not answered.
        if packet.get(2).is_some_and(|flags| flags & 0x80 == 0) {
            let len = error_reply(packet, Rcode::FormErr, &mut out);
            self.frame(&out[..len]);
            self.count(|tally| tally.reply(Rcode::FormErr, false));
        }
        self.input.clear();
    }

    fn count(&self, what: impl FnOnce(&mut Tally)) {
        let mut tally = Tally::default();
        what(&mut tally);
        self.place.open.cells.add(Transport::Tcp, &tally);
    }

    fn put(&mut self, reply: Reply) {
        self.place.open.cells.add(Transport::Tcp, reply.tally());
        if !reply.is_silence() {
            self.frame(&reply.packet);
        }
        self.transfers.extend(reply.rest);
    }

    fn frame(&mut self, packet: &[u8]) {
        let Ok(len) = u16::try_from(packet.len()) else {
            debug_assert!(false, "the handler keeps to 65,535 octets");
            return;
        };
        self.output.extend_from_slice(&len.to_be_bytes());
        self.output.extend_from_slice(packet);
    }

    /// Writes the output; as long as the client doesn't take it, nothing more is read from it.
    async fn flush(&mut self, evicted: &CancellationToken) -> Result<(), Closed> {
        let written = tokio::select! {
            () = evicted.cancelled() => return Err(Closed::Evicted),
            written = tokio::time::timeout(self.idle, self.stream.write_all(&self.output)) => written,
        };
        self.output.clear();
        self.output.shrink_to(OUTPUT_FLUSH);
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Closed::Broken),
            Err(_) => Err(Closed::Slow),
        }
    }

    /// Lets the last reply arrive: closing with octets unread would reset the connection before it does.
    async fn part(&mut self) {
        let discard = async {
            self.stream.shutdown().await?;
            let mut left = PART_OCTETS_MAX;
            while left > 0 {
                self.input.clear();
                match self.stream.read_buf(&mut self.input).await? {
                    0 => break,
                    read => left = left.saturating_sub(read),
                }
            }
            io::Result::Ok(())
        };
        let evicted = self.place.activity.evicted.clone();
        self.place.activity.note(false);
        tokio::select! {
            // The client may have gone, or stay silent: either way it is over.
            _ = tokio::time::timeout(PART_TIME_MAX, discard) => {}
            () = evicted.cancelled() => {}
        }
    }
}

/// The next message of the transfers in progress; `None` at the end of one, which goes. Cancel-safe.
async fn next_message(transfers: &mut VecDeque<Messages>) -> Option<Vec<u8>> {
    let message = transfers.front_mut()?.recv().await;
    if message.is_none() {
        transfers.pop_front();
    }
    message
}

/// Takes the first message off the input, if it is there.
fn front(input: &mut BytesMut) -> Front {
    let Some(&prefix) = input.first_chunk::<2>() else { return Front::Partial };
    let len = usize::from(u16::from_be_bytes(prefix));
    match len {
        0..HEADER_LEN => Front::TooShort,
        _ if len > QUERY_LEN_MAX && input.len() >= 2 + HEADER_LEN => Front::TooLong,
        _ if input.len() < 2 + len => Front::Partial,
        _ => {
            input.advance(2);
            Front::Whole(input.split_to(len).to_vec())
        }
    }
}
