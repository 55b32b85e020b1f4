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
        upstream.begin(upstream.worker.millis(now));
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
    pub fn pick(&mut self, snapshot: &Snapshot, routes: &Routes, at: Instant) -> Result<Picked, Refusal> {
        let now = self.upstream.worker.millis(at);
        if self.made > 0 {
            self.allow_retry(now)?;
        }
        let wish = Wish { config: &self.config, key: self.key, tried: &self.tried, now };
        let (endpoint, app_protocol) = self.upstream.pick(snapshot, routes, &wish)?;
        self.made += 1;
        if self.config.attempts_max > 1 {
            self.tried.push(endpoint.slot);
        }
        Ok(Picked::new(&self.upstream, &endpoint, app_protocol, at))
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
/// [`answered`](Self::answered) and then [`completed`](Self::completed), say how it went. Dropped without, all that is
/// learnt is that it took at least so long.
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
    /// Since when an answer is awaited; `None` once it came.
    awaited: Cell<Option<Instant>>,
    /// Whether the client is waited for meanwhile: then no answer is overdue.
    awaits_client: Cell<bool>,
    /// What its latency was believed to be when it was picked, in microseconds.
    faded: f32,
}

/// Tells whether and when an endpoint left. Counts for nothing.
#[derive(Debug, Clone)]
pub(crate) struct Departure {
    upstream: Rc<Upstream>,
    slot: Slot,
    left_at: Cell<Option<u64>>,
}

impl Picked {
    fn new(upstream: &Rc<Upstream>, endpoint: &Endpoint, app_protocol: AppProtocol, at: Instant) -> Self {
        let Endpoint { address, slot, .. } = *endpoint;
        let now = upstream.worker.millis(at);
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
            awaited: Cell::new(Some(at)),
            awaits_client: Cell::new(false),
            faded: upstream.expect(cell, now),
            departure,
        }
    }

    /// The head of a response came, and not with 502, 503 or 504. The time to it is the endpoint's latency. What the endpoint did
    /// wrong before is not forgotten yet: the rest of the response may still break.
    #[inline]
    pub fn answered(&self, now: Instant) {
        let latency = self.awaited.get().map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.heard(latency, now);
    }

    fn heard(&self, latency: Duration, now: Instant) {
        self.end_trial();
        if self.awaited.take().is_some() {
            let upstream = &self.departure.upstream;
            upstream.answered(self.slot, latency, self.faded, upstream.worker.millis(now));
        }
    }

    /// The response came to its end: the endpoint did its part, unless this request [`failed`](Self::failed). `now`
    /// may be the time of the head, which spares a look at the clock.
    #[inline]
    pub fn completed(&self, now: Instant) {
        self.end_trial();
        let upstream = &self.departure.upstream;
        if !self.has_failed.get() {
            upstream.completed(self.slot, upstream.worker.millis(now));
        }
    }

    /// Both at once: for a connection that was made, behind which there is nothing to judge by.
    pub fn succeeded(&self, latency: Duration, now: Instant) {
        self.heard(latency, now);
        self.completed(now);
    }

    /// The endpoint did its part as far as that can be known: it was not heard of, and nothing was refused (UDP).
    pub(crate) fn endured(&self, now: Instant) {
        self.stop_waiting();
        self.completed(now);
    }

    /// That no answer has come says nothing.
    pub(crate) fn stop_waiting(&self) {
        self.awaited.set(None);
    }

    /// The client has more of the request to send, and was heard of just now if it `has_sent` some of it. The time it
    /// takes is not the endpoint's; an answer that comes all the same is one to what was sent so far.
    #[inline]
    pub(crate) fn awaits_client(&self, has_sent: bool) {
        self.awaits_client.set(true);
        if has_sent && self.awaited.get().is_some() {
            self.awaited.set(Some(Instant::now()));
        }
    }

    /// It is the endpoint's turn, to take more of the request or to answer.
    #[inline]
    pub(crate) fn awaits_endpoint(&self) {
        if self.awaits_client.replace(false) && self.awaited.get().is_some() {
            self.awaited.set(Some(Instant::now()));
        }
    }

    /// It refused, reset, timed out, broke off, or answered 502, 503 or 504. Counts once.
    pub fn failed(&self, now: Instant) {
        self.end_trial();
        if self.has_failed.replace(true) {
            return;
        }
        let upstream = &self.departure.upstream;
        let elapsed = self.waited(now);
        upstream.failed(self.slot, elapsed, upstream.worker.millis(now));
    }

    /// How long an answer was awaited in vain. Nothing if there was one, whatever came after it.
    fn waited(&self, now: Instant) -> Duration {
        let overdue = self.awaited.take().filter(|_| !self.awaits_client.get());
        overdue.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
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
        if self.awaited.get().is_some() && !self.awaits_client.get() {
            // Clients that lose patience are the ones who know that an endpoint is slow.
            let now = upstream.worker.now.get();
            upstream.given_up(self.slot, self.waited(upstream.worker.board.instant(now)), now);
        }
        upstream.open.set(upstream.open.get().saturating_sub(1));
        // If the slot is another endpoint's by now, its count is not ours.
        if let Some(cell) = upstream.cells().held(self.slot) {
            cell.set_in_flight(cell.in_flight().saturating_sub(1));
        }
    }
}
