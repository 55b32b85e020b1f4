//! The attempts of one request, and the endpoint of each.

use core::cell::Cell;
use core::net::SocketAddr;
use core::time::Duration;
use std::rc::Rc;
use std::time::Instant;

use portolan_table::{AppProtocol, Endpoint, Slot, Snapshot};
use smallvec::SmallVec;

use super::Refusal;
use super::selection::{Upstream, Wish};
use crate::UpstreamConfig;
use crate::route::Routes;

/// The attempts of one request: at most [`UpstreamConfig::attempts_max`], each after the first paid for by the
/// retry budget, no endpoint twice while there is another.
#[derive(Debug)]
pub struct Attempts {
    upstream: Rc<Upstream>,
    config: Rc<UpstreamConfig>,
    key: u64,
    tried: SmallVec<[Slot; 4]>,
    made: u32,
}

impl Attempts {
    pub(super) fn new(upstream: Rc<Upstream>, key: u64, now: Instant) -> Self {
        upstream.begin(upstream.worker.board.millis(now));
        Self { config: upstream.config(), upstream, key, tried: SmallVec::new(), made: 0 }
    }

    /// The policy in force.
    #[must_use]
    pub fn config(&self) -> &UpstreamConfig {
        &self.config
    }

    /// Name of the service, for logs.
    #[must_use]
    pub fn service(&self) -> &str {
        self.upstream.service()
    }

    /// Attempts made so far.
    #[must_use]
    pub fn made(&self) -> u32 {
        self.made
    }

    /// Chooses the endpoint of the next attempt. The first costs nothing; each that follows counts as a retry.
    /// Drop the [`Picked`] of the attempt before first, so that it is not counted as in flight. No lock; allocates
    /// only when a slot number beyond all before is met.
    ///
    /// # Errors
    /// Why there is none; the request fails with 503, or with what the attempt before brought.
    pub fn pick(&mut self, snapshot: &Snapshot, routes: &Routes, now: Instant) -> Result<Picked, Refusal> {
        let now = self.upstream.worker.board.millis(now);
        if self.made > 0 {
            self.allow_retry(now)?;
        }
        let wish = Wish { config: &self.config, key: self.key, tried: &self.tried, now };
        let (endpoint, app_protocol) = self.upstream.pick(snapshot, routes, &wish)?;
        self.made += 1;
        if self.config.attempts_max > 1 {
            self.tried.push(endpoint.slot);
        }
        Ok(Picked::new(&self.upstream, endpoint, app_protocol, now))
    }

    fn allow_retry(&self, now: u64) -> Result<(), Refusal> {
        if self.made >= self.config.attempts_max {
            return Err(Refusal::AttemptsSpent);
        }
        if self.upstream.budget.retry(self.config.retry_budget, now) {
            self.upstream.counters().retries.increment();
            Ok(())
        } else {
            self.upstream.counters().retries_refused.increment();
            Err(Refusal::BudgetSpent)
        }
    }
}

/// An endpoint that was chosen. Counts as in flight until dropped; [`failed`](Self::failed), or
/// [`answered`](Self::answered) and then [`completed`](Self::completed), say how it went. Dropped without, nothing is
/// learnt.
#[derive(Debug)]
pub struct Picked {
    /// Where to connect.
    pub address: SocketAddr,
    /// Which endpoint it is: key of a connection pool, together with `address`.
    pub slot: Slot,
    /// What the scheduler says is spoken there.
    pub app_protocol: AppProtocol,
    /// The request shows whether the endpoint is in order again.
    is_trial: Cell<bool>,
    has_failed: Cell<bool>,
    departure: Departure,
}

/// Tells whether and when an endpoint left. Counts for nothing.
#[derive(Debug, Clone)]
pub(crate) struct Departure {
    upstream: Rc<Upstream>,
    slot: Slot,
    left_at: Cell<Option<u64>>,
}

impl Picked {
    fn new(upstream: &Rc<Upstream>, endpoint: Endpoint, app_protocol: AppProtocol, now: u64) -> Self {
        let Endpoint { address, slot, .. } = endpoint;
        let cell = upstream.cells().own(slot);
        cell.set_in_flight(cell.in_flight().saturating_add(1));
        upstream.open.set(upstream.open.get() + 1);
        let until = cell.suspended_until();
        let is_trial = until != 0 && now >= until && !cell.on_trial();
        if is_trial {
            cell.set_on_trial(true);
        }
        let departure = Departure { upstream: Rc::clone(upstream), slot, left_at: Cell::new(None) };
        Self {
            address,
            slot,
            app_protocol,
            is_trial: Cell::new(is_trial),
            has_failed: Cell::new(false),
            departure,
        }
    }

    /// The head of a response came, and not with 502, 503 or 504. `latency` is the time to it. What the endpoint did
    /// wrong before is not forgotten yet: the rest of the response may still break.
    #[inline]
    pub fn answered(&self, latency: Duration) {
        self.end_trial();
        self.departure.upstream.answered(self.slot, latency);
    }

    /// The response came to its end: the endpoint did its part, unless this request [`failed`](Self::failed). `now`
    /// may be the time of the head, which spares a look at the clock.
    #[inline]
    pub fn completed(&self, now: Instant) {
        self.end_trial();
        let upstream = &self.departure.upstream;
        if !self.has_failed.get() {
            upstream.completed(self.slot, upstream.worker.board.millis(now));
        }
    }

    /// Both at once: for a connection that was made, behind which there is nothing to judge by.
    pub fn succeeded(&self, latency: Duration, now: Instant) {
        self.answered(latency);
        self.completed(now);
    }

    /// It refused, reset, timed out, broke off, or answered 502, 503 or 504. Counts once.
    pub fn failed(&self, now: Instant) {
        self.end_trial();
        if self.has_failed.replace(true) {
            return;
        }
        let upstream = &self.departure.upstream;
        upstream.failed(self.slot, upstream.worker.board.millis(now));
    }

    #[inline]
    fn end_trial(&self) {
        if self.is_trial.replace(false)
            && let Some(cell) = self.departure.upstream.cells().held(self.slot)
        {
            cell.set_on_trial(false);
        }
    }

    /// Since when the endpoint has been out of the live ones, as of the last [`tick`](super::Upstreams::tick);
    /// `None` if it is among them. What is open to it drains from then on.
    #[must_use]
    pub fn left_at(&self) -> Option<Instant> {
        self.departure.left_at()
    }

    /// What [`left_at`](Self::left_at) is known by, to keep elsewhere.
    pub(crate) fn departure(&self) -> Departure {
        self.departure.clone()
    }
}

impl Departure {
    pub(crate) fn left_at(&self) -> Option<Instant> {
        match self.upstream.is_live(self.slot) {
            Some(Ok(())) => self.left_at.set(None),
            Some(Err(since)) if self.left_at.get().is_none() => self.left_at.set(Some(since)),
            _ => {}
        }
        self.left_at.get().map(|millis| self.upstream.worker.board.instant(millis))
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        self.end_trial();
        let upstream = &self.departure.upstream;
        upstream.open.set(upstream.open.get().saturating_sub(1));
        // If the slot is another endpoint's by now, its count is not ours.
        if let Some(cell) = upstream.cells().held(self.slot) {
            cell.set_in_flight(cell.in_flight().saturating_sub(1));
        }
    }
}
