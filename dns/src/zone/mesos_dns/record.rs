//! From one task, scheduler, agent, or the masters, to their records. Pure; names as text, relative to the zone.

use core::net::IpAddr;

use portolan_table::{
    Address, Agent, Contact, Definition, DiscoveryPort, Instance, Masters, Placement, Provenance, Scheduler,
};

use super::hash::task_hash;
use super::label::Rule;
use super::{IpSource, IpSources, Profile, Settings};

/// Longest label (RFC 1035 §2.3.4).
const LABEL_LEN_MAX: usize = 63;
/// Behind a name that leads to the agent.
const SLAVE: &str = ".slave";
/// Ports of one task: more are no ports resource that an agent could offer.
const PORTS_MAX: usize = 65_536;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Record {
    /// Relative to the zone, without a dot at the end. Not every text is a domain name: see [`wire`].
    pub(crate) owner: String,
    pub(crate) data: RecordData,
}

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum RecordData {
    Address(IpAddr),
    /// Port and target, which is relative to the zone.
    Srv(u16, String),
    /// The owner is a task's name, this is an address that goes by it.
    Pointer(IpAddr),
}

/// Where records are put, in the order in which the program makes them.
pub(crate) type Records = Vec<Record>;

fn address(out: &mut Records, owner: &str, ip: IpAddr) {
    out.push(Record { owner: owner.to_owned(), data: RecordData::Address(ip) });
}

fn srv(out: &mut Records, owner: String, port: u16, target: &str) {
    out.push(Record { owner, data: RecordData::Srv(port, target.to_owned()) });
}

/// A framework's scheduler.
pub(crate) fn scheduler(scheduler: &Scheduler, settings: &Settings, out: &mut Records) {
    let framework = Rule::new(settings.rfc952).fragment(&scheduler.name);
    if framework.is_empty() {
        return;
    }
    for ip in &scheduler.at.addresses {
        address(out, &framework, *ip);
    }
    if scheduler.at.port != 0 {
        srv(out, format!("_framework._tcp.{framework}"), scheduler.at.port, &framework);
    }
}

/// True if what runs on the agent is named. After a fail-over of the masters an agent may be known from the
/// registry alone; the program has forgotten it then.
pub(crate) fn is_known(agent: &Agent, settings: &Settings) -> bool {
    agent.is_registered || !settings.is_strict()
}

/// An agent.
pub(crate) fn agent(agent: &Agent, settings: &Settings, out: &mut Records) {
    if !is_known(agent, settings) {
        return;
    }
    for ip in &agent.at.addresses {
        address(out, "slave", *ip);
    }
    if agent.at.port != 0 {
        srv(out, "_slave._tcp".to_owned(), agent.at.port, "slave");
    }
}

/// The masters: none is named where the leader is not known.
pub(crate) fn masters(masters: &Masters, out: &mut Records) {
    let Some(leader) = &masters.leader else { return };
    let mut named: Vec<IpAddr> = Vec::new();
    let mut all = |out: &mut Records, master: &Contact| {
        let mut is_new = false;
        for ip in &master.addresses {
            if !named.contains(ip) {
                named.push(*ip);
                address(out, "master", *ip);
                is_new = true;
            }
        }
        is_new
    };
    for ip in &leader.addresses {
        address(out, "leader", *ip);
    }
    all(out, leader);
    srv(out, "_leader._tcp".to_owned(), leader.port, "leader");
    srv(out, "_leader._udp".to_owned(), leader.port, "leader");
    let mut number = 0;
    let mut numbered = |out: &mut Records, master: &Contact| {
        for ip in &master.addresses {
            address(out, &format!("master{number}"), *ip);
        }
        number += 1;
    };
    let mut leader_is_listed = false;
    for master in &masters.listed {
        let leads = master.addresses == leader.addresses && master.port == leader.port;
        // One that is there twice is numbered once.
        if leads && !leader_is_listed || !leads && all(out, master) {
            numbered(out, master);
        }
        leader_is_listed |= leads;
    }
    if !leader_is_listed {
        numbered(out, leader);
    }
}

