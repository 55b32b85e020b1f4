//! What upstreams and relays count, per worker, summed when scraped.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts of one worker, which alone writes them, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    pub(crate) retries: Count,
    pub(crate) retries_refused: Count,
    pub(crate) ejections: Count,
    pub(crate) ejections_refused: Count,
    pub(crate) saturated: Count,
    pub(crate) no_endpoint: Count,
    /// Connections accepted by `tcp` listeners.
    pub(crate) tcp_connections: Count,
    /// Of them, those that have ended.
    pub(crate) tcp_closed: Count,
    /// Of them, those closed at once because there were too many.
    pub(crate) tcp_refused: Count,
    /// Of them, those for which no endpoint was found.
    pub(crate) tcp_unserved: Count,
    pub(crate) tcp_accept_errors: Count,
    pub(crate) tcp_connect_errors: Count,
    pub(crate) tcp_octets_up: Count,
    pub(crate) tcp_octets_down: Count,
    /// Flows of `udp` listeners.
    pub(crate) udp_flows: Count,
    /// Of them, those that have ended.
    pub(crate) udp_closed: Count,
    /// Of them, those that had to make room.
    pub(crate) udp_evicted: Count,
    /// Datagrams for which no endpoint was found.
    pub(crate) udp_unserved: Count,
    /// Datagrams that a socket did not take.
    pub(crate) udp_dropped: Count,
    pub(crate) udp_refused: Count,
    pub(crate) udp_socket_errors: Count,
    pub(crate) udp_datagrams_up: Count,
    pub(crate) udp_datagrams_down: Count,
    pub(crate) udp_octets_up: Count,
    pub(crate) udp_octets_down: Count,
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
