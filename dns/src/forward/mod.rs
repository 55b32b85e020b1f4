//! The forwarder: names outside our zones, for the clients that may, from the configured resolvers.
//!
//! ```text
//!  client's query ─► allowed? ─► flights ─► cache ─► a seat free? ──► race ──► resolver A ┐ UDP, then TCP
//!                    REFUSED     shared,    hit ▲    SERVFAIL         │  └───► resolver B ┘ (exchange.rs)
//!                                loop?          │                     │ order and patience by health.rs
//!                                               └────────── landed ◄──┘ all within `forward_timeout`
//! ```
//!
//! A plain forwarder: it asks resolvers that recurse, and does no recursion itself. One is shared by all
//! workers, behind one lock held for map operations only. That is a choice: what it shares (the limit of queries in flight,
//! one query for all clients that ask the same, the health of resolvers, the cache, and the memory of our
//! own queries by which a loop is known) would each be worse, or wrong, per worker; the path of our own names
//! never comes here.
//!
//! Loops are cut in four ways: resolvers at our own addresses are left out; a query without RD is
//! refused; a query that carries one of our tokens (EDNS option 65313) or our own random spelling of a name is
//! SERVFAIL; and what slips through waits for its own outcome, bounded by the time-out, without a new query going out.

mod cache;
mod exchange;
mod flight;
mod health;
mod metrics;
mod question;
mod race;
mod seats;
mod sockets;
#[cfg(test)]
mod tests;
mod zones;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use hickory_proto::op::Message;
use prometheus::Registry;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::config::{Config, Network};
use crate::networks::Networks;
use cache::{Cache, Known, Stored};
use flight::{Boarding, Flights, Landed, Landing};
use health::{Judgement, Resolver};
pub use metrics::METRICS;
use metrics::{Metrics, Outcome};
pub use question::Question;
use question::{Key, TRAIL_OPTION};
use race::{Asked, Departure};
use seats::{Seat, Seats};
use sockets::Sockets;
use zones::ForwardZones;

/// The EDNS option by which loops are known, for the one who reads the client's query.
pub const LOOP_OPTION: u16 = TRAIL_OPTION;

/// What the forwarder says to a client.
#[derive(Debug)]
pub enum Forwarded {
    /// The resolvers' answer, NOERROR or NXDOMAIN: records with their TTLs counted down, the name in the
    /// client's spelling. Id, flags and EDNS are the resolver's and not to be passed on (AD and the response code are).
    Answer(Box<Message>),
    /// REFUSED: no resolver is configured, the client may not, or the type is never forwarded.
    Refused,
    /// SERVFAIL: no resolver answered in time, too many queries are in flight, or it was our own query.
    Failed,
}

/// Asks resolvers for clients. Shared by all workers.
#[derive(Debug)]
pub struct Forwarder {
    access: Arc<ArcSwap<Networks>>,
    state: Mutex<State>,
    sockets: Sockets,
    tasks: TaskTracker,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct State {
    configured: ForwardZones,
    networks: Box<[Network]>,
    /// Where we listen ourselves, once for every worker.
    own: Vec<SocketAddr>,
    resolvers: Vec<Resolver>,
    timeout: Duration,
    in_flight_max: usize,
    /// Counts the sets of resolvers: what was asked of one set is not kept for the next.
    epoch: u64,
    cache: Cache,
    flights: Flights,
    seats: Seats,
}

impl State {
    /// Others are asked from now on: what was answered, or will be to what is under way, is not kept for them.
    fn forget(&mut self, metrics: &Metrics) {
        self.epoch += 1;
        self.cache.clear();
        self.flights.leave_behind();
        metrics.cache_entries.set(0);
    }
}

impl Forwarder {
    /// A forwarder as `config` says.
    ///
    /// # Errors
    /// If the registry already has the forwarder's metrics.
    pub fn new(config: &Config, registry: &Registry) -> prometheus::Result<Arc<Self>> {
        Self::with_sockets(config, registry, Sockets::of_process())
    }

    fn with_sockets(config: &Config, registry: &Registry, sockets: Sockets) -> prometheus::Result<Arc<Self>> {
        let forwarder = Self {
            access: Arc::default(),
            state: Mutex::default(),
            sockets,
            tasks: TaskTracker::new(),
            metrics: Metrics::new(registry)?,
        };
        forwarder.lock().cache = Cache::new(config.forward_cache_entries);
        forwarder.reconfigure(config);
        Ok(Arc::new(forwarder))
    }

