//! Peak EWMA: of two endpoints chosen at random, by weight, the one whose next answer should come first, which is
//! its latency times the requests it would then have.
//!
//! The latency is a moving mean that forgets with time and not with the number of answers, and that a slow answer
//! moves at once: being late to notice a slow endpoint costs time-outs, being late to notice that it is quick again
//! costs a little of the others' time. An endpoint that nothing is sent to is forgiven as its estimate fades, until
//! it looks cheap enough for a trial; while the trial is under way the old estimate is back in force, so that one
//! request is put at risk and not as many as come in before its answer.

use core::time::Duration;

/// The time in which an estimate without answers falls to 1/e, in milliseconds. A slow endpoint gets a few trial
/// requests per such time; shorter would mean more of them, longer a late return to one that has recovered.
const DECAY_MS: f32 = 10_000.0;
/// What a failure counts for at least: an endpoint that refuses at once must not look like the quickest.
const FAILURE: Duration = Duration::from_secs(1);

/// What is believed about the latency of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Estimate {
    /// Microseconds as of `at`; 0: nothing is known.
    pub(crate) micros: f32,
    /// Milliseconds of a clock that may wrap.
    pub(crate) at: u32,
}

impl Estimate {
    /// The estimate as of `now`.
    #[inline]
    pub(crate) fn faded(self, now: u32) -> f32 {
        self.micros * kept(self.at, now)
    }

    /// For an endpoint that is picked: the faded estimate, and what is believed until there is an answer.
    #[inline]
    pub(crate) fn tried(self, now: u32) -> (f32, Self) {
        let faded = self.faded(now);
        let until_answered = if faded < self.micros / 2.0 { Self { at: now, ..self } } else { self };
        (faded, until_answered)
    }

    /// The estimate before the answer to a request that was picked at a time when it had faded to `faded`.
    pub(crate) fn as_of_pick(self, faded: f32, now: u32) -> Self {
        if faded < self.faded(now) { Self { micros: faded, at: now } } else { self }
    }

    /// The estimate after an answer that took `latency`.
    pub(crate) fn answered(self, latency: Duration, now: u32) -> Self {
        let sample = micros(latency);
        let micros = if sample >= self.faded(now) {
            sample
        } else {
            let kept = kept(self.at, now);
            self.micros * kept + sample * (1.0 - kept)
        };
        Self { micros, at: now }
    }

    /// The estimate after a request that has failed after `elapsed`.
    pub(crate) fn failed(self, elapsed: Duration, now: u32) -> Self {
        self.raised(elapsed.max(FAILURE), now)
    }

    /// The estimate after a request that was given up after `elapsed`: an answer would have taken longer.
    pub(crate) fn waited(self, elapsed: Duration, usual: Usual, now: u32) -> Self {
        if self.micros == 0.0 && !usual.is_exceeded(elapsed) {
            // Of an endpoint that never answered a short wait says nothing, and it must not look like a short answer.
            return self;
        }
        self.raised(elapsed, now)
    }

    fn raised(self, elapsed: Duration, now: u32) -> Self {
        let waited = micros(elapsed);
        if waited > self.faded(now) { Self { micros: waited, at: now } } else { self }
    }
}

/// What answers of a service take, whichever endpoint they are of: a rough mean, in microseconds; 0: there was none.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usual(f32);

impl Usual {
    pub(crate) fn answered(self, latency: Duration) -> Self {
        let sample = micros(latency);
        Self(if self.0 == 0.0 { sample } else { self.0 + (sample - self.0) / 16.0 })
    }

    /// Whether a wait of `elapsed` is longer than usual. What takes as long as a failure counts for always is.
    fn is_exceeded(self, elapsed: Duration) -> bool {
        elapsed >= FAILURE || (self.0 != 0.0 && micros(elapsed) > self.0)
    }
}

/// The share of an estimate from `at` that is left at `now`.
#[inline]
fn kept(at: u32, now: u32) -> f32 {
    (-(now.wrapping_sub(at) as f32) / DECAY_MS).exp()
}

/// Never 0, which stands for "not known".
fn micros(time: Duration) -> f32 {
    (time.as_secs_f32() * 1e6).max(1.0)
}

/// One of two endpoints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) in_flight: u32,
    pub(crate) weight: u16,
    /// Estimate as of now; 0 if nothing is known.
    pub(crate) micros: f32,
}

