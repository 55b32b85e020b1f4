//! Pods and their instances, as the table sees them. Pure, as `convert`.
//!
//! A pod is a service; the endpoints of all its containers, in order, are its ports. The port inside a
//! container stands only in the specification, and an instance may run an older one than the pod has now: the
//! caller hands over the older ones that [`older_versions`] asks for.

use core::net::IpAddr;
use std::collections::HashMap;
use std::sync::Arc;

use portolan_table::{
    Address, Health, Instance, InstanceEndpoint, InstanceState, Labels, Network, Provenance, ServiceSpec,
};
use smallvec::SmallVec;

use super::convert::{
    Context, Converted, Mode, Ports, id_of, labels, milliseconds, network_mode, node_address, number,
    service_name, sort_unique, virtual_addresses,
};
use super::wire::{self, each, text};
use crate::source::Unread;

/// Specifications of one pod older than its present one, as JSON text by version.
pub(super) type Older = HashMap<String, Vec<u8>>;

/// Where the ports of a specification are: by endpoint name.
struct Plan<'s> {
    mode: Mode,
    networks: Vec<&'s str>,
    ports: HashMap<&'s str, PlannedPort>,
}

#[derive(Clone, Copy)]
struct PlannedPort {
    container: u16,
    host: u16,
}

/// Versions that instances of this pod run and `spec` is not. At most a handful during a deployment.
pub(super) fn older_versions(status: &wire::PodStatus<'_>) -> Vec<String> {
    let present = status.spec.as_ref().and_then(|spec| text(&spec.version));
    let instances = status.instances.iter().flatten();
    let mut versions: Vec<String> = instances
        .filter_map(|raw| serde_json::from_str::<wire::PodInstance<'_>>(raw.get()).ok())
        .filter_map(|instance| version(&instance).map(str::to_owned))
        .filter(|version| Some(&**version) != present)
        .collect();
    versions.sort_unstable();
    versions.dedup();
    versions
}

fn version<'i>(instance: &'i wire::PodInstance<'_>) -> Option<&'i str> {
    text(&instance.spec_reference)?.rsplit_once("::versions/").map(|(_, version)| version)
}

/// Reads one pod with its instances.
///
/// # Errors
/// Why it cannot be used at all; the caller leaves it out.
pub(super) fn pod(
    status: &wire::PodStatus<'_>,
    older: &Older,
    context: &mut Context<'_>,
) -> Result<Converted, String> {
    let id = text(&status.id).ok_or("a pod without an id")?;
    let spec = status.spec.as_ref().ok_or("a pod without a specification")?;
    let mut ports = Ports::new(context.names);
    let mut checks = 0;
    for container in each(spec.containers.as_ref()) {
        checks += usize::from(container.health_check.is_some());
        for endpoint in each(container.endpoints.as_ref()) {
            let protocol =
                each(endpoint.protocol.as_ref()).map(wire::Text::as_str).collect::<Vec<_>>().join(",");
            ports.push(0, text(&endpoint.name), &protocol, port_labels(container, endpoint));
        }
    }
    let (base, doubled, ports) = ports.finish();
    let spec_version = text(&spec.version).map(|version| context.names.intern(version));
    let mut converted = Converted {
        spec: Arc::new(ServiceSpec {
            key: id.into(),
            name: service_name(id)?,
            virtual_addresses: virtual_addresses(&ports),
            ports: ports.into(),
            labels: labels(spec.labels.as_ref(), context.names),
            checks_defined: checks > 0,
            version: spec_version.clone(),
            merge: None,
            routes: Vec::new(),
        }),
        instances: Vec::new(),
        layout: None,
        versions: spec_version.into_iter().collect(),
        checks,
        gated: false,
        unread: None,
        unsettled: false,
    };
    let plans = plans(spec, older, context);
    for raw in status.instances.iter().flatten() {
        let given: wire::PodInstance<'_> = match serde_json::from_str(raw.get()) {
            Ok(given) => given,
            Err(error) => {
                let problem = format!("a pod instance is left out, what was known of it stays: {error}");
                context.problems.push(problem);
                Unread::add(&mut converted.unread, id_of(raw));
                continue;
            }
        };
        let own = version(&given);
        let plan = plans.iter().find(|(version, _)| *version == own).or_else(|| plans.first());
        let Some((_, plan)) = plan else { continue };
        match instance(&given, plan, base, &doubled, &mut converted, context) {
            Some(instance) => converted.instances.push(Arc::new(instance)),
            None => Unread::add(&mut converted.unread, None),
        }
    }
    sort_unique(&mut converted.instances);
    Ok(converted)
}

