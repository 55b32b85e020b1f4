//! TCP: listeners that relay connections, and the relay itself, which upgraded HTTP connections use too.
//!
//! ```text
//!  accept ─► rule of the listener ─► endpoint ─► connect ─► relay until both sides have closed
//!                                       ▲           │
//!                                       └── refused, timed out: another, within attempts and budget
//! ```

mod flow;
mod pipe;
mod relay;
#[cfg(test)]
mod tests;

use core::cell::Cell;
use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use portolan_table::{Table, ViewKey};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use relay::{End, Relayed, Relays, Tunnel, relay};

use crate::balance::hash_address;
use crate::route::Routes;
use crate::upstream::{Attempts, Counters, Picked, Refusal, Upstreams};

/// Pause after an accept that failed for want of descriptors or memory: retrying at once would only burn CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a listener that was stopped takes on those who had connected before.
const LAST_ACCEPTS: Duration = Duration::from_millis(50);

/// What a `tcp` listener needs of its worker.
#[derive(Debug, Clone)]
pub struct Env {
    /// The routing table.
    pub table: Table,
    /// Finds the rules in it.
    pub routes: ViewKey<Routes>,
    /// Endpoint state of the worker.
    pub upstreams: Rc<Upstreams>,
    /// Relays of the worker.
    pub relays: Rc<Relays>,
}

/// A listener at work.
struct Listener {
    env: Env,
    name: Arc<str>,
    /// By which its relays are known.
    owner: u64,
    open: Cell<usize>,
    /// The time to drain is over: nothing new may begin.
    closing: Cell<bool>,
}

/// What the configuration says at the moment a connection comes in.
#[derive(Clone, Copy)]
struct Limits {
    connect: Duration,
    idle: Duration,
    drain: Duration,
}

/// Accepts on a `tcp` listener and relays every connection to an endpoint of the listener's rule, until `stop`;
/// then takes on who waits already and accepts no more, lets open relays go on for the drain time, and returns. Needs a `LocalSet`.
pub async fn serve(env: Env, name: Arc<str>, listener: TcpListener, stop: CancellationToken) {
    // Accepted connections inherit it, which saves a call for each.
    let _ = SockRef::from(&listener).set_tcp_nodelay(true);
    let this = Rc::new(Listener {
        env,
        name,
        owner: fastrand::u64(1..),
        open: Cell::new(0),
        closing: Cell::new(false),
    });
    let tasks = TaskTracker::new();
    let mut stopped = core::pin::pin!(stop.cancelled());
    loop {
        tokio::select! {
            biased;
            () = &mut stopped => break,
            // Cancel-safe: a connection that is not returned stays in the queue.
            accepted = listener.accept() => match accepted {
                Ok((downstream, client)) => this.admit(&tasks, downstream, client),
                Err(error) => this.accept_failed(&error).await,
            },
        }
    }
    // Connections that wait to be accepted were made in good faith; closing the socket would reset them. A moment,
    // because the reactor may not have told of them yet, and no longer, because others may never stop coming.
    let until = Instant::now() + LAST_ACCEPTS;
    while let Ok(Ok((downstream, client))) = tokio::time::timeout_at(until, listener.accept()).await {
        this.admit(&tasks, downstream, client);
    }
    drop(listener);
    tasks.close();
    let drain = this.drain();
    if tokio::time::timeout(drain, tasks.wait()).await.is_err() {
        this.closing.set(true);
        this.env.relays.end_all(this.owner);
        // Whoever is still connecting ends by the connect time-out.
        tasks.wait().await;
    }
}

impl Listener {
    fn counters(&self) -> &Counters {
        self.env.upstreams.counters()
    }

    fn drain(&self) -> Duration {
        let snapshot = self.env.table.load();
        snapshot.view(self.env.routes).config().drain
    }

    /// Starts a connection, or closes it when there are too many.
    fn admit(self: &Rc<Self>, tasks: &TaskTracker, downstream: TcpStream, client: SocketAddr) {
        let max = {
            let snapshot = self.env.table.load();
            snapshot.view(self.env.routes).config().limits.connections_max
        };
        self.counters().tcp_connections.increment();
        if self.open.get() >= max {
            self.counters().tcp_refused.increment();
            reset(&downstream);
            return;
        }
        self.open.set(self.open.get() + 1);
        let this = Rc::clone(self);
        tasks.spawn_local(async move {
            let _open = Open(&this);
            this.connection(downstream, client).await;
        });
    }

