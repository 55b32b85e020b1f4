//! A task as it is kept: read from either dialect, moved on by its statuses. Pure.
//!
//! What most tasks of one kind have in common is kept once, as a [`Kind`]; a task has what only it has: numbers of ports,
//! addresses, its state. Which of a task's statuses counts, for addresses: the running one with the greatest time stamp,
//! the first of equals; for health: the latest of all.

use core::net::IpAddr;
use std::collections::HashSet;
use std::sync::Arc;

use foldhash::fast::RandomState;
use portolan_table::{
    Definition, Discovery, DiscoveryPort, Health, InstanceState, Labels, Protocol, SharedStr, Visibility,
};
use smallvec::SmallVec;

use super::wire::{self, Number, each, id, text};

/// Ports, mappings and addresses of one task that are looked at; more are left out.
pub(super) const PORTS_MAX: usize = 256;
/// Values up to this length are kept once: they are words, not names of a single task.
const WORD_LEN_MAX: usize = 12;

/// Which task: ids are given by frameworks, and two may give the same. So may one, to a task on an agent that is away
/// and to another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TaskKey {
    pub(super) id: SharedStr,
    pub(super) framework: SharedStr,
    /// Tells tasks of one framework and id apart, in the order of the list; 0 is all but always the only one.
    pub(super) twin: u16,
}

impl TaskKey {
    /// The first one of this framework and id.
    pub(super) fn first(&self) -> Self {
        Self { twin: 0, ..self.clone() }
    }

    /// The instance's id, unless another task of the service has it.
    pub(super) fn instance_id(&self) -> SharedStr {
        if self.twin == 0 { self.id.clone() } else { self.namesake_id() }
    }

    /// The instance's id where another task has the task's own.
    pub(super) fn namesake_id(&self) -> SharedStr {
        match self.twin {
            0 => format!("{}@{}", self.id, self.framework).into(),
            twin => format!("{}@{}#{}", self.id, self.framework, u32::from(twin) + 1).into(),
        }
    }
}

/// One task.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Task {
    pub(super) key: TaskKey,
    pub(super) agent: SharedStr,
    pub(super) state: InstanceState,
    pub(super) kind: Arc<Kind>,
    pub(super) host_ports: SmallVec<[(u16, u16); 1]>,
    /// Numbers of the discovery ports.
    pub(super) discovery_ports: SmallVec<[u16; 2]>,
    pub(super) mappings: SmallVec<[Mapping; 1]>,
    pub(super) container: Option<SharedStr>,
    pub(super) networks: Networks,
    pub(super) health: Health,
    /// When it was staged or began to start, in milliseconds since the Unix epoch; 0 if that is not told. (The running
    /// status is written anew with every verdict, so its time is of no use.)
    pub(super) started_ms: u64,
    running_at: f64,
    latest_at: f64,
    /// The master does not list it at present; it is kept until its agent is back or given up.
    pub(super) is_held: bool,
    /// Its place among all, from when it was first put in.
    pub(super) order: u32,
}

/// What tasks have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Kind {
    pub(super) definition: Arc<Definition>,
    pub(super) mode: Mode,
    /// The container network that the definition names.
    pub(super) network: Option<SharedStr>,
    pub(super) ports: Ports,
    pub(super) is_checked: bool,
}

/// Networking mode, as far as the definition says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Mode {
    /// Nothing is said: it shows in the task's addresses and ports.
    Unsaid,
    /// The agent's own network.
    Host,
    /// A network inside the agent.
    Bridge,
    /// A network across agents.
    Own,
}

/// Where the list of a task's ports comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Ports {
    /// The definition's discovery ports.
    Discovery,
    /// Mappings of its container, by the port inside.
    Mappings(Box<[(Protocol, u16)]>),
    /// So many ports of the agent that were offered to it.
    Offered(u16),
}

/// A port of the container and the agent's port that leads to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mapping {
    /// 0: none.
    pub(super) host: u16,
    pub(super) container: u16,
    /// `None`: any.
    pub(super) protocol: Option<Protocol>,
}

/// Addresses of a task as its status gives them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Networks {
    /// Of network infos, with the name of the network.
    pub(super) own: SmallVec<[(IpAddr, Option<SharedStr>); 1]>,
    /// The latest running status says nothing of addresses; an earlier one gave `own`.
    pub(super) own_is_old: bool,
    /// Of labels.
    pub(super) labelled: SmallVec<[(IpAddr, Label); 1]>,
}

/// Which label an address was found in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    Containerizer,
    Docker,
}

