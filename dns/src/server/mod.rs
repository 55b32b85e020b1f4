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
mod pace;
mod parts;
mod reply;
mod tcp;
#[cfg(test)]
mod tests;
mod trust;
mod udp;

use core::cell::RefCell;
use core::time::Duration;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use arc_swap::ArcSwap;
use portolan_table::{Generation, Table, ViewKey};
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use bind::{Sockets, bind};
pub use metrics::METRICS;
pub use trust::{Trust, TrustError};

use crate::config::Config;
use crate::fast::{self, UdpPort};
use crate::forward::Forwarder;
use crate::gate::Gate;
use crate::metrics::Metrics as Counters;
use crate::transfer::{self, Transfers};
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
    trust: trust::Held,
}

impl Server {
    /// A server that answers from the view `key` of `table`, with the secrets that `config` names.
    ///
    /// # Panics
    /// If the registry has the metrics of a DNS server already: there is one per process.
    #[must_use]
    pub fn new(
        config: &Config,
        trust: Trust,
        table: Table,
        key: ViewKey<Zones>,
        registry: &Registry,
    ) -> Arc<Self> {
        let once = "a DNS server's metrics are registered once per process";
        let forwarder = Forwarder::new(config, registry).expect(once);
        let limits = Arc::new(ArcSwap::from_pointee(Limits::new(config)));
        let trust = trust::Held::new(config, trust);
        let keys = trust.keys();
        let handler = Handler {
            table: table.clone(),
            key,
            forwarder: Arc::clone(&forwarder),
            limits: Arc::clone(&limits),
            rules: trust.rules(),
            transfers: Transfers::new(config, &keys.load(), table, key, registry).expect(once),
            keys,
            signatures: metrics::signatures(registry).expect(once),
            reserve: 0,
        };
        Arc::new(Self {
            handler,
            limits,
            forwarder,
            connections: AtomicUsize::new(0),
            metrics: Metrics::new(registry).expect(once),
            counters: Counters::register(registry).expect(once),
            trust,
        })
    }

    /// Takes over resolvers, access, limits and secrets of a reloaded configuration. Listeners and zones are not its
    /// business.
    pub fn reconfigure(&self, config: &Config, trust: Trust) {
        self.limits.store(Arc::new(Limits::new(config)));
        self.forwarder.reconfigure(config);
        self.trust.replace(config, trust);
        self.handler.transfers.reconfigure(config, &self.handler.keys.load());
    }
}

/// What a server does beside answering, until `stop`: differences for secondaries are taken and secondaries told,
/// secrets of cookies change. On the control runtime.
pub async fn tend(server: Arc<Server>, generations: watch::Receiver<Generation>, stop: CancellationToken) {
    let transfers = Arc::clone(&server.handler.transfers);
    tokio::join!(transfer::follow(transfers, generations, stop.clone()), trust::tend(&server.trust, stop));
}

/// Serves one worker's sockets until `stop`; then finishes what is in progress, within five seconds, and returns.
/// Runs inside a `LocalSet` of a current-thread runtime.
///
/// Dropping the future stops at once.
pub async fn serve(server: Arc<Server>, sockets: Sockets, worker: usize, stop: CancellationToken) {
    let Sockets { udp, tcp, workers } = sockets;
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
    let gate = Rc::new(RefCell::new(Gate::new(&server.handler.rules, workers)));
    let slow = SlowUdp::new(Arc::clone(&server), Rc::clone(&udp), Arc::clone(&cells), Rc::clone(&gate));
    // A task of its own: what happens on TCP does not wake the UDP loop.
    let mut streams = JoinSet::new();
    streams.spawn_local(tcp::serve(Arc::clone(&server), tcp, Arc::clone(&cells), stop.clone()));
    let Handler { table, key, .. } = &server.handler;
    if let Err(error) = fast::run(&udp, table, *key, &slow, (&gate, &cells), stop.clone()).await {
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
