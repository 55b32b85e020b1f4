//! Prometheus' file-based service discovery: a list of target groups.
//!
//! ```json
//! [{"targets": ["10.0.0.1:80", "10.0.0.2:80"], "labels": {"service": "web", "team": "shop"}}]
//! ```
//!
//! Groups of one name are one service. Labels that all its groups share are the service's, the others are
//! metadata of the group's instances; labels that begin with `__` are Prometheus' own and left out, but
//! `__scheme__` says what is spoken.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use portolan_table::{
    Address, AppProtocol, Health, Instance, InstanceEndpoint, Labels, Network, PortSpec, Provenance,
    ServiceName, ServiceSpec,
};
use serde::Deserialize;

use super::definition::Place;
use super::document::Definition;

/// One group as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    targets: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// Turns groups into services. What can't be used is left out and described in the second value.
pub(super) fn convert(groups: Vec<Group>, service_label: Option<&str>) -> (Vec<Definition>, Vec<String>) {
    let mut notes = Vec::new();
    let mut services: BTreeMap<ServiceName, Vec<Group>> = BTreeMap::new();
    for (index, mut group) in groups.into_iter().enumerate() {
        match take_name(&mut group, service_label) {
            Ok(name) => services.entry(name).or_default().push(group),
            Err(why) => notes.push(format!("group {}: {why}", index + 1)),
        }
    }
    let definitions = services.into_iter().map(|(name, groups)| define(name, groups, &mut notes)).collect();
    (definitions, notes)
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

fn define(name: ServiceName, mut groups: Vec<Group>, notes: &mut Vec<String>) -> Definition {
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
            match instance(&target, own.clone()) {
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
    Definition { spec: Arc::new(spec), instances }
}

fn instance(target: &str, metadata: Option<Arc<Labels>>) -> Result<Instance, String> {
    let place = Place::parse(target)?;
    let Some(port) = place.port else { return Err(format!("{target:?} has no port; write {target}:PORT")) };
    let mut instance = Instance::running(target);
    instance.addresses.push(Address::new(place.ip, Network::Host, Provenance::Registered));
    instance.endpoints.push(InstanceEndpoint { port_index: 0, address_index: 0, number: port.get() });
    instance.health = Health::Healthy;
    instance.metadata = metadata;
    Ok(instance)
}
