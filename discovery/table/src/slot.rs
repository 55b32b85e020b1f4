//! Slots: small numbers that stand for endpoints across generations.
//!
//! The proxy keeps what it learns about an endpoint (in flight, latency, ejection) in per-worker arrays. A
//! snapshot carries the index into them; this registry, used on the control path only, keeps identity → slot.

use core::net::SocketAddr;
use std::sync::Mutex;

use dashmap::DashMap;

use crate::hash::stable_hash;
use crate::model::{Protocol, SourceId};

/// Index of an endpoint's run-time state, and the count of times the index was given out. A worker that
/// finds another `epoch` in its cell resets the cell: the endpoint is not the one it knew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Place in the per-worker arrays. Dense: bounded by the largest number of endpoints alive at once.
    pub index: u32,
    /// How many endpoints had this index before.
    pub epoch: u32,
}

/// Identity → slot. Shared by reference; used by the catalog, never by a data thread.
#[derive(Debug, Default)]
pub struct SlotRegistry {
    by_identity: DashMap<u64, Held>,
    free: Mutex<Free>,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    slot: Slot,
    holders: u32,
}

#[derive(Debug, Default)]
struct Free {
    released: Vec<Slot>,
    next: u32,
}

impl SlotRegistry {
    /// The slot of an endpoint, given out if it has none yet. Every call counts as one holder.
    ///
    /// The identity is kept as its 64-bit hash: two endpoints that collide share their estimates, nothing else.
    pub fn acquire(&self, source: SourceId, instance: &str, protocol: Protocol, address: SocketAddr) -> Slot {
        let mut held = self
            .by_identity
            .entry(identity(source, instance, protocol, address))
            .or_insert_with(|| Held { slot: self.take(), holders: 0 });
        held.holders += 1;
        held.slot
    }

    /// Gives one hold back. With the last one the index may be used for another endpoint.
    pub fn release(&self, source: SourceId, instance: &str, protocol: Protocol, address: SocketAddr) {
        let key = identity(source, instance, protocol, address);
        if let Some(mut held) = self.by_identity.get_mut(&key) {
            held.holders = held.holders.saturating_sub(1);
        }
        if let Some((_, held)) = self.by_identity.remove_if(&key, |_, held| held.holders == 0) {
            let mut free = self.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            free.released.push(Slot { index: held.slot.index, epoch: held.slot.epoch.wrapping_add(1) });
        }
    }

    /// Endpoints that hold a slot.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_identity.len()
    }

    /// True if nobody holds a slot.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_identity.is_empty()
    }

    fn take(&self) -> Slot {
        let mut free = self.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        free.released.pop().unwrap_or_else(|| {
            let index = free.next;
            free.next += 1;
            Slot { index, epoch: 0 }
        })
    }
}

fn identity(source: SourceId, instance: &str, protocol: Protocol, address: SocketAddr) -> u64 {
    let place = match address {
        SocketAddr::V4(a) => u64::from(u32::from(*a.ip())),
        SocketAddr::V6(a) => (u128::from(*a.ip()) ^ (u128::from(*a.ip()) >> 64)) as u64,
    };
    let tag = (u64::from(source.0) << 24)
        | (u64::from(protocol == Protocol::Udp) << 16)
        | u64::from(address.port());
    stable_hash(&[instance]) ^ (place.rotate_left(17) ^ tag).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_survives_while_held_and_comes_back_with_another_epoch() {
        let registry = SlotRegistry::default();
        let at = "10.0.0.1:80".parse().unwrap();
        let first = registry.acquire(SourceId(0), "web.1", Protocol::Tcp, at);
        assert_eq!(registry.acquire(SourceId(0), "web.1", Protocol::Tcp, at), first);
        registry.release(SourceId(0), "web.1", Protocol::Tcp, at);
        assert_eq!(registry.len(), 1);
        registry.release(SourceId(0), "web.1", Protocol::Tcp, at);
        assert!(registry.is_empty());
        let second = registry.acquire(SourceId(0), "web.2", Protocol::Tcp, at);
        assert_eq!((second.index, second.epoch), (first.index, first.epoch + 1));
    }
}
