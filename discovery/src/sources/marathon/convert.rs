//! Apps and their tasks, as the table sees them. Pure: what is needed of the outside comes in as arguments.
//!
//! Which address and port of a task is used, by networking mode of its app:
//!
//! | mode | address | port |
//! |---|---|---|
//! | host | the agent's | the task's ports by position, else the defined ones |
//! | bridge | the agent's | the task's ports by position, else the defined ones, else the container's |
//! | container | the task's own: the first, and the first of the other family | discovery ports, else container ports |
//!
//! A container network's mapping with a host port is reached at the agent only if the task has no address of
//! its own. Service ports and task ports are paired by position. A mapping for `udp,tcp` gives two ports: the
//! TCP one stands at the mapping's own index, so that `HAPROXY_{n}` and `portIndex` keep their meaning, and the
//! UDP ones follow behind all others.

use core::net::IpAddr;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use portolan_table::{
    Address, Health, Instance, InstanceEndpoint, InstanceState, Labels, Network, PortSpec, Protocol,
    Provenance, ServiceName, ServiceSpec, SharedStr, VirtualAddress,
};
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::readiness::Readiness;
use super::wire::{self, each, text};
use crate::hosts::Hosts;
use crate::source::Unread;

/// Names that occur in many instances, and layouts that occur in many apps, kept once.
#[derive(Debug, Default)]
pub(super) struct Interned {
    names: Mutex<HashSet<SharedStr>>,
    layouts: Mutex<HashSet<Arc<Layout>>>,
}

/// What conversion needs from outside, and where it puts its complaints.
pub(super) struct Context<'c> {
    pub(super) hosts: &'c dyn Hosts,
    pub(super) names: &'c Interned,
    pub(super) problems: Vec<String>,
}

/// One app or pod, in the table's words.
#[derive(Debug, Clone)]
pub(super) struct Converted {
    pub(super) spec: Arc<ServiceSpec>,
    pub(super) instances: Vec<Arc<Instance>>,
    /// How a task of it is reached; `None` for pods, whose events don't carry enough.
    pub(super) layout: Option<Arc<Layout>>,
    /// Versions of tasks that run this definition.
    pub(super) versions: SmallVec<[SharedStr; 2]>,
    /// Health checks defined.
    pub(super) checks: usize,
    /// It has readiness checks, whose results no event brings.
    pub(super) gated: bool,
    /// Tasks that could not be read.
    pub(super) unread: Option<Unread>,
    /// It should be read again soon: a task is not ready, or an agent's name could not be resolved.
    pub(super) unsettled: bool,
}

/// Networking mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mode {
    Host,
    Bridge,
    Container,
}

/// How the tasks of an app are reached: all of its definition that a task's own data does not say.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Layout {
    pub(super) mode: Mode,
    /// Names of container networks, in order.
    networks: Box<[SharedStr]>,
    defined: Box<[u16]>,
    mappings: Box<[Mapping]>,
    discovery: Box<[u16]>,
    /// Ports before the UDP halves of `udp,tcp`.
    base: u16,
    /// For each port from `base` on: the index of its other half.
    doubled: Box<[u16]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Mapping {
    container: u16,
    /// Which of the task's ports belongs to it, if it has a host port.
    host_index: Option<u8>,
}

/// Reads one app with its tasks.
///
/// # Errors
/// Why it cannot be used at all; the caller leaves it out.
pub(super) fn app(app: &wire::App<'_>, context: &mut Context<'_>) -> Result<Converted, String> {
    let id = text(&app.id).ok_or("an app without an id")?;
    let (layout, ports) = layout(app, context.names);
    let versions: SmallVec<[SharedStr; 2]> =
        [text(&app.version), app.version_info.as_ref().and_then(|info| text(&info.last_config_change_at))]
            .into_iter()
            .flatten()
            .map(|version| context.names.intern(version))
            .collect();
    let checks = each(app.health_checks.as_ref()).count();
    let spec = ServiceSpec {
        key: id.into(),
        name: service_name(id)?,
        virtual_addresses: virtual_addresses(&ports),
        ports: ports.into(),
        labels: labels(app.labels.as_ref(), context.names),
        checks_defined: checks > 0,
        version: versions.first().cloned(),
        merge: None,
        routes: Vec::new(),
    };
    let mut converted = Converted {
        spec: Arc::new(spec),
        instances: Vec::new(),
        layout: None,
        versions,
        checks,
        gated: each(app.readiness_checks.as_ref()).next().is_some(),
        unread: None,
        unsettled: false,
    };
    tasks(app, &layout, &mut converted, context);
    converted.layout = Some(context.names.layout(layout));
    Ok(converted)
}

