//! The flow table: found by client, ordered by use, bounded.
//!
//! Entries lie in a list of places that are used again; the order of use is a chain through them, so that finding,
//! touching, adding and taking out cost the same however many there are.

use core::net::{IpAddr, SocketAddr};
use std::collections::HashMap;
use std::time::Instant;

use foldhash::fast::RandomState;

/// No place.
const NONE: u32 = u32::MAX;

/// Who sends, and to which address of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    pub(super) client: SocketAddr,
    /// The address that was asked, from which replies must come; known on sockets bound to the unspecified address.
    pub(super) asked: Option<IpAddr>,
}

/// A flow, never another one that has its place by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id {
    place: u32,
    epoch: u32,
}

impl Id {
    pub(super) fn to_bits(self) -> u64 {
        u64::from(self.epoch) << 32 | u64::from(self.place)
    }

    pub(super) fn from_bits(bits: u64) -> Self {
        Self { place: bits as u32, epoch: (bits >> 32) as u32 }
    }
}

/// What is kept about each client.
pub(super) struct Flows<T> {
    by_peer: HashMap<Peer, u32, RandomState>,
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    newest: u32,
    oldest: u32,
}

struct Entry<T> {
    epoch: u32,
    newer: u32,
    older: u32,
    used: Instant,
    peer: Peer,
    /// `None`: the place is free.
    flow: Option<T>,
}

impl<T> Flows<T> {
    pub(super) fn new() -> Self {
        let by_peer = HashMap::default();
        Self { by_peer, entries: Vec::new(), free: Vec::new(), newest: NONE, oldest: NONE }
    }

    pub(super) fn len(&self) -> usize {
        self.by_peer.len()
    }

    pub(super) fn find(&self, peer: &Peer) -> Option<Id> {
        let place = *self.by_peer.get(peer)?;
        Some(Id { place, epoch: self.entries[place as usize].epoch })
    }

    pub(super) fn get(&self, id: Id) -> Option<(&Peer, &T)> {
        let entry = self.entries.get(id.place as usize).filter(|entry| entry.epoch == id.epoch)?;
        Some((&entry.peer, entry.flow.as_ref()?))
    }

    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut T> {
        self.entries.get_mut(id.place as usize).filter(|entry| entry.epoch == id.epoch)?.flow.as_mut()
    }

    /// Adds a flow for a peer that has none, as the one used last.
    pub(super) fn add(&mut self, peer: Peer, flow: T, now: Instant) -> Id {
        let place = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry { epoch: 0, newer: NONE, older: NONE, used: now, peer, flow: None });
            (self.entries.len() - 1) as u32
        });
        let entry = &mut self.entries[place as usize];
        (entry.used, entry.peer, entry.flow) = (now, peer, Some(flow));
        let id = Id { place, epoch: entry.epoch };
        self.by_peer.insert(peer, place);
        self.put_first(place);
        id
    }

    /// Notes that a flow is used.
    pub(super) fn touch(&mut self, id: Id, now: Instant) {
        if self.get(id).is_none() {
            return;
        }
        self.entries[id.place as usize].used = now;
        if self.newest != id.place {
            self.unchain(id.place);
            self.put_first(id.place);
        }
    }

    /// Takes a flow out.
    pub(super) fn remove(&mut self, id: Id) -> Option<T> {
        let entry = self.entries.get_mut(id.place as usize).filter(|entry| entry.epoch == id.epoch)?;
        let flow = entry.flow.take()?;
        entry.epoch = entry.epoch.wrapping_add(1);
        self.by_peer.remove(&entry.peer);
        self.unchain(id.place);
        self.free.push(id.place);
        Some(flow)
    }

    /// The flow that was not used for longest, and when it was.
    pub(super) fn oldest(&self) -> Option<(Id, Instant)> {
        let entry = self.entries.get(self.oldest as usize)?;
        Some((Id { place: self.oldest, epoch: entry.epoch }, entry.used))
    }

    fn put_first(&mut self, place: u32) {
        let before = core::mem::replace(&mut self.newest, place);
        let entry = &mut self.entries[place as usize];
        (entry.newer, entry.older) = (NONE, before);
        match self.entries.get_mut(before as usize) {
            Some(before) => before.newer = place,
            None => self.oldest = place,
        }
    }

    fn unchain(&mut self, place: u32) {
        let (newer, older) = (self.entries[place as usize].newer, self.entries[place as usize].older);
        match self.entries.get_mut(newer as usize) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
        match self.entries.get_mut(older as usize) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn peer(n: u16) -> Peer {
        Peer { client: ([10, 0, 0, 1], n).into(), asked: None }
    }

    #[test]
    fn an_id_is_of_one_flow_for_ever() {
        let now = Instant::now();
        let mut flows = Flows::new();
        let first = flows.add(peer(1), "first", now);
        assert_eq!(flows.remove(first), Some("first"));
        let second = flows.add(peer(2), "second", now);
        assert_eq!(Id::from_bits(second.to_bits()), second);
        assert!(flows.get(first).is_none());
        assert_eq!(flows.remove(first), None);
        assert_eq!(flows.get(second), Some((&peer(2), &"second")));
        assert_eq!((flows.find(&peer(1)), flows.find(&peer(2))), (None, Some(second)));
    }

    proptest! {
        /// Against a plain list in the order of use.
        #[test]
        fn the_order_of_use_is_kept(steps in prop::collection::vec((0u8..4, 0u16..20), 1..400)) {
            let start = Instant::now();
            let (mut flows, mut model) = (Flows::new(), VecDeque::<(u16, Instant)>::new());
            for (second, (what, n)) in steps.into_iter().enumerate() {
                let now = start + Duration::from_secs(second as u64);
                let known = model.iter().position(|(other, _)| *other == n);
                let found = flows.find(&peer(n));
                prop_assert_eq!(found.is_some(), known.is_some());
                match (what, found, known) {
                    (0 | 1, Some(id), Some(at)) => {
                        flows.touch(id, now);
                        model.remove(at);
                        model.push_front((n, now));
                    }
                    (0 | 1, ..) => {
                        flows.add(peer(n), n, now);
                        model.push_front((n, now));
                    }
                    (2, Some(id), Some(at)) => {
                        prop_assert_eq!(flows.remove(id), Some(n));
                        model.remove(at);
                    }
                    _ => {
                        let oldest = flows.oldest().map(|(id, _)| id);
                        let taken = oldest.and_then(|id| flows.remove(id));
                        prop_assert_eq!(taken, model.pop_back().map(|(n, _)| n));
                    }
                }
                let oldest = flows.oldest().map(|(id, used)| (*flows.get(id).unwrap().1, used));
                prop_assert_eq!(oldest, model.back().copied());
                prop_assert_eq!(flows.len(), model.len());
            }
        }
    }
}
