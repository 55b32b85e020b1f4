//! How one change alters the state of its source.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use portolan_table::{
    Address, ClusterFact, FactKey, Health, Instance, InstanceState, Provenance, ServiceSpec, SharedStr,
    Standing,
};

use super::removal::{self, Withheld};
use super::state::{List, PartState};
use super::{Applied, Catalog, FACTS_MAX, INSTANCES_MAX, Index, SERVICES_MAX, SourceState, unclaim};
use crate::source::Change;

impl Catalog {
    /// Applies a change of the source behind `feed`, which was received at `received`. A feed that is not
    /// known (a source taken out of the configuration) is ignored.
    pub(crate) fn apply(&mut self, feed: u16, change: Change, received: Instant, now: Instant) -> Applied {
        let Some(at) = self.position(feed) else { return Applied::Nothing };
        let before = self.touched();
        let state = &mut self.sources[at];
        match change {
            Change::Lost { kind, message } => self.lose(at, kind, message, now),
            Change::ListBegin => state.list = removal::open(state),
            Change::ListComplete => {
                state.confirm(received);
                if !self.end_list(at, true, true, now) {
                    return Applied::Confirm;
                }
            }
            Change::ListPartial { synced } => {
                state.confirm(received);
                if !self.end_list(at, false, synced, now) {
                    return Applied::Confirm;
                }
            }
            change => {
                // Sessions that break off within their list would else pass for signs of life for ever.
                let followed = state.standing == Standing::Synced && matches!(state.list, List::None);
                if followed || change == Change::Alive {
                    state.confirm(received);
                }
                self.index.apply(state, change);
            }
        }
        if before == self.touched() { Applied::Nothing } else { Applied::Touched }
    }

    fn touched(&self) -> (u64, bool, bool) {
        (self.index.touches, self.index.nodes.is_touched(), self.sources_touched)
    }

    /// Ends a list: if it is whole, sweeps what it did not name. False if the removal guard wants to see it twice.
    fn end_list(&mut self, at: usize, whole: bool, synced: bool, now: Instant) -> bool {
        let state = &mut self.sources[at];
        // An end without a beginning confirms what is there.
        let list = std::mem::take(&mut state.list);
        let unnamed = if whole { list.unnamed(state) } else { Vec::new() };
        if !removal::allows(state, &list, &unnamed) {
            return false;
        }
        self.index.sweep(state, list, whole, &unnamed);
        if !synced {
            return true;
        }
        let new = !state.has_data;
        state.has_data = true;
        state.error = None;
        state.unsaved |= std::mem::take(&mut state.resave) || new;
        self.sources_touched |= state.stand(Standing::Synced, now) || new;
        true
    }

    fn lose(&mut self, at: usize, kind: &'static str, message: String, now: Instant) {
        let state = &mut self.sources[at];
        let known = state.error.as_ref().is_some_and(|(_, _, before)| *before == message);
        if !known {
            tracing::warn!(source = %state.config.name, kind, error = %message, "session ended");
        }
        state.error = Some((now, kind, message));
        state.list = List::None;
        state.report_due = true;
        if state.has_data {
            self.sources_touched |= state.stand(Standing::Stale, now);
        }
    }
}

impl Index {
    /// Applies a change that is not about a list or the session.
    fn apply(&mut self, state: &mut SourceState, change: Change) {
        match change {
            Change::Service { spec, instances } => self.put_service(state, spec, instances),
            Change::ServiceInPart { spec, mut instances, unread } => {
                if let Some(held) = state.services.get(&spec.key) {
                    held.keep_unread(&spec, &unread, &mut instances);
                }
                self.put_service(state, spec, instances);
            }
            Change::RemoveService { service } => self.remove_service(state, &service),
            Change::Instance { service, instance } => self.put_instance(state, &service, instance),
            Change::RemoveInstance { service, id } => self.remove_instance(state, &service, &id),
            Change::State { service, id, state: to } => self.set_state(state, &service, &id, to),
            Change::Health { service, id, health } => self.set_health(state, &service, &id, health),
            Change::Node(fact) => {
                if let List::Open { nodes, .. } = &mut state.list {
                    nodes.insert(fact.name.clone());
                }
                self.nodes.tell(state.feed, fact);
            }
            Change::RemoveNode(name) => self.nodes.untell(state.feed, &name),
            Change::Fact(fact) => self.put_fact(state, fact),
            Change::RemoveFact(key) => self.remove_fact(state, &key),
            Change::Held { instances } => {
                state.held = instances;
                state.report_due = true;
            }
            Change::Problem { place, message } => {
                // Told in place of the service: what is held of it stays, it is not known to be gone.
                if let List::Open { seen, .. } = &mut state.list
                    && state.services.contains_key(&place)
                {
                    seen.insert(place.clone());
                }
                state.problem(&place, &message);
            }
            Change::Alive
            | Change::ListBegin
            | Change::ListComplete
            | Change::ListPartial { .. }
            | Change::Lost { .. } => {}
        }
    }