/// A task that is to be named, on its agent.
pub(crate) fn task(
    instance: &Instance,
    placement: &Placement,
    on: &Agent,
    settings: &Settings,
    out: &mut Records,
) {
    let rule = Rule::new(settings.rfc952);
    let definition = &*placement.definition;
    let framework = rule.fragment(&definition.scheduler);
    let task = Task {
        framework,
        suffix: suffix(instance, placement),
        addresses: addresses(instance, on, settings),
        agent: &on.at.addresses,
        placement,
        definition,
        settings,
    };
    match definition.discovery.as_ref().and_then(|discovery| discovery.name.as_deref()) {
        Some(name) => {
            // Once as it was given, whatever it holds; clients of old names rely on it.
            task.named(name, out);
            task.named(&rule.label(name), out);
        }
        None => task.named(&rule.label(&definition.name), out),
    }
}

/// `HASH-TAIL`, which tells a task from others of its name.
fn suffix(instance: &Instance, placement: &Placement) -> String {
    let agent = &*placement.agent;
    let tail = agent.rsplit('-').next().unwrap_or(agent).to_lowercase();
    format!("{}-{tail}", task_hash(instance.correlation_key()))
}

struct Task<'a> {
    framework: String,
    suffix: String,
    addresses: Vec<IpAddr>,
    agent: &'a [IpAddr],
    placement: &'a Placement,
    definition: &'a Definition,
    settings: &'a Settings,
}

impl Task<'_> {
    /// All records under one of the task's labels.
    fn named(&self, label: &str, out: &mut Records) {
        let framework = &self.framework;
        // Names that begin with a dot, or hold two in a row, are none.
        if label.is_empty() || framework.is_empty() {
            return;
        }
        let canonical = self.canonical(label);
        let (own, canonical_own) = ([label, ".", framework].concat(), [&*canonical, ".", framework].concat());
        for owner in [&own, &canonical_own] {
            for ip in &self.addresses {
                address(out, owner, *ip);
            }
        }
        if self.settings.profile == Profile::V0_8 {
            for ip in &self.addresses {
                out.push(Record { owner: own.clone(), data: RecordData::Pointer(*ip) });
            }
        }
        let canonical_slave = [&*canonical_own, SLAVE].concat();
        for owner in [&[&*own, SLAVE].concat(), &canonical_slave] {
            for ip in self.agent {
                address(out, owner, *ip);
            }
        }
        self.host_ports(label, &canonical_slave, out);
        if self.is_discovered() {
            for (number, port) in self.placement.discovery() {
                self.discovery_port(label, (number, port), (&canonical_own, &canonical_slave), out);
            }
        }
    }

    /// It says itself under which name and with which ports it is found.
    fn is_discovered(&self) -> bool {
        self.definition.discovery.as_ref().is_some_and(|discovery| discovery.name.is_some())
    }

    /// The label that only this task has. Where the RFCs are followed it fits, so that SRV records can point at it.
    fn canonical(&self, label: &str) -> String {
        let suffix = &self.suffix;
        let last = label.rsplit('.').next().unwrap_or(label).len();
        let room = LABEL_LEN_MAX.saturating_sub(suffix.len() + 1);
        if self.settings.is_strict() || last <= room || room == 0 || !label.is_ascii() {
            return [label, "-", suffix].concat();
        }
        let kept = &label[..label.len() - (last - room)];
        format!("{}-{suffix}", kept.trim_end_matches('-'))
    }

    /// Ports offered on the agent: one record for each and for either protocol.
    fn host_ports(&self, label: &str, canonical_slave: &str, out: &mut Records) {
        let framework = &self.framework;
        let ports = self.placement.host_ports.iter().flat_map(|(first, last)| *first..=*last);
        for port in ports.take(PORTS_MAX) {
            for protocol in ["tcp", "udp"] {
                let own = ["_", label, "._", protocol, ".", framework].concat();
                srv(out, [&*own, SLAVE].concat(), port, canonical_slave);
                if !self.is_discovered() {
                    srv(out, own, port, canonical_slave);
                }
            }
        }
    }

    /// A port that the task tells of itself.
    fn discovery_port(
        &self,
        label: &str,
        (number, port): (u16, &DiscoveryPort),
        targets: (&str, &str),
        out: &mut Records,
    ) {
        let rule = Rule::new(self.settings.rfc952);
        let protocol = rule.label(port.protocol.as_deref().unwrap_or_default());
        let protocols = if protocol.is_empty() { vec!["tcp", "udp"] } else { vec![&*protocol] };
        let name = port.name.as_deref().map(|name| rule.label(name)).filter(|name| !name.is_empty());
        for protocol in protocols {
            let framework = &self.framework;
            let base = format!("_{label}._{protocol}.{framework}");
            let mut owners = vec![base];
            owners.extend(name.as_ref().map(|name| format!("_{name}.{}", owners[0])));
            for owner in owners {
                if self.settings.profile == Profile::V0_8 {
                    srv(out, format!("{owner}.slave"), number, targets.1);
                }
                srv(out, owner, number, targets.0);
            }
        }
    }
}

