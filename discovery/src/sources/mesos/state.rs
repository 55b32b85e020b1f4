//! A cluster as it is known: what the last snapshot said, moved on by events. Knows which services each change touches,
//! so that one task's change costs one task. Pure but for the addresses of names, which it is handed.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use foldhash::fast::RandomState;
use portolan_table::{InstanceState, ServiceName, SharedStr};

use super::convert;
use super::service::Service;
use super::snapshot::{self, Agent, Framework, Snapshot, Standing};
use super::task::{Interned, Task, TaskKey};
use super::wire::{self, id, text};

/// See the module's words.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) agents: HashMap<SharedStr, Agent, RandomState>,
    pub(super) frameworks: HashMap<SharedStr, Framework, RandomState>,
    pub(super) tasks: HashMap<TaskKey, Placed, RandomState>,
    pub(super) by_agent: HashMap<SharedStr, HashSet<TaskKey, RandomState>, RandomState>,
    pub(super) services: BTreeMap<ServiceName, Service>,
    pub(super) names: Interned,
    pub(super) touched: BTreeMap<ServiceName, Touched>,
    pub(super) due: Vec<Due>,
    pub(super) problems: Vec<(String, String)>,
    held: usize,
    /// The catalog may hold tasks that are not known here: nothing that is told may take them away.
    pub(super) is_partial: bool,
    /// The place of the next task or framework that is put in.
    next_order: u32,
    /// Something was heard that only a snapshot can complete.
    pub(super) wants_snapshot: bool,
}

/// What is to be told of the cluster, as it is by then.
#[derive(Debug)]
pub(super) enum Due {
    Agent(SharedStr),
    Scheduler(SharedStr),
    Node(SharedStr),
}

/// A task and the service it counts in; none while its framework is not known.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) task: Task,
    pub(super) service: Option<ServiceName>,
}

#[derive(Debug, Default)]
pub(super) struct Touched {
    pub(super) all: bool,
    pub(super) tasks: BTreeSet<TaskKey>,
}

/// How tasks that a snapshot does not list are dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    /// Those on agents that the master knows from its registry and that have not come back are kept.
    pub(super) recovered: bool,
    /// Those on agents that the master does not know at all are kept, and frameworks too.
    pub(super) missing: bool,
}

impl State {
    /// The state that `snapshot` describes, with what is to be kept of the one `before`.
    pub(super) fn of(snapshot: Snapshot, before: Self, patience: Patience) -> Self {
        let mut state = Self {
            names: before.names,
            is_partial: before.is_partial,
            next_order: before.next_order,
            ..Self::default()
        };
        for agent in snapshot.agents {
            let known = before.agents.get(&agent.id);
            state.agents.insert(agent.id.clone(), with_address_of(agent, known));
        }
        for mut framework in snapshot.frameworks {
            let known = before.frameworks.get(&framework.id);
            if framework.pid.is_none() {
                framework.pid = known.and_then(|known| known.pid.clone());
            }
            framework.order = known.map_or_else(|| state.take_order(), |known| known.order);
            state.frameworks.insert(framework.id.clone(), framework);
        }
        for mut task in snapshot.tasks {
            let known = before.tasks.get(&task.key);
            task.order = known.map_or_else(|| state.take_order(), |known| known.task.order);
            state.place(task);
        }
        for (key, Placed { mut task, .. }) in before.tasks {
            let unread = snapshot.unread.covers(&key);
            if state.tasks.contains_key(&key) || !(unread || state.keeps(&task, patience)) {
                continue;
            }
            task.is_held = true;
            state.keep_framework(before.frameworks.get(&key.framework));
            if let Some(agent) = before.agents.get(&task.agent) {
                state.keep_agent(agent);
            }
            state.place(task);
        }
        if patience.missing {
            before.frameworks.values().for_each(|framework| state.keep_framework(Some(framework)));
        }
        state.problems = snapshot.problems;
        state
    }

    fn keeps(&self, task: &Task, patience: Patience) -> bool {
        match self.agents.get(&task.agent).map(|agent| agent.standing) {
            Some(Standing::Registered) => false,
            Some(Standing::Recovered) => patience.recovered,
            Some(Standing::Missing) | None => patience.missing,
        }
    }

    fn keep_framework(&mut self, framework: Option<&Framework>) {
        let Some(framework) = framework.filter(|known| !self.frameworks.contains_key(&known.id)) else {
            return;
        };
        let kept = Framework { is_connected: false, is_held: true, ..framework.clone() };
        self.frameworks.insert(kept.id.clone(), kept);
    }