/// True if the first is to be taken. Candidates were drawn by weight already, so idle ones are told apart by latency
/// alone; a heavier one may have more in flight before that counts. What is not known is taken to be like the
/// other, which is a fair start: neither a flood on a new endpoint nor a wait until the old ones are slow.
#[inline]
pub(crate) fn sooner(first: Candidate, second: Candidate) -> bool {
    let (mut a, mut b) = (first.micros, second.micros);
    if a == 0.0 || b == 0.0 {
        (a, b) = (1.0, 1.0);
    }
    let (v, w) = (f32::from(first.weight.max(1)), f32::from(second.weight.max(1)));
    let unit = v.min(w);
    let load = |in_flight: u32, weight: f32| 1.0 + in_flight as f32 * unit / weight;
    a * load(first.in_flight, v) <= b * load(second.in_flight, w)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Estimate = Estimate { micros: 0.0, at: 0 };

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn candidate(in_flight: u32, weight: u16, ms: f32) -> Candidate {
        Candidate { in_flight, weight, micros: ms * 1e3 }
    }

    #[test]
    fn a_slow_answer_counts_at_once_and_quick_ones_with_time() {
        let slow = NONE.answered(ms(50), 1_000).answered(ms(2_000), 1_000);
        assert_eq!(slow.micros, 2e6);
        let mut quick = slow;
        for now in (1_100..=11_000).step_by(100) {
            quick = quick.answered(ms(50), now);
        }
        // After one time of decay a share of 1/e of the distance is left.
        let want = 50e3 + (2e6 - 50e3) * (-1.0f32).exp();
        assert!((quick.micros / want - 1.0).abs() < 0.01, "{} and not {want}", quick.micros);
        // A thousand answers in the same moment say no more than one.
        let at_once = (0..1_000).fold(slow, |estimate, _| estimate.answered(ms(50), 1_000));
        assert_eq!(at_once.micros, 2e6);
    }

    #[test]
    fn without_answers_it_fades() {
        let slow = NONE.answered(ms(2_000), 1_000);
        let faded = slow.faded(31_000);
        assert!((faded / (2e6 * (-3.0f32).exp()) - 1.0).abs() < 1e-3, "{faded}");
        // The clock may wrap.
        let before = Estimate { micros: 1e6, at: u32::MAX - 4_999 };
        assert!((before.faded(5_000) / (1e6 * (-1.0f32).exp()) - 1.0).abs() < 1e-3);
    }

    #[test]
    fn a_trial_is_one_request_and_its_answer_settles_the_matter() {
        let slow = NONE.answered(ms(2_000), 0);
        let (faded, under_way) = slow.tried(30_000);
        assert!(faded < 100e3 && under_way.faded(30_000) == 2e6);
        let recovered = under_way.as_of_pick(faded, 30_050).answered(ms(50), 30_050);
        assert!(recovered.micros < 100e3, "{}", recovered.micros);
        let still_slow = under_way.failed(ms(1_000), 31_000);
        assert!(still_slow.micros > 1e6, "{}", still_slow.micros);
        // In regular use nothing is a trial.
        assert_eq!(slow.tried(5_000).1, slow);
    }

    #[test]
    fn failures_and_waits_raise_it_and_never_lower_it() {
        let known = NONE.answered(ms(1_500), 0);
        assert_eq!(known.failed(ms(1), 0), known);
        assert_eq!(known.waited(ms(1_499), Usual::default(), 0), known);
        assert_eq!(known.waited(ms(3_000), Usual::default(), 0).micros, 3e6);
        assert_eq!(NONE.failed(ms(1), 0).micros, 1e6, "an endpoint that refuses at once is not quick");
    }

    #[test]
    fn of_an_endpoint_that_never_answered_only_a_long_wait_tells() {
        assert_eq!(NONE.waited(ms(999), Usual::default(), 0), NONE);
        assert_eq!(NONE.waited(ms(1_000), Usual::default(), 0).micros, 1e6);
        let usual = Usual::default().answered(ms(50));
        assert_eq!(NONE.waited(ms(49), usual, 0), NONE);
        assert_eq!(NONE.waited(ms(200), usual, 0).micros, 200e3);
        // One late answer among many does not change what is usual by much.
        let usual = usual.answered(ms(850));
        assert_eq!(NONE.waited(ms(99), usual, 0), NONE);
        assert_eq!(NONE.waited(ms(101), usual, 0).micros, 101e3);
    }

    #[test]
    fn what_counts_is_latency_times_what_would_be_in_flight() {
        assert!(sooner(candidate(0, 1, 50.0), candidate(0, 1, 60.0)));
        assert!(sooner(candidate(3, 1, 10.0), candidate(0, 1, 50.0)));
        assert!(!sooner(candidate(5, 1, 10.0), candidate(0, 1, 50.0)));
        assert!(sooner(candidate(1, 1, 50.0), candidate(1, 1, 50.0)), "of equals the one drawn first");
        // Ten times the weight, ten times as much in flight.
        assert!(sooner(candidate(9, 10, 50.0), candidate(1, 1, 50.0)));
        assert!(!sooner(candidate(11, 10, 50.0), candidate(1, 1, 50.0)));
    }

    #[test]
    fn what_is_not_known_is_taken_to_be_like_the_other() {
        assert!(sooner(candidate(0, 1, 0.0), candidate(1, 1, 0.1)));
        assert!(!sooner(candidate(2, 1, 0.0), candidate(1, 1, 5_000.0)));
    }
}