    async fn accept_failed(&self, error: &io::Error) {
        // Of a connection that was gone before it was accepted there is nothing to tell.
        if error.kind() != io::ErrorKind::ConnectionAborted {
            self.counters().tcp_accept_errors.increment();
            tracing::warn!(listener = &*self.name, %error, "cannot accept");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }

    async fn connection(&self, downstream: TcpStream, client: SocketAddr) {
        let (upstream, picked, limits) = match self.connect(client).await {
            Ok(connected) => connected,
            Err(refusal) => {
                self.counters().tcp_unserved.increment();
                tracing::debug!(listener = &*self.name, %client, %refusal, "connection not served");
                reset(&downstream);
                return;
            }
        };
        let tunnel = Tunnel {
            downstream: downstream.into(),
            upstream: upstream.into(),
            to_upstream: &[],
            to_downstream: &[],
            idle: limits.idle,
            picked: Some(&picked),
            drain: limits.drain,
        };
        let count = |up, down| {
            self.counters().tcp_octets_up.add(up);
            self.counters().tcp_octets_down.add(down);
        };
        let relayed = relay::relay_for(&self.env.relays, tunnel, self.owner, count).await;
        tracing::debug!(listener = &*self.name, %client, upstream = %picked.address, ?relayed, "relay ended");
    }

    /// A connection to an endpoint of the listener's rule.
    async fn connect(&self, client: SocketAddr) -> Result<(TcpStream, Picked, Limits), Refusal> {
        let (mut attempts, limits) = self.begin(client)?;
        loop {
            let start = Instant::now();
            let picked = {
                let snapshot = self.env.table.load();
                attempts.pick(&snapshot, snapshot.view(self.env.routes), start.into_std())?
            };
            let connected = tokio::time::timeout(limits.connect, open(picked.address)).await;
            let now = Instant::now();
            if self.closing.get() {
                return Err(Refusal::NoEndpoint);
            }
            match connected {
                Ok(Ok(upstream)) => {
                    picked.succeeded(now - start, now.into_std());
                    return Ok((upstream, picked, limits));
                }
                Ok(Err(error)) => tracing::debug!(endpoint = %picked.address, %error, "cannot connect"),
                Err(_) => tracing::debug!(endpoint = %picked.address, "connect timed out"),
            }
            self.counters().tcp_connect_errors.increment();
            picked.failed(now.into_std());
        }
    }

    fn begin(&self, client: SocketAddr) -> Result<(Attempts, Limits), Refusal> {
        let snapshot = self.env.table.load();
        let routes = snapshot.view(self.env.routes);
        let config = routes.config();
        let limits = Limits {
            connect: config.timeouts.connect,
            idle: config.timeouts.tunnel_idle,
            drain: config.drain,
        };
        let route = routes.tcp(&self.name).ok_or(Refusal::NoTarget)?;
        // A connection has no headers and no path: whatever is to be hashed, its client's address stands for it.
        let key = |_: &_| hash_address(client.ip());
        Ok((self.env.upstreams.begin(route, key, Instant::now().into_std())?, limits))
    }
}

/// Counts a connection as open until dropped.
struct Open<'a>(&'a Listener);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
        self.0.counters().tcp_closed.increment();
    }
}

/// Connects to an endpoint. Beside the runtime's own `connect` this saves asking for the outcome with a system call
/// where readiness tells it already.
async fn open(endpoint: SocketAddr) -> io::Result<TcpStream> {
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(endpoint), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&endpoint.into()) {
        Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => return Err(error),
        _ => {}
    }
    let stream = TcpStream::from_std(socket.into())?;
    if stream.ready(Interest::WRITABLE).await?.is_write_closed() {
        return Err(stream.take_error()?.unwrap_or_else(|| io::ErrorKind::NotConnected.into()));
    }
    Ok(stream)
}

/// Lets the close of a connection that nobody serves look like a refusal, not like an answer without content.
fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