fn tasks(app: &wire::App<'_>, layout: &Layout, converted: &mut Converted, context: &mut Context<'_>) {
    let readiness = Readiness::of(app, converted.gated);
    for raw in app.tasks.iter().flatten() {
        let task: wire::Task<'_> = match serde_json::from_str(raw.get()) {
            Ok(task) => task,
            Err(error) => {
                context.problems.push(format!("a task is left out, what was known of it stays: {error}"));
                Unread::add(&mut converted.unread, id_of(raw));
                continue;
            }
        };
        let Some(mut instance) = instance(&task, layout, converted, context) else {
            Unread::add(&mut converted.unread, None);
            continue;
        };
        if instance.state == InstanceState::Running && readiness.waits_for(&instance) {
            instance.state = InstanceState::Starting;
            converted.unsettled = true;
        }
        converted.instances.push(Arc::new(instance));
    }
    sort_unique(&mut converted.instances);
}

/// The id of a task or pod instance that is otherwise not understood.
pub(super) fn id_of(raw: &RawValue) -> Option<SharedStr> {
    let named: wire::Named<'_> = serde_json::from_str(raw.get()).ok()?;
    text(&named.id).map(Into::into)
}

/// Sorted by id; of an id given twice the last stands.
pub(super) fn sort_unique(instances: &mut Vec<Arc<Instance>>) {
    instances.reverse();
    instances.sort_by(|a, b| a.id.cmp(&b.id));
    instances.dedup_by(|a, b| a.id == b.id);
}

/// Reads one task.
pub(super) fn instance(
    task: &wire::Task<'_>,
    layout: &Layout,
    of: &mut Converted,
    context: &mut Context<'_>,
) -> Option<Instance> {
    let Some(id) = text(&task.id) else {
        context.problems.push("a task without an id is left out".to_owned());
        return None;
    };
    let mut instance = Instance::running(id);
    instance.state = task_state(task);
    instance.health = health(task.health_check_results.as_ref());
    instance.node = text(&task.host).map(|host| context.names.intern(host));
    instance.zone = text(&task.zone).map(|zone| context.names.intern(zone));
    instance.region = text(&task.region).map(|region| context.names.intern(region));
    instance.version = text(&task.version).map(|version| context.names.intern(version));
    instance.started_ms = milliseconds(text(&task.started_at));
    let resolved = layout.reach(task, &mut instance, context);
    of.unsettled |= !resolved;
    Some(instance)
}

