//! Containers as they are known, and the services they make.
//!
//! A container is of the service that its label `portolan.service` names, else of `SERVICE.PROJECT` of its Compose project,
//! and of `SERVICE` alone as long as no other project has a service of that name. One with neither is left out.

use core::net::{IpAddr, Ipv4Addr};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use portolan_table::{
    Address, Health, Instance, InstanceEndpoint, InstanceState, Network, Provenance, ServiceName,
    ServiceSpec, SharedStr,
};

use super::ports::{self, NETWORK, Named, Port, SERVICE};
use super::wire::{self, Binding};
use crate::config::Reach;
use crate::sources::labels::take_shared;
use crate::sources::telling::{Service, Services};

const PROJECT: &str = "com.docker.compose.project";
const COMPOSE_SERVICE: &str = "com.docker.compose.service";
/// Of containers that `docker compose run` starts.
const ONE_OFF: &str = "com.docker.compose.oneoff";
/// Addresses of one container.
const ADDRESSES_MAX: usize = 32;

/// Where the engine is.
#[derive(Debug, Clone)]
pub(super) struct Engine {
    /// Its own name, as the node of its containers.
    pub(super) name: String,
    /// Where its published ports are reached; loopback for a Unix socket.
    pub(super) ip: Option<IpAddr>,
    pub(super) reach: Reach,
}

/// A container as it is known.
#[derive(Debug)]
struct Known {
    names: Names,
    instance: Instance,
    has_check: bool,
    ports: Vec<Named>,
    /// Where each of the ports is reached: number of the address and of the port.
    places: Vec<(usize, u8, u16)>,
    labels: BTreeMap<String, String>,
    stop_signal: i32,
    /// It was told to stop, and has not been seen to go on.
    is_stopping: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Names {
    full: ServiceName,
    /// Only of Compose.
    short: Option<ServiceName>,
}

/// All containers of one engine that make services.
#[derive(Debug, Default)]
pub(super) struct Containers {
    known: HashMap<String, Known>,
    full: BTreeMap<ServiceName, BTreeSet<String>>,
    short: BTreeMap<ServiceName, BTreeMap<ServiceName, usize>>,
}

/// Services to be told anew, with what they are now.
pub(super) type Changed = Vec<(SharedStr, Option<Service>)>;

impl Containers {
    /// Takes in a container as it is now; what is odd about it comes back as an error.
    pub(super) fn put(&mut self, container: &wire::Container, engine: &Engine) -> Result<Changed, String> {
        let known = match Known::read(container, engine) {
            Ok(known) => known,
            Err(problem) => {
                // It was read before: what is held of it stays.
                return Err(problem);
            }
        };
        let mut touched = self.forget(&container.id);
        if let Some(known) = known {
            touched.extend(known.names.all().cloned());
            self.full.entry(known.names.full.clone()).or_default().insert(container.id.clone());
            if let Some(short) = &known.names.short {
                let of = self.short.entry(short.clone()).or_default();
                *of.entry(known.names.full.clone()).or_default() += 1;
            }
            self.known.insert(container.id.clone(), known);
        }
        Ok(self.changed(touched))
    }

    /// The container is gone.
    pub(super) fn remove(&mut self, id: &str) -> Changed {
        let touched = self.forget(id);
        self.changed(touched)
    }

    /// The container was sent a signal. If that is to end it, it is on its way out; `None` if not.
    pub(super) fn signalled(&mut self, id: &str, signal: &str) -> Option<Changed> {
        const KILL: i32 = 9;
        let known = self.known.get_mut(id)?;
        let signal = number_of(signal)?;
        if (signal != KILL && signal != known.stop_signal) || known.is_stopping {
            return None;
        }
        known.is_stopping = true;
        known.instance.state = InstanceState::Killing;
        let touched = known.names.all().cloned().collect();
        Some(self.changed(touched))
    }

    /// All services.
    pub(super) fn services(&self) -> Services {
        let names: BTreeSet<ServiceName> = self.full.keys().chain(self.short.keys()).cloned().collect();
        self.changed(names).into_iter().filter_map(|(key, service)| Some((key, service?))).collect()
    }

    fn forget(&mut self, id: &str) -> BTreeSet<ServiceName> {
        let Some(known) = self.known.remove(id) else { return BTreeSet::new() };
        let full = &known.names.full;
        if let Some(ids) = self.full.get_mut(full) {
            ids.remove(id);
            if ids.is_empty() {
                self.full.remove(full);
            }
        }
        if let Some(short) = &known.names.short
            && let Some(of) = self.short.get_mut(short)
        {
            if let Some(count) = of.get_mut(full) {
                *count -= 1;
                if *count == 0 {
                    of.remove(full);
                }
            }
            if of.is_empty() {
                self.short.remove(short);
            }
        }
        known.names.all().cloned().collect()
    }

