//! The versions of each zone that secondaries may have, and what lies between them.
//!
//! A version is one snapshot of the zones under its serial. Only versions that somebody may have are kept apart: the
//! journal takes what stands in the table when it is told to follow, however many generations that was.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::records::{Lookup, Record};
use crate::wire::Rcode;
use crate::zone::{Zone, Zones, ahead_of};

/// What a difference takes besides its records.
const DIFFERENCE_LEN: usize = 512;
/// What a record takes besides its octets.
const RECORD_LEN: usize = 64;

/// From one version to the next: the SOA record of each, the records that went and those that came.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference {
    pub(super) from: Record,
    pub(super) to: Record,
    pub(super) removed: Vec<Record>,
    pub(super) added: Vec<Record>,
}

impl Difference {
    /// Between two states of a zone; `None` if one of them has no such zone. Costs as much as they differ.
    #[must_use]
    pub fn between(old: &Zones, new: &Zones, apex: &[u8]) -> Option<Self> {
        let (mut before, mut after) = (Lookup::new(old), Lookup::new(new));
        let (from, to) = (before.soa(apex)?, after.soa(apex)?);
        let (mut removed, mut added) = (Vec::new(), Vec::new());
        let (mut had, mut has) = (Vec::new(), Vec::new());
        for owner in zone(new, apex)?.owners_apart(zone(old, apex)?) {
            had.clear();
            has.clear();
            before.records(&owner, &mut |record| had.push(record));
            after.records(&owner, &mut |record| has.push(record));
            had.sort_unstable();
            has.sort_unstable();
            removed.extend(had.iter().filter(|record| has.binary_search(record).is_err()).cloned());
            added.extend(has.drain(..).filter(|record| had.binary_search(record).is_err()));
        }
        Some(Self { from, to, removed, added })
    }

    /// What went, and what came: no record is in both.
    #[must_use]
    pub fn records(&self) -> (&[Record], &[Record]) {
        (&self.removed, &self.added)
    }

    fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }

    fn octets(&self) -> usize {
        let records = self.removed.iter().chain(&self.added);
        DIFFERENCE_LEN + records.map(|record| record.len() + RECORD_LEN).sum::<usize>()
    }
}

fn zone<'z>(zones: &'z Zones, apex: &[u8]) -> Option<&'z Zone> {
    zones.zones().iter().find(|zone| zone.apex() == apex)
}

/// A zone has another content than secondaries were told of.
#[derive(Debug, Clone)]
pub(super) struct Notice {
    pub(super) apex: Box<[u8]>,
    pub(super) soa: Record,
}

/// What can be given of a zone.
#[derive(Debug)]
pub(super) enum Held {
    /// The client has it, or a later version than ours.
    Current(Record),
    /// What lies between the client's version and ours, in order.
    Differences(Record, Vec<Arc<Difference>>),
    /// Everything.
    Whole(Record, Zones),
}

/// The history of all zones.
#[derive(Debug, Default)]
pub(super) struct Journal(Mutex<Vec<History>>);

#[derive(Debug)]
struct History {
    apex: Box<[u8]>,
    zones: Zones,
    soa: Record,
    /// The zone lacks a source, and is not given away.
    incomplete: bool,
    /// Oldest first, each one's end the next one's beginning.
    differences: VecDeque<Arc<Difference>>,
    octets: usize,
    notice: bool,
}

impl Journal {
    /// Takes over the zones. Keeps `octets_max` octets of differences for each. Several may follow at a time: `zones` is
    /// asked when it is this one's turn, so that none puts older zones behind newer ones.
    pub(super) fn follow(&self, zones: impl FnOnce() -> Zones, octets_max: usize) {
        let mut histories = self.lock();
        let zones = &zones();
        histories.retain(|history| zone(zones, &history.apex).is_some());
        for zone in zones.zones() {
            let known = histories.iter_mut().find(|history| *history.apex == *zone.apex());
            match known {
                Some(history) => history.follow(zones, zone, octets_max),
                None => histories.extend(History::new(zones, zone)),
            }
        }
    }

    /// What there is for a client that has version `have`, or none.
    pub(super) fn held(&self, apex: &[u8], have: Option<u32>) -> Result<Held, Rcode> {
        let histories = self.lock();
        let Some(history) = histories.iter().find(|history| *history.apex == *apex) else {
            // Below or above an apex, or no name of ours (RFC 5936 §2.2.1); or a zone that is not whole yet.
            return Err(Rcode::NotAuth);
        };
        history.held(have)
    }

    /// The zones that changed since this was last asked.
    pub(super) fn take_notices(&self) -> Vec<Notice> {
        let mut histories = self.lock();
        let news = histories.iter_mut().filter_map(|history| {
            let notice = Notice { apex: history.apex.clone(), soa: history.soa.clone() };
            core::mem::take(&mut history.notice).then_some(notice)
        });
        news.collect()
    }

    /// Forgets all zones.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    /// Differences kept, and their octets.
    pub(super) fn size(&self) -> (usize, usize) {
        let histories = self.lock();
        histories.iter().fold((0, 0), |(count, octets), history| {
            (count + history.differences.len(), octets + history.octets)
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<History>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History {
    fn new(zones: &Zones, zone: &Zone) -> Option<Self> {
        let soa = Lookup::new(zones).soa(zone.apex())?;
        Some(Self {
            apex: zone.apex().into(),
            zones: zones.clone(),
            soa,
            incomplete: !zone.is_complete(),
            differences: VecDeque::new(),
            octets: 0,
            notice: zone.is_complete(),
        })
    }

    fn follow(&mut self, zones: &Zones, zone: &Zone, octets_max: usize) {
        // How long a source will be missing, nobody knows: the version before is let go, with all that the table has
        // replaced since. Afterwards secondaries get the zone whole.
        if self.incomplete || !zone.is_complete() {
            if let Some(history) = Self::new(zones, zone) {
                *self = history;
            }
            return;
        }
        if zones.serial() == self.soa.serial() {
            return;
        }
        if let Some(difference) = Difference::between(&self.zones, zones, &self.apex) {
            self.put(difference, octets_max);
            self.zones = zones.clone();
        }
    }

    fn put(&mut self, difference: Difference, octets_max: usize) {
        debug_assert!(difference.from.serial() == self.soa.serial(), "differences are without gaps");
        self.soa = difference.to.clone();
        // Secondaries need not come for a serial alone.
        self.notice |= !difference.is_empty();
        self.octets += difference.octets();
        self.differences.push_back(Arc::new(difference));
        while self.octets > octets_max {
            let Some(oldest) = self.differences.pop_front() else { break };
            self.octets -= oldest.octets();
        }
    }

    fn held(&self, have: Option<u32>) -> Result<Held, Rcode> {
        if self.incomplete {
            return Err(Rcode::ServFail);
        }
        let (soa, serial) = (self.soa.clone(), self.soa.serial());
        let whole = || Held::Whole(self.soa.clone(), self.zones.clone());
        let Some(have) = have else { return Ok(whole()) };
        if have == serial || ahead_of(have, serial) {
            return Ok(Held::Current(soa));
        }
        let Some(first) = self.differences.iter().position(|one| one.from.serial() == have) else {
            return Ok(whole());
        };
        Ok(Held::Differences(soa, self.differences.range(first..).cloned().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_looked_up_when_no_other_follows() {
        let journal = Journal::default();
        let zones = || {
            assert!(journal.0.try_lock().is_err(), "another could put newer zones in before these");
            Zones::default()
        };
        journal.follow(zones, 0);
        assert!(journal.0.try_lock().is_ok());
    }
}
