//! From the words of Kubernetes to the table's. Pure.
//!
//! | Kubernetes | here |
//! |---|---|
//! | service `web` of namespace `shop` | `web.shop` |
//! | an endpoint of a slice, by its pod | an instance; those of two families of one pod are one |
//! | not ready | starting: out, whatever the others are |
//! | terminating | killing |
//! | `ExternalName` | one instance, at the addresses of that name |

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

use portolan_table::{
    Address, AppProtocol, Health, Instance, InstanceEndpoint, InstanceState, Labels, Network, NodeFact,
    PortSpec, Protocol, Provenance, ServiceName, ServiceSpec, SharedStr,
};

use super::wire::{self, Endpoint, ServicePort, Slice};
use crate::config::Reach;
use crate::hosts::Hosts;
use crate::sources::telling::Service;

const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
/// The network of pods.
const PODS: &str = "pods";
/// Addresses of one instance.
const ADDRESSES_MAX: usize = 16;

/// A node as it matters to pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    ips: Vec<IpAddr>,
    zone: Option<SharedStr>,
    region: Option<SharedStr>,
}

/// A node by its name.
pub(super) fn node(node: wire::Node) -> (String, Place) {
    let labels = node.metadata.labels.unwrap_or_default();
    let label = |name| labels.get(name).map(|value| SharedStr::from(&**value));
    let addresses = node.status.addresses.into_iter().flatten();
    let internal = addresses.filter(|address| address.kind == "InternalIP");
    let mut ips: Vec<IpAddr> = internal.filter_map(|address| address.address.parse().ok()).collect();
    ips.sort_unstable();
    (node.metadata.name, Place { ips, zone: label(ZONE), region: label(REGION) })
}

impl Place {
    /// The node as a fact of the cluster.
    pub(super) fn fact(&self, name: &str) -> Arc<NodeFact> {
        let (zone, region) = (self.zone.clone(), self.region.clone());
        Arc::new(NodeFact { name: name.into(), addresses: self.ips.iter().copied().collect(), zone, region })
    }
}

/// The host name that a service of type `ExternalName` stands for.
pub(super) fn external_name(service: &wire::Service) -> Option<&str> {
    let is_external = service.spec.kind.as_deref() == Some("ExternalName");
    let name = service.spec.external_name.as_deref().filter(|_| is_external)?;
    Some(name.trim_end_matches('.')).filter(|name| !name.is_empty())
}

/// A service with the endpoints of its slices. `None` if its name cannot be used.
pub(super) fn service<'s>(
    key: &str,
    service: &wire::Service,
    slices: impl Iterator<Item = &'s Slice>,
    nodes: &BTreeMap<String, Place>,
    reach: Reach,
    hosts: &dyn Hosts,
    problems: &mut Vec<String>,
) -> Option<Service> {
    let meta = &service.metadata;
    let name = match ServiceName::from_labels([&*meta.name, &*meta.namespace].into_iter()) {
        Ok(name) => name,
        Err(error) => {
            problems.push(format!("left out: {error}"));
            return None;
        }
    };
    let ports: Vec<&ServicePort> = service.spec.ports.iter().flatten().collect();
    let ports: Vec<(&ServicePort, PortSpec)> =
        ports.into_iter().filter_map(|port| Some((port, spec(port)?))).collect();
    let mut instances: BTreeMap<SharedStr, Instance> = BTreeMap::new();
    match external_name(service) {
        Some(host) => {
            let instance = external(host, &ports, hosts, problems);
            instances.insert(instance.id.clone(), instance);
        }
        None => {
            for slice in slices {
                take(slice, &ports, nodes, reach, &mut instances);
            }
        }
    }
    let labels = meta.labels.iter().flatten().map(|(name, value)| (&**name, &**value));
    let spec = ServiceSpec {
        key: key.into(),
        name,
        ports: ports.into_iter().map(|(_, spec)| spec).collect(),
        labels: labels.collect(),
        checks_defined: false,
        version: None,
        merge: None,
        routes: Vec::new(),
        virtual_addresses: Vec::new(),
    };
    Some((Arc::new(spec), instances.into_values().map(Arc::new).collect()))
}

/// `None` for SCTP.
fn spec(port: &ServicePort) -> Option<PortSpec> {
    let app_protocol = match port.app_protocol.as_deref() {
        Some("http") => AppProtocol::Http,
        Some("https") => AppProtocol::Https,
        Some("kubernetes.io/h2c") => AppProtocol::H2c,
        Some("grpc") => AppProtocol::Grpc,
        Some("tls") => AppProtocol::Tls,
        _ => AppProtocol::Unknown,
    };
    Some(PortSpec {
        number: port.port,
        name: port.name.as_deref().filter(|name| !name.is_empty()).map(Into::into),
        protocol: protocol(port.protocol.as_deref())?,
        app_protocol,
        labels: Labels::default(),
    })
}

fn protocol(text: Option<&str>) -> Option<Protocol> {
    match text {
        None | Some("TCP") => Some(Protocol::Tcp),
        Some("UDP") => Some(Protocol::Udp),
        Some(_) => None,
    }
}