    /// Takes over resolvers, networks and limits. What is known of resolvers that stay is kept; their answers only
    /// if all stay, since others may see other names.
    pub fn reconfigure(&self, config: &Config) {
        let mut state = self.lock();
        state.timeout = config.forward_timeout;
        state.in_flight_max = config.forward_in_flight_max;
        state.cache.resize(config.forward_cache_entries);
        state.networks = config.allow_forward.as_slice().into();
        let configured = ForwardZones::new(config);
        if !state.configured.asks_as(&configured) {
            state.forget(&self.metrics);
        }
        state.configured = configured;
        self.choose_resolvers(&mut state);
    }

    /// Who may use it, now and after each reconfiguration: for workers that ask with every query.
    #[must_use]
    pub fn access(&self) -> Arc<ArcSwap<Networks>> {
        Arc::clone(&self.access)
    }

    /// Tells that we listen here ourselves, until the guard is dropped: never a resolver to ask.
    #[must_use]
    pub fn listening_on(self: &Arc<Self>, address: SocketAddr) -> Listening {
        let mut state = self.lock();
        let news = !state.own.contains(&address);
        state.own.push(address);
        if news {
            self.choose_resolvers(&mut state);
        }
        drop(state);
        Listening { forwarder: Arc::clone(self), address }
    }

    /// Answers a question from the cache or from the resolvers, within `forward_timeout`.
    ///
    /// Cancel-safe: dropping the future gives up waiting; the question is still asked for the others who wait.
    pub async fn resolve(self: &Arc<Self>, question: &Question, client: IpAddr) -> Forwarded {
        let started = now();
        let (forwarded, outcome) = self.resolve_counted(question, client, started).await;
        self.metrics.count(outcome, now().saturating_duration_since(started));
        forwarded
    }

