//! What the workers share, and what one worker has for itself.

use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use portolan_table::{Generation, Table, ViewKey};

use crate::access_log::{AccessLog, Lines};
use crate::config::{AccessLogConfig, Config};
use crate::l4;
use crate::l7::{Clock, Multiplex, Pool, Stock, TICK};
use crate::metrics::{Metrics, WorkerCells};
use crate::route::Routes;
use crate::stream::Handshakes;
use crate::tls::{Certificates, Clients, Tls};
use crate::udp;
use crate::upstream::{Board, Upstreams};

/// Workers a proxy can have.
const WORKERS_MAX: usize = 256;
/// How often endpoints that left and idle connections are looked after.
const UPKEEP: Duration = Duration::from_secs(1);

/// The proxy: what all workers share. Nothing of it is touched per request.
#[derive(Debug)]
pub struct Proxy {
    table: Table,
    routes: ViewKey<Routes>,
    board: Arc<Board>,
    metrics: Metrics,
    log: Option<AccessLog>,
    tls: Arc<Tls>,
    config: Mutex<Arc<Config>>,
    /// Counts configurations, so that workers need no lock to see that theirs is the present one.
    config_version: AtomicU64,
}

impl Proxy {
    /// A proxy that goes by `table` and the routes under `key` in it. Its metrics go into `registry`.
    ///
    /// # Panics
    /// If `registry` has metrics of these names already: a process has one proxy per registry.
    #[must_use]
    pub fn new(
        config: Config,
        table: Table,
        key: ViewKey<Routes>,
        registry: &prometheus::Registry,
    ) -> Arc<Self> {
        let board = Board::new(WORKERS_MAX);
        let tls = Arc::new(Tls::new(&config.tls));
        board.register(registry).expect("a registry gets the proxy's metrics once");
        crate::route::register(table.clone(), key, registry)
            .expect("a registry gets the proxy's metrics once");
        Arc::new(Self {
            table,
            routes: key,
            board,
            metrics: Metrics::register(registry, Arc::clone(&tls)),
            tls,
            log: config.access_log.as_ref().and_then(open_log),
            config: Mutex::new(Arc::new(config)),
            config_version: AtomicU64::new(0),
        })
    }

    /// Puts another configuration in force, and the certificates that it names: limits, time-outs, trusted proxies.
    /// Requests in progress keep theirs for the phase they are in. Routes and policies follow the view, listeners
    /// their owner.
    pub fn reconfigure(&self, config: &Config, certificates: &Certificates) {
        // First, so that nobody goes by the one without the other.
        self.tls.replace(config, certificates);
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(config.clone());
        self.config_version.fetch_add(1, Ordering::Release);
    }

    /// Puts certificates in force for new handshakes, with what the present configuration says of TLS besides.
    /// Connections that are open, and handshakes that have begun, go on.
    pub fn certify(&self, certificates: &Certificates) {
        self.tls.replace(&self.config(), certificates);
    }

    /// What active checks over TLS go by.
    #[must_use]
    pub fn clients(&self) -> Clients {
        self.tls.clients().clone()
    }

    /// The configuration in force.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn tls(&self) -> &Tls {
        &self.tls
    }

    /// What the workers know about endpoints.
    #[must_use]
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// The state of worker number `index`, which is below 256. Made on the thread that uses it, once.
    #[must_use]
    pub fn worker(self: &Arc<Self>, index: usize) -> Rc<Worker> {
        let version = self.config_version.load(Ordering::Acquire);
        let (clock, stock) = (Clock::new(), Rc::new(Stock::default()));
        let cells = self.metrics.worker();
        Rc::new(Worker {
            table: self.table.clone(),
            routes: self.routes,
            upstreams: Rc::new(Upstreams::new(&self.board, index)),
            relays: l4::Relays::new(),
            datagrams: Rc::default(),
            pool: Pool::new(&clock),
            handshakes: Handshakes::new(&self.tls, &stock, index),
            multiplex: Multiplex::new(&clock, &stock, &cells),
            stock,
            cells,
            log: self.log.as_ref().map(AccessLog::lines),
            config: RefCell::new(Rc::new(self.present_config())),
            config_version: Cell::new(version),
            upkeep: Cell::new(Instant::now()),
            ticked: Cell::new(Instant::now()),
            generation: Cell::new(Generation::default()),
            changed: Cell::new(None),
            drain_round: Cell::new(0),
            clock,
            proxy: Arc::clone(self),
        })
    }

    fn present_config(&self) -> Config {
        Config::clone(&self.config())
    }
}