/// The addresses of a task: those of the first source that has any.
fn addresses(instance: &Instance, on: &Agent, settings: &Settings) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = match &settings.ip_sources {
        IpSources::Auto => chosen(instance),
        IpSources::Listed(sources) => {
            let of = |source: &IpSource| match source {
                IpSource::Host => on.at.addresses.to_vec(),
                other => of_source(instance, *other, settings),
            };
            sources.iter().map(of).find(|addresses| !addresses.is_empty()).unwrap_or_default()
        }
    };
    let mut seen = Vec::new();
    found.retain(|ip| {
        !seen.contains(ip) && {
            seen.push(*ip);
            true
        }
    });
    found
}

/// The addresses that its ports are reached at; for a task without ports its first one.
fn chosen(instance: &Instance) -> Vec<IpAddr> {
    let at = |index: usize| instance.addresses.get(index).map(|address| address.ip);
    let used: Vec<IpAddr> =
        instance.endpoints.iter().filter_map(|endpoint| at(usize::from(endpoint.address_index))).collect();
    if used.is_empty() { at(0).into_iter().collect() } else { used }
}

fn of_source(instance: &Instance, source: IpSource, settings: &Settings) -> Vec<IpAddr> {
    let is_of = |address: &&Address| match (source, address.provenance) {
        (IpSource::Netinfo, Provenance::TaskNetwork)
        | (IpSource::Mesos, Provenance::ContainerizerLabel)
        | (IpSource::Docker, Provenance::DockerLabel) => true,
        (IpSource::Netinfo, Provenance::TaskNetworkBefore) => !settings.is_strict(),
        _ => false,
    };
    instance.addresses.iter().filter(is_of).map(|address| address.ip).collect()
}

/// A relative name in wire form without root; `None` if it cannot be one below an apex of `apex_len` octets, or
/// if the program never finds it: queries are lower-cased there, and have odd octets escaped.
pub(crate) fn wire(text: &str, apex_len: usize) -> Option<Vec<u8>> {
    let mut wire = Vec::with_capacity(text.len() + 1);
    for label in text.split('.') {
        if label.is_empty() || label.len() > LABEL_LEN_MAX {
            return None;
        }
        wire.push(label.len() as u8);
        wire.extend_from_slice(label.as_bytes());
    }
    let is_odd =
        |octet: u8| octet.is_ascii_uppercase() || !octet.is_ascii_graphic() || b"'@;()\"\\".contains(&octet);
    let fits = wire.len() + apex_len <= crate::wire::NAME_LEN_MAX;
    (fits && !text.bytes().any(is_odd)).then_some(wire)
}