    /// Puts a service in, or in place of its former self.
    pub(super) fn put_service(
        &mut self,
        state: &mut SourceState,
        spec: Arc<ServiceSpec>,
        mut instances: Vec<Arc<Instance>>,
    ) {
        let key = spec.key.clone();
        if let List::Open { seen, withheld, .. } = &mut state.list {
            seen.insert(key.clone());
            if let (Some(withheld), Some(part)) = (withheld, state.services.get(&key)) {
                withheld.hold_back(&key, part, &mut instances);
            }
        }
        let known = state.services.get_key_value(&key).map_or(0, |(_, part)| part.instances.len());
        let instances = self.prepare(instances);
        let full = state.services.len() >= SERVICES_MAX && !state.services.contains_key(&key);
        if full || state.instances - known + instances.len() > INSTANCES_MAX {
            state.problem(&key, "left out: the source holds more than this process takes");
            return;
        }
        match state.services.remove_entry(&key) {
            Some((key, part)) => self.replace_part(state, key, part, spec, instances),
            None => self.insert_part(state, key, spec, instances),
        }
    }

    fn insert_part(
        &mut self,
        state: &mut SourceState,
        key: SharedStr,
        spec: Arc<ServiceSpec>,
        instances: Vec<Arc<Instance>>,
    ) {
        self.claims.entry(spec.name.clone()).or_default().push((state.feed, key.clone()));
        self.touch(state, &spec);
        state.instances += instances.len();
        for instance in &instances {
            self.add(state.feed, &key, instance);
        }
        state.services.insert(key, PartState { spec, instances });
    }

    fn replace_part(
        &mut self,
        state: &mut SourceState,
        key: SharedStr,
        before: PartState,
        spec: Arc<ServiceSpec>,
        mut instances: Vec<Arc<Instance>>,
    ) {
        let keeps = Keeps::between(&before.spec, &spec);
        for instance in &mut instances {
            if let Ok(at) = before.find(&instance.id) {
                *instance = carry_over(&before.instances[at], Arc::clone(instance), keeps);
            }
        }
        if *before.spec == *spec && before.instances == instances {
            state.services.insert(key, before);
            return;
        }
        self.touch(state, &before.spec);
        if before.spec.name != spec.name {
            unclaim(&mut self.claims, &before.spec.name, state.feed, &key);
            self.claims.entry(spec.name.clone()).or_default().push((state.feed, key.clone()));
        }
        self.touch(state, &spec);
        state.instances = state.instances - before.instances.len() + instances.len();
        let spec = if *before.spec == *spec { Arc::clone(&before.spec) } else { spec };
        let part = PartState { spec, instances };
        // New ones are counted in before old ones are counted out, so that nothing goes through zero.
        for instance in &part.instances {
            self.add(state.feed, &key, instance);
        }
        for instance in &before.instances {
            self.nodes.remove(instance);
            if part.find(&instance.id).is_err() {
                self.checks.remove(state.feed, &key, instance);
            }
        }
        state.services.insert(key, part);
    }

    fn remove_service(&mut self, state: &mut SourceState, key: &SharedStr) {
        if let List::Open { seen, withheld, .. } = &mut state.list {
            seen.remove(key);
            withheld.iter_mut().for_each(|withheld| withheld.gone(key));
        }
        let Some(part) = state.services.remove(key) else { return };
        self.touch(state, &part.spec);
        state.instances -= part.instances.len();
        self.drop_part(state.feed, key, &part);
    }

