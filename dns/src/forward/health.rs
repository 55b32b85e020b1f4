//! Which resolver to ask first: what is remembered of each, and the order that follows. No I/O, no clock.
//!
//! ```text
//!            answer                        FAILURES_MAX failures in a row
//!  usable ◄──────────── on trial ◄─ time ─ resting ◄──────────────────────── usable
//!                           └── failure: rests twice as long (up to REST_MAX) ──►
//! ```

use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Failures in a row after which a resolver rests.
const FAILURES_MAX: u32 = 3;
const REST_MIN: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(60);

/// A resolver that was not asked for so long gets one query again, to see whether it became faster.
const ESTIMATE_AGE_MAX: Duration = Duration::from_secs(60);

/// How long a resolver's lack of EDNS, or of care for the case of names, is remembered.
const SHORTCOMING_KEPT: Duration = Duration::from_secs(600);

/// Bounds of the wait for an answer before the next resolver is asked as well.
const PATIENCE_MIN: Duration = Duration::from_millis(50);
const PATIENCE_MAX: Duration = Duration::from_millis(800);
const PATIENCE_UNKNOWN: Duration = Duration::from_millis(300);

/// What is remembered of one resolver.
#[derive(Debug, Clone)]
pub(super) struct Resolver {
    pub(super) address: SocketAddr,
    latency: Option<Duration>,
    failures: u32,
    rests_until: Option<Instant>,
    /// While its trial query is under way, nobody else is sent there first.
    trial_until: Option<Instant>,
    asked: Option<Instant>,
    plain_until: Option<Instant>,
    any_case_until: Option<Instant>,
}

/// How one try at a resolver ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It answered, in this time.
    Answered(Duration),
    /// It did not answer, or with an error. That may be the name's fault; but then the others fail as well, and
    /// only the order among them matters.
    Failed,
    /// Somebody else answered after this one had been asked for so long.
    Overtaken(Duration),
}

impl Resolver {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            latency: None,
            failures: 0,
            rests_until: None,
            trial_until: None,
            asked: None,
            plain_until: None,
            any_case_until: None,
        }
    }

    /// How long to wait for this one before asking another as well.
    pub(super) fn patience(&self) -> Duration {
        self.latency.map_or(PATIENCE_UNKNOWN, |latency| (latency * 2).clamp(PATIENCE_MIN, PATIENCE_MAX))
    }

    pub(super) fn knows_edns(&self, now: Instant) -> bool {
        self.plain_until.is_none_or(|until| until <= now)
    }

    pub(super) fn keeps_case(&self, now: Instant) -> bool {
        self.any_case_until.is_none_or(|until| until <= now)
    }

    pub(super) fn lacks_edns(&mut self, now: Instant) {
        self.plain_until = Some(now + SHORTCOMING_KEPT);
    }

    pub(super) fn loses_case(&mut self, now: Instant) {
        self.any_case_until = Some(now + SHORTCOMING_KEPT);
    }

    pub(super) fn is_resting(&self, now: Instant) -> bool {
        let rests = |until: Option<Instant>| until.is_some_and(|until| until > now);
        rests(self.rests_until) || rests(self.trial_until)
    }

    /// Takes in how a try ended.
    pub(super) fn learn(&mut self, judgement: Judgement, now: Instant) {
        match judgement {
            Judgement::Answered(time) => {
                self.failures = 0;
                self.rests_until = None;
                self.trial_until = None;
                self.smooth(time);
            }
            Judgement::Overtaken(time) => {
                self.smooth(time);
                self.fail(now);
            }
            Judgement::Failed => self.fail(now),
        }
    }

    /// RFC 6298 §2 weighs a new sample with 1/8; queries are few, so with 1/4.
    fn smooth(&mut self, time: Duration) {
        self.latency = Some(self.latency.map_or(time, |known| (known * 3 + time) / 4));
    }

    fn fail(&mut self, now: Instant) {
        if self.rests_until.is_some_and(|until| until > now) {
            // A query that was under way when the rest began says nothing new.
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES_MAX {
            let doublings = (self.failures - FAILURES_MAX).min(6);
            self.rests_until = Some(now + (REST_MIN * (1 << doublings)).min(REST_MAX));
        }
    }

    fn is_due_for_trial(&self, now: Instant) -> bool {
        if self.is_resting(now) {
            return false;
        }
        self.rests_until.is_some()
            || self.latency.is_some()
                && self.asked.is_some_and(|asked| now.saturating_duration_since(asked) >= ESTIMATE_AGE_MAX)
    }
}

