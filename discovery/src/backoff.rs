//! How long to wait before the next session of a source.

use core::time::Duration;

/// The wait after the first failure lies between these.
const FIRST: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));
/// The second wait, before jitter; it doubles from there.
const BASE: Duration = Duration::from_secs(1);
/// No wait is longer.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);
/// A session of this length was a good one: the next failure counts as the first.
pub(crate) const GOOD_SESSION: Duration = Duration::from_secs(30);

/// Exponential, with jitter, so that many nodes do not return to a scheduler at one instant.
#[derive(Debug)]
pub(crate) struct Backoff {
    failures: u32,
    random: fastrand::Rng,
}

impl Backoff {
    pub(crate) fn new(random: fastrand::Rng) -> Self {
        Self { failures: 0, random }
    }

    /// The wait after a session that lasted `session`.
    pub(crate) fn after(&mut self, session: Duration) -> Duration {
        if session >= GOOD_SESSION {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures == 1 {
            return FIRST.0 + (FIRST.1 - FIRST.0).mul_f64(self.random.f64());
        }
        let doubled = BASE.saturating_mul(1 << (self.failures - 2).min(10));
        doubled.min(WAIT_MAX).mul_f64(0.5 + self.random.f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_limit_and_start_anew_after_a_good_session() {
        for seed in 0..200 {
            let mut backoff = Backoff::new(fastrand::Rng::with_seed(seed));
            let waits: Vec<_> = (0..12).map(|_| backoff.after(Duration::ZERO)).collect();
            assert!((FIRST.0..=FIRST.1).contains(&waits[0]), "seed {seed}: {waits:?}");
            assert!(waits[1] >= BASE / 2 && waits[1] <= BASE, "seed {seed}: {waits:?}");
            assert!(waits.iter().all(|wait| *wait <= WAIT_MAX), "seed {seed}: {waits:?}");
            assert!(waits[11] >= WAIT_MAX / 2, "seed {seed}: {waits:?}");
            assert!(backoff.after(GOOD_SESSION) <= FIRST.1, "seed {seed}");
        }
    }
}
