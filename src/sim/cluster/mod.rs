//! The simulated cluster: apps, pods, tasks, agents and deployments on a clock that is handed in.
//!
//! Nothing here does I/O or waits. The owner calls [`Cluster::advance`] with the present time, then asks for
//! changes; what has happened comes out of [`Cluster::take_events`], and [`Cluster::next_due`] says when to come back. The same seed,
//! times and calls give the same cluster, so tests run it on virtual time.
//!
//! ```text
//!  change ─► definition ─► deployment ─► reconcile ─► launch / kill ─► timers ─► task states ─► events
//!                              ▲                                          │
//!                              └──────────── each task change ◄───────────┘
//! ```

mod change;
mod definition;
mod event;
mod health;
mod ids;
mod rollout;
mod task;

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use serde_json::{Map, Value, json};

pub(crate) use change::normal_id;
pub use change::{Caller, ChangeError, Deployed, Update};
pub use definition::{Definition, INSTANCES_MAX, Kind, Network, PortSpec, Problem};
pub use event::Event;
pub use ids::{Millis, parse_timestamp, timestamp};
pub use rollout::{Action, Deployment};
pub(crate) use task::{Addresses, TaskView};
pub use task::{Agent, State, Task, Verdict};

use ids::Ids;

/// Versions kept of one app; the oldest go first.
const VERSIONS_MAX: usize = 25;

/// How long the steps of a task's life take, in milliseconds. Each is varied by a quarter either way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// Accepted → executor up.
    pub staging: Millis,
    /// Executor up → running.
    pub starting: Millis,
    /// Running → first check result.
    pub healthy: Millis,
    /// Running → ready, where readiness is checked.
    pub ready: Millis,
    /// Told to stop → gone.
    pub grace: Millis,
    /// Wait before a failed task is replaced.
    pub backoff: Millis,
}

impl Default for Timing {
    fn default() -> Self {
        Self { staging: 50, starting: 50, healthy: 150, ready: 100, grace: 400, backoff: 1000 }
    }
}

/// What the cluster is made with.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// Seed of every choice and id.
    pub seed: u64,
    /// Number of agents.
    pub agents: usize,
    /// Agents' addresses, counted up from here.
    pub agents_from: Ipv4Addr,
    /// Times.
    pub timing: Timing,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self { seed: 1, agents: 5, agents_from: Ipv4Addr::new(10, 0, 4, 10), timing: Timing::default() }
    }
}

/// Where a task was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Host ports, one for each entry of the definition that has one.
    pub ports: Vec<u16>,
    /// The task's own address.
    pub address: Option<IpAddr>,
}

/// What really runs (or only seems to run) behind the tasks.
pub trait Launcher: Send + std::fmt::Debug {
    /// Takes ports and an address for a new task.
    ///
    /// # Errors
    /// Why the agent can't have it: the task fails with this message.
    fn place(&mut self, definition: &Definition, agent: &Agent, number: u64) -> Result<Placement, String>;
    /// The task's program starts: it listens from now on.
    fn start(&mut self, task: &Task, definition: &Definition);
    /// Whether the program's own health page says yes.
    fn set_healthy(&mut self, number: u64, healthy: bool);
    /// The task is gone: kindly (open requests finish) or not (`crash`).
    fn stop(&mut self, number: u64, crash: bool);
}

/// Tasks on paper: ports are counted up per agent, nothing listens.
#[derive(Debug, Default)]
pub struct PaperLauncher {
    given: HashMap<String, u32>,
}

impl Launcher for PaperLauncher {
    fn place(&mut self, definition: &Definition, agent: &Agent, number: u64) -> Result<Placement, String> {
        let given = self.given.entry(agent.host.clone()).or_default();
        let mut next = |fixed: u16| {
            if fixed != 0 {
                return fixed;
            }
            let port = 31_000 + *given % 30_000;
            *given = given.wrapping_add(1);
            u16::try_from(port).unwrap_or(31_000)
        };
        let ports = definition.ports.iter().filter_map(|port| port.host_port).map(&mut next).collect();
        Ok(Placement { ports, address: own_address(&definition.network, agent, number) })
    }

    fn start(&mut self, _: &Task, _: &Definition) {}
    fn set_healthy(&mut self, _: u64, _: bool) {}
    fn stop(&mut self, _: u64, _: bool) {}
}

/// The address of a task nobody really listens at: the agent's, one of its bridge, or one of the overlay.
#[must_use]
pub fn own_address(network: &Network, agent: &Agent, number: u64) -> Option<IpAddr> {
    let [.., b, c, d] = number.to_be_bytes();
    match network {
        Network::Host => agent.host.parse().ok(),
        Network::Bridge => Some(Ipv4Addr::new(172, 17, c, d.max(2)).into()),
        Network::Container(_) => Some(Ipv4Addr::new(9, b, c, d).into()),
    }
}

