//! Verdicts of active checks, and where the instances are that they are about.
//!
//! A verdict names an instance alone, so an index leads from there to its services. It is only built when the
//! first verdict comes: most clusters have no active checks.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use portolan_table::{Health, Instance, ServiceName, SharedStr};
use smallvec::SmallVec;

use super::state::SourceState;

/// Services of one instance: one, as a rule.
type Keys = SmallVec<[SharedStr; 1]>;

/// The verdicts, by feed and instance.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    of_feed: HashMap<u16, OfFeed, RandomState>,
    started: bool,
}

#[derive(Debug, Default)]
struct OfFeed {
    verdicts: HashMap<SharedStr, Health, RandomState>,
    located: HashMap<SharedStr, Keys, RandomState>,
}

impl Checks {
    /// True if there has never been a verdict.
    pub(crate) fn is_empty(&self) -> bool {
        !self.started
    }

    /// The verdict on an instance.
    pub(crate) fn verdict(&self, feed: u16, instance: &str) -> Option<Health> {
        self.of_feed.get(&feed)?.verdicts.get(instance).copied()
    }

    /// Sets or withdraws a verdict; returns the names of the services that it changes. A verdict on an
    /// instance that is not known is dropped: there is nothing that would ever take it away again.
    pub(crate) fn set(
        &mut self,
        sources: &[SourceState],
        feed: u16,
        instance: &SharedStr,
        health: Option<Health>,
    ) -> Vec<ServiceName> {
        if !self.started {
            self.start(sources);
        }
        let (Some(of_feed), Some(state)) =
            (self.of_feed.get_mut(&feed), sources.iter().find(|state| state.feed == feed))
        else {
            return Vec::new();
        };
        let Some(keys) = of_feed.located.get(instance) else { return Vec::new() };
        let before = match health {
            Some(health) => of_feed.verdicts.insert(instance.clone(), health),
            None => of_feed.verdicts.remove(instance),
        };
        if before == health {
            return Vec::new();
        }
        keys.iter().filter_map(|key| state.services.get(key)).map(|part| part.spec.name.clone()).collect()
    }

    fn start(&mut self, sources: &[SourceState]) {
        self.started = true;
        for state in sources {
            for (key, part) in &state.services {
                for instance in &part.instances {
                    self.add(state.feed, key, instance);
                }
            }
        }
    }

    /// Notes that a service has an instance.
    pub(crate) fn add(&mut self, feed: u16, key: &SharedStr, instance: &Instance) {
        if self.started {
            let keys = self.of_feed.entry(feed).or_default().located.entry(instance.id.clone()).or_default();
            if !keys.contains(key) {
                keys.push(key.clone());
            }
        }
    }

    /// Notes that it no longer has it; with its last service the instance's verdict is gone.
    pub(crate) fn remove(&mut self, feed: u16, key: &SharedStr, instance: &Instance) {
        let Some(of_feed) = self.of_feed.get_mut(&feed) else { return };
        let Some(keys) = of_feed.located.get_mut(&instance.id) else { return };
        keys.retain(|held| held != key);
        if keys.is_empty() {
            of_feed.located.remove(&instance.id);
            of_feed.verdicts.remove(&instance.id);
        }
    }
}
