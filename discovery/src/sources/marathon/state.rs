//! What one session knows of the cluster, and what an event or an answer changes in it. No I/O; time is an argument.
//!
//! An event and an answer may cross: an answer that was composed before the event must not undo it. So what events
//! said stands for [`WORD_STANDS`] against every answer that says otherwise, and is then checked by one more read.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant as Received};

use portolan_table::{Health, Instance, InstanceState, SharedStr};
use tokio::time::Instant;

use super::api::{Found, Kind, Listed};
use super::convert::{Converted, Mode, state_of};
use super::known::{Domain, Known, Moment, pod_of};
use super::reads::{Reads, Target};
use super::wire::{self, each, text};
use super::word::{Agreement, InstanceWord};
use super::words::{WORD_STANDS, Word, Words};
use crate::source::Change;

/// A read that did not show what its event announced is repeated after this.
const NOT_YET_VISIBLE: Duration = Duration::from_millis(250);
/// How long a change of a group waits for the deployment that names the apps in it.
const GROUP_WAITS: Duration = Duration::from_secs(5);
/// Pods and apps with something unsettled are looked at again after this, later if they are many.
const UNSETTLED: Duration = Duration::from_secs(5);
/// Agents whose fault domain is kept.
const AGENTS_MAX: usize = 65_536;
/// Groups that wait.
const GROUPS_MAX: usize = 64;
/// Plans whose versions are kept.
const PLANS_KEPT: usize = 256;
/// Apps of one deployment that are read one by one.
const PLAN_MAX: usize = 1024;

/// See the module's words.
pub(super) struct State {
    known: HashMap<SharedStr, Box<Known>>,
    pub(super) words: Words,
    groups: HashMap<SharedStr, Group>,
    /// Versions of the last plans, oldest first: a group's event may come before or behind its deployment's.
    plans: VecDeque<SharedStr>,
    /// Fault domains by agent: a status update doesn't name them.
    agents: HashMap<SharedStr, Domain>,
    pub(super) reads: Reads,
    /// The keys of the list that is being read.
    listed: Option<Listing>,
    /// Something changed that only a list can tell.
    pub(super) list_wanted: bool,
}

/// A full list that is being read.
struct Listing {
    keys: HashSet<SharedStr>,
    began: Instant,
    /// Services read beside it: what it says of them is older.
    read: HashSet<SharedStr>,
    /// One of its elements has no id that can be read: which services it would name is not known.
    nameless: bool,
}

/// Where an object is that doesn't tell its id.
const NAMELESS: &str = "(no id)";

