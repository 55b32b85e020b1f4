//! Least request: of two endpoints chosen at random, by weight, the one with less in flight for its weight.

/// True if the first of two endpoints, given as requests in flight and weight, is to be taken. The candidates were drawn by
/// weight already, so between two that do nothing the first is taken and shares follow the weights.
#[inline]
pub(crate) fn lighter(first: (u32, u16), second: (u32, u16)) -> bool {
    u64::from(first.0) * u64::from(second.1.max(1)) <= u64::from(second.0) * u64::from(first.1.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_is_load_for_weight() {
        assert!(lighter((0, 1), (0, 100)));
        assert!(lighter((3, 2), (2, 1)));
        assert!(!lighter((2, 1), (3, 2)));
        assert!(!lighter((1, 1), (0, 1)));
    }
}
