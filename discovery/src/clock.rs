//! The only place of this crate that asks what time it is. Cores are told.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The monotonic clock; stands still and jumps with tokio's paused time in tests.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Milliseconds since the Unix epoch by the wall clock, 0 before it.
pub(crate) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