fn external(
    host: &str,
    ports: &[(&ServicePort, PortSpec)],
    hosts: &dyn Hosts,
    problems: &mut Vec<String>,
) -> Instance {
    let mut instance = Instance::running(host);
    instance.health = Health::Healthy;
    instance.node = Some(host.into());
    let found = match host.parse() {
        Ok(ip) => [ip].into_iter().collect(),
        Err(_) => hosts.addresses(host),
    };
    if found.is_empty() {
        problems.push(format!("no address is known for {host:?} at present"));
    }
    for (at, ip) in (0..).zip(found.into_iter().take(ADDRESSES_MAX)) {
        instance.addresses.push(Address::new(ip, Network::Host, Provenance::NodeNameResolved));
        let endpoint = |(index, (port, _)): (u16, &(&ServicePort, PortSpec))| InstanceEndpoint {
            port_index: index,
            address_index: at,
            number: port.port,
        };
        let reached = (0..).zip(ports).filter(|(_, (port, _))| port.port > 0);
        instance.endpoints.extend(reached.map(endpoint));
    }
    instance.endpoints.sort_by_key(|endpoint| endpoint.port_index);
    instance
}

/// Adds the endpoints of a slice to the instances.
fn take(
    slice: &Slice,
    ports: &[(&ServicePort, PortSpec)],
    nodes: &BTreeMap<String, Place>,
    reach: Reach,
    instances: &mut BTreeMap<SharedStr, Instance>,
) {
    if slice.address_type == "FQDN" {
        return;
    }
    // Which of the service's ports each of the slice's is, by name and protocol.
    let of_slice = slice.ports.iter().flatten();
    let places: Vec<(u16, u16, u16)> = of_slice
        .filter_map(|port| {
            let number = port.port.filter(|number| *number > 0)?;
            let same = |(wanted, spec): &(&ServicePort, PortSpec)| {
                wanted.name.as_deref().unwrap_or_default() == port.name.as_deref().unwrap_or_default()
                    && protocol(port.protocol.as_deref()) == Some(spec.protocol)
            };
            let index = ports.iter().position(same)?;
            Some((u16::try_from(index).ok()?, number, ports[index].0.node_port))
        })
        .collect();
    for endpoint in slice.endpoints.iter().flatten() {
        // All addresses of one endpoint are alike, says the API: the first will do.
        let first = endpoint.addresses.iter().flatten().next();
        let Some(ip) = first.and_then(|address| address.parse::<IpAddr>().ok()) else { continue };
        let id = id_of(slice, endpoint, ip);
        let node = endpoint.node_name.as_ref().and_then(|name| nodes.get(name));
        let instance = instances.entry(id.clone()).or_insert_with(|| instance(id, endpoint, node));
        if instance.addresses.iter().any(|address| address.ip == ip)
            || instance.addresses.len() >= ADDRESSES_MAX
        {
            continue;
        }
        let network = Network::Overlay(PODS.into());
        instance.addresses.push(Address::new(ip, network, Provenance::PodNetwork));
        match reach {
            Reach::Container => {
                let at = u8::try_from(instance.addresses.len() - 1).unwrap_or(u8::MAX);
                let endpoint = |(port_index, number, _): &(u16, u16, u16)| InstanceEndpoint {
                    port_index: *port_index,
                    address_index: at,
                    number: *number,
                };
                instance.endpoints.extend(places.iter().map(endpoint));
            }
            Reach::Published => by_node(instance, node, ip, &places),
        }
        instance.endpoints.sort_by_key(|endpoint| endpoint.port_index);
    }
}

/// The same for both families of a pod.
fn id_of(slice: &Slice, endpoint: &Endpoint, ip: IpAddr) -> SharedStr {
    let namespace = &slice.metadata.namespace;
    match &endpoint.target_ref {
        Some(target) if !target.uid.is_empty() => (&*target.uid).into(),
        Some(target) if !target.name.is_empty() => {
            format!("{}/{namespace}/{}", target.kind.to_ascii_lowercase(), target.name).into()
        }
        _ => format!("{namespace}/{}/{ip}", slice.metadata.name).into(),
    }
}

fn instance(id: SharedStr, endpoint: &Endpoint, node: Option<&Place>) -> Instance {
    let mut instance = Instance::running(id);
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
    let terminating = conditions.and_then(|conditions| conditions.terminating).unwrap_or(false);
    instance.state = match (ready, terminating) {
        // A service that publishes those that are not ready wants these, too.
        (true, _) => InstanceState::Running,
        (false, true) => InstanceState::Killing,
        (false, false) => InstanceState::Starting,
    };
    instance.health = Health::Healthy;
    instance.node = endpoint.node_name.as_deref().map(Into::into);
    let zone = endpoint.zone.as_deref().map(SharedStr::from);
    instance.zone = zone.or_else(|| node?.zone.clone());
    instance.region = node.and_then(|node| node.region.clone());
    let pod = endpoint.target_ref.as_ref().filter(|target| target.kind == "Pod").map(|target| &*target.name);
    let hostname = endpoint.hostname.as_deref();
    let pairs = [("pod", pod), ("hostname", hostname)];
    let metadata: Labels = pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    instance.metadata = (!metadata.is_empty()).then(|| Arc::new(metadata));
    instance
}

/// Endpoints at the node of a pod, by the service's node ports.
fn by_node(instance: &mut Instance, node: Option<&Place>, pod: IpAddr, places: &[(u16, u16, u16)]) {
    let own = node.iter().flat_map(|node| &node.ips).find(|ip| ip.is_ipv4() == pod.is_ipv4());
    let Some(ip) = own.copied() else { return };
    instance.addresses.push(Address::new(ip, Network::Host, Provenance::NodeAddress));
    let at = u8::try_from(instance.addresses.len() - 1).unwrap_or(u8::MAX);
    for (port_index, _, node_port) in places.iter().filter(|(_, _, node_port)| *node_port > 0) {
        let (port_index, number) = (*port_index, *node_port);
        instance.endpoints.push(InstanceEndpoint { port_index, address_index: at, number });
    }
}