impl Layout {
    /// Fills in addresses and endpoints. False if the agent's name was needed and is not known.
    fn reach(&self, task: &wire::Task<'_>, instance: &mut Instance, context: &mut Context<'_>) -> bool {
        let own = own_addresses(task);
        if self.mode == Mode::Container {
            for (at, ip) in own.all.iter().enumerate() {
                let network = Network::Overlay(self.network(at, context.names));
                instance.addresses.push(Address::new(*ip, network, Provenance::TaskNetwork));
            }
        }
        let agent_index = instance.addresses.len() as u8;
        let node = node_address(text(&task.host), context.hosts);
        instance.addresses.extend(node.clone());
        let host_ports: SmallVec<[u16; 4]> =
            each(task.ports.as_ref()).map(|port| port.0.unwrap_or(0)).collect();
        if self.mode == Mode::Container && !own.chosen.is_empty() {
            self.endpoints(&self.container_ports(&host_ports), &own.chosen, instance);
            return true;
        }
        if self.mode == Mode::Bridge {
            for ip in own.all.iter().filter(|ip| node.as_ref().is_none_or(|node| node.ip != **ip)) {
                let (network, provenance) = (Network::Container, Provenance::TaskNetwork);
                instance.addresses.push(Address::new(*ip, network, provenance));
            }
        }
        let ports = match self.mode {
            Mode::Container => self.mapped_ports(&host_ports),
            _ if !host_ports.is_empty() => host_ports,
            _ if !self.defined.is_empty() => SmallVec::from_slice(&self.defined),
            Mode::Bridge => self.mappings.iter().map(|mapping| mapping.container).collect(),
            Mode::Host => SmallVec::new(),
        };
        let needed = ports.iter().any(|port| *port != 0) || self.mode != Mode::Container;
        if node.is_none() && needed && text(&task.host).is_some() {
            let host = text(&task.host).unwrap_or_default();
            context.problems.push(format!("agent {host} has no address: its tasks get no traffic; check that this node resolves the name"));
            return false;
        }
        if node.is_some() {
            self.endpoints(&ports, &[agent_index], instance);
        }
        true
    }

    /// Discovery ports, else container ports; 0 stands for the host port of the same mapping.
    fn container_ports(&self, host_ports: &[u16]) -> SmallVec<[u16; 4]> {
        if !self.discovery.is_empty() {
            return SmallVec::from_slice(&self.discovery);
        }
        let mapped = self.mapped_ports(host_ports);
        let ports = self.mappings.iter().zip(mapped);
        ports.map(|(mapping, host)| if mapping.container == 0 { host } else { mapping.container }).collect()
    }

    /// The host port of each mapping, 0 for one that has none.
    fn mapped_ports(&self, host_ports: &[u16]) -> SmallVec<[u16; 4]> {
        let port = |mapping: &Mapping| host_ports.get(usize::from(mapping.host_index?)).copied();
        self.mappings.iter().map(|mapping| port(mapping).unwrap_or(0)).collect()
    }

    fn endpoints(&self, ports: &[u16], addresses: &[u8], instance: &mut Instance) {
        let base = (0..self.base).map(|index| (index, index));
        let doubled = self.doubled.iter().enumerate().map(|(at, half)| (self.base + at as u16, *half));
        for (port_index, position) in base.chain(doubled) {
            let number = ports.get(usize::from(position)).copied().unwrap_or(0);
            if number != 0 {
                let endpoint = |&address_index| InstanceEndpoint { port_index, address_index, number };
                instance.endpoints.extend(addresses.iter().map(endpoint));
            }
        }
    }

    fn network(&self, at: usize, names: &Interned) -> SharedStr {
        let name = self.networks.get(at).or_else(|| self.networks.last());
        name.cloned().unwrap_or_else(|| names.intern("container"))
    }

    /// Whether a status update with these members says all that an instance needs.
    pub(super) fn is_told_by(&self, task: &wire::Task<'_>) -> bool {
        let ports = each(task.ports.as_ref()).count();
        let host_ports = match self.mode {
            Mode::Container => self.mappings.iter().filter(|mapping| mapping.host_index.is_some()).count(),
            _ => usize::from(self.base),
        };
        let addressed = self.mode != Mode::Container || !own_addresses(task).chosen.is_empty();
        text(&task.host).is_some() && ports >= host_ports && addressed
    }
}

struct Own {
    all: SmallVec<[IpAddr; 2]>,
    /// Indexes into `all`: the first, and the first of the other family that Marathon declares as such.
    chosen: SmallVec<[u8; 2]>,
}

fn own_addresses(task: &wire::Task<'_>) -> Own {
    let mut own = Own { all: SmallVec::new(), chosen: SmallVec::new() };
    for given in each(task.ip_addresses.as_ref()).take(usize::from(u8::MAX) - 1) {
        let Some(ip) = text(&given.ip_address).and_then(|ip| ip.parse::<IpAddr>().ok()) else { continue };
        let agrees = match text(&given.protocol) {
            Some("IPv4") => ip.is_ipv4(),
            Some("IPv6") => ip.is_ipv6(),
            _ => true,
        };
        let other = own.all.first().is_some_and(|first| first.is_ipv4() != ip.is_ipv4());
        if own.all.is_empty() || (own.chosen.len() == 1 && other && agrees) {
            own.chosen.push(own.all.len() as u8);
        }
        own.all.push(ip);
    }
    own
}

