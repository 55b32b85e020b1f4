//! Round robin: one after the other; by weight, spread out as evenly as the weights allow.

use core::cell::Cell;

use super::Weights;

/// Step of the weighted walk: 2^64 divided by the golden ratio. Its multiples lie evenly on the line for every number
/// of steps, so after n picks an endpoint's count is off its share by O(log n) at most, and heavy endpoints
/// come up interleaved with light ones rather than in bursts.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Where the walk over the endpoints of one upstream has got to, in one worker.
#[derive(Debug)]
pub(crate) struct Cursor(Cell<u64>);

impl Cursor {
    /// A walk that starts at the place that `random` says.
    pub(crate) fn new(random: u64) -> Self {
        Self(Cell::new(random))
    }

    /// The next of `n` endpoints of equal weight.
    #[inline]
    pub(crate) fn next(&self, n: usize) -> usize {
        let at = self.0.get().wrapping_add(1);
        self.0.set(at);
        (at % n as u64) as usize
    }

    /// The next endpoint by weight.
    #[inline]
    pub(crate) fn next_weighted(&self, weights: &Weights) -> usize {
        let point = self.0.get().wrapping_add(STEP);
        self.0.set(point);
        weights.at(point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_weights_go_round() {
        let cursor = Cursor::new(u64::MAX - 3);
        let mut counts = [0u32; 7];
        for _ in 0..7000 {
            counts[cursor.next(7)] += 1;
        }
        assert!(counts.iter().all(|count| (999..=1001).contains(count)), "{counts:?}");
    }

    #[test]
    fn shares_follow_weights_at_every_moment() {
        let weights = [5u16, 1, 1, 10, 3];
        let whole: u32 = weights.iter().map(|w| u32::from(*w)).sum();
        let table = Weights::new(weights.iter().copied());
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..50 {
            let cursor = Cursor::new(random.u64(..));
            let mut counts = [0u32; 5];
            for picks in 1..=5000u32 {
                counts[cursor.next_weighted(&table)] += 1;
                for (count, weight) in counts.iter().zip(weights) {
                    let share = f64::from(picks) * f64::from(weight) / f64::from(whole);
                    assert!((f64::from(*count) - share).abs() < 5.0, "{counts:?} after {picks}");
                }
            }
        }
    }
}