/// Texts and kinds that many tasks share, kept once.
#[derive(Debug, Default)]
pub(super) struct Interned {
    texts: HashSet<SharedStr, RandomState>,
    kinds: HashSet<Arc<Kind>, RandomState>,
}

/// Reads a task. `framework` is the one it was listed under; `name_of` knows frameworks' names.
///
/// # Errors
/// What it lacks to be one.
pub(super) fn read(
    task: &wire::Task<'_>,
    framework: Option<&str>,
    name_of: &dyn Fn(&str) -> Option<SharedStr>,
    names: &mut Interned,
) -> Result<Task, String> {
    let task_id = id(&task.id).ok_or("a task without an id is left out")?;
    let lacks = |what: &str| format!("task {task_id} has no {what} and is left out");
    let framework = framework.or(id(&task.framework_id)).ok_or_else(|| lacks("framework"))?;
    let agent = id(&task.agent_id).ok_or_else(|| lacks("agent"))?;
    let state = text(&task.state).ok_or_else(|| lacks("state"))?;
    let container = task.container.as_ref();
    let (mode, network) = mode(container);
    let definition = Definition {
        name: names.intern(text(&task.name).unwrap_or_default()),
        scheduler: name_of(framework).unwrap_or_default(),
        scheduler_id: names.intern(framework),
        labels: labels(task.labels.as_ref(), names),
        discovery: task.discovery.as_ref().map(|given| discovery(given, names)),
    };
    let kind = Kind {
        definition: Arc::new(definition),
        mode,
        network: network.map(|name| names.intern(name)),
        ports: Ports::Offered(0),
        is_checked: task.health_check.is_some(),
    };
    let ports = task.discovery.as_ref().and_then(|discovery| discovery.ports.as_ref());
    let mut read = Task {
        key: TaskKey { id: task_id.into(), framework: names.intern(framework), twin: 0 },
        agent: names.intern(agent),
        state: state_of(state),
        kind: Arc::new(kind),
        host_ports: task.resources.as_ref().map(|resources| resources.ports.clone()).unwrap_or_default(),
        discovery_ports: each(ports.and_then(|ports| ports.ports.as_ref()))
            .take(PORTS_MAX)
            .map(|port| number(port.number))
            .collect(),
        mappings: definition_mappings(container),
        container: None,
        networks: Networks::default(),
        health: Health::Unknown,
        started_ms: 0,
        running_at: f64::NEG_INFINITY,
        latest_at: f64::NEG_INFINITY,
        is_held: false,
        order: 0,
    };
    each(task.statuses.as_ref()).for_each(|status| read.observe(status, names));
    read.settle(names);
    Ok(read)
}

impl Task {
    /// Moves the task on: it is in `state`, and `status` is its latest. True if anything of it has changed.
    pub(super) fn update(
        &mut self,
        state: &str,
        status: Option<&wire::Status<'_>>,
        names: &mut Interned,
    ) -> bool {
        let before = self.clone();
        self.state = state_of(state);
        if let Some(status) = status {
            self.observe(status, names);
            self.settle(names);
        }
        *self != before
    }

    /// The framework has this name now.
    pub(super) fn rename_framework(&mut self, name: &SharedStr, names: &mut Interned) {
        if self.kind.definition.scheduler == *name {
            return;
        }
        let definition = Definition { scheduler: name.clone(), ..Definition::clone(&self.kind.definition) };
        self.kind = names.kind(Kind { definition: Arc::new(definition), ..Kind::clone(&self.kind) });
    }