/// The address of the agent `host`, by itself or as it is resolved.
pub(super) fn node_address(host: Option<&str>, hosts: &dyn Hosts) -> Option<Address> {
    let host = host?;
    let (ip, provenance) = match host.parse() {
        Ok(ip) => (ip, Provenance::NodeAddress),
        Err(_) => (hosts.address(host)?, Provenance::NodeNameResolved),
    };
    Some(Address::new(ip, Network::Host, provenance))
}

/// The mode by the order of precedence of Marathon-LB, which covers every generation of Marathon.
fn mode(app: &wire::App<'_>) -> Mode {
    let mut mode = Mode::Host;
    if app.ip_address.as_ref().is_some_and(|address| address.is_set) {
        mode = Mode::Container;
    }
    let docker = app.container.as_ref().and_then(|container| container.docker.as_ref());
    match docker.and_then(|docker| text(&docker.network)) {
        Some("USER") => mode = Mode::Container,
        Some("BRIDGE") => mode = Mode::Bridge,
        _ => {}
    }
    network_mode(app.networks.as_ref()).unwrap_or(mode)
}

/// The mode that a list of networks means: that of its last entry.
pub(super) fn network_mode(networks: Option<&wire::List<wire::NetworkEntry<'_>>>) -> Option<Mode> {
    let last = each(networks).last()?;
    Some(match text(&last.mode) {
        Some("host") => Mode::Host,
        Some("container/bridge") => Mode::Bridge,
        _ => Mode::Container,
    })
}

fn layout(app: &wire::App<'_>, names: &Interned) -> (Layout, Vec<PortSpec>) {
    let mode = mode(app);
    let container = app.container.as_ref();
    let legacy = container.and_then(|c| c.docker.as_ref()).and_then(|docker| docker.port_mappings.as_ref());
    let mappings = match legacy.filter(|list| list.iter().next().is_some()) {
        Some(list) => Some(list),
        None => container.and_then(|c| c.port_mappings.as_ref()),
    };
    let discovery = app.ip_address.as_ref().and_then(|address| address.discovery.as_ref());
    let discovery = discovery.and_then(|discovery| discovery.ports.as_ref());
    let mut ports = Ports::new(names);
    if mode != Mode::Host {
        ports.of_mappings(mappings);
    }
    ports.of_definitions(app);
    if mode == Mode::Container {
        ports.of_discovery(discovery);
    }
    let (base, doubled, specs) = ports.finish();
    let mut host_ports = 0u8;
    let mappings = each(mappings).map(|mapping| Mapping {
        container: number(mapping.container_port),
        host_index: (mode == Mode::Bridge || mapping.host_port.is_some()).then(|| {
            host_ports = host_ports.saturating_add(1);
            host_ports - 1
        }),
    });
    let legacy_name = app.ip_address.as_ref().and_then(|address| text(&address.network_name));
    let networks = each(app.networks.as_ref()).filter_map(|network| text(&network.name)).chain(legacy_name);
    let layout = Layout {
        mode,
        mappings: mappings.collect(),
        networks: networks.map(|name| names.intern(name)).collect(),
        defined: each(app.port_definitions.as_ref()).map(|definition| number(definition.port)).collect(),
        discovery: each(discovery).map(|port| number(port.number)).collect(),
        base,
        doubled,
    };
    (layout, specs)
}

/// The list of service ports while it is put together from what the definition holds.
pub(super) struct Ports<'n> {
    names: &'n Interned,
    specs: Vec<PortSpec>,
    doubled: Vec<u16>,
    /// Service ports are given, so that other lists only add to them.
    numbered: bool,
}

