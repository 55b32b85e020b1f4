//! The guard against mass removal: a list that takes away more than `max_removal` of a source's endpoints is
//! only believed when the next one does so too. It judges whole lists; single events are believed.
//!
//! Only what such a list takes away is withheld until its end. What it adds or alters is applied as it comes, and
//! so are events that come meanwhile: a long list holds nothing up, and one that never ends takes nothing away.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;
use portolan_table::{Instance, SharedStr};

use super::SourceState;
use super::state::{List, PartState};

/// What a guarded list would take away of the services that it names.
#[derive(Debug, Default)]
pub(crate) struct Withheld {
    /// Endpoints of the source when the list began.
    before: usize,
    /// Ids by service.
    instances: HashMap<SharedStr, Vec<SharedStr>, RandomState>,
}

/// The list state for a list that begins: guarded only if the guard is on and has something to guard.
/// A list that was open is void, it has been cut off.
pub(super) fn open(state: &SourceState) -> List {
    let guarded = state.config.max_removal < 1.0 && state.instances > 0;
    let withheld = guarded.then(|| Withheld {
        before: endpoint_count(state.services.values().flat_map(|part| &part.instances)),
        instances: HashMap::default(),
    });
    List::Open {
        seen: HashSet::default(),
        nodes: HashSet::default(),
        facts: HashSet::default(),
        problems: Default::default(),
        withheld,
    }
}

impl Withheld {
    /// Adds to `told`, the instances of `key`, those that are held and were not told.
    pub(super) fn hold_back(&mut self, key: &SharedStr, held: &PartState, told: &mut Vec<Arc<Instance>>) {
        let ids: HashSet<&str, RandomState> = told.iter().map(|instance| &*instance.id).collect();
        let missing: Vec<Arc<Instance>> =
            held.instances.iter().filter(|instance| !ids.contains(&*instance.id)).cloned().collect();
        self.instances.insert(key.clone(), missing.iter().map(|instance| instance.id.clone()).collect());
        told.extend(missing);
    }

    /// The instance was told after all.
    pub(super) fn told(&mut self, key: &str, id: &str) {
        if let Some(ids) = self.instances.get_mut(key) {
            ids.retain(|withheld| **withheld != *id);
        }
    }

    /// The service has gone another way: by an event.
    pub(super) fn gone(&mut self, key: &str) {
        self.instances.remove(key);
    }

    /// What was withheld: ids by service.
    pub(super) fn into_instances(self) -> impl Iterator<Item = (SharedStr, Vec<SharedStr>)> {
        self.instances.into_iter()
    }

    /// Endpoints of what is withheld.
    fn endpoint_count(&self, state: &SourceState) -> usize {
        let part = |key: &SharedStr| state.services.get(key);
        let withheld = self.instances.iter().filter_map(|(key, ids)| part(key).map(|part| (part, ids)));
        let found = withheld.flat_map(|(part, ids)| {
            ids.iter().filter_map(|id| part.find(id).ok().map(|at| &part.instances[at]))
        });
        endpoint_count(found)
    }
}

/// True if the list may take away what it does not name (`unnamed`: whole services) and what it has withheld;
/// otherwise it is remembered that the next one confirms it.
pub(super) fn allows(state: &mut SourceState, list: &List, unnamed: &[SharedStr]) -> bool {
    let List::Open { withheld: Some(withheld), .. } = list else { return true };
    let services = unnamed.iter().filter_map(|key| state.services.get(key));
    let removed = withheld.endpoint_count(state) + endpoint_count(services.flat_map(|part| &part.instances));
    let share = removed as f64 / withheld.before.max(1) as f64;
    if share <= state.config.max_removal || state.unconfirmed {
        state.unconfirmed = false;
        return true;
    }
    state.unconfirmed = true;
    state.removals_held += 1;
    state.report_due = true;
    tracing::warn!(
        source = %state.config.name, removed, of = withheld.before,
        "list held back: it removes more than max_removal; the next list decides"
    );
    false
}

/// An instance without a port counts as one: it has an address that is answered.
fn endpoint_count<'a>(instances: impl IntoIterator<Item = &'a Arc<Instance>>) -> usize {
    instances.into_iter().map(|instance| instance.endpoints.len().max(1)).sum()
}