    fn put_instance(&mut self, state: &mut SourceState, key: &SharedStr, mut instance: Arc<Instance>) {
        let full = state.instances >= INSTANCES_MAX;
        let Some(part) = state.services.get_mut(key) else { return };
        if let List::Open { withheld: Some(withheld), .. } = &mut state.list {
            withheld.told(key, &instance.id);
        }
        self.interner.intern(&mut instance);
        match part.find(&instance.id) {
            Ok(at) => {
                let keeps = Keeps::between(&part.spec, &part.spec);
                let instance = carry_over(&part.instances[at], instance, keeps);
                if *part.instances[at] == *instance {
                    return;
                }
                let before = std::mem::replace(&mut part.instances[at], Arc::clone(&instance));
                self.nodes.add(&instance);
                self.nodes.remove(&before);
            }
            Err(_) if full => {
                state.problem(key, "instance left out: the source holds more than this process takes");
                return;
            }
            Err(at) => {
                part.instances.insert(at, Arc::clone(&instance));
                state.instances += 1;
                self.add(state.feed, key, &instance);
            }
        }
        self.touch_key(state, key);
    }

    fn remove_instance(&mut self, state: &mut SourceState, key: &SharedStr, id: &str) {
        let Some(part) = state.services.get_mut(key) else { return };
        let Ok(at) = part.find(id) else { return };
        let gone = part.instances.remove(at);
        state.instances -= 1;
        self.nodes.remove(&gone);
        self.checks.remove(state.feed, key, &gone);
        self.touch_key(state, key);
    }

    fn set_state(&mut self, state: &mut SourceState, key: &SharedStr, id: &str, to: InstanceState) {
        self.edit(state, key, id, |instance| {
            (instance.state != to).then(|| Instance { state: to, ..instance.clone() })
        });
    }

    /// Unknown takes no verdict back.
    fn set_health(&mut self, state: &mut SourceState, key: &SharedStr, id: &str, to: Health) {
        self.edit(state, key, id, |instance| {
            (instance.health != to && to != Health::Unknown)
                .then(|| Instance { health: to, ..instance.clone() })
        });
    }

    /// Alters one instance in a way that leaves its node and id alone.
    fn edit(
        &mut self,
        state: &mut SourceState,
        key: &SharedStr,
        id: &str,
        edit: impl FnOnce(&Instance) -> Option<Instance>,
    ) {
        let Some(part) = state.services.get_mut(key) else { return };
        let Ok(at) = part.find(id) else { return };
        let Some(edited) = edit(&part.instances[at]) else { return };
        part.instances[at] = Arc::new(edited);
        self.touch_key(state, key);
    }

    /// Puts a fact in, or in place of its former self.
    pub(super) fn put_fact(&mut self, state: &mut SourceState, fact: Arc<ClusterFact>) {
        let key = fact.key();
        if let List::Open { facts, .. } = &mut state.list {
            facts.insert(key.clone());
        }
        let known = state.facts.get(&key);
        if known == Some(&fact) {
            return;
        }
        if known.is_none() && state.facts.len() >= FACTS_MAX {
            let place = "cluster".into();
            state.problem(&place, "a fact is left out: the source knows more than this process takes");
            return;
        }
        state.facts.insert(key.clone(), fact);
        self.touch_fact(state, key);
    }

    fn remove_fact(&mut self, state: &mut SourceState, key: &FactKey) {
        if let Some((key, _)) = state.facts.remove_entry(key) {
            self.touch_fact(state, key);
        }
    }

    fn touch_fact(&mut self, state: &mut SourceState, key: FactKey) {
        self.touches += 1;
        state.unsaved = true;
        self.facts_touched.insert((state.config.id, key));
    }

    /// Takes away what a list did not name: `unnamed` services, instances of those it named, nodes if it is whole.
    fn sweep(&mut self, state: &mut SourceState, list: List, whole: bool, unnamed: &[SharedStr]) {
        let List::Open { nodes, facts, problems, withheld, .. } = list else { return };
        for key in unnamed {
            self.remove_service(state, key);
        }
        for (key, ids) in withheld.into_iter().flat_map(Withheld::into_instances) {
            for id in ids {
                self.remove_instance(state, &key, &id);
            }
        }
        for fact in self.nodes.told_by(state.feed) {
            if whole && !nodes.contains(&fact.name) {
                self.nodes.untell(state.feed, &fact.name);
            }
        }
        let unsaid = |key: &&FactKey| whole && !facts.contains(*key);
        let unsaid: Vec<FactKey> = state.facts.keys().filter(unsaid).cloned().collect();
        for key in &unsaid {
            self.remove_fact(state, key);
        }
        state.problems = problems;
        state.report_due = true;
    }

