//! The server of a node: sockets, the UDP loop of each worker, and everything that is not plain UDP.
//!
//! ```text
//!  worker ─┬─ UDP ─► fast loop ─► answer(&Zones)                     names that are ours
//!          │             └─ take ─► udp.rs ─┐                        names that are not
//!          └─ TCP ─► tcp.rs, framing ───────┴─► handler.rs ─► answer(&Zones) or Forwarder
//! ```
//!
//! `hickory-server` reads requests and composes replies on the slow path, behind a [`RequestHandler`] over the
//! snapshot, so that encrypted transports can be given to the same handler. Its listeners are not
//! used: they bound neither connections, nor the time of one message, nor the time a client takes for its replies.
//!
//! [`RequestHandler`]: hickory_server::server::RequestHandler

mod bind;
mod handler;
mod metrics;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

use core::time::Duration;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use arc_swap::ArcSwap;
use portolan_table::{Table, ViewKey};
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use bind::{Sockets, bind};
pub use metrics::METRICS;

use crate::config::Config;
use crate::fast::{self, UdpPort};
use crate::forward::Forwarder;
use crate::metrics::Metrics as Counters;
use crate::zone::Zones;
use handler::Handler;
use metrics::Metrics;
use udp::SlowUdp;

/// Queries in progress when the server stops get this long to finish; it covers the time of a forwarded one.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// What one reload can change.
#[derive(Debug)]
struct Limits {
    udp_size_max: u16,
    connections_max: usize,
    idle: Duration,
}

impl Limits {
    fn new(config: &Config) -> Self {
        Self {
            udp_size_max: config.udp_size_max,
            connections_max: config.tcp_connections_max,
            idle: config.tcp_idle,
        }
    }
}

/// A DNS server over the routing table, shared by all workers and listeners.
#[derive(Debug)]
pub struct Server {
    handler: Handler,
    limits: Arc<ArcSwap<Limits>>,
    forwarder: Arc<Forwarder>,
    /// Open TCP connections of all workers. Touched once per connection, not per query.
    connections: AtomicUsize,
    metrics: Metrics,
    /// Queries and replies, per worker.
    counters: Counters,
}

impl Server {
    /// A server that answers from the view `key` of `table`.
    ///
    /// # Panics
    /// If the registry has the metrics of a DNS server already: there is one per process.
    #[must_use]
    pub fn new(config: &Config, table: Table, key: ViewKey<Zones>, registry: &Registry) -> Arc<Self> {
        let once = "a DNS server's metrics are registered once per process";
        let forwarder = Forwarder::new(config, registry).expect(once);
        let limits = Arc::new(ArcSwap::from_pointee(Limits::new(config)));
        Arc::new(Self {
            handler: Handler { table, key, forwarder: Arc::clone(&forwarder), limits: Arc::clone(&limits) },
            limits,
            forwarder,
            connections: AtomicUsize::new(0),
            metrics: Metrics::new(registry).expect(once),
            counters: Counters::register(registry).expect(once),
        })
    }

    /// Takes over resolvers, access and limits of a reloaded configuration. Listeners and zones are not its business.
    pub fn reconfigure(&self, config: &Config) {
        self.limits.store(Arc::new(Limits::new(config)));
        self.forwarder.reconfigure(config);
    }
}

/// Serves one worker's sockets until `stop`; then finishes what is in progress, within five seconds, and returns.
/// Runs inside a `LocalSet` of a current-thread runtime.
///
/// Dropping the future stops at once.
pub async fn serve(server: Arc<Server>, sockets: Sockets, worker: usize, stop: CancellationToken) {
    let Sockets { udp, tcp } = sockets;
    let opened = UdpPort::new(udp).and_then(|udp| Ok((Rc::new(udp), TcpListener::from_std(tcp)?)));
    let (udp, tcp) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            tracing::error!(%error, worker, "DNS listener not served");
            return;
        }
    };
    let _listening = server.forwarder.listening_on(udp.local());
    let cells = server.counters.worker();
    let slow = SlowUdp::new(Arc::clone(&server), Rc::clone(&udp), Arc::clone(&cells));
    // A task of its own: what happens on TCP does not wake the UDP loop.
    let mut streams = JoinSet::new();
    streams.spawn_local(tcp::serve(Arc::clone(&server), tcp, Arc::clone(&cells), stop.clone()));
    let Handler { table, key, .. } = &server.handler;
    if let Err(error) = fast::run(&udp, table, *key, &slow, &cells, stop.clone()).await {
        tracing::error!(%error, worker, "UDP socket failed; TCP is still served");
        stop.cancelled().await;
    }
    let drained = async {
        slow.finished().await;
        while streams.join_next().await.is_some() {}
        server.forwarder.settled().await;
    };
    if tokio::time::timeout(DRAIN_MAX, drained).await.is_err() {
        tracing::info!(worker, "queries in progress cut off at the end of draining");
    }
}
