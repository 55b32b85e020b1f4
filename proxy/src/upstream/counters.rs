//! What upstreams count, per worker, summed when scraped.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts of one worker, which alone writes them, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Counters {
    pub(super) retries: Count,
    pub(super) retries_refused: Count,
    pub(super) ejections: Count,
    pub(super) ejections_refused: Count,
    pub(super) saturated: Count,
    pub(super) no_endpoint: Count,
}

/// A count with one writer.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Adds one. For the one writer: a load and a store, no locked instruction.
    #[inline]
    pub(crate) fn increment(&self) {
        self.add(1);
    }

    /// Adds `n`. For the one writer.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The count.
    #[inline]
    pub(crate) fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
