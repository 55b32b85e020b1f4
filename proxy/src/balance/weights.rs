//! Choice by weight in constant time: running sums, and a guide into them.

use super::below;
use super::steps::step;

/// Places numbers on a line, each as long as its weight.
#[derive(Debug)]
pub(crate) struct Weights {
    /// Running sums of the weights.
    sums: Box<[u64]>,
    /// The line is cut into as many equal parts as there are weights; for each, the place at its beginning. A
    /// part holds one end on average, so what is left to search is constant.
    guide: Box<[u32]>,
}

impl Weights {
    pub(crate) fn new(weights: impl Iterator<Item = u16>) -> Self {
        let mut sum = 0;
        let sums: Box<[u64]> = weights
            .map(|weight| {
                // A weight of 0 never comes here (such an endpoint is not live); 1 keeps the line whole if it did.
                sum += u64::from(weight.max(1));
                sum
            })
            .collect();
        let len = sums.len() as u128;
        let mut at = 0;
        let guide = (0..len)
            .map(|part| {
                let begin = (part * u128::from(sum) / len) as u64;
                while sums[at] <= begin {
                    at += 1;
                }
                at as u32
            })
            .collect();
        Self { sums, guide }
    }

    pub(crate) fn len(&self) -> usize {
        self.sums.len()
    }

    /// The place that `point` falls on, a fraction of 2^64 of the whole line.
    #[inline]
    pub(crate) fn at(&self, point: u64) -> usize {
        let Some(whole) = self.sums.last() else { return 0 };
        let part = below(point, self.guide.len());
        let point = ((u128::from(point) * u128::from(*whole)) >> 64) as u64;
        let first = self.guide[part] as usize;
        let last = self.guide.get(part + 1).map_or(self.sums.len() - 1, |next| *next as usize);
        first
            + self.sums[first..last].partition_point(|sum| {
                step();
                *sum <= point
            })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_point_falls_where_the_sums_say(weights in prop::collection::vec(1u16..2000, 1..300), points in prop::collection::vec(any::<u64>(), 1..200)) {
            let table = Weights::new(weights.iter().copied());
            let whole: u64 = weights.iter().map(|w| u64::from(*w)).sum();
            for point in points.into_iter().chain([0, u64::MAX]) {
                let mut left = ((u128::from(point) * u128::from(whole)) >> 64) as u64;
                let mut want = 0;
                while left >= u64::from(weights[want]) {
                    left -= u64::from(weights[want]);
                    want += 1;
                }
                prop_assert_eq!(table.at(point), want);
            }
        }
    }
}
