//! From Consul's words to the table's. Pure.
//!
//! | Consul | here |
//! |---|---|
//! | a check is critical | unhealthy |
//! | warning | healthy, with the weight for warnings |
//! | `serfHealth` is critical | unreachable: its node has failed |
//! | maintenance mode, of the node or the service | killing: out at once, and nothing brings it back but the end of it |
//! | `connect-proxy` and gateways of the mesh | left out |

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

use portolan_table::{
    Address, Health, Instance, InstanceEndpoint, InstanceState, Labels, Network, PortSpec, Provenance,
    ServiceName, ServiceSpec, SharedStr,
};

use super::wire::{self, Entry};
use crate::hosts::Hosts;
use crate::lenient::{Number, each, text};
use crate::sources::labels::take_shared;
use crate::sources::telling::Service;

/// Kinds of services that no client talks to: what an application is reached by stands beside them.
const MESH_KINDS: &[&str] = &["connect-proxy", "mesh-gateway", "terminating-gateway"];
/// Label of an instance that holds its tags, joined by commas.
const TAGS: &str = "tags";
/// Addresses of one host that are used.
const ADDRESSES_MAX: usize = 16;

/// A service as it was read.
#[derive(Debug)]
pub(super) struct Converted {
    /// `None`: it is not for clients.
    pub(super) service: Option<Service>,
    /// Some entries could not be read.
    pub(super) in_part: bool,
    pub(super) problems: Vec<String>,
}

/// Host names that stand for addresses in `entry`.
pub(super) fn host_names<'t>(entry: &'t Entry<'_>) -> impl Iterator<Item = &'t str> {
    let both = [text(&entry.service.address), text(&entry.node.address)];
    both.into_iter().flatten().filter(|name| name.parse::<IpAddr>().is_err())
}