/// Without its log the proxy still serves.
fn open_log(config: &AccessLogConfig) -> Option<AccessLog> {
    AccessLog::open(config)
        .inspect_err(|error| tracing::error!(?config.path, %error, "access log can't be opened"))
        .ok()
}

/// What one worker has for itself: pool, endpoint state, counters, clock. For one thread.
#[derive(Debug)]
pub struct Worker {
    proxy: Arc<Proxy>,
    pub(crate) table: Table,
    pub(crate) routes: ViewKey<Routes>,
    pub(crate) upstreams: Rc<Upstreams>,
    pub(crate) relays: Rc<l4::Relays>,
    datagrams: Rc<udp::Listeners>,
    pub(crate) pool: Pool,
    pub(crate) multiplex: Rc<Multiplex>,
    pub(crate) stock: Rc<Stock>,
    pub(crate) handshakes: Rc<Handshakes>,
    pub(crate) clock: Rc<Clock>,
    pub(crate) cells: Arc<WorkerCells>,
    pub(crate) log: Option<Lines>,
    config: RefCell<Rc<Config>>,
    config_version: Cell<u64>,
    upkeep: Cell<Instant>,
    ticked: Cell<Instant>,
    generation: Cell<Generation>,
    /// When the table last changed, while endpoints that left then may still have open requests.
    changed: Cell<Option<Instant>>,
    drain_round: Cell<u32>,
}

impl Worker {
    /// The configuration in force.
    #[inline]
    pub(crate) fn config(&self) -> Rc<Config> {
        Rc::clone(&self.config.borrow())
    }

    /// Grows when open requests should look whether their endpoint left.
    #[inline]
    pub(crate) fn drain_round(&self) -> u32 {
        self.drain_round.get()
    }

    pub(crate) fn tls(&self) -> &Tls {
        self.proxy.tls()
    }

    pub(crate) fn l4_env(&self) -> l4::Env {
        l4::Env {
            table: self.table.clone(),
            routes: self.routes,
            upstreams: Rc::clone(&self.upstreams),
            relays: Rc::clone(&self.relays),
        }
    }

    pub(crate) fn udp_env(&self) -> udp::Env {
        udp::Env {
            table: self.table.clone(),
            routes: self.routes,
            upstreams: Rc::clone(&self.upstreams),
            listeners: Rc::clone(&self.datagrams),
        }
    }

    /// Moves the clock, and about once a second looks after what is idle. Calls in between do nothing.
    pub(crate) fn tick(&self) {
        let now = Instant::now();
        if now.duration_since(self.ticked.get()) < TICK / 2 {
            return;
        }
        self.ticked.set(now);
        self.clock.tick();
        let version = self.proxy.config_version.load(Ordering::Acquire);
        if self.config_version.replace(version) != version {
            *self.config.borrow_mut() = Rc::new(self.proxy.present_config());
        }
        if now.duration_since(self.upkeep.get()) >= UPKEEP {
            self.upkeep.set(now);
            self.look_after(now);
        }
    }

    fn look_after(&self, now: Instant) {
        let snapshot = self.table.load();
        self.upstreams.tick(&snapshot, now);
        self.pool.tick(&snapshot);
        self.multiplex.tick(&snapshot);
        self.relays.tick(now);
        self.datagrams.tick(now);
        self.cells.set_idle(self.pool.len());
        if self.generation.replace(snapshot.generation()) != snapshot.generation() {
            self.changed.set(Some(now));
        }
        let Some(changed) = self.changed.get() else { return };
        // Endpoints that left by then have had their time to drain: ask the open requests.
        self.drain_round.set(self.drain_round.get().wrapping_add(1));
        self.clock.wake_busy();
        if now.duration_since(changed) > self.config().drain + 2 * UPKEEP {
            self.changed.set(None);
        }
    }
}