    fn keep_agent(&mut self, agent: &Agent) {
        if !self.agents.contains_key(&agent.id) {
            let kept = Agent { standing: Standing::Missing, ..agent.clone() };
            self.agents.insert(kept.id.clone(), kept);
        }
    }

    /// Takes in one event that is not `SUBSCRIBED`. Agents that came back are given to `returned`.
    pub(super) fn apply(&mut self, event: &wire::Event<'_>, returned: &mut Vec<SharedStr>) {
        if let Some(added) = &event.task_added {
            self.task_added(added);
        }
        if let Some(updated) = &event.task_updated {
            self.task_updated(updated);
        }
        if let Some(raw) = event.agent_added.as_ref().and_then(|added| added.agent) {
            match snapshot::read_agent(raw, Standing::Registered) {
                Ok(agent) => {
                    returned.push(agent.id.clone());
                    self.put_agent(agent);
                }
                Err(message) => self.problems.push(("agents".to_owned(), message)),
            }
        }
        if let Some(gone) = event.agent_removed.as_ref().and_then(|removed| id(&removed.agent_id)) {
            self.remove_agent(gone);
        }
        let changed = event.framework_added.as_ref().or(event.framework_updated.as_ref());
        if let Some(raw) = changed.and_then(|changed| changed.framework) {
            match snapshot::read_framework(raw) {
                Ok((framework, _)) => self.put_framework(framework),
                Err(message) => self.problems.push(("frameworks".to_owned(), message)),
            }
        }
        let gone = event.framework_removed.as_ref().and_then(|removed| removed.framework_info.as_ref());
        if let Some(gone) = gone.and_then(|info| id(&info.id)) {
            self.remove_framework(gone);
        }
    }

    fn task_added(&mut self, added: &wire::TaskAdded<'_>) {
        let Some(raw) = added.task else { return };
        let frameworks = &self.frameworks;
        let name_of = |id: &str| frameworks.get(id).map(|framework| framework.name.clone());
        match snapshot::read_task(raw, None, &name_of, &mut self.names) {
            Ok(task) => self.put(task),
            Err((key, message)) => {
                self.wants_snapshot = true;
                let place = key.map_or_else(|| "tasks".to_owned(), |key| key.id.to_string());
                self.problems.push((place, message));
            }
        }
    }

    fn task_updated(&mut self, updated: &wire::TaskUpdated<'_>) {
        let status = updated.status.as_ref();
        let (Some(framework), Some(task)) =
            (id(&updated.framework_id), status.and_then(|status| id(&status.task_id)))
        else {
            return;
        };
        let Some(state) = text(&updated.state).or_else(|| status.and_then(|status| text(&status.state)))
        else {
            return;
        };
        let key = TaskKey { id: task.into(), framework: framework.into(), twin: 0 };
        let on = status.and_then(|status| id(&status.agent_id));
        let Some(placed) = self.find(&key, on) else {
            // Never announced: filtered, or ended before the snapshot. One that runs is worth asking for.
            self.wants_snapshot |= super::task::state_of(state) == InstanceState::Running;
            return;
        };
        let mut moved = placed.task.clone();
        if moved.update(state, status, &mut self.names) || moved.is_held {
            moved.is_held = false;
            self.put(moved);
        }
    }

    /// The task of a key; of several, the one on the agent `on`.
    fn find(&self, key: &TaskKey, on: Option<&str>) -> Option<&Placed> {
        let first = self.tasks.get(key)?;
        let is_on = |placed: &&Placed| on.is_none_or(|agent| *placed.task.agent == *agent);
        if is_on(&first) {
            return Some(first);
        }
        let twins = (1..).map(|twin| TaskKey { twin, ..key.clone() });
        twins.map_while(|key| self.tasks.get(&key)).find(is_on).or(Some(first))
    }

    fn take_order(&mut self) -> u32 {
        let order = self.next_order;
        self.next_order = order.saturating_add(1);
        order
    }

    /// Puts a task in at its place, which it keeps, or else behind all others.
    fn put(&mut self, mut task: Task) {
        let known = self.tasks.get(&task.key).map(|known| known.task.order);
        task.order = known.unwrap_or_else(|| self.take_order());
        self.place(task);
    }