/// The order in which to ask those that are wanted, as indices: first one on trial, so that it is asked at all (the next one is asked
/// as well after a short wait, so the client pays little); then the usable ones, fastest first, those without
/// an estimate before; then the resting ones, which are better than nothing, the one to wake first before.
pub(super) fn order(
    resolvers: &mut [Resolver],
    now: Instant,
    is_wanted: impl Fn(SocketAddr) -> bool,
) -> Vec<usize> {
    let mut order: Vec<usize> = (0..resolvers.len()).filter(|at| is_wanted(resolvers[*at].address)).collect();
    order.sort_by_key(|&index| {
        let resolver = &resolvers[index];
        let wakes = resolver.rests_until.filter(|_| resolver.is_resting(now));
        (resolver.is_resting(now), wakes, resolver.latency, index)
    });
    if let Some(place) = order.iter().position(|&index| resolvers[index].is_due_for_trial(now)) {
        let index = order.remove(place);
        order.insert(0, index);
        if resolvers[index].rests_until.is_some() {
            resolvers[index].trial_until = Some(now + REST_MIN);
        }
    }
    if let Some(&first) = order.first() {
        resolvers[first].asked = Some(now);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolvers(count: u16) -> Vec<Resolver> {
        (0..count).map(|index| Resolver::new(SocketAddr::from(([127, 0, 0, 1], 53 + index)))).collect()
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_fastest_is_asked_first() {
        let now = Instant::now();
        let mut resolvers = resolvers(3);
        for (resolver, time) in resolvers.iter_mut().zip([30, 10, 20]) {
            resolver.learn(Judgement::Answered(MS * time), now);
        }
        assert_eq!(order(&mut resolvers, now, |_| true), [1, 2, 0]);
        resolvers[1].learn(Judgement::Answered(MS * 200), now);
        assert_eq!(order(&mut resolvers, now, |_| true), [2, 0, 1]);
    }

    #[test]
    fn a_dead_one_rests_and_is_tried_again_by_one_query_at_a_time() {
        let start = Instant::now();
        let mut resolvers = resolvers(2);
        for _ in 0..3 {
            assert_eq!(order(&mut resolvers, start, |_| true)[0], 0);
            resolvers[0].learn(Judgement::Failed, start);
        }
        assert_eq!(order(&mut resolvers, start, |_| true), [1, 0], "last, but not left out");
        let later = start + REST_MIN;
        assert_eq!(order(&mut resolvers, later, |_| true)[0], 0, "on trial");
        assert_eq!(order(&mut resolvers, later, |_| true)[0], 1, "while the trial is under way");
        resolvers[0].learn(Judgement::Answered(MS), later);
        assert_eq!(order(&mut resolvers, later, |_| true)[0], 1, "no estimate yet: to be learned");
        resolvers[1].learn(Judgement::Answered(MS * 5), later);
        assert_eq!(order(&mut resolvers, later, |_| true)[0], 0, "well again");
    }

    #[test]
    fn rest_grows_to_its_limit() {
        let mut now = Instant::now();
        let mut resolver = Resolver::new(SocketAddr::from(([127, 0, 0, 1], 53)));
        let mut rests = Vec::new();
        for _ in 0..12 {
            resolver.learn(Judgement::Failed, now);
            if let Some(until) = resolver.rests_until {
                rests.push((until - now).as_secs());
                now = until;
            }
        }
        assert_eq!(rests, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
    }

    #[test]
    fn a_slow_one_that_recovered_is_found_out() {
        let start = Instant::now();
        let mut resolvers = resolvers(2);
        resolvers[0].learn(Judgement::Answered(MS * 500), start);
        resolvers[1].learn(Judgement::Answered(MS * 5), start);
        resolvers[0].asked = Some(start);
        assert_eq!(order(&mut resolvers, start + MS, |_| true)[0], 1);
        resolvers[1].asked = Some(start + ESTIMATE_AGE_MAX);
        assert_eq!(order(&mut resolvers, start + ESTIMATE_AGE_MAX, |_| true)[0], 0);
    }
}
