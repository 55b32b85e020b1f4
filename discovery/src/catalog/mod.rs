//! The catalog: the mutable merge of all sources. A sync core which is told the time; [`task`] drives it.
//!
//! ```text
//! Change ──► state of its source ──► names touched ──► flush: merge each touched name ──► ChangeSet ──► Publisher
//!            (kept apart per source,   (a set)          (pure, from all sources' parts)
//!             lists marked and swept)
//! ```
//!
//! Rules that the state keeps:
//! - A verdict stays in force for its instance until another is given: [`Health::Unknown`] takes none back, a
//!   new list neither. Only a restart (another start time) or the end of all checks forgets it.
//! - A list takes away what it does not name, when it is complete. A list that is cut off takes nothing away.
//! - Two keys of one source on one name are a mistake that is reported; the lexically smallest key has the name.
//! - Nothing is removed because a source fails, unless its `stale_max` says so.

mod apply;
mod checks;
mod failover;
mod flush;
mod intern;
mod merge;
mod nodes;
mod removal;
mod state;
pub(crate) mod task;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use portolan_table::{
    ClusterFact, FactKey, Health, Instance, ServiceName, ServiceSpec, SharedStr, SlotRegistry, SourceId,
    Standing,
};
use smallvec::SmallVec;

use crate::config::SourceConfig;
use crate::last_known_good::Identity;
use checks::Checks;
use failover::Held;
use intern::Interner;
use nodes::Nodes;
pub(crate) use state::SourceState;

/// Services one source may hold; more are refused and reported.
pub(crate) const SERVICES_MAX: usize = 1_000_000;
/// Instances one source may hold; more are refused and reported.
pub(crate) const INSTANCES_MAX: usize = 4_000_000;

/// Facts of one source's cluster; more are refused and reported.
pub(crate) const FACTS_MAX: usize = 1_000_000;

/// Everything of one source, as it is saved and loaded.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Saved {
    pub(crate) services: Vec<SavedService>,
    pub(crate) facts: Vec<Arc<ClusterFact>>,
}

/// A service with its instances.
pub(crate) type SavedService = (Arc<ServiceSpec>, Vec<Arc<Instance>>);

/// Which (feed, key) pairs lay claim to a name.
type Claims = SmallVec<[(u16, SharedStr); 1]>;

/// Whether a change must be followed by something outside the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It changed nothing that readers see.
    Nothing,
    /// Names or nodes were touched.
    Touched,
    /// A list was held back by the removal guard: the source should list again to confirm it.
    Confirm,
}

/// The merge of all sources.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    sources: Vec<SourceState>,
    index: Index,
    slots: SlotRegistry,
    held: HashMap<ServiceName, Held, RandomState>,
    sources_touched: bool,
}

/// What runs across the sources.
#[derive(Debug, Default)]
struct Index {
    claims: HashMap<ServiceName, Claims, RandomState>,
    touched: HashSet<ServiceName, RandomState>,
    /// Grows with every touch.
    touches: u64,
    nodes: Nodes,
    facts_touched: HashSet<(SourceId, FactKey), RandomState>,
    checks: Checks,
    interner: Interner,
}

impl Catalog {
    /// Sets the list of sources. Those that stay (same feed) keep what they hold; those that are gone take
    /// their services with them.
    pub(crate) fn configure(&mut self, configs: Vec<(u16, SourceConfig)>, now: Instant) {
        let mut before = std::mem::take(&mut self.sources);
        for (feed, config) in configs {
            let state = match before.iter().position(|state| state.feed == feed) {
                Some(at) => self.reconfigure(before.swap_remove(at), config),
                None => SourceState::new(feed, config, now),
            };
            self.sources.push(state);
        }
        for mut gone in before {
            self.index.empty(&mut gone);
        }
        self.sources_touched = true;
    }

    fn reconfigure(&mut self, mut state: SourceState, config: SourceConfig) -> SourceState {
        let differs = (state.config.id, state.config.merge, state.config.priority)
            != (config.id, config.merge, config.priority);
        if differs {
            self.index.touched.extend(state.services.values().map(|part| part.spec.name.clone()));
            for id in [state.config.id, config.id] {
                self.index.facts_touched.extend(state.facts.keys().map(|key| (id, key.clone())));
            }
        }
        state.resave |= Identity::of(&state.config) != Identity::of(&config);
        state.config = config;
        state.report_due = true;
        state
    }

