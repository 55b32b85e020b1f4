//! From a swarm's words to the table's. Pure.
//!
//! A task counts as running only when its health check, if it has one, has passed: that is the swarm's own rule.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portolan_table::{
    Address, Health, Instance, InstanceEndpoint, InstanceState, Network, NodeFact, Provenance, ServiceSpec,
    SharedStr,
};

use super::ports::{self, NETWORK, Named, Port, SERVICE};
use super::wire::{Node, Service as Wire, Task};
use crate::config::Reach;
use crate::sources::telling::Service;

/// Labels of a node that name its zone and region.
const ZONE: &str = "portolan.zone";
const REGION: &str = "portolan.region";

/// A node as it matters to tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) name: SharedStr,
    ip: Option<IpAddr>,
    is_ready: bool,
    zone: Option<SharedStr>,
    region: Option<SharedStr>,
}

pub(super) type Nodes = BTreeMap<String, Place>;

/// The nodes by id.
pub(super) fn nodes(nodes: Vec<Node>) -> Nodes {
    let place = |node: Node| {
        let label =
            |name| node.spec.as_ref()?.labels.as_ref()?.get(name).map(|value| SharedStr::from(&**value));
        let status = node.status.as_ref();
        let hostname =
            node.description.as_ref().map(|description| &*description.hostname).unwrap_or_default();
        let name = if hostname.is_empty() { &node.id } else { hostname };
        let place = Place {
            name: name.into(),
            ip: status.and_then(|status| status.addr.parse().ok()).filter(|ip: &IpAddr| !ip.is_unspecified()),
            // `unknown` is every node's state after an election, until its agent has registered again.
            is_ready: status.is_none_or(|status| !matches!(&*status.state, "down" | "disconnected")),
            zone: label(ZONE),
            region: label(REGION),
        };
        (node.id, place)
    };
    nodes.into_iter().map(place).collect()
}

impl Place {
    /// The node as a fact of the cluster.
    pub(super) fn fact(&self) -> Arc<NodeFact> {
        let (zone, region) = (self.zone.clone(), self.region.clone());
        Arc::new(NodeFact { name: self.name.clone(), addresses: self.ip.into_iter().collect(), zone, region })
    }
}

/// A service with its tasks as one service of the table.
pub(super) fn service(
    service: &Wire,
    tasks: &[&Task],
    nodes: &Nodes,
    reach: Reach,
) -> Result<Service, String> {
    let none = BTreeMap::new();
    let labels = service.spec.labels.as_ref().unwrap_or(&none);
    let name = labels.get(SERVICE).unwrap_or(&service.spec.name);
    let name = ports::name(name).map_err(|error| format!("left out: {error}"))?;
    let published = service.endpoint.as_ref().and_then(|endpoint| endpoint.ports.as_ref());
    let targets = published.into_iter().flatten();
    let targets = targets.filter_map(|port| ports::port(&format!("{}/{}", port.target_port, port.protocol)));
    let ports = ports::ports(labels, targets)?;
    let mut instances: Vec<Arc<Instance>> = tasks
        .iter()
        .filter_map(|task| {
            instance(task, service, &ports, labels.get(NETWORK).map(String::as_str), nodes, reach)
        })
        .map(Arc::new)
        .collect();
    instances.sort_by(|a, b| a.id.cmp(&b.id));
    let spec = ServiceSpec {
        key: (&*service.id).into(),
        name,
        ports: ports::specs(&ports),
        labels: ports::of_users(labels).into_iter().collect(),
        checks_defined: false,
        version: None,
        merge: None,
        routes: Vec::new(),
        virtual_addresses: Vec::new(),
    };
    Ok((Arc::new(spec), instances))
}

/// True if nothing is on its way: every task that is to run does, and every other has ended.
pub(super) fn is_settled(tasks: &[&Task]) -> bool {
    tasks.iter().all(|task| {
        let runs = matches!(&*task.status.state, "running");
        let ended = state(task).is_none();
        if task.desired_state == "running" { runs || ended } else { ended }
    })
}

/// `None`: there is nothing of it, yet or any more.
fn state(task: &Task) -> Option<InstanceState> {
    match (&*task.status.state, &*task.desired_state) {
        ("running", "running") => Some(InstanceState::Running),
        ("running", _) => Some(InstanceState::Killing),
        ("starting", "running") => Some(InstanceState::Starting),
        ("new" | "pending" | "assigned" | "accepted" | "preparing" | "ready", "running" | "ready") => {
            Some(InstanceState::Staging)
        }
        _ => None,
    }
}