    /// Takes in one of its statuses; they may come in any order.
    fn observe(&mut self, status: &wire::Status<'_>, names: &mut Interned) {
        let at = status.timestamp.filter(|at| at.is_finite()).unwrap_or(0.0);
        let state = text(&status.state).unwrap_or_default();
        // Of equal times the one told last counts: verdicts may follow each other within a clock's tick.
        if at >= self.latest_at {
            self.latest_at = at;
            self.health = match status.healthy {
                Some(true) => Health::Healthy,
                Some(false) => Health::Unhealthy,
                None => self.health,
            };
        }
        if matches!(state, "TASK_STAGING" | "TASK_STARTING")
            && (self.started_ms == 0 || milliseconds(at) < self.started_ms)
        {
            self.started_ms = milliseconds(at);
        }
        let container = status.container_status.as_ref();
        if let Some(container) = container.and_then(|container| id(&container.container_id)) {
            self.container = Some(container.into())
                .filter(|_| self.container.as_deref() != Some(container))
                .or(self.container.take());
        }
        let infos = container.and_then(|container| container.network_infos.as_ref());
        let own = own_addresses(infos, names);
        if state != "TASK_RUNNING" {
            if self.running_at == f64::NEG_INFINITY && !own.is_empty() {
                (self.networks.own, self.networks.own_is_old) = (own, true);
            }
            return;
        }
        if at <= self.running_at {
            // Overtaken; it may still know addresses that the later one does not.
            if self.networks.own.is_empty() && !own.is_empty() {
                (self.networks.own, self.networks.own_is_old) = (own, true);
            }
            return;
        }
        self.running_at = at;
        match own.is_empty() {
            true => self.networks.own_is_old = !self.networks.own.is_empty(),
            false => (self.networks.own, self.networks.own_is_old) = (own, false),
        }
        self.networks.labelled = labelled_addresses(status.labels.as_ref());
        let mappings: SmallVec<[Mapping; 1]> =
            each(infos).flat_map(|info| mappings(info.port_mappings.as_ref())).take(PORTS_MAX).collect();
        // A definition's mappings that lead from nowhere were left for the agent to choose.
        if !mappings.is_empty() && self.mappings.iter().all(|mapping| mapping.host == 0) {
            self.mappings = mappings;
        }
    }

    /// Finds out where its list of ports comes from.
    fn settle(&mut self, names: &mut Interned) {
        let ports = if !self.discovery_ports.is_empty() {
            Ports::Discovery
        } else if !self.mappings.is_empty() {
            let port = |mapping: &Mapping| (mapping.protocol.unwrap_or_default(), mapping.container);
            Ports::Mappings(self.mappings.iter().map(port).collect())
        } else {
            Ports::Offered(self.offered().take(PORTS_MAX).count() as u16)
        };
        if ports != self.kind.ports || Arc::strong_count(&self.kind) == 1 {
            self.kind = names.kind(Kind { ports, ..Kind::clone(&self.kind) });
        }
    }

    /// The ports of its agent that were offered to it.
    pub(super) fn offered(&self) -> impl Iterator<Item = u16> + '_ {
        self.host_ports.iter().flat_map(|(first, last)| *first..=*last)
    }
}

/// A Mesos task state. One that is not known is taken for not running yet: traffic waits until it is understood.
pub(super) fn state_of(state: &str) -> InstanceState {
    match state {
        "TASK_RUNNING" => InstanceState::Running,
        "TASK_STAGING" => InstanceState::Staging,
        "TASK_KILLING" => InstanceState::Killing,
        "TASK_UNREACHABLE" | "TASK_UNKNOWN" => InstanceState::Unreachable,
        "TASK_FINISHED"
        | "TASK_FAILED"
        | "TASK_KILLED"
        | "TASK_ERROR"
        | "TASK_LOST"
        | "TASK_DROPPED"
        | "TASK_GONE"
        | "TASK_GONE_BY_OPERATOR" => InstanceState::Terminal,
        _ => InstanceState::Starting,
    }
}

fn mode<'c>(container: Option<&'c wire::Container<'_>>) -> (Mode, Option<&'c str>) {
    let Some(container) = container else { return (Mode::Unsaid, None) };
    let network = each(container.network_infos.as_ref()).find_map(|info| text(&info.name));
    let docker = container.docker.as_ref().and_then(|docker| text(&docker.network));
    let mode = match docker {
        Some("HOST") => Mode::Host,
        Some("BRIDGE") => Mode::Bridge,
        Some("USER" | "NONE") => Mode::Own,
        _ if network.is_some() => Mode::Own,
        _ => Mode::Unsaid,
    };
    (mode, network)
}

fn definition_mappings(container: Option<&wire::Container<'_>>) -> SmallVec<[Mapping; 1]> {
    let docker = container
        .and_then(|container| container.docker.as_ref())
        .and_then(|docker| docker.port_mappings.as_ref());
    let infos = each(container.and_then(|container| container.network_infos.as_ref()));
    mappings(docker)
        .chain(infos.flat_map(|info| mappings(info.port_mappings.as_ref())))
        .take(PORTS_MAX)
        .collect()
}

fn mappings<'m>(list: Option<&'m wire::List<wire::PortMapping<'_>>>) -> impl Iterator<Item = Mapping> + 'm {
    each(list).map(|mapping| Mapping {
        host: number(mapping.host_port),
        container: number(mapping.container_port),
        protocol: text(&mapping.protocol).and_then(protocol),
    })
}