    /// Takes in a saved table, last confirmed `age` ago. Ignored if the source has data already.
    pub(crate) fn load(&mut self, feed: u16, saved: Saved, age: Duration, now: Instant) {
        let Some(at) = self.position(feed).filter(|&at| !self.sources[at].has_data) else { return };
        let state = &mut self.sources[at];
        for (spec, instances) in saved.services {
            self.index.put_service(state, spec, instances);
        }
        for fact in saved.facts {
            self.index.put_fact(state, fact);
        }
        state.has_data = true;
        state.confirmed = Some(now.checked_sub(age).unwrap_or(now));
        state.unsaved = false;
        state.stand(Standing::Stale, now);
        self.sources_touched = true;
    }

    /// Everything a source holds, to be saved. Shares all texts with the table.
    pub(crate) fn save(&mut self, feed: u16, now: Instant) -> Saved {
        let Some(at) = self.position(feed) else { return Saved::default() };
        let state = &mut self.sources[at];
        state.unsaved = false;
        state.saved = Some(now);
        let service = |part: &state::PartState| (Arc::clone(&part.spec), part.instances.clone());
        Saved {
            services: state.services.values().map(service).collect(),
            facts: state.facts.values().cloned().collect(),
        }
    }

    /// Notes that saving failed: it is to be tried again.
    pub(crate) fn save_failed(&mut self, feed: u16) {
        if let Some(at) = self.position(feed) {
            self.sources[at].unsaved = true;
        }
    }

    /// Sources that hold something which is not saved. What was told under another identity is never saved
    /// under this one.
    pub(crate) fn unsaved(&self) -> impl Iterator<Item = &SourceState> {
        self.sources.iter().filter(|state| state.unsaved && state.has_data && !state.resave)
    }

    /// Sets (or with `None` withdraws) the verdict of an active check.
    pub(crate) fn set_verdict(&mut self, source: SourceId, instance: &SharedStr, health: Option<Health>) {
        let Some(state) = self.sources.iter().find(|state| state.config.id == source) else { return };
        let feed = state.feed;
        let names = self.index.checks.set(&self.sources, feed, instance, health);
        self.index.touched.extend(names);
    }

    /// Does what is due by time alone: expiry of stale sources, fail-over on its way back, unused texts.
    pub(crate) fn tick(&mut self, now: Instant) {
        for at in 0..self.sources.len() {
            let state = &self.sources[at];
            let expired = state.standing == Standing::Stale
                && state.has_data
                && state.config.stale_max.is_some_and(|max| {
                    now.saturating_duration_since(state.confirmed.unwrap_or(state.since)) >= max
                });
            if expired {
                self.expire(at, now);
            }
            let state = &mut self.sources[at];
            state.unsaved |= state.is_saved_age_off(now);
        }
        let due = self.held.iter().filter(|(_, held)| held.due().is_some_and(|due| due <= now));
        self.index.touched.extend(due.map(|(name, _)| name.clone()));
        self.index.interner.sweep();
    }

    fn expire(&mut self, at: usize, now: Instant) {
        let state = &mut self.sources[at];
        tracing::warn!(source = %state.config.name, "stale for longer than stale_max: dropped");
        self.index.empty(state);
        state.has_data = false;
        state.unconfirmed = false;
        state.stand(Standing::Unsynced, now);
        self.sources_touched = true;
    }

    /// The sources, for reports.
    pub(crate) fn sources(&self) -> &[SourceState] {
        &self.sources
    }

    /// The sources, to mark their reports as written.
    pub(crate) fn sources_mut(&mut self) -> &mut [SourceState] {
        &mut self.sources
    }

    fn position(&self, feed: u16) -> Option<usize> {
        self.sources.iter().position(|state| state.feed == feed)
    }
}

fn unclaim(claims: &mut HashMap<ServiceName, Claims, RandomState>, name: &ServiceName, feed: u16, key: &str) {
    if let Some(held) = claims.get_mut(name) {
        held.retain(|(f, k)| (*f, &**k) != (feed, key));
        if held.is_empty() {
            claims.remove(name);
        }
    }
}
