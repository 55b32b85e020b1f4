//! Tasks of one service, as the table sees them. Pure.
//!
//! Which address of a task is used, for each of its ports (users' first complaint was that one setting decided it for a
//! whole cluster):
//!
//! | the port | is reached at |
//! |---|---|
//! | is mapped to a port of the agent, was offered by the agent, or is said to be the agent's (`network-scope` = `host`) | the agent |
//! | belongs to a container with an address of its own on a network across agents | the container |
//! | is of a task on the agent's network | the agent |
//!
//! Where nothing is said of the network, a task with an address that is not its agent's and without any port of its
//! agent is on a network of its own. A container that has no address although it should is reached at its agent.

use core::net::IpAddr;
use std::sync::Arc;

use portolan_table::{
    Address, Health, Instance, InstanceEndpoint, Labels, Network, Placement, PortSpec, Protocol, Provenance,
    ServiceName, ServiceSpec, SharedStr, VirtualAddress, sanitise_label, stable_hash,
};
use smallvec::SmallVec;

use super::task::{Kind, Label, Mapping, Mode, PORTS_MAX, Ports, Task};

/// What conversion needs to know of a task's agent.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Node {
    /// Its host name.
    pub(super) name: SharedStr,
    pub(super) ip: Option<IpAddr>,
    /// The address was found through a name.
    pub(super) is_resolved: bool,
    pub(super) zone: Option<SharedStr>,
    pub(super) region: Option<SharedStr>,
}

/// A port as one kind of task has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KindPort {
    name: Option<SharedStr>,
    protocol: Protocol,
    /// The same for all tasks of the kind; 0 if it is not.
    number: u16,
    labels: Labels,
    /// Which of the numbers of a task it has.
    at: u16,
}

/// The ports of a service, and for each kind which of them its own became.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Layout {
    pub(super) ports: Box<[PortSpec]>,
    /// In the order of the kinds it was made from: index into `ports`, and into the task's numbers.
    pub(super) places: Vec<Box<[(u16, u16)]>>,
}

/// The name of a task in the native zone: `task.framework`, each split at its dots. One that no label can carry gets a
/// hash in its place, so that it is served under names of other schemas.
pub(super) fn service_name(task: &str, framework: &str) -> ServiceName {
    let labels = |name: &str| -> String {
        let labels: Vec<String> = name.split('.').filter_map(sanitise_label).collect();
        if labels.is_empty() { format!("x-{:016x}", stable_hash(&[name])) } else { labels.join(".") }
    };
    let (task_name, framework_name) = (labels(task), labels(framework));
    let hashed = || format!("x-{:016x}.x-{:016x}", stable_hash(&[task]), stable_hash(&[framework]));
    ServiceName::parse(&format!("{task_name}.{framework_name}"))
        .or_else(|_| ServiceName::parse(&hashed()))
        .unwrap_or_else(|_| unreachable!("hexadecimal digits make a name"))
}

/// The ports of one kind.
fn kind_ports(kind: &Kind) -> Vec<KindPort> {
    let new = |name: Option<&SharedStr>, protocol, number, labels: &Labels, at: usize| KindPort {
        name: name.cloned(),
        protocol,
        number,
        labels: labels.clone(),
        at: at as u16,
    };
    match &kind.ports {
        Ports::Discovery => {
            let given = kind.definition.discovery.iter().flat_map(|discovery| &discovery.ports);
            let (mut ports, mut second) = (Vec::new(), Vec::new());
            for (at, port) in given.enumerate() {
                let (first, both) = protocols(port.protocol.as_deref());
                ports.push(new(port.name.as_ref(), first, 0, &port.labels, at));
                if both {
                    second.push(new(port.name.as_ref(), Protocol::Udp, 0, &port.labels, at));
                }
            }
            // Behind all others, so that indexes keep their meaning.
            ports.append(&mut second);
            ports
        }
        Ports::Mappings(mappings) => {
            let ports = mappings.iter().enumerate();
            ports
                .map(|(at, (protocol, number))| new(None, *protocol, *number, &Labels::default(), at))
                .collect()
        }
        Ports::Offered(count) => {
            (0..usize::from(*count)).map(|at| new(None, Protocol::Tcp, 0, &Labels::default(), at)).collect()
        }
    }
}

/// The transport that a discovery port is served by, and whether UDP is besides. One that is not said is TCP.
fn protocols(given: Option<&str>) -> (Protocol, bool) {
    let has = |wanted: &str| {
        given.is_some_and(|given| given.split(',').any(|one| one.trim().eq_ignore_ascii_case(wanted)))
    };
    match (has("tcp"), has("udp")) {
        (true, true) => (Protocol::Tcp, true),
        (false, true) => (Protocol::Udp, false),
        _ => (Protocol::Tcp, false),
    }
}

