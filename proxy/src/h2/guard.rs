//! What a peer may cost without getting anything done (RFC 9113 §10.5): two leaking buckets.
//!
//! Requests begun and cancelled (CVE-2023-44487), and frames that only make work: PING, SETTINGS, PRIORITY, empty
//! DATA, frames of unknown kinds, windows opened by a few octets. Work that is done fills neither: what a busy
//! client sends beside its requests must not add up.

use super::error::{Broken, Reason};

/// Frames that are chores at once, and per second.
const CHORES: Rate = Rate { burst: 2_000, per_second: 500 };
/// Cancelled requests per second; at once as many as there may be streams, and some.
const RESETS_PER_SECOND: u64 = 100;
const RESETS_BURST: u64 = 100;

#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: u64,
    per_second: u64,
}

/// Levels in thousandths.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    rate: Rate,
    level: u64,
    at_ms: u64,
}

impl Bucket {
    const fn new(rate: Rate) -> Self {
        Self { rate, level: 0, at_ms: 0 }
    }

    fn spend(&mut self, now_ms: u64) -> bool {
        let leaked = now_ms.saturating_sub(self.at_ms).saturating_mul(self.rate.per_second);
        self.at_ms = now_ms;
        self.level = self.level.saturating_sub(leaked) + 1000;
        self.level <= self.rate.burst * 1000
    }
}

/// The buckets of one connection.
#[derive(Debug)]
pub(super) struct Guard {
    chores: Bucket,
    resets: Bucket,
    now_ms: u64,
    is_over: bool,
}

impl Guard {
    pub(super) fn new(streams_max: u32) -> Self {
        let resets = Rate { burst: RESETS_BURST + u64::from(streams_max), per_second: RESETS_PER_SECOND };
        Self { chores: Bucket::new(CHORES), resets: Bucket::new(resets), now_ms: 0, is_over: false }
    }

    pub(super) fn set_now(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// A frame that gets nothing done.
    pub(super) fn chore(&mut self) {
        self.is_over |= !self.chores.spend(self.now_ms);
    }

    /// A request that its client gave up, or that was not one.
    pub(super) fn reset(&mut self) {
        self.is_over |= !self.resets.spend(self.now_ms);
    }

    /// Something got done: the chores that belong to it are no flood.
    pub(super) fn done(&mut self) {
        self.chores.level = self.chores.level.saturating_sub(2_000);
    }

    /// A whole request got done by whom it was meant for: it makes up for half a cancelled one. So a client may give up
    /// a third of its requests however many they are; and what is refused at once, which costs a client next to
    /// nothing, makes up for nothing.
    pub(super) fn served(&mut self) {
        self.done();
        self.resets.level = self.resets.level.saturating_sub(500);
    }

    pub(super) fn check(&self) -> Result<(), Broken> {
        if self.is_over {
            Err(Broken(Reason::EnhanceYourCalm, "more chores or cancelled requests than anybody needs"))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_over_the_limit_and_the_same_over_time_is_not() {
        let mut guard = Guard::new(10);
        (0..110).for_each(|_| guard.reset());
        assert!(guard.check().is_ok());
        guard.reset();
        assert!(guard.check().is_err());
        let mut guard = Guard::new(10);
        for at in 0..10_000 {
            guard.set_now(at * 10);
            guard.reset();
            (0..5).for_each(|_| guard.chore());
        }
        assert!(guard.check().is_ok());
    }

    #[test]
    fn what_comes_with_work_is_no_flood() {
        let mut guard = Guard::new(10);
        for _ in 0..100_000 {
            guard.chore();
            guard.chore();
            guard.served();
        }
        assert!(guard.check().is_ok());
    }
}