/// Turns the entries of the service `name` into the table's form.
pub(super) fn convert(name: &str, entries: &[Result<Entry<'_>, String>], hosts: &dyn Hosts) -> Converted {
    let mut converted = Converted { service: None, in_part: false, problems: Vec::new() };
    let service_name = match ServiceName::from_labels(name.split('.')) {
        Ok(name) => name,
        Err(error) => {
            converted.problems.push(format!("left out: {error}"));
            return converted;
        }
    };
    let mut read: Vec<Read> = Vec::with_capacity(entries.len());
    let mut of_mesh = 0;
    for entry in entries {
        match entry {
            Ok(entry) if text(&entry.service.kind).is_some_and(|kind| MESH_KINDS.contains(&kind)) => {
                of_mesh += 1
            }
            Ok(entry) => read.push(instance(entry, hosts, &mut converted.problems)),
            Err(message) => {
                converted.in_part = true;
                converted.problems.push(format!("an instance stays as it was: {message}"));
            }
        }
    }
    if of_mesh > 0 && read.is_empty() && !converted.in_part {
        return converted;
    }
    converted.service = Some(together(name, service_name, read));
    converted
}

/// An instance, and what is said of it in pairs.
struct Read {
    instance: Instance,
    pairs: BTreeMap<String, String>,
    tags: String,
}

/// Labels that all instances share are the service's, others metadata of the instances; the tags stay with each.
fn together(key: &str, name: ServiceName, read: Vec<Read>) -> Service {
    let has_port = read.iter().any(|read| !read.instance.endpoints.is_empty());
    let mut pairs: Vec<_> = read.iter().map(|read| read.pairs.clone()).collect();
    let shared = take_shared(&mut pairs);
    let mut instances: Vec<Arc<Instance>> = read
        .into_iter()
        .zip(pairs)
        .map(|(Read { mut instance, tags, .. }, mut pairs)| {
            if !tags.is_empty() {
                pairs.insert(TAGS.to_owned(), tags);
            }
            instance.metadata = (!pairs.is_empty()).then(|| Arc::new(pairs.into_iter().collect::<Labels>()));
            Arc::new(instance)
        })
        .collect();
    instances.sort_by(|a, b| a.id.cmp(&b.id));
    let spec = ServiceSpec {
        key: key.into(),
        name,
        ports: if has_port { Box::new([PortSpec::default()]) } else { Box::default() },
        labels: shared.into_iter().collect(),
        checks_defined: false,
        version: None,
        merge: None,
        routes: Vec::new(),
        virtual_addresses: Vec::new(),
    };
    (Arc::new(spec), instances)
}

fn instance(entry: &Entry<'_>, hosts: &dyn Hosts, problems: &mut Vec<String>) -> Read {
    let Entry { node, service, .. } = entry;
    let (id, node_name) = (service.id.as_str(), node.node.as_str());
    let datacenter = text(&node.datacenter);
    let mut instance = Instance::running(match datacenter {
        Some(datacenter) => format!("{datacenter}/{node_name}/{id}"),
        None => format!("{node_name}/{id}"),
    });
    instance.node = Some(node_name.into());
    let locality = service.locality.as_ref().or(node.locality.as_ref());
    instance.zone = locality.and_then(|locality| text(&locality.zone)).map(Into::into);
    let region = locality.and_then(|locality| text(&locality.region)).or(datacenter);
    instance.region = region.map(Into::into);
    judge(&mut instance, entry);
    place(&mut instance, entry, hosts, problems);
    let pairs = pairs(entry);
    instance.version = pairs.get("version").map(|version| SharedStr::from(&**version));
    let mut tags: Vec<&str> = each(service.tags.as_ref()).map(|tag| tag.as_str()).collect();
    tags.sort_unstable();
    Read { instance, pairs, tags: tags.join(",") }
}

/// Metadata, and tags that look like it.
fn pairs(entry: &Entry<'_>) -> BTreeMap<String, String> {
    let tags = each(entry.service.tags.as_ref()).filter_map(|tag| tag.as_str().split_once('='));
    let meta = entry.service.meta.iter().flatten();
    let meta = meta.filter_map(|(name, value)| Some((name.as_str(), value.as_ref()?.as_str())));
    tags.chain(meta).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// State, verdict and weight by the checks.
fn judge(instance: &mut Instance, entry: &Entry<'_>) {
    let weights = entry.service.weights.as_ref();
    let weight = |number: Option<Option<Number>>| number.flatten().and_then(|number| number.0).unwrap_or(1);
    instance.weight = weight(weights.map(|weights| weights.passing));
    instance.health = Health::Healthy;
    for check in each(entry.checks.as_ref()) {
        let id = text(&check.id).unwrap_or_default();
        let is_maintenance = id == "_node_maintenance" || id.starts_with("_service_maintenance:");
        match text(&check.status).unwrap_or_default() {
            "passing" => {}
            "warning" => instance.weight = weight(weights.map(|weights| weights.warning)),
            _ if is_maintenance => instance.state = InstanceState::Killing,
            _ if id == "serfHealth" => {
                if instance.state == InstanceState::Running {
                    instance.state = InstanceState::Unreachable;
                }
            }
            _ => instance.health = Health::Unhealthy,
        }
    }
}

/// Addresses and endpoints: the service's own address, else its node's; the other family if it is tagged as one.
fn place(instance: &mut Instance, entry: &Entry<'_>, hosts: &dyn Hosts, problems: &mut Vec<String>) {
    let Entry { node, service, .. } = entry;
    let port = service.port.and_then(|port| port.0).unwrap_or(0);
    let of_node = text(&node.address);
    let given = text(&service.address).or(of_node).unwrap_or_default();
    let mut places: Vec<(Address, u16)> = Vec::new();
    let network = if Some(given) == of_node { Network::Host } else { Network::Container };
    match given.parse::<IpAddr>() {
        Ok(ip) => places.push((Address::new(ip, network.clone(), Provenance::Registered), port)),
        Err(_) => {
            let found = hosts.addresses(given);
            if found.is_empty() {
                problems.push(format!("{}: no address is known for {given:?} at present", instance.id));
            }
            let named = |ip| (Address::new(ip, Network::Host, Provenance::NodeNameResolved), port);
            places.extend(found.into_iter().take(ADDRESSES_MAX).map(named));
        }
    }
    for (ip, port) in tagged(service) {
        if places.iter().all(|(address, _)| address.ip.is_ipv4() != ip.is_ipv4()) {
            places.push((Address::new(ip, network.clone(), Provenance::Registered), port));
        }
    }
    for (index, (address, number)) in (0..).zip(places) {
        instance.addresses.push(address);
        if number > 0 {
            instance.endpoints.push(InstanceEndpoint { port_index: 0, address_index: index, number });
        }
    }
    // Without an address for its name it is nowhere, and at its node least of all: what is held of it stays then.
    let own =
        of_node.filter(|_| !instance.addresses.is_empty()).and_then(|address| address.parse::<IpAddr>().ok());
    if let Some(ip) = own.filter(|ip| instance.addresses.iter().all(|address| address.ip != *ip)) {
        instance.addresses.push(Address::new(ip, Network::Host, Provenance::NodeAddress));
    }
}

/// Addresses on the local network that are tagged by family.
fn tagged(service: &wire::Service<'_>) -> Vec<(IpAddr, u16)> {
    let tagged = service.tagged_addresses.iter().flatten();
    let local = tagged.filter(|(name, _)| matches!(name.as_str(), "lan_ipv4" | "lan_ipv6"));
    local
        .filter_map(|(_, place)| {
            let place = place.as_ref()?;
            let ip = text(&place.address)?.parse().ok()?;
            Some((ip, place.port.and_then(|port| port.0).unwrap_or(0)))
        })
        .collect()
}