impl Layout {
    /// Unites the ports of `kinds`: those of one name and transport are one, those without a name go by position.
    pub(super) fn of<'k>(kinds: impl Iterator<Item = &'k Kind>) -> Self {
        let mut ports: Vec<PortSpec> = Vec::new();
        let mut places = Vec::new();
        for kind in kinds {
            let mut taken: Vec<(u16, u16)> = Vec::new();
            for port in kind_ports(kind) {
                let same = |(index, held): &(usize, &PortSpec)| {
                    held.protocol == port.protocol
                        && held.name == port.name
                        && !taken.iter().any(|(known, _)| usize::from(*known) == *index)
                };
                let found = ports.iter().enumerate().find(same).map(|(index, _)| index);
                let index = match found {
                    Some(index) => index,
                    None if ports.len() >= PORTS_MAX => continue,
                    None => {
                        let (number, name) = (port.number, port.name.clone());
                        let (protocol, labels) = (port.protocol, port.labels.clone());
                        ports.push(PortSpec { number, name, protocol, labels, ..PortSpec::default() });
                        ports.len() - 1
                    }
                };
                if ports[index].number != port.number {
                    ports[index].number = 0;
                }
                taken.push((index as u16, port.at));
            }
            taken.sort_unstable();
            places.push(taken.into());
        }
        Self { ports: ports.into(), places }
    }
}

/// The definition of a service out of the kinds of its tasks, with the number of each. Labels and version are those of
/// the kind that most tasks are of.
pub(super) fn spec(name: &ServiceName, layout: &Layout, kinds: &[(Arc<Kind>, usize)]) -> ServiceSpec {
    let most = kinds.iter().rev().max_by_key(|(_, count)| *count).map(|(kind, _)| &kind.definition);
    ServiceSpec {
        key: name.as_str().into(),
        name: name.clone(),
        virtual_addresses: virtual_addresses(&layout.ports),
        ports: layout.ports.clone(),
        labels: most.map(|definition| definition.labels.clone()).unwrap_or_default(),
        checks_defined: kinds.iter().any(|(kind, _)| kind.is_checked),
        version: most.and_then(|definition| definition.discovery.as_ref()?.version.clone()),
        merge: None,
        routes: Vec::new(),
    }
}

fn virtual_addresses(ports: &[PortSpec]) -> Vec<VirtualAddress> {
    let of = |(index, port): (usize, &PortSpec)| {
        let vips = port.labels.iter().filter(|(name, _)| name.starts_with("VIP") || name.starts_with("vip"));
        vips.map(|(_, given)| VirtualAddress { given: given.into(), port_index: index as u16 })
            .collect::<Vec<_>>()
    };
    ports.iter().enumerate().flat_map(of).collect()
}

/// A task in the table's words. `places` are those of its kind; `checks_defined` is what its service says.
pub(super) fn instance(
    task: &Task,
    places: &[(u16, u16)],
    checks_defined: bool,
    node: Option<&Node>,
) -> Instance {
    let mut instance = Instance::running(task.key.id.clone());
    instance.state = task.state;
    instance.health = match task.health {
        // Its service has checks and its own definition has none (they are being rolled out): that is no missing verdict.
        Health::Unknown if checks_defined && !task.kind.is_checked => Health::Healthy,
        health => health,
    };
    instance.started_ms = task.started_ms;
    instance.version =
        task.kind.definition.discovery.as_ref().and_then(|discovery| discovery.version.clone());
    if let Some(node) = node {
        instance.node = Some(node.name.clone());
        instance.zone.clone_from(&node.zone);
        instance.region.clone_from(&node.region);
    }
    let reach = Reach::of(task, node);
    for (port_index, at) in places {
        let Some((on_agent, number)) = reach.place(usize::from(*at)) else { continue };
        let addresses = if on_agent { &reach.agent } else { &reach.own };
        instance.endpoints.extend(addresses.iter().map(|address_index| InstanceEndpoint {
            port_index: *port_index,
            address_index: *address_index,
            number,
        }));
    }
    instance.addresses = reach.addresses;
    instance.placement = Some(Arc::new(Placement {
        definition: Arc::clone(&task.kind.definition),
        agent: task.agent.clone(),
        host_ports: task.host_ports.clone(),
        discovery_ports: task.discovery_ports.clone(),
        container: task.container.clone(),
        order: task.order,
    }));
    instance
}

/// The addresses of a task, and which of them serve.
struct Reach<'t> {
    task: &'t Task,
    addresses: Vec<Address>,
    /// Index of the agent's address, if it has one.
    agent: SmallVec<[u8; 2]>,
    /// Indexes of the container's: the first of each family.
    own: SmallVec<[u8; 2]>,
}

