//! The guard against mass removal: a list that takes away more than `max_removal` of a source's endpoints is
//! only believed when the next one does so too. It judges whole lists; single events are believed.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use portolan_table::Instance;

use super::SourceState;
use super::state::List;
use crate::source::Change;

/// The list state for a list that begins: staged only if the guard is on and has something to guard.
/// A list that was open is void, it has been cut off.
pub(super) fn open(state: &SourceState) -> List {
    if state.config.max_removal < 1.0 && state.instances > 0 {
        List::Staged(Vec::new())
    } else {
        List::begun()
    }
}

impl List {
    /// A list of which nothing has been told yet.
    pub(super) fn begun() -> Self {
        Self::Open { seen: Default::default(), nodes: Default::default(), problems: Default::default() }
    }
}

/// True if the staged list may be applied; otherwise it is remembered that the next one confirms it.
pub(super) fn allows(state: &mut SourceState, staged: &[Change]) -> bool {
    let before = endpoint_count(state.services.values().flat_map(|part| &part.instances));
    let removed = removed(state, staged);
    let share = removed as f64 / before.max(1) as f64;
    if share <= state.config.max_removal || state.unconfirmed {
        state.unconfirmed = false;
        return true;
    }
    state.unconfirmed = true;
    state.removals_held += 1;
    state.report_due = true;
    tracing::warn!(
        source = %state.config.name, removed, of = before,
        "list held back: it removes more than max_removal; the next list decides"
    );
    false
}

/// Endpoints of the present state whose instance the staged list does not name.
fn removed(state: &SourceState, staged: &[Change]) -> usize {
    let mut told: HashMap<&str, &[Arc<Instance>], RandomState> = HashMap::default();
    for change in staged {
        match change {
            Change::Service { spec, instances } => {
                told.insert(&spec.key, instances);
            }
            Change::RemoveService { service } => {
                told.remove(&**service);
            }
            Change::Problem { place, .. } => {
                if let Some(part) = state.services.get(place) {
                    told.entry(place).or_insert(&part.instances);
                }
            }
            _ => {}
        }
    }
    let mut removed = 0;
    for (key, part) in &state.services {
        let Some(now) = told.get(&**key) else {
            removed += endpoint_count(&part.instances);
            continue;
        };
        let ids: std::collections::HashSet<&str, RandomState> = now.iter().map(|i| &*i.id).collect();
        removed += endpoint_count(part.instances.iter().filter(|i| !ids.contains(&*i.id)));
    }
    removed
}

/// An instance without a port counts as one: it has an address that is answered.
fn endpoint_count<'a>(instances: impl IntoIterator<Item = &'a Arc<Instance>>) -> usize {
    instances.into_iter().map(|instance| instance.endpoints.len().max(1)).sum()
}