struct Group {
    version: Option<SharedStr>,
    due: Instant,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            known: HashMap::new(),
            words: Words::default(),
            groups: HashMap::new(),
            plans: VecDeque::new(),
            agents: HashMap::new(),
            reads: Reads::default(),
            listed: None,
            list_wanted: false,
        }
    }

    /// Applies one event. What its payload doesn't tell is planned as a read.
    pub(super) fn event(&mut self, name: &str, event: &wire::Event<'_>, at: &Moment<'_>) -> Vec<Change> {
        let name = if name.is_empty() { text(&event.event_type).unwrap_or_default() } else { name };
        match name {
            "status_update_event" => self.status_update(event, at),
            "health_status_changed_event" => {
                self.health(text(&event.app_id), text(&event.instance_id), event.alive, at)
            }
            "instance_health_changed_event" => {
                self.health(text(&event.run_spec_id), text(&event.instance_id), event.healthy, at)
            }
            "instance_changed_event" => self.instance_changed(event, at),
            "unhealthy_instance_kill_event" => {
                let id = text(&event.task_id).or_else(|| text(&event.instance_id));
                self.ending(text(&event.app_id), id, InstanceState::Killing, at)
            }
            "app_terminated_event" => self.removed(text(&event.app_id), at),
            "pod_deleted_event" => self.removed(pod_of(event).as_deref(), at),
            "pod_created_event" | "pod_updated_event" => {
                self.changed(pod_of(event).as_deref(), None, at);
                Vec::new()
            }
            "api_post_event" => {
                let app = event.app_definition.as_ref();
                self.changed(app.and_then(|app| text(&app.id)), app.and_then(|app| text(&app.version)), at);
                Vec::new()
            }
            "group_change_success" => {
                self.group_changed(event, at);
                Vec::new()
            }
            "deployment_info" | "deployment_success" | "deployment_step_success" => {
                self.deployment(event, at);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// True if the event tells something of a service that is known, so that it can be applied without a read.
    pub(super) fn concerns(&self, event: &wire::Event<'_>) -> bool {
        let service = text(&event.app_id).or_else(|| text(&event.run_spec_id));
        service.is_some_and(|service| self.known.contains_key(service))
    }

    fn status_update(&mut self, event: &wire::Event<'_>, at: &Moment<'_>) -> Vec<Change> {
        let (Some(service), Some(id)) = (text(&event.app_id), text(&event.task_id)) else {
            return Vec::new();
        };
        let state = state_of(text(&event.task_status).unwrap_or("TASK_STAGING"));
        if self.known.get(service).is_some_and(|known| known.kind == Kind::Pod) {
            // The event names a container's task; what becomes of the instance, the pod's own status tells.
            self.want(service, at.now, Some(at.received));
            return Vec::new();
        }
        match state {
            InstanceState::Running => self.running(service, id, event, at),
            InstanceState::Staging | InstanceState::Starting => Vec::new(),
            ending => self.ending(Some(service), Some(id), ending, at),
        }
    }

    /// A task runs: it is built from the event if the definition it runs is known, else read.
    fn running(&mut self, service: &str, id: &str, event: &wire::Event<'_>, at: &Moment<'_>) -> Vec<Change> {
        let Some(known) = self.known.get_mut(service) else {
            self.want(service, at.now, Some(at.received));
            return Vec::new();
        };
        let position = known.position(id);
        let killed = position.is_ok_and(|position| known.instances[position].1 == InstanceState::Killing);
        if killed || self.words.is_ending(service, id, since(&self.listed, at.now)) {
            // Late or told twice. If it runs after all, the app shows it.
            self.want(service, at.now, Some(at.received));
            return Vec::new();
        }
        if let Ok(position) = position
            && matches!(known.instances[position].1, InstanceState::Unreachable)
        {
            known.instances[position].1 = InstanceState::Running;
            let (service, id) = (known.converted.spec.key.clone(), known.instances[position].0.clone());
            self.say(&service, &id, InstanceState::Running, None, None, at);
            return vec![Change::State { service, id, state: InstanceState::Running }];
        }
        if let (Ok(position), Some(layout)) = (position, &known.converted.layout)
            && known.instances[position].1 == InstanceState::Running
            && layout.mode != Mode::Container
        {
            // Said before; where the agent is reached does not change while the task runs.
            return Vec::new();
        }
        let Some(instance) = known.built(id, event, &self.agents, at) else {
            let key = known.converted.spec.key.clone();
            self.say(&key, &id.into(), InstanceState::Running, None, None, at);
            self.want(service, at.now, Some(at.received));
            return Vec::new();
        };
        let entry = (instance.id.clone(), InstanceState::Running);
        match position {
            Ok(position) => known.instances[position] = entry,
            Err(position) => known.instances.insert(position, entry),
        }
        let service = known.converted.spec.key.clone();
        self.say(&service, &instance.id, InstanceState::Running, None, Some(Arc::clone(&instance)), at);
        self.crossed(&service, at);
        vec![Change::Instance { service, instance }]
    }

    /// A task or instance ends, is being killed or cannot be reached: believed at once.
    fn ending(
        &mut self,
        service: Option<&str>,
        id: Option<&str>,
        state: InstanceState,
        at: &Moment<'_>,
    ) -> Vec<Change> {
        let (Some(service), Some(id)) = (service, id) else { return Vec::new() };
        let Some(known) = self.known.get_mut(service) else {
            // A list or read under way may still bring it.
            let (service, id) = (service.into(), id.into());
            self.say(&service, &id, state, None, None, at);
            return vec![ended(service, id, state)];
        };
        let service = known.converted.spec.key.clone();
        let ids = known.of_instance(id);
        let mut changes = Vec::new();
        for position in ids.iter().rev() {
            let (id, old) = known.instances[*position].clone();
            if state == InstanceState::Terminal {
                known.instances.remove(*position);
                changes.push(Change::RemoveInstance { service: service.clone(), id });
            } else if old != state {
                known.instances[*position].1 = state;
                changes.push(Change::State { service: service.clone(), id, state });
            }
        }
        for change in &changes {
            if let Change::RemoveInstance { id, .. } | Change::State { id, .. } = change {
                self.say(&service, id, state, None, None, at);
            }
        }
        if ids.is_empty() {
            self.say(&service, &id.into(), state, None, None, at);
            changes.push(ended(service.clone(), id.into(), state));
        }
        self.crossed(&service, at);
        changes
    }

    fn health(
        &mut self,
        service: Option<&str>,
        id: Option<&str>,
        alive: Option<bool>,
        at: &Moment<'_>,
    ) -> Vec<Change> {
        let (Some(service), Some(id)) = (service, id) else { return Vec::new() };
        let Some(known) = self.known.get(service) else {
            self.want(service, at.now, Some(at.received));
            return Vec::new();
        };
        let ids = known.of_instance(id);
        // One event tells of one check. With several, only the app shows them all.
        let (Some(alive), false, 0..=1) = (alive, ids.is_empty(), known.converted.checks) else {
            self.want(service, at.now, Some(at.received));
            return Vec::new();
        };
        let health = if alive { Health::Healthy } else { Health::Unhealthy };
        let service = known.converted.spec.key.clone();
        let told: Vec<_> = ids.into_iter().map(|position| known.instances[position].clone()).collect();
        let mut changes = Vec::new();
        for (id, state) in told {
            self.say(&service, &id, state, Some(health), None, at);
            changes.push(Change::Health { service: service.clone(), id, health });
        }
        self.crossed(&service, at);
        changes
    }

    fn instance_changed(&mut self, event: &wire::Event<'_>, at: &Moment<'_>) -> Vec<Change> {
        let (Some(service), Some(id)) = (text(&event.run_spec_id), text(&event.instance_id)) else {
            return Vec::new();
        };
        let known = self.known.get(service);
        let is_app = known.is_some_and(|known| known.kind == Kind::App);
        let state = match text(&event.condition).unwrap_or_default() {
            "Killing" => InstanceState::Killing,
            "Unreachable" | "UnreachableInactive" => InstanceState::Unreachable,
            "Killed" | "Finished" | "Failed" | "Error" | "Dropped" | "Gone" | "Unknown" => {
                InstanceState::Terminal
            }
            // The status update of the same task tells more.
            _ if is_app => return Vec::new(),
            // Staged pods have neither address nor port yet.
            "Scheduled" | "Provisioned" | "Created" if known.is_some() => return Vec::new(),
            _ => {
                self.want(service, at.now, Some(at.received));
                return Vec::new();
            }
        };
        self.ending(Some(service), Some(id), state, at)
    }

    fn removed(&mut self, service: Option<&str>, at: &Moment<'_>) -> Vec<Change> {
        let Some(service) = service else { return Vec::new() };
        let key: SharedStr = service.into();
        let word = self.word(&key, at.now);
        word.removed = true;
        word.instances.clear();
        self.want(service, at.now + WORD_STANDS, None);
        self.known.remove(service);
        // The catalog may hold it from a time when it could be read.
        vec![Change::RemoveService { service: key }]
    }

    fn changed(&mut self, service: Option<&str>, version: Option<&str>, at: &Moment<'_>) {
        let Some(service) = service else { return };
        let word = self.word(&service.into(), at.now);
        word.removed = false;
        if let Some(version) = version {
            word.version = Some(version.into());
        }
        self.want(service, at.now, Some(at.received));
    }

    /// Marathon sends this for every change, naming only the group. The deployment that follows names the
    /// apps; only if none does is the group read.
    fn group_changed(&mut self, event: &wire::Event<'_>, at: &Moment<'_>) {
        let Some(group) = text(&event.group_id) else { return };
        if text(&event.version).is_some_and(|version| self.plans.iter().any(|plan| **plan == *version)) {
            return;
        }
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(group) {
            self.list_wanted = true;
            return;
        }
        let version = text(&event.version).map(Into::into);
        self.groups.insert(group.into(), Group { version, due: at.now + GROUP_WAITS });
    }

    fn deployment(&mut self, event: &wire::Event<'_>, at: &Moment<'_>) {
        let plan = event.plan.as_ref();
        let version = plan.and_then(|plan| text(&plan.version));
        if let Some(version) = version {
            self.groups.retain(|_, group| group.version.as_deref() != Some(version));
            if !self.plans.iter().any(|plan| **plan == *version) {
                self.plans.push_back(version.into());
            }
            if self.plans.len() > PLANS_KEPT {
                self.plans.pop_front();
            }
        }
        let steps = plan.into_iter().flat_map(|plan| each(plan.steps.as_ref())).chain(&event.current_step);
        let mut services = HashSet::new();
        for step in steps {
            let actions = each(step.actions.as_ref());
            let named = actions.flat_map(|action| [&action.app, &action.pod]).chain([&step.app, &step.pod]);
            services.extend(named.filter_map(text));
        }
        if services.len() > PLAN_MAX {
            self.list_wanted = true;
            return;
        }
        for service in services {
            self.want(service, at.now, Some(at.received));
        }
    }

    /// Plans reads of groups that no deployment explained. Gives the time to look again.
    pub(super) fn groups_due(&mut self, now: Instant) -> Option<Instant> {
        let due: Vec<SharedStr> =
            self.groups.iter().filter(|(_, group)| group.due <= now).map(|(id, _)| id.clone()).collect();
        for id in due {
            self.groups.remove(&id);
            if id.trim_matches('/').is_empty() {
                self.list_wanted = true;
            } else {
                self.reads.want(Target::Group(id), now, None);
            }
        }
        self.groups.values().map(|group| group.due).min()
    }

    /// A full list begins.
    pub(super) fn list_begins(&mut self, now: Instant) {
        self.listed =
            Some(Listing { keys: HashSet::new(), began: now, read: HashSet::new(), nameless: false });
        self.list_wanted = false;
        self.groups.clear();
        self.reads.list_begins();
    }

    /// A full list has ended. If all in it could be named, what was not in it is forgotten; else nothing is.
    pub(super) fn list_ends(&mut self, now: Instant) -> Change {
        self.words.forget_old(now);
        let Some(listed) = self.listed.take().filter(|listed| !listed.nameless) else {
            return Change::ListPartial { synced: true };
        };
        self.known.retain(|key, _| listed.keys.contains(key));
        self.known.shrink_to_fit();
        Change::ListComplete
    }

    /// The kind of a service, if it is known.
    pub(super) fn kind(&self, service: &str) -> Option<Kind> {
        self.known.get(service).map(|known| known.kind)
    }

    /// Takes in one app or pod from the list.
    pub(super) fn take_listed(&mut self, listed: Listed, now: Instant) -> Vec<Change> {
        let key = listed.key();
        if key.is_some_and(|key| self.listed.as_ref().is_some_and(|listed| listed.read.contains(&key))) {
            return Vec::new();
        }
        let since = since(&self.listed, now);
        self.take(listed, since, now)
    }

    /// Takes in one app or pod from a read, perhaps beside a list.
    pub(super) fn take_read(&mut self, listed: Listed, now: Instant) -> Vec<Change> {
        let key = listed.key().filter(|_| matches!(listed, Listed::Found(_)));
        let before = key.as_ref().filter(|_| self.listed.is_some()).and_then(|key| self.known.get(key));
        let before = before.map(|known| known.instances.clone()).unwrap_or_default();
        let mut changes = self.take(listed, now, now);
        if let (Some(key), Some(listed)) = (key, &mut self.listed) {
            let known = self.known.get(&key);
            let is_gone = |id: &str| known.is_none_or(|known| known.position(id).is_err());
            let gone = before.into_iter().filter(|(id, _)| is_gone(id));
            // Said one by one: to the catalog what a service lacks during a list is the list's word.
            changes.extend(gone.map(|(id, _)| Change::RemoveInstance { service: key.clone(), id }));
            listed.read.insert(key);
        }
        changes
    }

    /// Takes in one app or pod. Words of events said after `since` stand against it.
    fn take(&mut self, listed: Listed, since: Instant, now: Instant) -> Vec<Change> {
        let found = match listed {
            Listed::Found(found) => *found,
            Listed::Bad { id, message, passing } => {
                if let Some(id) = id.as_deref().filter(|_| passing) {
                    self.want(id, now + super::api::jittered(self.reads.spread(UNSETTLED)), None);
                }
                return self.bad(id.map(Into::into), message);
            }
        };
        let Found { kind, mut converted, problems } = found;
        let service = converted.spec.key.clone();
        if !self.overrule(&mut converted, since, now) {
            return Vec::new();
        }
        if converted.unsettled {
            self.want(&service, now + super::api::jittered(self.reads.spread(UNSETTLED)), None);
        }
        let mut changes: Vec<Change> =
            problems.into_iter().map(|message| Change::Problem { place: service.clone(), message }).collect();
        self.learn_agents(&converted.instances);
        let instances = core::mem::take(&mut converted.instances);
        let spec = Arc::clone(&converted.spec);
        let unread = converted.unread.take();
        changes.push(match unread.clone() {
            None => Change::Service { spec, instances: instances.clone() },
            Some(unread) => Change::ServiceInPart { spec, instances: instances.clone(), unread },
        });
        if let Some(listed) = &mut self.listed {
            listed.keys.insert(service.clone());
        }
        let instances = instances.iter().map(|instance| (instance.id.clone(), instance.state)).collect();
        let mut known = Known { kind, converted, instances };
        if let (Some(unread), Some(before)) = (unread, self.known.get(&service)) {
            known.keep_unread(before, &unread);
        }
        self.known.insert(service, Box::new(known));
        changes
    }

    /// What it was before stays: an odd answer takes nothing away.
    fn bad(&mut self, id: Option<SharedStr>, message: String) -> Vec<Change> {
        if let Some(listed) = &mut self.listed {
            listed.nameless |= id.is_none();
            listed.keys.extend(id.iter().filter(|id| self.known.contains_key(*id)).cloned());
        }
        vec![Change::Problem { place: id.unwrap_or_else(|| NAMELESS.into()), message }]
    }

    fn learn_agents(&mut self, instances: &[Arc<Instance>]) {
        for instance in instances {
            if let Some(node) = &instance.node
                && (instance.zone.is_some() || instance.region.is_some())
                && self.agents.len() < AGENTS_MAX
            {
                let domain = || (instance.zone.clone(), instance.region.clone());
                self.agents.entry(node.clone()).or_insert_with(domain);
            }
        }
    }

    /// A service that was read is not there.
    pub(super) fn absent(&mut self, service: &str, now: Instant) -> Vec<Change> {
        if self.words.standing(service, now).is_some_and(|word| !word.removed) {
            self.want(service, now + NOT_YET_VISIBLE, None);
            return Vec::new();
        }
        let service: SharedStr = service.into();
        self.known.remove(&service);
        if let Some(listed) = &mut self.listed {
            listed.keys.remove(&service);
            listed.read.insert(service.clone());
        }
        // Also if it is not known: the catalog may hold it from a time when it could be read.
        vec![Change::RemoveService { service }]
    }

    /// All services below a group were read: those that are known and were not among them are gone.
    pub(super) fn group_read(&mut self, group: &str, found: &HashSet<SharedStr>) -> Vec<Change> {
        let prefix = format!("/{}/", group.trim_matches('/'));
        let gone: Vec<SharedStr> = self
            .known
            .iter()
            .filter(|(key, known)| known.kind == Kind::App && key.starts_with(&prefix))
            .filter(|(key, _)| !found.contains(*key))
            .map(|(key, _)| key.clone())
            .collect();
        for key in &gone {
            self.known.remove(key);
            if let Some(listed) = &mut self.listed {
                listed.keys.remove(key);
                listed.read.insert(key.clone());
            }
        }
        gone.into_iter().map(|service| Change::RemoveService { service }).collect()
    }

    /// Puts what events said over what was read. False if the service is not to be taken at all.
    fn overrule(&mut self, converted: &mut Converted, read_at: Instant, now: Instant) -> bool {
        let key = converted.spec.key.clone();
        let Some(word) = self.words.standing(&key, read_at) else { return true };
        let until = word.until.max(now + NOT_YET_VISIBLE);
        if word.removed {
            self.want(&key, until, None);
            return false;
        }
        let mut again = None;
        if word.version.as_deref() > converted.spec.version.as_deref() {
            again = Some(now + NOT_YET_VISIBLE);
        }
        for told in word.instances.iter().filter(|told| told.until > read_at) {
            let read = converted.instances.iter().position(|instance| *instance.id == *told.id);
            match told.apply(read, &mut converted.instances) {
                Agreement::Agrees => {}
                Agreement::Overruled => again = again.or(Some(until)),
                Agreement::Missing => again = Some(now + NOT_YET_VISIBLE),
            }
        }
        converted.instances.sort_by(|a, b| a.id.cmp(&b.id));
        if let Some(due) = again {
            self.want(&key, due.min(until), None);
        }
        true
    }

    fn want(&mut self, service: &str, due: Instant, received: Option<Received>) {
        self.reads.want(Target::Service(service.into()), due, received);
    }

    /// An event came while its service was being read: the answer may be older, so there is one more read.
    fn crossed(&mut self, service: &SharedStr, at: &Moment<'_>) {
        let target = Target::Service(service.clone());
        if self.reads.is_in_flight(&target) {
            self.reads.want(target, at.now, None);
        }
    }

    fn word(&mut self, service: &SharedStr, now: Instant) -> &mut Word {
        self.words.of(service, since(&self.listed, now), now)
    }

    fn say(
        &mut self,
        service: &SharedStr,
        id: &SharedStr,
        state: InstanceState,
        health: Option<Health>,
        instance: Option<Arc<Instance>>,
        at: &Moment<'_>,
    ) {
        let told = InstanceWord { until: at.now + WORD_STANDS, id: id.clone(), state, health, instance };
        self.words.say(service, told, since(&self.listed, at.now), at.now);
    }
}

/// From when on words count: a list is as old as its beginning, so those since then stand against all of it.
fn since(listed: &Option<Listing>, now: Instant) -> Instant {
    listed.as_ref().map_or(now, |listed| listed.began)
}

/// The end of something that this session has not read: the catalog may hold it from a time when it could be.
fn ended(service: SharedStr, id: SharedStr, state: InstanceState) -> Change {
    match state {
        InstanceState::Terminal => Change::RemoveInstance { service, id },
        state => Change::State { service, id, state },
    }
}
