//! Prometheus' form of service discovery, in files and over HTTP: a list of target groups.
//!
//! ```json
//! [{"targets": ["10.0.0.1:80", "10.0.0.2:80"], "labels": {"service": "web", "team": "shop"}}]
//! ```
//!
//! Groups of one name are one service. Labels that all its groups share are the service's, the others are
//! metadata of the group's instances; labels that begin with `__` are Prometheus' own and left out, but
//! `__scheme__` says what is spoken.

use core::net::IpAddr;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use portolan_table::{
    Address, AppProtocol, Health, Instance, InstanceEndpoint, Labels, Network, PortSpec, Provenance,
    ServiceName, ServiceSpec,
};
use serde::{Deserialize, Deserializer};

use super::file::Place;
use super::telling::{Service, Services};
use crate::hosts::Hosts;

/// Addresses of one host that are used.
const ADDRESSES_MAX: usize = 16;
/// Longest host name in octets of text.
const HOST_LEN_MAX: usize = 253;

/// One group as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    #[serde(deserialize_with = "or_null")]
    targets: Vec<String>,
    #[serde(default, deserialize_with = "or_null")]
    labels: BTreeMap<String, String>,
}

/// Go writes an empty list or map as `null` where nobody has made one.
fn or_null<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Group {
    /// Host names among the targets.
    pub(super) fn host_names(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().filter_map(|target| host_and_port(target)).map(|(host, _)| host)
    }
}

/// Turns groups into services. What can't be used is left out and described in the second value. Targets that are host
/// names are used if `hosts` knows their addresses.
pub(super) fn convert(
    groups: Vec<Group>,
    service_label: Option<&str>,
    hosts: Option<&dyn Hosts>,
) -> (Services, Vec<String>) {
    let mut notes = Vec::new();
    let mut services: BTreeMap<ServiceName, Vec<Group>> = BTreeMap::new();
    for (index, mut group) in groups.into_iter().enumerate() {
        match take_name(&mut group, service_label) {
            Ok(name) => services.entry(name).or_default().push(group),
            Err(why) => notes.push(format!("group {}: {why}", index + 1)),
        }
    }
    let defined = services.into_iter().map(|(name, groups)| {
        let (spec, instances) = define(name, groups, hosts, &mut notes);
        (spec.key.clone(), (spec, instances))
    });
    (defined.collect(), notes)
}

fn take_name(group: &mut Group, service_label: Option<&str>) -> Result<ServiceName, String> {
    let candidates: &[&str] = match &service_label {
        Some(label) => &[label],
        None => &["service", "job"],
    };
    let Some(label) = candidates.iter().find(|label| group.labels.contains_key(**label)) else {
        return Err(format!("has no label {}; add it, or set `service_label`", candidates.join(" or ")));
    };
    let value = group.labels.remove(*label).unwrap_or_default();
    ServiceName::from_labels(value.split('.')).map_err(|error| format!("label {label}: {error}"))
}

fn define(
    name: ServiceName,
    mut groups: Vec<Group>,
    hosts: Option<&dyn Hosts>,
    notes: &mut Vec<String>,
) -> Service {
    let scheme = groups.iter().find_map(|group| group.labels.get("__scheme__").cloned());
    for group in &mut groups {
        group.labels.retain(|label, _| !label.starts_with("__"));
    }
    let shared: BTreeMap<String, String> = groups[0]
        .labels
        .iter()
        .filter(|(label, value)| groups.iter().all(|group| group.labels.get(*label) == Some(value)))
        .map(|(label, value)| (label.clone(), value.clone()))
        .collect();
    let mut instances: Vec<Arc<Instance>> = Vec::new();
    let mut known = HashSet::new();
    for mut group in groups {
        group.labels.retain(|label, _| !shared.contains_key(label));
        let own = (!group.labels.is_empty()).then(|| Arc::new(group.labels.into_iter().collect::<Labels>()));
        for target in group.targets {
            match instance(&target, own.clone(), hosts, notes) {
                Ok(instance) if known.insert(instance.id.clone()) => instances.push(Arc::new(instance)),
                Ok(_) => {}
                Err(why) => notes.push(format!("service {name}: target left out: {why}")),
            }
        }
    }
    let app_protocol = match scheme.as_deref() {
        Some("http") => AppProtocol::Http,
        Some("https") => AppProtocol::Https,
        _ => AppProtocol::Unknown,
    };
    let spec = ServiceSpec {
        key: name.as_str().into(),
        name,
        ports: Box::new([PortSpec { app_protocol, ..PortSpec::default() }]),
        labels: shared.into_iter().collect(),
        checks_defined: false,
        version: None,
        merge: None,
        routes: Vec::new(),
        virtual_addresses: Vec::new(),
    };
    (Arc::new(spec), instances)
}

fn instance(
    target: &str,
    metadata: Option<Arc<Labels>>,
    hosts: Option<&dyn Hosts>,
    notes: &mut Vec<String>,
) -> Result<Instance, String> {
    let mut instance = Instance::running(target);
    let number = match (host_and_port(target), hosts) {
        (Some((host, number)), Some(hosts)) => {
            instance.node = Some(host.into());
            let found = hosts.addresses(host);
            if found.is_empty() {
                // Told all the same: the catalog may hold the address that it had.
                notes.push(format!("{target:?}: no address is known for this name at present"));
            }
            let address = |ip| Address::new(ip, Network::Host, Provenance::NodeNameResolved);
            instance.addresses.extend(found.into_iter().take(ADDRESSES_MAX).map(address));
            number
        }
        _ => {
            let place = Place::parse(target)?;
            instance.addresses.push(Address::new(place.ip, Network::Host, Provenance::Registered));
            let port = place.port.ok_or_else(|| format!("{target:?} has no port; write {target}:PORT"))?;
            port.get()
        }
    };
    let places = (0..).zip(&instance.addresses);
    let endpoint = |address_index| InstanceEndpoint { port_index: 0, address_index, number };
    instance.endpoints.extend(places.map(|(index, _)| endpoint(index)));
    instance.health = Health::Healthy;
    instance.metadata = metadata;
    Ok(instance)
}

/// A target that is a host name with a port.
fn host_and_port(target: &str) -> Option<(&str, u16)> {
    let (host, port) = target.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let is_name = host.parse::<IpAddr>().is_err()
        && !host.is_empty()
        && host.len() <= HOST_LEN_MAX
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    is_name.then_some((host, port))
}
