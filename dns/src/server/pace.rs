//! How slow a secondary may be.

use core::time::Duration;

use tokio::time::Instant;

/// After the time of grace, what a secondary has to take at the least.
const OCTETS_PER_SECOND_MIN: u64 = 256 << 10;
const GRACE: Duration = Duration::from_secs(60);

/// What the client has taken of one transfer. A transfer holds on to a version of the zone, and with it to all that the
/// table has replaced since: whoever is too slow has to come again. Time counts from the first message that is taken, so
/// a transfer may wait for those before it on the same connection.
#[derive(Debug, Default)]
pub(super) struct Pace {
    start: Option<Instant>,
    octets: u64,
}

impl Pace {
    /// The client is about to take so many octets. False if those before took it too long.
    pub(super) fn is_kept(&mut self, octets: usize, now: Instant) -> bool {
        let start = *self.start.get_or_insert(now);
        let kept = now <= start + GRACE + Duration::from_secs(self.octets / OCTETS_PER_SECOND_MIN);
        self.octets += octets as u64;
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_of_grace_and_then_so_much_a_second() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut pace = Pace::default();
        assert!(pace.is_kept(32 << 10, start));
        assert!(pace.is_kept(1 << 20, after(60)), "however little was taken by then");
        assert!(pace.is_kept(1, after(64)), "the time of what was taken is added");
        assert!(!pace.is_kept(1, after(65)));
    }
}