fn protocol(text: &str) -> Option<Protocol> {
    match text {
        _ if text.eq_ignore_ascii_case("tcp") => Some(Protocol::Tcp),
        _ if text.eq_ignore_ascii_case("udp") => Some(Protocol::Udp),
        _ => None,
    }
}

fn own_addresses(
    infos: Option<&wire::List<wire::NetworkInfo<'_>>>,
    names: &mut Interned,
) -> SmallVec<[(IpAddr, Option<SharedStr>); 1]> {
    let mut own: SmallVec<[(IpAddr, Option<SharedStr>); 1]> = SmallVec::new();
    for info in each(infos) {
        let old = info.ip_address.iter().filter(|_| info.ip_addresses.is_none());
        let given = each(info.ip_addresses.as_ref()).filter_map(|address| text(&address.ip_address));
        for given in given.chain(old.map(wire::Text::as_str)) {
            let Ok(ip) = given.parse::<IpAddr>() else { continue };
            if own.len() < PORTS_MAX && own.iter().all(|(known, _)| *known != ip) {
                own.push((ip, text(&info.name).map(|name| names.intern(name))));
            }
        }
    }
    own
}

fn labelled_addresses(labels: Option<&wire::Labels<'_>>) -> SmallVec<[(IpAddr, Label); 1]> {
    let address = |(key, value): &(wire::Text<'_>, wire::Text<'_>)| {
        let label = match key.as_str() {
            "MesosContainerizer.NetworkSettings.IPAddress" => Label::Containerizer,
            "Docker.NetworkSettings.IPAddress" => Label::Docker,
            _ => return None,
        };
        Some((value.as_str().parse().ok()?, label))
    };
    labels.into_iter().flat_map(|labels| &labels.0).filter_map(address).take(PORTS_MAX).collect()
}

fn discovery(given: &wire::Discovery<'_>, names: &mut Interned) -> Discovery {
    let ports = given.ports.as_ref().and_then(|ports| ports.ports.as_ref());
    let ports = each(ports).take(PORTS_MAX).map(|port| DiscoveryPort {
        name: text(&port.name).map(|name| names.intern(name)),
        protocol: text(&port.protocol).map(|protocol| names.intern(protocol)),
        visibility: text(&port.visibility).map(visibility),
        labels: labels(port.labels.as_ref(), names),
    });
    let ports = ports.collect();
    Discovery {
        name: text(&given.name).map(|name| names.intern(name)),
        visibility: text(&given.visibility).map(visibility).unwrap_or_default(),
        environment: text(&given.environment).map(|text| names.intern(text)),
        location: text(&given.location).map(|text| names.intern(text)),
        version: text(&given.version).map(|text| names.intern(text)),
        ports,
        labels: labels(given.labels.as_ref(), names),
    }
}

fn visibility(text: &str) -> Visibility {
    match text {
        "CLUSTER" => Visibility::Cluster,
        "EXTERNAL" => Visibility::External,
        _ => Visibility::Framework,
    }
}

fn labels(given: Option<&wire::Labels<'_>>, names: &mut Interned) -> Labels {
    let all = given.into_iter().flat_map(|labels| &labels.0);
    all.map(|(name, value)| {
        let value = value.as_str();
        let value = if value.len() <= WORD_LEN_MAX { names.intern(value) } else { value.into() };
        (names.intern(name.as_str()), value)
    })
    .collect()
}

fn number(number: Option<Number>) -> u16 {
    number.and_then(|number| number.0).unwrap_or(0)
}

fn milliseconds(seconds: f64) -> u64 {
    // Saturates, as every conversion of a float does.
    (seconds * 1000.0) as u64
}

impl Interned {
    /// The one copy of `text`.
    pub(super) fn intern(&mut self, text: &str) -> SharedStr {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let new: SharedStr = text.into();
        self.texts.insert(new.clone());
        new
    }

    /// The one copy of a kind.
    fn kind(&mut self, kind: Kind) -> Arc<Kind> {
        if let Some(known) = self.kinds.get(&kind) {
            return Arc::clone(known);
        }
        let new = Arc::new(kind);
        self.kinds.insert(Arc::clone(&new));
        new
    }

    /// Forgets what nobody else holds.
    pub(super) fn sweep(&mut self) {
        self.kinds.retain(|kind| Arc::strong_count(kind) > 1);
        self.texts.retain(|text| SharedStr::strong_count(text).is_some_and(|count| count > 1));
    }
}
