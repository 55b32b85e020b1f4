//! Passive ejection: an endpoint that keeps failing is left alone for a while.
//!
//! ```text
//!                 failures in a row,                     time passed
//!   ┌────────┐    threshold allows     ┌─────────┐                     ┌───────────────────────────┐
//!   │ normal ├────────────────────────►│ ejected ├────────────────────►│ trial: one request at a   │
//!   └────▲───┘                         └────▲────┘                     │ time                      │
//!        │                                  └──── failed: twice as ────┤                           │
//!        └───────────────────────────────────────── succeeded ─────────┴───────────────────────────┘
//! ```
//!
//! A trial is under way from the pick until it has an answer, has failed or is given up; what else is open to the
//! endpoint, of before the ejection or relays that live for hours, is no trial. Only a response that came to its end
//! (or, for a relay, a connection that was made) is a success: a head alone proves little.
//!
//! An endpoint counts as suspended from its ejection until it has succeeded. When too many are, nobody else is
//! ejected; when endpoints leave so that too few others remain, suspension is ignored (panic).

use core::time::Duration;

use portolan_table::Slot;

use super::selection::Upstream;
use crate::{EjectionConfig, UpstreamConfig};

impl Upstream {
    /// True if too small a share of the endpoints is not suspended, so that suspension is ignored.
    #[inline]
    pub(super) fn panics(&self, config: &UpstreamConfig) -> bool {
        let suspended = self.suspended.borrow().len();
        suspended > 0
            && config.ejection.as_ref().is_none_or(|ejection| !self.leaves_enough(suspended, ejection))
    }

    fn leaves_enough(&self, suspended: usize, config: &EjectionConfig) -> bool {
        let live = self.live.get();
        let left = live.saturating_sub(suspended);
        left > 0 && left as f64 >= config.panic_threshold * live as f64
    }

    pub(super) fn answered(&self, slot: Slot, latency: Duration, faded: f32, now: u64) {
        let Some(cell) = self.cells().held(slot) else { return };
        cell.add_latency(latency);
        self.heard(cell, latency, faded, now);
    }

    pub(super) fn completed(&self, slot: Slot, now: u64) {
        let Some(cell) = self.cells().held(slot) else { return };
        let until = cell.suspended_until();
        if until == 0 {
            if cell.failures() != 0 {
                cell.set_failures(0);
            }
        } else if now >= until {
            // Before that time it is the answer to a request from before the ejection, which proves nothing.
            cell.set_failures(0);
            cell.restore(now);
            self.suspended.borrow_mut().retain(|other| *other != slot);
        }
    }

    pub(super) fn failed(&self, slot: Slot, elapsed: Duration, now: u64) {
        let Some(cell) = self.cells().held(slot) else { return };
        self.learn(cell, |estimate, now| estimate.failed(elapsed, now), now);
        cell.set_failures(cell.failures().saturating_add(1));
        let config = self.config();
        let Some(config) = &config.ejection else { return };
        let until = cell.suspended_until();
        if until != 0 {
            if now >= until {
                self.eject(slot, config, now);
            }
        } else if u32::from(cell.failures()) >= config.failures.max(1) {
            self.forget_restored();
            if self.leaves_enough(self.suspended.borrow().len() + 1, config) {
                self.suspended.borrow_mut().push(slot);
                self.eject(slot, config, now);
            } else {
                self.counters().ejections_refused.increment();
            }
        }
    }

    fn eject(&self, slot: Slot, config: &EjectionConfig, now: u64) {
        let Some(cell) = self.cells().held(slot) else { return };
        let max = config.max.as_millis() as u64;
        // Long enough in order, and the next ejection is a first one again.
        let before = if now > cell.back_at().saturating_add(max) { 0 } else { cell.ejections() };
        let length = (config.base.as_millis() as u64).saturating_mul(1 << before.min(32)).min(max).max(1);
        cell.suspend(now + length, before.saturating_add(1));
        self.counters().ejections.increment();
    }

    /// Drops those from the list that another upstream over the same endpoints has found in order.
    pub(super) fn forget_restored(&self) {
        let cells = self.cells();
        self.suspended
            .borrow_mut()
            .retain(|slot| cells.held(*slot).is_some_and(|cell| cell.suspended_until() != 0));
    }
}