/// Values up to this length are kept once: they are words, not names of a single app.
const WORD_LEN_MAX: usize = 12;
/// More ports than this of one service are left out.
const PORTS_MAX: usize = 1000;

impl<'n> Ports<'n> {
    pub(super) fn new(names: &'n Interned) -> Self {
        Self { names, specs: Vec::new(), doubled: Vec::new(), numbered: false }
    }

    fn of_mappings(&mut self, mappings: Option<&wire::List<wire::PortMapping<'_>>>) {
        for mapping in each(mappings) {
            self.push(
                number(mapping.service_port),
                text(&mapping.name),
                text(&mapping.protocol).unwrap_or_default(),
                labels(mapping.labels.as_ref(), self.names),
            );
        }
        self.numbered = self.specs.iter().any(|port| port.number != 0);
    }

    /// Definitions, or the bare numbers of old Marathons; they number the mappings that have no service port.
    fn of_definitions(&mut self, app: &wire::App<'_>) {
        if self.numbered {
            return;
        }
        let mut given = Self::new(self.names);
        if app.port_definitions.is_some() {
            for definition in each(app.port_definitions.as_ref()) {
                let protocol = text(&definition.protocol).unwrap_or_default();
                let labels = labels(definition.labels.as_ref(), self.names);
                given.push(number(definition.port), text(&definition.name), protocol, labels);
            }
        } else {
            for port in each(app.ports.as_ref()) {
                given.push(port.0.unwrap_or(0), None, "tcp", Labels::default());
            }
        }
        if given.specs.is_empty() {
            return;
        }
        self.numbered = true;
        if self.specs.is_empty() {
            *self = given;
            self.numbered = true;
            return;
        }
        self.specs.truncate(given.specs.len());
        for (port, definition) in self.specs.iter_mut().zip(given.specs) {
            port.number = definition.number;
        }
    }

    /// Discovery ports name what has no name, and stand for themselves if nothing else is defined.
    fn of_discovery(&mut self, discovery: Option<&wire::List<wire::DiscoveryPort<'_>>>) {
        for (at, port) in each(discovery).enumerate() {
            match self.specs.get_mut(at) {
                Some(spec) => {
                    if spec.name.is_none() {
                        spec.name = text(&port.name).map(|name| self.names.intern(name));
                    }
                }
                None if self.numbered => {}
                None => {
                    let protocol = text(&port.protocol).unwrap_or_default();
                    self.push(0, text(&port.name), protocol, labels(port.labels.as_ref(), self.names));
                }
            }
        }
    }

    /// Adds a port; a protocol that names both transports asks for a second half.
    pub(super) fn push(&mut self, number: u16, name: Option<&str>, protocol: &str, labels: Labels) {
        if self.specs.len() >= PORTS_MAX {
            return;
        }
        let (tcp, udp) = (has(protocol, "tcp"), has(protocol, "udp"));
        if tcp && udp {
            self.doubled.push(self.specs.len() as u16);
        }
        let protocol = if udp && !tcp { Protocol::Udp } else { Protocol::Tcp };
        self.specs.push(PortSpec {
            number,
            name: name.map(|name| self.names.intern(name)),
            protocol,
            labels,
            ..PortSpec::default()
        });
    }

    /// The number of ports by position, the halves behind them, and all ports.
    pub(super) fn finish(mut self) -> (u16, Box<[u16]>, Vec<PortSpec>) {
        let base = self.specs.len();
        self.doubled.retain(|half| usize::from(*half) < base);
        for half in &self.doubled {
            let udp = PortSpec { protocol: Protocol::Udp, ..self.specs[usize::from(*half)].clone() };
            self.specs.push(udp);
        }
        (base as u16, self.doubled.into(), self.specs)
    }
}

fn has(protocols: &str, wanted: &str) -> bool {
    protocols.split(',').any(|protocol| protocol.trim().eq_ignore_ascii_case(wanted))
}

/// `/a/b/c` → `c.b.a`.
///
/// # Errors
/// Why no name can be made of the id.
pub(super) fn service_name(id: &str) -> Result<ServiceName, String> {
    ServiceName::from_labels(id.rsplit('/'))
        .map_err(|error| format!("no name can be made of {id:?}: {error}"))
}