fn instance(
    task: &Task,
    service: &Wire,
    ports: &[Named],
    network: Option<&str>,
    nodes: &Nodes,
    reach: Reach,
) -> Option<Instance> {
    let mut instance = Instance::running(&*task.id);
    instance.state = state(task)?;
    instance.health = Health::Healthy;
    instance.started_ms = super::milliseconds(&task.status.timestamp);
    let node = nodes.get(&task.node);
    if let Some(node) = node {
        instance.node = Some(node.name.clone());
        (instance.zone, instance.region) = (node.zone.clone(), node.region.clone());
        if !node.is_ready && instance.state == InstanceState::Running {
            instance.state = InstanceState::Unreachable;
        }
    }
    if task.slot > 0 {
        let slot = [("slot", task.slot.to_string())];
        instance.metadata = Some(Arc::new(slot.into_iter().collect()));
    }
    let ip = node.and_then(|node| node.ip);
    let own = addresses(&mut instance, task, network);
    if own.is_empty() || reach == Reach::Published {
        by_node(&mut instance, task, service, ports, ip);
    } else {
        for (index, (port, _)) in (0..).zip(ports) {
            let endpoint =
                |address_index| InstanceEndpoint { port_index: index, address_index, number: port.number };
            instance.endpoints.extend(own.iter().map(|at| endpoint(*at)));
        }
    }
    if let Some(ip) = ip.filter(|ip| instance.addresses.iter().all(|address| address.ip != *ip)) {
        instance.addresses.push(Address::new(ip, Network::Host, Provenance::NodeAddress));
    }
    Some(instance)
}

/// Addresses on overlays, and which of them are used: those of the network asked for, else of the first.
fn addresses(instance: &mut Instance, task: &Task, network: Option<&str>) -> Vec<u8> {
    let mut attached: Vec<(&str, IpAddr)> = Vec::new();
    for attachment in task.networks_attachments.iter().flatten().filter(|a| !a.network.spec.ingress) {
        let ips = attachment.addresses.iter().flatten();
        let ips = ips.filter_map(|text| text.split('/').next()?.parse().ok());
        attached.extend(ips.map(|ip| (&*attachment.network.spec.name, ip)));
    }
    attached.sort_by_key(|(name, _)| *name);
    let chosen = network.or(attached.first().map(|(name, _)| *name));
    let mut used = Vec::new();
    for (at, (name, ip)) in (0..).zip(attached.iter().take(32)) {
        let network = Network::Overlay((*name).into());
        instance.addresses.push(Address::new(*ip, network, Provenance::TaskNetwork));
        if chosen == Some(name) {
            used.push(at);
        }
    }
    used
}

/// Endpoints at the node: ports that the task has published there, or that the mesh has everywhere.
fn by_node(instance: &mut Instance, task: &Task, service: &Wire, ports: &[Named], ip: Option<IpAddr>) {
    let Some(ip) = ip else { return };
    let of_task = task.status.port_status.as_ref().and_then(|status| status.ports.as_ref());
    let of_service = service.endpoint.as_ref().and_then(|endpoint| endpoint.ports.as_ref());
    let mesh = of_service.into_iter().flatten().filter(|port| port.publish_mode != "host");
    let mut at = None;
    let mut seen = BTreeSet::new();
    for published in of_task.into_iter().flatten().chain(mesh).filter(|port| port.published_port > 0) {
        let protocol = ports::port(&format!("{}/{}", published.target_port, published.protocol));
        let is_it = |(port, _): &Named| Some::<&Port>(port) == protocol.as_ref();
        let Some(index) = ports.iter().position(is_it) else { continue };
        if !seen.insert(index) {
            continue;
        }
        let address_index = *at.get_or_insert_with(|| {
            instance.addresses.push(Address::new(ip, Network::Host, Provenance::NodeAddress));
            u8::try_from(instance.addresses.len() - 1).unwrap_or(u8::MAX)
        });
        let port_index = u16::try_from(index).unwrap_or(u16::MAX);
        let number = published.published_port;
        instance.endpoints.push(InstanceEndpoint { port_index, address_index, number });
    }
    instance.endpoints.sort_by_key(|endpoint| endpoint.port_index);
}