/// Why the last task of an app failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The task.
    pub task: Arc<Task>,
    /// Its final status.
    pub status: &'static str,
    /// What the agent said.
    pub message: String,
    /// When.
    pub at: Millis,
}

/// One app or pod as the cluster keeps it.
#[derive(Debug)]
struct Record {
    definition: Arc<Definition>,
    /// In order of launch, so by number.
    tasks: Arc<Vec<Arc<Task>>>,
    versions: BTreeMap<Millis, Arc<Definition>>,
    deployment: Option<Arc<str>>,
    /// Taken away by a client: no longer shown, its tasks are still being killed.
    removed: bool,
    failure: Option<Arc<Failure>>,
    /// No launch before this time.
    launch_after: Millis,
}

/// A picture of one app at one moment; holds no lock and costs two reference counts.
#[derive(Debug, Clone)]
pub struct Image {
    /// The definition.
    pub definition: Arc<Definition>,
    /// Its tasks, in order of launch.
    pub tasks: Arc<Vec<Arc<Task>>>,
    /// The deployment that touches it.
    pub deployment: Option<Arc<str>>,
    /// The last failure.
    pub failure: Option<Arc<Failure>>,
}

/// What a timer does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The task leaves this state.
    Step { app: Arc<str>, number: u64, from: u8 },
    /// Its first check result is due.
    Check { app: Arc<str>, number: u64 },
    /// It says it is ready.
    Ready { app: Arc<str>, number: u64 },
    /// Launches that had to wait.
    Reconcile { app: Arc<str> },
}

/// Service ports given to definitions that ask for "any".
#[derive(Debug, Default)]
struct ServicePorts {
    used: HashSet<u16>,
    next: u16,
}

impl ServicePorts {
    const FIRST: u16 = 10_000;
    const LAST: u16 = 20_000;

    /// A free port; when none is left, one that is shared.
    fn assign(&mut self) -> u16 {
        for _ in Self::FIRST..=Self::LAST {
            let port = Self::FIRST + self.next % (Self::LAST - Self::FIRST + 1);
            self.next = (self.next + 1) % (Self::LAST - Self::FIRST + 1);
            if self.used.insert(port) {
                return port;
            }
        }
        Self::FIRST + self.next
    }

    fn release(&mut self, definition: &Definition) {
        definition.ports.iter().for_each(|port| {
            self.used.remove(&port.service_port);
        });
    }

    fn take(&mut self, definition: &Definition) {
        self.used.extend(definition.ports.iter().map(|port| port.service_port));
    }
}

/// The cluster.
#[derive(Debug)]
pub struct Cluster {
    now: Millis,
    timing: Timing,
    ids: Ids,
    agents: Vec<Arc<Agent>>,
    launcher: Box<dyn Launcher>,
    records: BTreeMap<Arc<str>, Record>,
    /// Task id → app and number.
    index: HashMap<Arc<str>, (Arc<str>, u64)>,
    deployments: BTreeMap<Arc<str>, Deployment>,
    service_ports: ServicePorts,
    timers: BinaryHeap<Reverse<(Millis, u64, Timer)>>,
    timers_made: u64,
    launched: u64,
    events: Vec<Event>,
    /// While set, definitions appear with all tasks running and no event: the state before the first client.
    quiet: bool,
}

impl Cluster {
    /// An empty cluster at a time.
    #[must_use]
    pub fn new(config: &ClusterConfig, launcher: Box<dyn Launcher>, now: Millis) -> Self {
        let ids = Ids::new(config.seed);
        let first = u32::from(config.agents_from);
        let agent = |number: usize| {
            let offset = u32::try_from(number).unwrap_or(u32::MAX);
            Arc::new(Agent {
                id: ids.agent(number),
                host: Ipv4Addr::from(first.wrapping_add(offset)).to_string(),
                region: "eu-central".to_owned(),
                zone: format!("eu-central-1{}", char::from(b'a' + u8::try_from(number % 3).unwrap_or(0))),
            })
        };
        let agents = (0..config.agents.max(1)).map(agent).collect();
        Self {
            now,
            timing: config.timing.clone(),
            ids,
            agents,
            launcher,
            records: BTreeMap::new(),
            index: HashMap::new(),
            deployments: BTreeMap::new(),
            service_ports: ServicePorts::default(),
            timers: BinaryHeap::new(),
            timers_made: 0,
            launched: 0,
            events: Vec::new(),
            quiet: false,
        }
    }

    /// The framework id.
    #[must_use]
    pub fn framework(&self) -> &str {
        self.ids.framework()
    }

    /// Number of agents.
    #[must_use]
    pub fn agents(&self) -> &[Arc<Agent>] {
        &self.agents
    }

    /// Number of tasks in any state.
    #[must_use]
    pub fn task_count(&self) -> usize {
        self.index.len()
    }