fn port_labels(container: &wire::PodContainer<'_>, endpoint: &wire::PodEndpoint<'_>) -> Labels {
    let both = container.labels.iter().chain(&endpoint.labels).flat_map(|labels| &labels.0);
    both.map(|(name, value)| (name.as_str(), &**value)).collect()
}

/// The present specification first, then the older ones that can be read.
fn plans<'s>(
    spec: &'s wire::PodSpec<'s>,
    older: &'s Older,
    context: &mut Context<'_>,
) -> Vec<(Option<&'s str>, Plan<'s>)> {
    let mut plans = vec![(text(&spec.version), Plan::of_spec(spec))];
    for (version, body) in older {
        match serde_json::from_slice(body) {
            Ok(spec) => plans.push((Some(version), Plan::of_older(spec))),
            Err(error) => context.problems.push(format!(
                "version {version} cannot be read, its instances are taken for the present one: {error}"
            )),
        }
    }
    plans
}

impl<'s> Plan<'s> {
    fn of_spec(spec: &'s wire::PodSpec<'s>) -> Self {
        let mut plan = Self::empty(spec);
        for network in each(spec.networks.as_ref()) {
            plan.networks.extend(text(&network.name));
        }
        for endpoint in endpoints(spec) {
            if let Some(name) = text(&endpoint.name) {
                plan.ports.insert(name, PlannedPort::of(endpoint));
            }
        }
        plan
    }

    /// As [`Plan::of_spec`] for a specification that does not outlive this call: its names are not borrowed
    /// text if they hold escapes, which endpoint names never do.
    fn of_older(spec: wire::PodSpec<'s>) -> Self {
        let mut plan = Self::empty(&spec);
        for network in spec.networks.into_iter().flat_map(|list| list.0).flatten() {
            plan.networks.extend(network.name.and_then(wire::Text::into_borrowed));
        }
        for container in spec.containers.into_iter().flat_map(|list| list.0).flatten() {
            for endpoint in container.endpoints.into_iter().flat_map(|list| list.0).flatten() {
                let port = PlannedPort::of(&endpoint);
                if let Some(name) = endpoint.name.and_then(wire::Text::into_borrowed) {
                    plan.ports.insert(name, port);
                }
            }
        }
        plan
    }

    fn empty(spec: &wire::PodSpec<'_>) -> Self {
        let mode = network_mode(spec.networks.as_ref()).unwrap_or(Mode::Host);
        Self { mode, networks: Vec::new(), ports: HashMap::new() }
    }
}

fn endpoints<'s>(spec: &'s wire::PodSpec<'s>) -> impl Iterator<Item = &'s wire::PodEndpoint<'s>> {
    each(spec.containers.as_ref()).flat_map(|container| each(container.endpoints.as_ref()))
}

impl PlannedPort {
    fn of(endpoint: &wire::PodEndpoint<'_>) -> Self {
        Self { container: number(endpoint.container_port), host: number(endpoint.host_port) }
    }
}

fn instance(
    given: &wire::PodInstance<'_>,
    plan: &Plan<'_>,
    base: u16,
    doubled: &[u16],
    of: &mut Converted,
    context: &mut Context<'_>,
) -> Option<Instance> {
    let Some(id) = text(&given.id) else {
        context.problems.push("a pod instance without an id is left out".to_owned());
        return None;
    };
    let mut instance = Instance::running(id);
    instance.state = state(given);
    instance.health = health(given);
    let names = context.names;
    let shared = |name: &Option<wire::Text<'_>>| text(name).map(|name| names.intern(name));
    instance.node = shared(&given.agent_hostname);
    instance.zone = shared(&given.agent_zone);
    instance.region = shared(&given.agent_region);
    instance.version = version(given).map(|version| names.intern(version));
    instance.started_ms = milliseconds(text(&given.status_since));
    let mut tasks = each(given.containers.as_ref()).filter_map(|container| text(&container.container_id));
    if let (Some(only), None) = (tasks.next(), tasks.next()) {
        instance.correlation = (only != id).then(|| only.into());
    }
    let own = own_addresses(given, plan, &mut instance, context);
    let node = node_address(text(&given.agent_hostname), context.hosts);
    let agent_index = instance.addresses.len() as u8;
    let resolved = node.is_some();
    instance.addresses.extend(node);
    let chosen: SmallVec<[u8; 2]> = match plan.mode {
        Mode::Container => own,
        Mode::Host | Mode::Bridge if resolved => SmallVec::from_slice(&[agent_index]),
        Mode::Host | Mode::Bridge => SmallVec::new(),
    };
    if plan.mode != Mode::Container && !resolved && given.agent_hostname.is_some() {
        let host = text(&given.agent_hostname).unwrap_or_default();
        context.problems.push(format!(
            "agent {host} has no address: its instances get no traffic; check that this node resolves the name"
        ));
        of.unsettled = true;
    }
    let half = |(at, half): (usize, &u16)| (base + at as u16, *half);
    for (port_index, position) in (0..base).map(|at| (at, at)).chain(doubled.iter().enumerate().map(half)) {
        let Some(name) = of.spec.ports.get(usize::from(position)).and_then(|port| port.name.as_deref())
        else {
            continue;
        };
        let number = port_of(given, plan, name);
        if number != 0 {
            let endpoint = |&address_index| InstanceEndpoint { port_index, address_index, number };
            instance.endpoints.extend(chosen.iter().map(endpoint));
        }
    }
    Some(instance)
}