impl<'t> Reach<'t> {
    fn of(task: &'t Task, node: Option<&Node>) -> Self {
        let mut reach = Self { task, addresses: Vec::new(), agent: SmallVec::new(), own: SmallVec::new() };
        let agent = node.and_then(|node| Some((node.ip?, node.is_resolved)));
        let is_own = reach.is_on_its_own(agent.map(|(ip, _)| ip));
        // What is used goes first: a service without ports is answered with the first address of each task.
        let agent_first = !is_own || task.mappings.iter().any(|mapping| mapping.host != 0);
        if agent_first {
            reach.add_agent(agent);
        }
        reach.add_own(agent.map(|(ip, _)| ip), is_own);
        if !agent_first {
            reach.add_agent(agent);
        }
        reach
    }

    /// True if it has an address of its own that others can reach.
    fn is_on_its_own(&self, agent: Option<IpAddr>) -> bool {
        let own = &self.task.networks.own;
        let apart = own.iter().any(|(ip, _)| Some(*ip) != agent);
        match self.task.kind.mode {
            Mode::Own => !own.is_empty(),
            Mode::Host | Mode::Bridge => false,
            Mode::Unsaid if own.iter().any(|(_, network)| network.is_some()) => apart,
            Mode::Unsaid => apart && self.task.host_ports.is_empty(),
        }
    }

    fn add_agent(&mut self, agent: Option<(IpAddr, bool)>) {
        let Some((ip, is_resolved)) = agent else { return };
        let provenance = if is_resolved { Provenance::NodeNameResolved } else { Provenance::NodeAddress };
        self.agent.push(self.addresses.len() as u8);
        self.addresses.push(Address::new(ip, Network::Host, provenance));
    }

    fn add_own(&mut self, agent: Option<IpAddr>, is_own: bool) {
        let networks = &self.task.networks;
        let provenance =
            if networks.own_is_old { Provenance::TaskNetworkBefore } else { Provenance::TaskNetwork };
        let mut families = [false; 2];
        for (ip, network) in &networks.own {
            let name = network.as_ref().or(self.task.kind.network.as_ref());
            let network = match name {
                _ if Some(*ip) == agent => Network::Host,
                Some(name) if is_own => Network::Overlay(name.clone()),
                _ => Network::Container,
            };
            let seen = std::mem::replace(&mut families[usize::from(ip.is_ipv6())], true);
            if is_own && !seen && self.has_room() {
                self.own.push(self.addresses.len() as u8);
            }
            self.push(Address::new(*ip, network, provenance));
        }
        for (ip, label) in &networks.labelled {
            let provenance = match label {
                Label::Containerizer => Provenance::ContainerizerLabel,
                Label::Docker => Provenance::DockerLabel,
            };
            let network = if Some(*ip) == agent { Network::Host } else { Network::Container };
            self.push(Address::new(*ip, network, provenance));
        }
    }

    /// An index is an octet; one place is left for the agent's address.
    fn has_room(&self) -> bool {
        self.addresses.len() < usize::from(u8::MAX)
    }

    fn push(&mut self, address: Address) {
        if self.has_room() {
            self.addresses.push(address);
        }
    }

    /// Where the port at `at` of the task is reached: on the agent or not, and its number.
    fn place(&self, at: usize) -> Option<(bool, u16)> {
        let (task, on_agent) = (self.task, |port: u16| Some((true, port)).filter(|(_, port)| *port != 0));
        match &task.kind.ports {
            Ports::Offered(_) => on_agent(task.offered().nth(at)?),
            Ports::Mappings(_) => self.mapped(task.mappings.get(at)?),
            Ports::Discovery => {
                let number = *task.discovery_ports.get(at)?;
                let given = task.kind.definition.discovery.as_ref()?.ports.get(at)?;
                let transport = protocols(given.protocol.as_deref());
                let is_of = |mapping: &&Mapping| {
                    mapping.protocol.is_none_or(|p| p == transport.0 || (transport.1 && p == Protocol::Udp))
                };
                let mut mappings = task.mappings.iter().filter(is_of);
                if number == 0 {
                    return on_agent(task.offered().nth(at)?);
                }
                if given.labels.get("network-scope") == Some("host")
                    || task.offered().any(|offered| offered == number)
                    || mappings.clone().any(|mapping| mapping.host == number)
                {
                    return on_agent(number);
                }
                if let Some(mapping) = mappings.find(|mapping| mapping.container == number) {
                    return self.mapped(mapping);
                }
                if !self.own.is_empty() {
                    return Some((false, number));
                }
                // A bridge's ports are the agent's by position; all else is on the agent's network.
                let by_position = || task.offered().nth(at).filter(|_| task.kind.mode == Mode::Bridge);
                on_agent(by_position().unwrap_or(number))
            }
        }
    }

    fn mapped(&self, mapping: &Mapping) -> Option<(bool, u16)> {
        match (mapping.host, mapping.container) {
            (0, 0) => None,
            (0, container) => Some((self.own.is_empty(), container)),
            (host, _) => Some((true, host)),
        }
    }
}