/// Labels as they are, sorted. Their names, and words like `true` or `external`, are those of many apps.
pub(super) fn labels(given: Option<&wire::Labels<'_>>, names: &Interned) -> Labels {
    let shared = |value: &str| if value.len() <= WORD_LEN_MAX { names.intern(value) } else { value.into() };
    let all = given.into_iter().flat_map(|labels| &labels.0);
    all.map(|(name, value)| (names.intern(name.as_str()), shared(value))).collect()
}

/// DC/OS's `VIP_n` labels of the ports.
pub(super) fn virtual_addresses(ports: &[PortSpec]) -> Vec<VirtualAddress> {
    let of = |(index, port): (usize, &PortSpec)| {
        let vips = port.labels.iter().filter(|(name, _)| name.starts_with("VIP_"));
        vips.map(|(_, given)| VirtualAddress { given: given.into(), port_index: index as u16 })
            .collect::<Vec<_>>()
    };
    ports.iter().enumerate().flat_map(of).collect()
}

fn task_state(task: &wire::Task<'_>) -> InstanceState {
    match text(&task.state) {
        Some(state) => state_of(state),
        // Marathon before 1.4 doesn't tell; a task that was staged and not started is not running.
        None if text(&task.staged_at).is_some() && text(&task.started_at).is_none() => InstanceState::Staging,
        None => InstanceState::Running,
    }
}

/// A Mesos task state. What is not known counts as running: the scheduler lists the task after all.
pub(super) fn state_of(state: &str) -> InstanceState {
    match state {
        "TASK_STAGING" => InstanceState::Staging,
        "TASK_STARTING" => InstanceState::Starting,
        "TASK_KILLING" => InstanceState::Killing,
        "TASK_UNREACHABLE" | "TASK_LOST" => InstanceState::Unreachable,
        "TASK_FINISHED"
        | "TASK_FAILED"
        | "TASK_KILLED"
        | "TASK_ERROR"
        | "TASK_GONE"
        | "TASK_GONE_BY_OPERATOR"
        | "TASK_DROPPED"
        | "TASK_UNKNOWN" => InstanceState::Terminal,
        _ => InstanceState::Running,
    }
}

/// Healthy if any check's last result is good, as Marathon-LB has it; no result is no verdict.
fn health(results: Option<&wire::List<wire::HealthResult>>) -> Health {
    let mut verdict = Health::Unknown;
    for alive in each(results).filter_map(|result| result.alive) {
        if alive {
            return Health::Healthy;
        }
        verdict = Health::Unhealthy;
    }
    verdict
}

/// A timestamp in milliseconds since the Unix epoch, 0 if it is none.
pub(super) fn milliseconds(timestamp: Option<&str>) -> u64 {
    let parsed = timestamp.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    parsed.and_then(|timestamp| timestamp.as_millisecond().try_into().ok()).unwrap_or(0)
}

/// A port number, 0 if there is none.
pub(super) fn number(number: Option<wire::Number>) -> u16 {
    number.and_then(|number| number.0).unwrap_or(0)
}

impl Interned {
    /// The one copy of `text`.
    pub(super) fn intern(&self, text: &str) -> SharedStr {
        let mut set = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = set.get(text) {
            return known.clone();
        }
        let new: SharedStr = text.into();
        set.insert(new.clone());
        new
    }

    /// The one copy of a layout.
    fn layout(&self, layout: Layout) -> Arc<Layout> {
        let mut set = self.layouts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = set.get(&layout) {
            return Arc::clone(known);
        }
        let new = Arc::new(layout);
        set.insert(Arc::clone(&new));
        new
    }

    /// Forgets what nobody else holds.
    pub(super) fn sweep(&self) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.retain(|text| SharedStr::strong_count(text).is_some_and(|count| count > 1));
        let mut layouts = self.layouts.lock().unwrap_or_else(PoisonError::into_inner);
        layouts.retain(|layout| Arc::strong_count(layout) > 1);
    }
}
