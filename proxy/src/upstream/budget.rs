//! The retry budget: retries as a share of the requests of the last ten seconds.

use core::cell::Cell;

/// Seconds that count.
const SPAN: usize = 10;
/// Retries that are always allowed in one second, so that a service with few requests can retry at all, and an
/// endpoint that refuses is ejected before its refusals are seen.
const RETRIES_MIN: u32 = 10;

/// Requests and retries of one upstream, by second. Of one worker.
#[derive(Debug, Default)]
pub(super) struct Budget {
    second: Cell<u64>,
    requests: [Cell<u32>; SPAN],
    retries: [Cell<u32>; SPAN],
}

impl Budget {
    /// Counts a request.
    #[inline]
    pub(super) fn request(&self, now_ms: u64) {
        let cell = &self.requests[self.turn_to(now_ms)];
        cell.set(cell.get().saturating_add(1));
    }

    /// Counts a retry if it is within `share` of the requests.
    pub(super) fn retry(&self, share: f64, now_ms: u64) -> bool {
        let at = self.turn_to(now_ms);
        let sum = |cells: &[Cell<u32>]| cells.iter().map(|cell| f64::from(cell.get())).sum::<f64>();
        let allowed =
            self.retries[at].get() < RETRIES_MIN || sum(&self.retries) + 1.0 <= share * sum(&self.requests);
        if allowed {
            self.retries[at].set(self.retries[at].get() + 1);
        }
        allowed
    }

    /// Empties the seconds that have passed; the place of the present one.
    #[inline]
    fn turn_to(&self, now_ms: u64) -> usize {
        let now = now_ms / 1000;
        let last = self.second.get();
        if now > last {
            for second in (last + 1..=now).rev().take(SPAN) {
                self.requests[second as usize % SPAN].set(0);
                self.retries[second as usize % SPAN].set(0);
            }
            self.second.set(now);
        }
        // A clock read before the last one counts for the last.
        now.max(last) as usize % SPAN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_share_of_the_last_ten_seconds() {
        let budget = Budget::default();
        for _ in 0..200 {
            budget.request(1_000);
        }
        let allowed = (0..100).filter(|_| budget.retry(0.2, 2_000)).count();
        assert_eq!(allowed, 40);
        assert_eq!((0..100).filter(|_| budget.retry(0.2, 3_000)).count(), RETRIES_MIN as usize, "the least");
        // The requests are forgotten after ten seconds, and so are the retries.
        assert_eq!((0..100).filter(|_| budget.retry(0.2, 20_000)).count(), RETRIES_MIN as usize);
    }

    #[test]
    fn a_share_of_nothing_leaves_the_least() {
        let budget = Budget::default();
        for _ in 0..1000 {
            budget.request(1_000);
        }
        assert_eq!((0..100).filter(|_| budget.retry(0.0, 1_000)).count(), RETRIES_MIN as usize);
    }

    #[test]
    fn a_clock_that_steps_back_changes_nothing() {
        let budget = Budget::default();
        for now in [50_000, 49_000, 50_000] {
            for _ in 0..50 {
                budget.request(now);
            }
        }
        assert_eq!((0..100).filter(|_| budget.retry(0.2, 48_000)).count(), 30);
    }
}
