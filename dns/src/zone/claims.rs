//! How many reasons there are for what stands in a zone.

use core::sync::atomic::{AtomicU32, Ordering};

/// A number of reasons, one or more. Readers see what stands and not why, so it is the one writer's alone: it changes in
/// place, in every version of the zone that shares it, and no version is made for it. A task that moves between nodes
/// that run others changes two numbers and no name.
#[derive(Debug)]
pub(crate) struct Claims(AtomicU32);

impl Claims {
    /// The first reason.
    pub(super) fn one() -> Self {
        Self(AtomicU32::new(1))
    }

    pub(super) fn count(&self) -> u32 {
        // Nothing else is read by this number, and only its writer reads it.
        self.0.load(Ordering::Relaxed)
    }

    /// One reason more.
    pub(super) fn add(&self) {
        self.0.store(self.count() + 1, Ordering::Relaxed);
    }

    /// One reason less; returns how many are left. What has none left is to be taken out.
    pub(super) fn take(&self) -> u32 {
        let left = self.count().saturating_sub(1);
        self.0.store(left, Ordering::Relaxed);
        left
    }
}

/// The number as it is now, for the next version: what becomes of the old one's does not matter.
impl Clone for Claims {
    fn clone(&self) -> Self {
        Self(AtomicU32::new(self.count()))
    }
}
