//! The proxy's view of a service: who gets the next request, and what is known about every endpoint.
//!
//! ```text
//!  Route ─► Attempts ─► pick: policy (balance) over the live endpoints, less the ejected, full and tried ones
//!                        │
//!                        └─► Picked: in flight until dropped; told how it went ─► cell of the endpoint
//! ```
//!
//! One [`Upstreams`] per worker, used by its thread alone. What it learns about an endpoint lies in a cell at
//! the endpoint's slot and survives generations; a slot given to another endpoint (another epoch) starts anew.
//! Cells are readable from the admin side through a [`Board`]. Every worker judges endpoints for itself: a
//! shared verdict would be a shared cache line written on every request, and one worker's broken path to an
//! endpoint (its own exhausted ports, say) says nothing about the others'.

use core::cell::Cell;
use core::net::SocketAddr;
use core::time::Duration;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use portolan_table::{AppProtocol, Slot, Snapshot};
use thiserror::Error;

use crate::route::{Route, Routes, Target};
use crate::{HashKey, UpstreamConfig};

/// Why nobody gets a request. All of them are 503 to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// All weights of the rule are 0.
    #[error("every target of the rule has weight 0")]
    NoTarget,
    /// The service does not exist.
    #[error("the service does not exist")]
    NoService,
    /// The service has no such port.
    #[error("the service has no such port")]
    NoPort,
    /// No endpoint of the service may get traffic.
    #[error("no endpoint may get traffic")]
    NoEndpoint,
    /// Every endpoint looked at has as many requests in flight as it may.
    #[error("every endpoint has as many requests in flight as it may")]
    Saturated,
    /// All attempts that a request may have were made.
    #[error("all attempts were made")]
    AttemptsSpent,
    /// Too large a share of the last seconds' requests were retries.
    #[error("the retry budget is spent")]
    BudgetSpent,
}

/// Per-worker state of every upstream. For one thread.
#[derive(Debug)]
pub struct Upstreams {
    cursor: Rc<Cell<usize>>,
}

/// What all workers' cells are read through.
#[derive(Debug, Default)]
pub struct Board {}

/// One endpoint as the workers see it, summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointState {
    /// Requests and connections in flight.
    pub in_flight: u32,
    /// Failures in a row, of the worker that saw most.
    pub failures: u32,
    /// Workers that have ejected it at present.
    pub ejected_by: u32,
    /// Longest time until one of them tries it again.
    pub ejected_for: Option<Duration>,
    /// Mean latency over the workers that know one, moving.
    pub latency: Option<Duration>,
}

impl Board {
    /// A board for this many workers.
    #[must_use]
    pub fn new(_workers: usize) -> Arc<Self> {
        Arc::new(Self {})
    }

    /// What the workers know about the endpoint at `slot`; `None` if none of them has used it.
    #[must_use]
    pub fn endpoint(&self, _slot: Slot, _now: Instant) -> Option<EndpointState> {
        None
    }
}

impl Upstreams {
    /// The state of worker number `worker`, shown on `board`.
    #[must_use]
    pub fn new(_board: &Arc<Board>, _worker: usize) -> Self {
        Self { cursor: Rc::new(Cell::new(0)) }
    }

    /// Starts the attempts for one request or connection that goes by `route`. `key` gives the hash of what the
    /// policy hashes, and is asked only under consistent hashing.
    ///
    /// # Errors
    /// [`Refusal::NoTarget`].
    pub fn begin(
        &self,
        route: &Route,
        key: impl FnOnce(&HashKey) -> u64,
        _now: Instant,
    ) -> Result<Attempts, Refusal> {
        let target = route.target(fastrand::u64(..)).ok_or(Refusal::NoTarget)?.clone();
        let key = match &target.config.balance {
            crate::Balance::ConsistentHash(what) => key(what),
            _ => 0,
        };
        Ok(Attempts { target, made: 0, key, cursor: Rc::clone(&self.cursor) })
    }

    /// To be called about once a second: forgets upstreams out of use, finds out which endpoints have left.
    pub fn tick(&self, _snapshot: &Snapshot, _now: Instant) {}
}

/// The attempts of one request: at most [`UpstreamConfig::attempts_max`], each after the first paid for by the
/// retry budget, no endpoint twice while there is another.
#[derive(Debug)]
pub struct Attempts {
    target: Target,
    made: u32,
    key: u64,
    cursor: Rc<Cell<usize>>,
}

impl Attempts {
    /// The policy in force.
    #[must_use]
    pub fn config(&self) -> &Arc<UpstreamConfig> {
        &self.target.config
    }

    /// Name of the service, for logs.
    #[must_use]
    pub fn service(&self) -> &str {
        self.target.service.as_str()
    }

    /// Attempts made so far.
    #[must_use]
    pub fn made(&self) -> u32 {
        self.made
    }

    /// Chooses the endpoint of the next attempt. The first costs nothing; each that follows counts as a retry.
    /// Drop the [`Picked`] of the attempt before first, so that it is not counted as in flight.
    ///
    /// # Errors
    /// Why there is none; the request fails with 503, or with what the attempt before brought.
    pub fn pick(&mut self, snapshot: &Snapshot, _routes: &Routes, _now: Instant) -> Result<Picked, Refusal> {
        if self.made >= self.target.config.attempts_max.max(1) {
            return Err(Refusal::AttemptsSpent);
        }
        let service = snapshot.service(self.target.service.as_str()).ok_or(Refusal::NoService)?;
        let port = service.port(self.target.port.as_deref()).ok_or(Refusal::NoPort)?;
        let live = port.live();
        if live.is_empty() {
            return Err(Refusal::NoEndpoint);
        }
        let at = (self.key as usize).wrapping_add(self.cursor.get()) % live.len();
        self.cursor.set(self.cursor.get().wrapping_add(1));
        self.made += 1;
        Ok(Picked { address: live[at].address, slot: live[at].slot, app_protocol: port.app_protocol })
    }
}

/// An endpoint that was chosen. Counts as in flight until dropped; one of [`succeeded`](Self::succeeded) and
/// [`failed`](Self::failed) says how it went. Dropped without, nothing is learnt.
#[derive(Debug)]
pub struct Picked {
    /// Where to connect.
    pub address: SocketAddr,
    /// Which endpoint it is: key of a connection pool, together with `address`.
    pub slot: Slot,
    /// What the scheduler says is spoken there.
    pub app_protocol: AppProtocol,
}

impl Picked {
    /// The endpoint did its part: it answered (not with 502, 503 or 504), or the connection was made (TCP).
    /// `latency` is the time to the head of the response, or to connect.
    pub fn succeeded(&self, _latency: Duration, _now: Instant) {}

    /// It refused, reset, timed out, or answered 502, 503 or 504.
    pub fn failed(&self, _now: Instant) {}

    /// Since when the endpoint has been out of the live ones, as of the last tick; `None` if it is among them. What is
    /// open to it drains from then on.
    #[must_use]
    pub fn left_at(&self) -> Option<Instant> {
        None
    }
}