    /// Waits until no question is with the resolvers any more. A worker does so before its runtime goes: clients of
    /// other workers may wait for an answer to a question that this one sent.
    pub async fn settled(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn resolve_counted(
        self: &Arc<Self>,
        question: &Question,
        client: IpAddr,
        started: Instant,
    ) -> (Forwarded, Outcome) {
        if !self.may_ask(question, client) {
            return (Forwarded::Refused, Outcome::Refused);
        }
        let (mut landing, outcome, _seat) = match self.look(question, client, started) {
            Looked::Known(Known::Answer(stored)) => return answer(question, &stored, Outcome::Cached),
            Looked::Known(Known::Failure) => return (Forwarded::Failed, Outcome::Cached),
            Looked::Loop => return (Forwarded::Failed, Outcome::Loop),
            Looked::Full => return (Forwarded::Failed, Outcome::Overload),
            Looked::Wait(landing, seat) => (landing, Outcome::Shared, Some(seat)),
            Looked::Asked(landing) => (landing, Outcome::Answered, None),
        };
        let landed = landing.wait_for(Option::is_some).await.map(|landed| (*landed).clone());
        match landed {
            Ok(Some(Landed::Answer(stored))) => answer(question, &stored, outcome),
            Ok(Some(Landed::Starved)) => (Forwarded::Failed, Outcome::Overload),
            _ => (Forwarded::Failed, Outcome::Failed),
        }
    }

    fn may_ask(&self, question: &Question, client: IpAddr) -> bool {
        // The lock is taken for who may ask alone.
        !question.is_meta()
            && self.access.load().allows(client)
            && !self.lock().configured.of(question.wire_name()).is_empty()
    }

    /// Flights, cache, seat, departure: in one step, so that two clients never ask the same at once. What is known
    /// costs no seat: it is told however many wait.
    fn look(self: &Arc<Self>, question: &Question, client: IpAddr, now: Instant) -> Looked {
        let key = question.key();
        let mut state = self.lock();
        let shared = match state.flights.board(&key, question) {
            Boarding::Loop => return Looked::Loop,
            Boarding::Shared(landing) => Some(landing),
            Boarding::Ask => None,
        };
        if shared.is_none()
            && let Some(known) = state.cache.find(&key, now)
        {
            return Looked::Known(known);
        }
        let Some(random) = random() else { return Looked::Full };
        let max = state.in_flight_max;
        if !state.seats.take(client, max) {
            return Looked::Full;
        }
        self.metrics.in_flight.set(state.seats.taken() as i64);
        let seat = Seat { forwarder: Arc::clone(self), client };
        match shared {
            Some(landing) => Looked::Wait(landing, seat),
            None => Looked::Asked(self.depart(state, key, question, seat, random)),
        }
    }

    fn depart(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        key: Key,
        question: &Question,
        seat: Seat,
        random: u128,
    ) -> Landing {
        let spelling = question.spelling(random);
        let token = (random >> 64) as u64 ^ random as u64;
        let (sender, landing) = watch::channel(None);
        state.flights.depart(key.clone(), landing.clone(), token, spelling.clone());
        let epoch = state.epoch;
        let departure = Departure { forwarder: Arc::clone(self), key, token, epoch, sender, _seat: seat };
        let asked = Arc::new(Asked { question: question.clone(), spelling, token });
        let timeout = state.timeout;
        drop(state);
        self.tasks.spawn(departure.fly(asked, timeout));
        landing
    }

    fn choose_resolvers(&self, state: &mut State) {
        let configured = state.configured.all();
        let usable: Vec<SocketAddr> =
            configured.iter().copied().filter(|&address| !is_own(&state.own, address)).collect();
        if usable.len() < configured.len() {
            let dropped = configured.iter().filter(|address| !usable.contains(address));
            tracing::warn!(resolvers = ?dropped.collect::<Vec<_>>(), "not forwarding to our own addresses");
        }
        let mut known = core::mem::take(&mut state.resolvers);
        let stays = |resolver: &Resolver| usable.contains(&resolver.address);
        if known.len() != usable.len() || !known.iter().all(stays) {
            state.forget(&self.metrics);
        }
        for address in usable {
            let place = known.iter().position(|resolver| resolver.address == address);
            let resolver = place.map_or_else(|| Resolver::new(address), |place| known.swap_remove(place));
            state.resolvers.push(resolver);
        }
        let access =
            if state.resolvers.is_empty() { Networks::default() } else { Networks::new(&state.networks) };
        self.access.store(Arc::new(access));
        for gone in known {
            self.metrics.forget(&gone.address.to_string());
        }
    }

    fn learn(&self, address: SocketAddr, judgement: Judgement, outcome: &str) {
        let label = address.to_string();
        let now = now();
        let mut state = self.lock();
        let Some(resolver) = state.resolvers.iter_mut().find(|resolver| resolver.address == address) else {
            return;
        };
        let rested = resolver.is_resting(now);
        resolver.learn(judgement, now);
        let rests = resolver.is_resting(now);
        if rested != rests {
            self.metrics.resting.with_label_values(&[&label]).set(rests.into());
            tracing::info!(resolver = %address, resting = rests, "health of a resolver changed");
        }
        self.metrics.tries.with_label_values(&[label.as_str(), outcome]).inc();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An address that we listen on.
#[derive(Debug)]
pub struct Listening {
    forwarder: Arc<Forwarder>,
    address: SocketAddr,
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut state = self.forwarder.lock();
        if let Some(place) = state.own.iter().position(|own| *own == self.address) {
            state.own.swap_remove(place);
        }
        if !state.own.contains(&self.address) {
            self.forwarder.choose_resolvers(&mut state);
        }
    }
}

fn answer(question: &Question, stored: &Stored, outcome: Outcome) -> (Forwarded, Outcome) {
    match stored.message(question.wire_name(), now()) {
        Some(message) => (Forwarded::Answer(Box::new(message)), outcome),
        None => (Forwarded::Failed, Outcome::Failed),
    }
}

enum Looked {
    Known(Known),
    Loop,
    Full,
    /// Another client asked before.
    Wait(Landing, Seat),
    Asked(Landing),
}

/// True if a packet to `resolver` would come to a socket of our own.
fn is_own(own: &[SocketAddr], resolver: SocketAddr) -> bool {
    own.iter().any(|own| {
        own.port() == resolver.port()
            && (own.ip() == resolver.ip() || own.ip().is_unspecified() && is_local(resolver.ip()))
    })
}

/// True for an address of this machine. Connecting a UDP socket sends nothing, and shows the source address that
/// the kernel would use: for a local destination, that very address. (Binding would not tell: see
/// `ip_nonlocal_bind`.)
fn is_local(address: IpAddr) -> bool {
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    address.is_loopback()
        || std::net::UdpSocket::bind((any, 0))
            .and_then(|socket| socket.connect((address, 53)).and_then(|()| socket.local_addr()))
            .is_ok_and(|local| local.ip() == address)
}

/// From the kernel: ids and spellings must not be guessed (RFC 5452 §9.2).
fn random() -> Option<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(u128::from_ne_bytes(bytes))
}

/// The runtime's clock, so that paused time in tests is everybody's time.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
