//! Which priority of a `failover` service is in force.
//!
//! ```text
//!            better has nothing live: at once
//!   better ─────────────────────────────────────► next
//!     ▲                                             │ better has been good for RETURN_AFTER,
//!     └─────────────────────────────────────────────┘ or next has nothing live
//! ```
//!
//! A stale source is not a dead one: its last state counts like any other's.

use core::time::Duration;
use std::time::Instant;

use super::merge::Offer;

/// How long a better priority must be good before traffic goes back to it.
pub(crate) const RETURN_AFTER: Duration = Duration::from_secs(30);

/// What is remembered about one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    /// The priority in force.
    pub(crate) level: i32,
    /// A better one is good again since then.
    pub(crate) better_since: Option<Instant>,
}

impl Held {
    /// When this decision must be looked at again if nothing happens before.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.better_since.map(|since| since + RETURN_AFTER)
    }
}

/// The decision after `before`, given the offers (best first). `None` if there is no offer at all.
pub(crate) fn choose(offers: &[Offer], before: Option<Held>, now: Instant) -> Option<Held> {
    let best = offers
        .iter()
        .find(|offer| offer.live)
        .or_else(|| offers.iter().find(|offer| offer.unhealthy))
        .or_else(|| offers.first())?;
    let settled = Held { level: best.level, better_since: None };
    let Some(before) = before else { return Some(settled) };
    let still_good = offers.iter().any(|offer| offer.level == before.level && offer.live);
    if best.level >= before.level || !still_good {
        return Some(settled);
    }
    let since = before.better_since.unwrap_or(now);
    let waited = now.saturating_duration_since(since) >= RETURN_AFTER;
    Some(if waited { settled } else { Held { level: before.level, better_since: Some(since) } })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn offer(level: i32, live: bool) -> Offer {
        Offer { level, live, unhealthy: false }
    }

    #[test]
    fn leaves_at_once_and_returns_late() {
        let start = Instant::now();
        let both = [offer(0, true), offer(1, true)];
        let broken = [offer(0, false), offer(1, true)];
        let first = choose(&both, None, start);
        assert_eq!(first, Some(Held { level: 0, better_since: None }));
        let away = choose(&broken, first, start);
        assert_eq!(away, Some(Held { level: 1, better_since: None }));
        let waiting = choose(&both, away, start);
        assert_eq!(waiting, Some(Held { level: 1, better_since: Some(start) }));
        let nearly = choose(&both, waiting, start + RETURN_AFTER / 2);
        assert_eq!(nearly, waiting);
        let relapsed = choose(&broken, nearly, start + RETURN_AFTER / 2);
        assert_eq!(relapsed, away, "a relapse starts the wait anew");
        let back = choose(&both, waiting, start + RETURN_AFTER);
        assert_eq!(back, first);
    }

    #[test]
    fn a_dead_second_does_not_hold_traffic_back() {
        let start = Instant::now();
        let held = Some(Held { level: 1, better_since: None });
        let offers = [offer(0, true), offer(1, false)];
        assert_eq!(choose(&offers, held, start), Some(Held { level: 0, better_since: None }));
    }

    #[test]
    fn with_nothing_live_the_unhealthy_are_the_choice() {
        let start = Instant::now();
        let offers = [
            Offer { level: 0, live: false, unhealthy: false },
            Offer { level: 1, live: false, unhealthy: true },
        ];
        assert_eq!(choose(&offers, None, start).unwrap().level, 1);
        assert_eq!(choose(&[offer(3, false)], None, start).unwrap().level, 3);
        assert_eq!(choose(&[], None, start), None);
    }
}