    /// Lets time pass up to `now`: everything due happens in order, each at its own time.
    pub fn advance(&mut self, now: Millis) {
        while self.next_due().is_some_and(|due| due <= now) {
            let Some(Reverse((due, _, timer))) = self.timers.pop() else { break };
            self.now = self.now.max(due);
            self.fire(timer);
        }
        self.now = self.now.max(now);
    }

    /// When something happens next by itself.
    #[must_use]
    pub fn next_due(&self) -> Option<Millis> {
        self.timers.peek().map(|Reverse((due, ..))| *due)
    }

    /// What has happened since the last call, in order.
    pub fn take_events(&mut self) -> Vec<Event> {
        core::mem::take(&mut self.events)
    }

    /// One app or pod; `None` when there is none of that kind.
    #[must_use]
    pub fn image(&self, kind: Kind, id: &str) -> Option<Image> {
        let record = self.records.get(id)?;
        (record.definition.kind == kind && !record.removed).then(|| record.image())
    }

    /// All of a kind, by id.
    pub fn images(&self, kind: Kind) -> impl Iterator<Item = Image> + '_ {
        let shown = move |record: &&Record| record.definition.kind == kind && !record.removed;
        self.records.values().filter(shown).map(Record::image)
    }

    /// The versions kept of an app, oldest first.
    #[must_use]
    pub fn versions(&self, kind: Kind, id: &str) -> Option<Vec<Arc<Definition>>> {
        let record = self.records.get(id).filter(|r| r.definition.kind == kind && !r.removed)?;
        Some(record.versions.values().cloned().collect())
    }

    /// The deployments under way.
    pub fn deployments(&self) -> impl Iterator<Item = &Deployment> {
        self.deployments.values()
    }

    /// Apps waiting for launches: id, how many, and until when they wait.
    pub fn queue(&self) -> impl Iterator<Item = (Image, usize, Millis)> + '_ {
        self.records.values().filter(|record| !record.removed).filter_map(|record| {
            let missing = (record.definition.instances as usize).saturating_sub(record.tasks.len());
            let wait = record.launch_after.saturating_sub(self.now);
            (missing > 0).then(|| (record.image(), missing, wait))
        })
    }

    /// The task with this Mesos task id or instance id.
    #[must_use]
    pub fn task(&self, id: &str) -> Option<Arc<Task>> {
        let (app, number) = self.locate(id)?;
        let record = self.records.get(&app)?;
        record.position(number).map(|at| Arc::clone(&record.tasks[at]))
    }

    /// The `n`-th task of the cluster in the order of apps (modulo their number): a choice that repeats with the seed.
    pub fn any_task(&mut self) -> Option<Arc<Task>> {
        if self.records.is_empty() {
            return None;
        }
        for _ in 0..16 {
            let at = self.ids.rng().usize(..self.records.len());
            let record = self.records.values().nth(at)?;
            if !record.tasks.is_empty() {
                let tasks = Arc::clone(&record.tasks);
                return Some(Arc::clone(&tasks[self.ids.rng().usize(..tasks.len())]));
            }
        }
        None
    }

    /// Puts an event of any type on the bus: for types that nothing in the simulation causes.
    pub fn emit_raw(&mut self, kind: String, payload: Map<String, Value>) {
        self.events.push(Event::new(kind, payload, self.now));
    }

    fn emit(&mut self, kind: &'static str, payload: Value) {
        if self.quiet {
            return;
        }
        let Value::Object(payload) = payload else { return };
        self.events.push(Event::new(kind, payload, self.now));
    }

    fn locate(&self, id: &str) -> Option<(Arc<str>, u64)> {
        let found = self.index.get(id).or_else(|| self.index.get(format!("{id}._app.1").as_str()));
        if let Some((app, number)) = found {
            return Some((Arc::clone(app), *number));
        }
        // A pod's instance has one task id per container; any of them, or the bare instance id, names it.
        let pods = self.records.values().filter(|record| record.definition.kind == Kind::Pod);
        let mut tasks = pods.flat_map(|record| record.tasks.iter());
        let hit = tasks.find(|task| {
            id.strip_prefix(task.instance.as_ref())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })?;
        Some((Arc::clone(&hit.app), hit.number))
    }

    fn timer(&mut self, after: Millis, timer: Timer) {
        self.timers_made += 1;
        self.timers.push(Reverse((self.now + after, self.timers_made, timer)));
    }

    /// A time varied by a quarter either way, so that tasks don't move in lockstep.
    fn varied(&mut self, time: Millis) -> Millis {
        let quarter = time / 4;
        time - quarter + self.ids.rng().u64(..=2 * quarter)
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Step { app, number, from } => self.step(&app, number, from),
            Timer::Check { app, number } => self.first_result(&app, number),
            Timer::Ready { app, number } => {
                if let Some(task) = self.task_mut(&app, number) {
                    task.ready = true;
                }
                self.reconcile(&app);
            }
            Timer::Reconcile { app } => self.reconcile(&app),
        }
    }

    /// A task leaves the state `from`, unless something else has moved it since.
    fn step(&mut self, app: &Arc<str>, number: u64, from: u8) {
        let Some(task) = self.task_mut(app, number).filter(|task| task.state as u8 == from) else { return };
        match task.state {
            State::Staging => {
                self.move_to(app, number, State::Starting);
                let after = self.timing.starting;
                self.step_later(app, number, State::Starting, after);
            }
            State::Starting => self.run(app, number),
            State::Killing => {
                self.remove_task(app, number, "TASK_KILLED", "Killed", false);
                self.reconcile(app);
            }
            State::Running | State::Unreachable => {}
        }
    }

    fn step_later(&mut self, app: &Arc<str>, number: u64, from: State, after: Millis) {
        let after = self.varied(after);
        self.timer(after, Timer::Step { app: Arc::clone(app), number, from: from as u8 });
    }

    /// The task's program starts.
    fn run(&mut self, app: &Arc<str>, number: u64) {
        let Some(definition) = self.records.get(app).map(|record| record.running_definition(number)) else {
            return;
        };
        let now = self.now;
        if let Some(task) = self.task_mut(app, number) {
            task.started_at = Some(now);
        }
        if let Some(task) = self.record_task(app, number) {
            self.launcher.start(&task, &definition);
        }
        self.move_to(app, number, State::Running);
        if definition.is_checked() {
            let after = self.varied(self.timing.healthy);
            self.timer(after, Timer::Check { app: Arc::clone(app), number });
        }
        if definition.readiness {
            let after = self.varied(self.timing.ready);
            self.timer(after, Timer::Ready { app: Arc::clone(app), number });
        }
        self.reconcile(app);
    }

    fn move_to(&mut self, app: &str, number: u64, state: State) {
        let now = self.now;
        if let Some(task) = self.task_mut(app, number) {
            task.state = state;
            task.since = now;
        }
        if let Some(task) = self.record_task(app, number) {
            self.announce(&task, state.status(), state.condition(), "");
        }
    }

    /// The two events of a task's change of state.
    fn announce(&mut self, task: &Task, status: &str, condition: &str, message: &str) {
        if self.quiet {
            return;
        }
        let addresses = serde_json::to_value(Addresses(task.address)).unwrap_or_default();
        self.emit(
            "status_update_event",
            json!({
                "slaveId": task.agent.id, "taskId": &*task.id, "taskStatus": status, "message": message,
                "appId": &*task.app, "host": task.agent.host, "ipAddresses": addresses,
                "ports": task.ports, "version": timestamp(task.version),
            }),
        );
        self.emit(
            "instance_changed_event",
            json!({
                "instanceId": &*task.instance, "condition": condition, "runSpecId": &*task.app,
                "agentId": task.agent.id, "host": task.agent.host, "runSpecVersion": timestamp(task.version),
            }),
        );
    }

    fn record_task(&self, app: &str, number: u64) -> Option<Arc<Task>> {
        let record = self.records.get(app)?;
        record.position(number).map(|at| Arc::clone(&record.tasks[at]))
    }

    fn task_mut(&mut self, app: &str, number: u64) -> Option<&mut Task> {
        let record = self.records.get_mut(app)?;
        let at = record.position(number)?;
        Some(Arc::make_mut(&mut Arc::make_mut(&mut record.tasks)[at]))
    }

    /// Takes a task off the books and says so.
    fn remove_task(&mut self, app: &str, number: u64, status: &'static str, condition: &str, crash: bool) {
        let Some(record) = self.records.get_mut(app) else { return };
        let Some(at) = record.position(number) else { return };
        let task = Arc::make_mut(&mut record.tasks).remove(at);
        self.index.remove(&task.id);
        self.launcher.stop(number, crash);
        let message = if crash { "Command exited with status 1" } else { "" };
        self.announce(&task, status, condition, message);
    }
}

impl Record {
    fn image(&self) -> Image {
        Image {
            definition: Arc::clone(&self.definition),
            tasks: Arc::clone(&self.tasks),
            deployment: self.deployment.clone(),
            failure: self.failure.clone(),
        }
    }

    fn position(&self, number: u64) -> Option<usize> {
        self.tasks.binary_search_by_key(&number, |task| task.number).ok()
    }

    /// The definition a task was launched with, as far as it is still known.
    fn running_definition(&self, number: u64) -> Arc<Definition> {
        let version = self.position(number).map(|at| self.tasks[at].version);
        let same = self.versions.values().rev().find(|kept| Some(kept.config_version) == version);
        Arc::clone(same.unwrap_or(&self.definition))
    }
}
