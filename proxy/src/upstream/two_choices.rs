//! The better of two endpoints drawn at random, and what is learnt about their latency.
//!
//! Two draws and a comparison keep the load nearly as even as looking at all of them, at a cost that does not depend
//! on how many there are; and workers and edges that each see their own part of the traffic don't all rush to the
//! same best endpoint.

use core::time::Duration;

use portolan_table::{Endpoint, Slot};

use super::cells::EndpointCell;
use super::selection::{Fit, Upstream, Wish};
use crate::Balance;
use crate::balance::{Candidate, Estimate, PortTable, below, lighter, sooner};

impl Upstream {
    /// Draws two by weight and proposes the better one. There are at least two.
    #[inline]
    pub(super) fn of_two(
        &self,
        live: &[Endpoint],
        table: Option<&PortTable>,
        wish: &Wish<'_>,
        strict: bool,
    ) -> usize {
        let draw = || match table {
            Some(PortTable::Weights(weights)) => weights.at(fastrand::u64(..)),
            _ => below(fastrand::u64(..), live.len()),
        };
        let (first, mut second) = (draw(), draw());
        if first == second {
            second = (first + 1) % live.len();
        }
        let fit = |at: usize| self.fit(&live[at], wish, strict);
        let first_is_better = match (fit(first), fit(second)) {
            (Fit::Takes(a), Fit::Takes(b)) => self.is_better((&live[first], a), (&live[second], b), wish),
            // Of two that don't fit either is as good as the other: it will be looked at and passed over.
            (first, _) => matches!(first, Fit::Takes(_)),
        };
        if first_is_better { first } else { second }
    }

    /// Whether the first of two endpoints, each with its requests in flight, is to be preferred.
    #[inline]
    fn is_better(&self, first: (&Endpoint, u32), second: (&Endpoint, u32), wish: &Wish<'_>) -> bool {
        if wish.config.balance != Balance::PeakEwma {
            return lighter((first.1, first.0.weight), (second.1, second.0.weight));
        }
        let candidate = |(endpoint, in_flight): (&Endpoint, u32)| Candidate {
            in_flight,
            weight: endpoint.weight,
            micros: self.cells().own(endpoint.slot).estimate().faded(wish.now as u32),
        };
        sooner(candidate(first), candidate(second))
    }

    /// The endpoint of `cell` answered after `latency` when `faded` was expected of it.
    pub(super) fn heard(&self, cell: &EndpointCell, latency: Duration, faded: f32, now: u64) {
        let answered = |estimate: Estimate, now| {
            self.usual.set(self.usual.get().answered(latency));
            estimate.as_of_pick(faded, now).answered(latency, now)
        };
        self.learn(cell, answered, now);
    }

    /// A request was given up by its client after `elapsed`, with nothing heard from the endpoint.
    pub(super) fn given_up(&self, slot: Slot, elapsed: Duration, now: u64) {
        if let Some(cell) = self.cells().held(slot) {
            self.learn(cell, |estimate, now| estimate.waited(elapsed, self.usual.get(), now), now);
        }
    }

    /// Notes that the endpoint is picked; returns the latency expected of it in microseconds.
    #[inline]
    pub(super) fn expect(&self, cell: &EndpointCell, now: u64) -> f32 {
        let mut expected = 0.0;
        let pick = |estimate: Estimate, now| {
            let (faded, until_answered) = estimate.tried(now);
            expected = faded;
            until_answered
        };
        self.learn(cell, pick, now);
        expected
    }

    /// Brings an estimate up to date, if the policy goes by it.
    #[inline]
    pub(super) fn learn(
        &self,
        cell: &EndpointCell,
        change: impl FnOnce(Estimate, u32) -> Estimate,
        now: u64,
    ) {
        if self.config().balance == Balance::PeakEwma {
            // Estimates live for seconds, so that a clock that wraps after weeks is wide enough.
            cell.set_estimate(change(cell.estimate(), now as u32));
        }
    }
}