    fn changed(&self, names: BTreeSet<ServiceName>) -> Changed {
        names.into_iter().map(|name| (name.as_str().into(), self.build(&name))).collect()
    }

    fn build(&self, name: &ServiceName) -> Option<Service> {
        let ids = self.full.get(name).or_else(|| {
            let of = self.short.get(name)?;
            // Two projects have one: only their full names say which is meant.
            let (only, _) = of.first_key_value().filter(|_| of.len() == 1)?;
            self.full.get(only)
        })?;
        let members: Vec<&Known> = ids.iter().filter_map(|id| self.known.get(id)).collect();
        let mut all: Vec<Named> = members.iter().flat_map(|known| known.ports.iter().cloned()).collect();
        // In the order of a label, where all have the same; else by number.
        if members.iter().any(|known| known.ports != members[0].ports) {
            all.sort();
        }
        let mut seen = BTreeSet::new();
        all.retain(|(port, name)| seen.insert((port.clone(), name.clone())));
        let mut labels: Vec<_> = members.iter().map(|known| known.labels.clone()).collect();
        let shared = take_shared(&mut labels);
        let instances = members.iter().zip(labels).map(|(known, own)| Arc::new(known.instance(&all, own)));
        let spec = ServiceSpec {
            key: name.as_str().into(),
            name: name.clone(),
            ports: ports::specs(&all),
            labels: shared.into_iter().collect(),
            checks_defined: members.iter().any(|known| known.has_check),
            version: None,
            merge: None,
            routes: Vec::new(),
            virtual_addresses: Vec::new(),
        };
        let instances = instances.collect();
        Some((Arc::new(spec), instances))
    }
}

impl Names {
    fn of(labels: &BTreeMap<String, String>) -> Result<Option<Self>, String> {
        if let Some(name) = labels.get(SERVICE) {
            let full = ports::name(name).map_err(|error| format!("label {SERVICE}: {error}"))?;
            return Ok(Some(Self { full, short: None }));
        }
        let one_off = labels.get(ONE_OFF).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let (Some(project), Some(service)) = (labels.get(PROJECT), labels.get(COMPOSE_SERVICE)) else {
            return Ok(None);
        };
        if one_off {
            return Ok(None);
        }
        let of = |labels: &[&str]| {
            ServiceName::from_labels(labels.iter().copied()).map_err(|error| error.to_string())
        };
        Ok(Some(Self { full: of(&[service, project])?, short: Some(of(&[service])?) }))
    }

    fn all(&self) -> impl Iterator<Item = &ServiceName> {
        [&self.full].into_iter().chain(&self.short)
    }
}

impl Known {
    /// `None`: it is of no service, or does not run.
    fn read(container: &wire::Container, engine: &Engine) -> Result<Option<Self>, String> {
        let none = BTreeMap::new();
        let labels = container.config.labels.as_ref().unwrap_or(&none);
        let Some(names) = Names::of(labels)? else { return Ok(None) };
        let state = match &*container.state.status {
            "running" => InstanceState::Running,
            "restarting" => InstanceState::Starting,
            // It answers nothing, and nobody says for how long.
            "paused" => InstanceState::Unreachable,
            _ => return Ok(None),
        };
        let settings = container.network_settings.as_ref();
        let bound = settings.and_then(|settings| settings.ports.as_ref());
        let exposed = container.config.exposed_ports.iter().flatten().map(|(port, _)| port);
        let exposed = exposed.chain(bound.into_iter().flatten().map(|(port, _)| port));
        let ports = ports::ports(labels, exposed.filter_map(|text| ports::port(text)))?;
        let mut instance = Instance::running(&*container.id);
        instance.state = state;
        instance.node = (!engine.name.is_empty()).then(|| (&*engine.name).into());
        instance.started_ms = super::milliseconds(&container.state.started_at);
        let check = container.state.health.as_ref().map(|health| &*health.status).filter(|s| *s != "none");
        instance.health = match check {
            None | Some("healthy") => Health::Healthy,
            Some("unhealthy") => Health::Unhealthy,
            Some(_) => Health::Unknown,
        };
        let mut known = Self {
            names,
            instance,
            has_check: check.is_some(),
            ports,
            places: Vec::new(),
            labels: ports::of_users(labels),
            stop_signal: container.config.stop_signal.as_deref().and_then(number_of).unwrap_or(15),
            is_stopping: false,
        };
        known.place(container, labels, engine);
        Ok(Some(known))
    }