    /// Puts a task in, or in place of its former self; one that has ended is taken out.
    fn place(&mut self, mut task: Task) {
        if task.state == InstanceState::Terminal {
            self.remove_task(&task.key);
            return;
        }
        let framework = self.frameworks.get(&task.key.framework).map(|framework| framework.name.clone());
        if let Some(name) = &framework {
            task.rename_framework(name, &mut self.names);
        }
        let service = framework.map(|name| convert::service_name(&task.kind.definition.name, &name));
        let before = self.tasks.get(&task.key);
        if before.is_some_and(|before| before.task == task && before.service == service) {
            return;
        }
        if let Some(name) = &service {
            self.services.entry(name.clone()).or_default().count(&task, 1);
            self.touch(name, &task.key);
        }
        let key = task.key.clone();
        self.held += usize::from(task.is_held);
        self.by_agent.entry(task.agent.clone()).or_default().insert(key.clone());
        let stays_on = task.agent.clone();
        if let Some(before) = self.tasks.insert(key, Placed { task, service: service.clone() }) {
            self.count_out(&before, service.as_ref(), &stays_on);
        }
    }

    fn remove_task(&mut self, key: &TaskKey) {
        if let Some(gone) = self.tasks.remove(key) {
            self.count_out(&gone, None, "");
        }
    }

    /// Counts out a task that now counts in `stays_in`, on the agent `stays_on`.
    fn count_out(&mut self, gone: &Placed, stays_in: Option<&ServiceName>, stays_on: &str) {
        let Placed { task, service } = gone;
        self.held -= usize::from(task.is_held);
        if *task.agent != *stays_on
            && let Some(tasks) = self.by_agent.get_mut(&task.agent)
        {
            tasks.remove(&task.key);
            if tasks.is_empty() {
                self.by_agent.remove(&task.agent);
            }
        }
        let Some(name) = service else { return };
        if let Some(held) = self.services.get_mut(name) {
            held.uncount(&task.kind);
            if stays_in != Some(name) {
                held.members.remove(&task.key);
            }
        }
        self.touch(name, &task.key);
    }

    fn touch(&mut self, service: &ServiceName, key: &TaskKey) {
        let touched = self.touched.entry(service.clone()).or_default();
        if !touched.all {
            touched.tasks.insert(key.clone());
        }
        // Another task of this id shares the right to it: see `instance_id`.
        let held = self.services.get(service);
        touched.all |= held.is_some_and(|held| {
            held.namesakes(key).count() > 1
                || (held.namesakes(key).count() == 1 && !held.members.contains(key))
        });
    }

    fn put_agent(&mut self, agent: Agent) {
        let known = self.agents.get(&agent.id);
        let agent = with_address_of(agent, known);
        let key = agent.id.clone();
        if self.agents.get(&key) != Some(&agent) {
            self.agents.insert(key.clone(), agent);
            self.touch_agent(&key);
        }
    }

    /// The tasks of an agent are reached otherwise than before.
    fn touch_agent(&mut self, agent: &SharedStr) {
        let tasks: Vec<TaskKey> = self.by_agent.get(agent).into_iter().flatten().cloned().collect();
        for key in tasks {
            if let Some(service) = self.tasks.get(&key).and_then(|placed| placed.service.clone()) {
                self.touch(&service, &key);
            }
        }
        self.due.push(Due::Agent(agent.clone()));
    }

    fn remove_agent(&mut self, gone: &str) {
        let tasks: Vec<TaskKey> = self.by_agent.get(gone).into_iter().flatten().cloned().collect();
        for key in tasks {
            let unreachable = |placed: &Placed| placed.task.state == InstanceState::Unreachable;
            if !self.tasks.get(&key).is_some_and(unreachable) {
                self.remove_task(&key);
            }
        }
        if let Some(agent) = self.agents.remove(gone) {
            self.due.push(Due::Agent(agent.id));
            self.due.push(Due::Node(agent.name));
        }
    }

    fn put_framework(&mut self, mut framework: Framework) {
        let before = self.frameworks.get(&framework.id);
        framework.pid = framework.pid.or_else(|| before.and_then(|before| before.pid.clone()));
        let known = before.map(|before| before.order);
        framework.order = known.unwrap_or(self.next_order);
        self.next_order = self.next_order.saturating_add(u32::from(known.is_none()));
        let before = self.frameworks.get(&framework.id);
        if before == Some(&framework) {
            return;
        }
        let renamed = before.is_none_or(|before| before.name != framework.name);
        let key = framework.id.clone();
        self.due.push(Due::Scheduler(key.clone()));
        self.frameworks.insert(key.clone(), framework);
        if renamed {
            let of_it = |placed: &&Placed| placed.task.key.framework == key;
            let tasks: Vec<Task> =
                self.tasks.values().filter(of_it).map(|placed| placed.task.clone()).collect();
            tasks.into_iter().for_each(|task| self.put(task));
        }
    }