/// Puts in the addresses of the instance's networks; gives the indexes of the first of each family.
fn own_addresses(
    given: &wire::PodInstance<'_>,
    plan: &Plan<'_>,
    instance: &mut Instance,
    context: &Context<'_>,
) -> SmallVec<[u8; 2]> {
    let mut chosen: SmallVec<[u8; 2]> = SmallVec::new();
    if plan.mode == Mode::Host {
        return chosen;
    }
    for (at, network) in each(given.networks.as_ref()).enumerate() {
        let name = text(&network.name).or_else(|| plan.networks.get(at).copied()).unwrap_or("container");
        for ip in each(network.addresses.as_ref()).take(16) {
            let Ok(ip) = ip.as_str().parse::<IpAddr>() else { continue };
            if instance.addresses.len() >= 64 {
                return chosen;
            }
            let first = |index: &u8| instance.addresses[usize::from(*index)].ip.is_ipv4() != ip.is_ipv4();
            if chosen.iter().all(first) {
                chosen.push(instance.addresses.len() as u8);
            }
            let network = match plan.mode {
                Mode::Container => Network::Overlay(context.names.intern(name)),
                Mode::Bridge | Mode::Host => Network::Container,
            };
            instance.addresses.push(Address::new(ip, network, Provenance::PodNetwork));
        }
    }
    chosen
}

fn port_of(given: &wire::PodInstance<'_>, plan: &Plan<'_>, name: &str) -> u16 {
    let planned = plan.ports.get(name).copied();
    let allocated = each(given.containers.as_ref())
        .flat_map(|container| each(container.endpoints.as_ref()))
        .find(|endpoint| text(&endpoint.name) == Some(name))
        .map_or(0, |endpoint| number(endpoint.allocated_host_port));
    let Some(planned) = planned else { return 0 };
    match plan.mode {
        Mode::Container if planned.container != 0 => planned.container,
        _ if allocated != 0 => allocated,
        _ => planned.host,
    }
}

fn state(given: &wire::PodInstance<'_>) -> InstanceState {
    use super::convert::state_of;
    let own = match text(&given.status) {
        Some("PENDING" | "STAGING") => InstanceState::Staging,
        Some("TERMINAL") => InstanceState::Terminal,
        _ => InstanceState::Running,
    };
    let containers = each(given.containers.as_ref()).filter_map(|container| text(&container.status));
    let states = containers.map(state_of);
    // The pod is as far as its slowest container, and ends with the first that ends badly.
    states.fold(own, |own, container| match (own, container) {
        (InstanceState::Running, InstanceState::Staging) => InstanceState::Starting,
        (InstanceState::Running, other) if other != InstanceState::Terminal => other,
        _ => own,
    })
}

fn health(given: &wire::PodInstance<'_>) -> Health {
    let mut verdict = Health::Unknown;
    for container in each(given.containers.as_ref()) {
        let condition =
            each(container.conditions.as_ref()).find(|condition| text(&condition.name) == Some("healthy"));
        if condition.is_some_and(|condition| text(&condition.reason) == Some("health-unreported-by-mesos")) {
            continue;
        }
        let mut reported: SmallVec<[bool; 4]> =
            each(container.endpoints.as_ref()).filter_map(|endpoint| endpoint.healthy).collect();
        if reported.is_empty() {
            reported
                .extend(condition.and_then(|condition| text(&condition.value)).map(|value| value == "true"));
        }
        if reported.contains(&false) {
            return Health::Unhealthy;
        }
        if reported.contains(&true) {
            verdict = Health::Healthy;
        }
    }
    verdict
}