    /// Takes everything of a source away.
    pub(super) fn empty(&mut self, state: &mut SourceState) {
        for (key, part) in std::mem::take(&mut state.services) {
            self.touch(state, &part.spec);
            self.drop_part(state.feed, &key, &part);
        }
        for fact in self.nodes.told_by(state.feed) {
            self.nodes.untell(state.feed, &fact.name);
        }
        for key in std::mem::take(&mut state.facts).into_keys() {
            self.facts_touched.insert((state.config.id, key));
        }
        state.instances = 0;
        state.unsaved = false;
        state.problems.clear();
        state.list = List::None;
    }

    fn drop_part(&mut self, feed: u16, key: &SharedStr, part: &PartState) {
        unclaim(&mut self.claims, &part.spec.name, feed, key);
        for instance in &part.instances {
            self.nodes.remove(instance);
            self.checks.remove(feed, key, instance);
        }
    }

    fn add(&mut self, feed: u16, key: &SharedStr, instance: &Instance) {
        self.nodes.add(instance);
        self.checks.add(feed, key, instance);
    }

    fn touch(&mut self, state: &mut SourceState, spec: &ServiceSpec) {
        self.touches += 1;
        state.unsaved = true;
        state.report_due = true;
        if !self.touched.contains(&spec.name) {
            self.touched.insert(spec.name.clone());
        }
    }

    fn touch_key(&mut self, state: &mut SourceState, key: &SharedStr) {
        if let Some(spec) = state.services.get(key).map(|part| Arc::clone(&part.spec)) {
            self.touch(state, &spec);
        }
    }

    /// Sorts by id and interns. Of an id given twice the last stands.
    fn prepare(&mut self, mut instances: Vec<Arc<Instance>>) -> Vec<Arc<Instance>> {
        if !instances.is_sorted_by(|a, b| a.id < b.id) {
            let mut ids: HashSet<SharedStr> = HashSet::with_capacity(instances.len());
            instances.reverse();
            instances.retain(|instance| ids.insert(instance.id.clone()));
            instances.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        }
        instances.shrink_to_fit();
        for instance in &mut instances {
            self.interner.intern(instance);
        }
        instances
    }
}

/// What instances keep from one definition of their service to the next.
#[derive(Debug, Clone, Copy)]
struct Keeps {
    /// A definition that has dropped its checks says that old verdicts mean nothing any more.
    verdicts: bool,
    /// Endpoints name ports by index.
    places: bool,
}

impl Keeps {
    fn between(before: &ServiceSpec, after: &ServiceSpec) -> Self {
        let verdicts = after.checks_defined || !before.checks_defined;
        Self { verdicts, places: before.ports == after.ports }
    }
}

/// What becomes of an instance that is told anew: with no verdict or start of its own it keeps the last one, and with a
/// node whose name cannot be resolved now the place it had, if it has not been started again; told as it was, it
/// stays the same allocation.
fn carry_over(before: &Arc<Instance>, mut after: Arc<Instance>, keeps: Keeps) -> Arc<Instance> {
    let restarted = before.started_ms != 0 && after.started_ms != 0 && before.started_ms != after.started_ms;
    if after.started_ms == 0 && before.started_ms != 0 {
        Arc::make_mut(&mut after).started_ms = before.started_ms;
    }
    if keeps.verdicts && !restarted && after.health == Health::Unknown && before.health != Health::Unknown {
        Arc::make_mut(&mut after).health = before.health;
    }
    if keeps.places && !restarted && has_lost_its_place(before, &after) {
        let after = Arc::make_mut(&mut after);
        after.addresses.clone_from(&before.addresses);
        after.endpoints.clone_from(&before.endpoints);
    }
    if **before == *after { Arc::clone(before) } else { after }
}

/// True if the instance was reached at an address that its node's name gave, is told on the same node, and now
/// has neither: a failing resolver is no word of the scheduler.
fn has_lost_its_place(before: &Instance, after: &Instance) -> bool {
    let resolved = |address: &Address| address.provenance == Provenance::NodeNameResolved;
    let at_node = |address: &Address| address.is_of_host();
    after.endpoints.is_empty()
        && after.node.is_some()
        && after.node == before.node
        && before.addresses.iter().any(resolved)
        && !after.addresses.iter().any(at_node)
}
