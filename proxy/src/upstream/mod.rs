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

mod attempts;
mod budget;
mod cells;
mod counters;
mod ejection;
mod metrics;
mod selection;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod two_choices;

use core::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashTable;
use portolan_table::Snapshot;
use thiserror::Error;

pub(crate) use attempts::Departure;
pub use attempts::{Attempts, Picked};
use cells::WorkerState;
pub use cells::{Board, EndpointState};
pub(crate) use counters::Counters;
use selection::Upstream;

use crate::route::{Route, Target};
use crate::{Balance, HashKey};

/// An upstream that no request has gone to for this long is forgotten, in milliseconds.
const FORGET_AFTER_MS: u64 = 600_000;

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
    by_target: RefCell<HashTable<Rc<Upstream>>>,
    worker: Rc<Worker>,
}

/// The worker that an upstream belongs to.
#[derive(Debug)]
struct Worker {
    board: Arc<Board>,
    state: Arc<WorkerState>,
    /// The latest time it was told, in the board's milliseconds: for what happens without being told one.
    now: Cell<u64>,
}

impl Worker {
    /// A time in the board's milliseconds.
    #[inline]
    fn millis(&self, now: Instant) -> u64 {
        let now = self.board.millis(now);
        self.now.set(now.max(self.now.get()));
        now
    }
}

impl Upstreams {
    /// The state of worker number `worker`, shown on `board`.
    ///
    /// # Panics
    /// If the board was made for fewer workers.
    #[must_use]
    pub fn new(board: &Arc<Board>, worker: usize) -> Self {
        let state = Arc::clone(&board.workers[worker]);
        let worker = Rc::new(Worker { board: Arc::clone(board), state, now: Cell::new(1) });
        Self { by_target: RefCell::default(), worker }
    }

    /// Starts the attempts for one request or connection that goes by `route`. `key` gives the hash
    /// ([`hash_key`](crate::balance::hash_key)) of what the policy hashes, and is asked only under consistent hashing.
    ///
    /// # Errors
    /// [`Refusal::NoTarget`].
    #[inline]
    pub fn begin(
        &self,
        route: &Route,
        key: impl FnOnce(&HashKey) -> u64,
        now: Instant,
    ) -> Result<Attempts, Refusal> {
        let target = route.target(fastrand::u64(..)).ok_or(Refusal::NoTarget)?;
        let key = match &target.config.balance {
            Balance::ConsistentHash(what) => key(what),
            Balance::RoundRobin | Balance::LeastRequest | Balance::PeakEwma => 0,
        };
        Ok(Attempts::new(self.upstream(target), key, now))
    }

    /// To be called about once a second: forgets upstreams out of use, finds out which endpoints have left.
    pub fn tick(&self, snapshot: &Snapshot, now: Instant) {
        let now = self.worker.millis(now);
        let all: Vec<Rc<Upstream>> = self.by_target.borrow().iter().cloned().collect();
        for upstream in all {
            if upstream.out_of_use(now) {
                let mut held = self.by_target.borrow_mut();
                if let Ok(found) = held.find_entry(upstream.key(), |other| Rc::ptr_eq(other, &upstream)) {
                    found.remove();
                }
            } else {
                upstream.tick(snapshot, now);
            }
        }
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.worker.state.counters
    }

    fn upstream(&self, target: &Target) -> Rc<Upstream> {
        if let Some(found) = self.by_target.borrow().find(target.key, |upstream| upstream.is_of(target)) {
            return Rc::clone(found);
        }
        let made = Rc::new(Upstream::new(target, Rc::clone(&self.worker)));
        self.by_target.borrow_mut().insert_unique(target.key, Rc::clone(&made), |upstream| upstream.key());
        made
    }
}