    fn remove_framework(&mut self, gone: &str) {
        let of_it = |key: &&TaskKey| *key.framework == *gone;
        let tasks: Vec<TaskKey> = self.tasks.keys().filter(of_it).cloned().collect();
        tasks.iter().for_each(|key| self.remove_task(key));
        if let Some(framework) = self.frameworks.remove(gone) {
            self.due.push(Due::Scheduler(framework.id));
        }
    }

    /// Where the schedulers listen, from a document that tells it.
    pub(super) fn take_pids(&mut self, frameworks: Vec<Framework>) {
        for told in frameworks {
            let Some(known) = self.frameworks.get_mut(&told.id) else { continue };
            if told.pid.is_some() && told.pid != known.pid {
                known.pid = told.pid;
                self.due.push(Due::Scheduler(told.id));
            }
        }
    }

    /// Gives up tasks that are held on `agent`, which has come back without them.
    pub(super) fn release(&mut self, agent: &str) {
        let held = |key: &&TaskKey| self.tasks.get(*key).is_some_and(|placed| placed.task.is_held);
        let tasks: Vec<TaskKey> =
            self.by_agent.get(agent).into_iter().flatten().filter(held).cloned().collect();
        tasks.iter().for_each(|key| self.remove_task(key));
    }

    /// Gives up what is held for agents that the master does not know (and, by `patience`, for those it has only in
    /// its registry), and frameworks that have not come back.
    pub(super) fn give_up(&mut self, patience: Patience) {
        let lost = |placed: &&Placed| placed.task.is_held && !self.keeps(&placed.task, patience);
        let tasks: Vec<TaskKey> =
            self.tasks.values().filter(lost).map(|placed| placed.task.key.clone()).collect();
        tasks.iter().for_each(|key| self.remove_task(key));
        let missing =
            |agent: &&Agent| agent.standing == Standing::Missing && !self.by_agent.contains_key(&agent.id);
        let agents: Vec<SharedStr> =
            self.agents.values().filter(missing).map(|agent| agent.id.clone()).collect();
        agents.iter().for_each(|agent| self.remove_agent(agent));
        let needed: HashSet<&SharedStr> = self.tasks.keys().map(|key| &key.framework).collect();
        let gone = |framework: &&Framework| framework.is_held && !needed.contains(&framework.id);
        let gone: Vec<SharedStr> =
            self.frameworks.values().filter(gone).map(|framework| framework.id.clone()).collect();
        gone.iter().for_each(|framework| self.remove_framework(framework));
    }

    /// True if the master knows agents that have not come back.
    pub(super) fn has_recovered(&self) -> bool {
        self.agents.values().any(|agent| agent.standing == Standing::Recovered)
    }

    /// Tasks that are kept although the master does not list them.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// True if nothing is known.
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.agents.is_empty() && self.frameworks.is_empty()
    }

    /// Names that are to be resolved: first those of agents, without which tasks have no address.
    pub(super) fn hosts(&self) -> (Vec<String>, Vec<String>) {
        let is_name = |host: &&SharedStr| !host.is_empty() && host.parse::<IpAddr>().is_err();
        let agents = self.agents.values().map(|agent| &agent.host).filter(is_name);
        let scheduler = |framework: &'_ Framework| scheduler_host(framework).map(|(host, _)| host);
        let schedulers = self.frameworks.values().filter_map(scheduler);
        (
            agents.map(ToString::to_string).collect(),
            schedulers.filter(|host| is_name(&host)).map(|host| host.to_string()).collect(),
        )
    }

    /// Addresses of names may be others than before: what goes by a name is told anew.
    pub(super) fn retell_names(&mut self) {
        let is_name = |host: &str| !host.is_empty() && host.parse::<IpAddr>().is_err();
        let agents: Vec<SharedStr> =
            self.agents.values().filter(|agent| is_name(&agent.host)).map(|agent| agent.id.clone()).collect();
        agents.iter().for_each(|agent| self.touch_agent(agent));
        let named =
            |framework: &&Framework| scheduler_host(framework).is_some_and(|(host, _)| is_name(&host));
        let schedulers = self.frameworks.values().filter(named);
        self.due.extend(schedulers.map(|known| Due::Scheduler(known.id.clone())));
    }
}

/// An agent that has not come back is still where it was.
fn with_address_of(mut agent: Agent, known: Option<&Agent>) -> Agent {
    if let (true, Some(known)) = (agent.host.is_empty(), known) {
        (agent.host, agent.port) = (known.host.clone(), known.port);
    }
    agent
}

/// Host and port of a framework's scheduler.
pub(super) fn scheduler_host(framework: &Framework) -> Option<(SharedStr, u16)> {
    framework.pid.clone().or_else(|| framework.hostname.clone().map(|host| (host, 0)))
}