    /// Where its ports are reached.
    fn place(&mut self, container: &wire::Container, labels: &BTreeMap<String, String>, engine: &Engine) {
        let mode = container.host_config.as_ref().and_then(|host| host.network_mode.as_deref());
        let settings = container.network_settings.as_ref();
        if mode == Some("host") {
            let own = engine.ip.map(|ip| self.address(ip, Network::Host, Provenance::NodeAddress));
            let ports: Vec<u16> = self.ports.iter().map(|(port, _)| port.number).collect();
            for (index, number) in ports.into_iter().enumerate() {
                self.places.extend(own.flatten().map(|at| (index, at, number)));
            }
            return;
        }
        let bound = settings.and_then(|settings| settings.ports.as_ref());
        let bindings = |port: &Port| -> Vec<(IpAddr, u16)> {
            let key = format!("{}/{}", port.number, port.protocol.as_str());
            let all = bound.and_then(|bound| bound.get(&key)).into_iter().flatten().flatten();
            all.filter_map(|binding| published(binding, engine)).collect()
        };
        if engine.reach == Reach::Published {
            let ports: Vec<Port> = self.ports.iter().map(|(port, _)| port.clone()).collect();
            for (index, port) in ports.iter().enumerate() {
                for (ip, number) in bindings(port) {
                    let at = self.address(ip, Network::Host, Provenance::NodeAddress);
                    self.places.extend(at.map(|at| (index, at, number)));
                }
            }
            return;
        }
        let networks = settings.and_then(|settings| settings.networks.as_ref());
        let wanted = labels.get(NETWORK);
        let mut chosen = false;
        for (name, attached) in networks.into_iter().flatten() {
            let Some(attached) = attached else { continue };
            let ips = [&attached.v4, &attached.v6].into_iter().flatten().filter_map(|ip| ip.parse().ok());
            let of_this: Vec<u8> = ips
                .filter_map(|ip| {
                    let network = Network::Overlay(name.as_str().into());
                    self.address(ip, network, Provenance::TaskNetwork)
                })
                .collect();
            if of_this.is_empty() || chosen || wanted.is_some_and(|wanted| wanted != name) {
                continue;
            }
            chosen = true;
            for at in of_this {
                let ports = self.ports.iter().enumerate();
                self.places.extend(ports.map(|(index, (port, _))| (index, at, port.number)));
            }
        }
    }

    /// The number of this address of the instance, new or known; `None` beyond the limit.
    fn address(&mut self, ip: IpAddr, network: Network, provenance: Provenance) -> Option<u8> {
        let addresses = &mut self.instance.addresses;
        let at = addresses.iter().position(|address| address.ip == ip).unwrap_or_else(|| {
            addresses.push(Address::new(ip, network, provenance));
            addresses.len() - 1
        });
        u8::try_from(at).ok().filter(|at| usize::from(*at) < ADDRESSES_MAX)
    }

    /// The instance as a member of a service with these ports.
    fn instance(&self, all: &[Named], own: BTreeMap<String, String>) -> Instance {
        let mut instance = self.instance.clone();
        let index = |named: &Named| all.iter().position(|port| port == named);
        let endpoint = |(port, address_index, number): &(usize, u8, u16)| {
            let port_index = u16::try_from(index(self.ports.get(*port)?)?).ok()?;
            Some(InstanceEndpoint { port_index, address_index: *address_index, number: *number })
        };
        instance.endpoints = self.places.iter().filter_map(endpoint).collect();
        instance.endpoints.sort_by_key(|endpoint| endpoint.port_index);
        instance.metadata = (!own.is_empty()).then(|| Arc::new(own.into_iter().collect()));
        instance
    }
}

/// Where a published port is reached. One that is bound to the loopback of another host is not.
fn published(binding: &Binding, engine: &Engine) -> Option<(IpAddr, u16)> {
    let number = binding.host_port.parse().ok().filter(|number| *number > 0)?;
    let engine_ip = engine.ip?;
    let bound: IpAddr = binding.host_ip.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let ip = match bound {
        // Bound to all addresses of one family.
        ip if ip.is_unspecified() => (ip.is_ipv4() == engine_ip.is_ipv4()).then_some(engine_ip)?,
        ip if ip.is_loopback() && !engine_ip.is_loopback() => return None,
        ip => ip,
    };
    Some((ip, number))
}

/// The number of a signal that the engine writes as a number or by name.
fn number_of(signal: &str) -> Option<i32> {
    if let Ok(number) = signal.parse() {
        return Some(number);
    }
    let name = signal.to_ascii_uppercase();
    Some(match name.strip_prefix("SIG").unwrap_or(&name) {
        "HUP" => 1,
        "INT" => 2,
        "QUIT" => 3,
        "KILL" => 9,
        "USR1" => 10,
        "USR2" => 12,
        "TERM" => 15,
        "WINCH" => 28,
        // How systemd is told to halt.
        "RTMIN+3" => 37,
        _ => return None,
    })
}
