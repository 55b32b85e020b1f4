//! The schema `native`: Portolan's own names.
//!
//! ```text
//!  web.shop.prod                    the service            Whole
//!  web.shop.prod.<source>.src       one source of it       Source
//!  web.shop.prod.<zone>.zone        one fault domain       Zone
//!  web.shop.prod.vip                through the proxies    Vip
//!  └── below each: _<port>._tcp, <instance>.inst (but below vip), found in the entry itself
//! ```

use core::net::IpAddr;
use std::sync::Arc;

use portolan_table::{
    Admission, Instance, Member, NodeFact, Outside, Service, SharedStr, SourceId, instance_label,
    sanitise_label,
};

use smallvec::SmallVec;

use super::entry::{Host, InstanceLabel, Owner, Part, PartKind, Port, ServiceEntry, Target, Text};
use super::groups::GroupBuilder;
use super::ports::ports;
use super::report::{Problem, ProblemKind};
use super::reverse::{INST, PtrName};
use super::schema::{Context, NodeName, Schema, ServiceNames};
use crate::wire::{NAME_LEN_MAX, push_label};

/// Last labels that have a meaning of their own: a service's own name must not end in one.
const RESERVED: [&str; 5] = ["src", "inst", "zone", "vip", "node"];
/// What an instance's name adds to that of its service: its label, and `inst`.
const INSTANCE_LEN: usize = 1 + portolan_table::INSTANCE_LABEL_LEN + INST.len();
/// More fault domains of one service than this are not told apart by name.
const ZONES_MAX: usize = 1000;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Native;

impl Schema for Native {
    fn service(&self, service: &Service, context: &Context) -> Option<ServiceNames> {
        let defined = service.specs.iter().map(|(source, _)| *source);
        let mut sources: Vec<u16> = defined
            .chain(service.members.iter().map(|member| member.source))
            .filter(|source| context.source(*source).is_some())
            .map(|source| source.0)
            .collect();
        sources.sort_unstable();
        sources.dedup();
        if sources.is_empty() && !(service.specs.is_empty() && service.members.is_empty()) {
            return None;
        }
        touch(service);
        let mut out = ServiceNames::default();
        let ports = ports(service, context, &mut out.problems);
        let mut compiler = Compiler::new(service, context, ports);
        compiler.hosts(&mut out);
        out.reverse.sort();
        out.nodes.sort();
        compiler.parts(&sources, &mut out);
        let entry = compiler.finish();
        name_parts(service, &entry, &mut out);
        out.entry = Some(entry);
        Some(out)
    }

    fn node(&self, node: &NodeFact, _context: &Context) -> Option<NodeName> {
        let addresses = node.addresses.to_vec();
        Some(NodeName { name: node_name(&node.name)?, given: lower_case(&node.name), addresses })
    }
}

/// `<label>.node` for the name of a node as its scheduler writes it.
pub(crate) fn node_name(name: &str) -> Option<Vec<u8>> {
    let mut wire = Vec::new();
    push_label(&mut wire, sanitise_label(name)?.as_bytes());
    push_label(&mut wire, b"node");
    Some(wire)
}

/// A name for comparison: the name itself if it has no capitals.
fn lower_case(name: &SharedStr) -> SharedStr {
    if name.bytes().any(|octet| octet.is_ascii_uppercase()) {
        name.to_ascii_lowercase().into()
    } else {
        name.clone()
    }
}

/// Reads a word of all that will be read of the instances: in a large table each is somewhere else in memory, and is
/// waited for together with the others this way.
fn touch(service: &Service) {
    let first = |text: &str| text.as_bytes().first().copied().unwrap_or(0);
    for Member { instance, .. } in &service.members {
        core::hint::black_box(first(&instance.id) ^ instance.node.as_deref().map_or(0, first));
    }
}

/// The service's last label, if it has a meaning of its own.
fn reserved_label(service: &Service) -> Option<&str> {
    service.name.labels().next_back().filter(|last| RESERVED.contains(last))
}

/// The owner names of all parts. The service's own name is left out where a reserved meaning wins.
fn name_parts(service: &Service, entry: &ServiceEntry, out: &mut ServiceNames) {
    let reserved = reserved_label(service);
    if let Some(last) = reserved {
        out.problems.push(Problem::new(service.name.as_str(), ProblemKind::ReservedLabel, last));
    }
    for (index, part) in entry.parts.iter().enumerate() {
        if reserved.is_none() || part.kind != PartKind::Whole {
            out.names.push(([&*entry.owner, &*part.suffix].concat(), index as u16));
        }
    }
    out.names.sort();
}

/// Builds one entry.
struct Compiler<'a> {
    service: &'a Service,
    context: &'a Context,
    /// Shared by the reverse names of its instances.
    owner: Arc<[u8]>,
    hosts: Vec<Host>,
    /// Member → host; `u32::MAX` for members that are in no answer.
    host_of: Vec<u32>,
    /// Fault domains; the host's `zone` is an index into it until the parts are known.
    zones: Vec<FaultDomain<'a>>,
    v4: Vec<[u8; 4]>,
    v6: Vec<[u8; 16]>,
    ports: Vec<(usize, Port)>,
    reserved: bool,
    parts: Vec<Part>,
    groups: GroupBuilder,
    /// Which hosts each group is made of, for finding groups that are the same.
    selections: Vec<Vec<bool>>,
    texts: SmallVec<[Text; 1]>,
}

/// A fault domain as a source names it, and its label.
struct FaultDomain<'a> {
    given: &'a str,
    label: String,
}

impl FaultDomain<'_> {
    /// True if the other one has the same label and comes first by name.
    fn follows(&self, other: &Self) -> bool {
        let place = |zone: &Self| zone.given.to_ascii_lowercase();
        self.label == other.label && place(other) < place(self)
    }
}

/// A member that is in some answer.
struct Shown<'a> {
    label: InstanceLabel,
    member: usize,
    selected: bool,
    /// The same task is counted through another source.
    duplicate: bool,
    instance: &'a Instance,
    source: u16,
}

impl<'a> Compiler<'a> {
    fn new(service: &'a Service, context: &'a Context, ports: Vec<(usize, Port)>) -> Self {
        let mut owner = Vec::with_capacity(service.name.as_str().len() + 1);
        for label in service.name.labels() {
            push_label(&mut owner, label.as_bytes());
        }
        Self {
            service,
            context,
            owner: owner.into(),
            hosts: Vec::new(),
            host_of: vec![u32::MAX; service.members.len()],
            zones: Vec::new(),
            v4: Vec::new(),
            v6: Vec::new(),
            ports,
            reserved: reserved_label(service).is_some(),
            parts: Vec::new(),
            groups: GroupBuilder::default(),
            selections: Vec::new(),
            texts: texts(service, context),
        }
    }

    /// Lays out the instances and their addresses, and says who goes by which address.
    fn hosts(&mut self, out: &mut ServiceNames) {
        let mut shown: Vec<Shown<'_>> = self
            .service
            .members
            .iter()
            .enumerate()
            .filter_map(|(at, member)| self.shown(at, member))
            .collect();
        shown.sort_by_key(|shown| shown.label);
        // Labels are a 64-bit hash; of two instances that share one, the first in the table's order is named.
        shown.dedup_by(|b, a| a.label == b.label);
        for (index, shown) in shown.iter().enumerate() {
            self.host_of[shown.member] = index as u32;
        }
        let used = self.addresses_used(shown.len());
        for (shown, mut addresses) in shown.iter().zip(used) {
            if addresses.is_empty() {
                addresses.extend(shown.instance.addresses.first().map(|address| address.ip));
            }
            addresses.sort();
            addresses.dedup();
            self.host(shown, &addresses);
            self.claim(shown, &addresses, out);
        }
    }

    fn shown(&self, at: usize, member: &'a Member) -> Option<Shown<'a>> {
        let source = self.context.source(member.source)?;
        let selected = member.admission.is_in();
        if !selected && !self.apart(member) {
            return None;
        }
        let label = instance_label(&source.name, &member.instance.id);
        let label = label.as_bytes().try_into().ok()?;
        let duplicate = member.admission == Admission::Out(Outside::Duplicate);
        let (instance, source) = (&*member.instance, member.source.0);
        Some(Shown { label, member: at, selected, duplicate, instance, source })
    }

    /// In the answers of its source alone: held apart or counted elsewhere, and fit for traffic otherwise.
    fn apart(&self, member: &Member) -> bool {
        let Admission::Out(Outside::NotSelected | Outside::Duplicate) = member.admission else {
            return false;
        };
        let spec = self.service.specs.iter().find(|(source, _)| *source == member.source);
        spec.is_some_and(|(_, spec)| Admission::of(&member.instance, spec).is_in())
    }

    /// For each host the addresses that its endpoints use.
    fn addresses_used(&self, hosts: usize) -> Vec<Vec<IpAddr>> {
        let mut used = vec![Vec::new(); hosts];
        for endpoint in self.service.ports.iter().flat_map(|port| &port.endpoints) {
            let Some(host) = self.host_of.get(endpoint.member as usize) else { continue };
            if let Some(used) = used.get_mut(*host as usize) {
                used.push(endpoint.address.ip());
            }
        }
        used
    }

    fn host(&mut self, shown: &Shown<'a>, addresses: &[IpAddr]) {
        let (at4, at6) = (self.v4.len(), self.v6.len());
        for address in addresses {
            match address {
                IpAddr::V4(v4) if self.v4.len() - at4 < usize::from(u8::MAX) => self.v4.push(v4.octets()),
                IpAddr::V6(v6) if self.v6.len() - at6 < usize::from(u8::MAX) => self.v6.push(v6.octets()),
                _ => {}
            }
        }
        let zone = shown.instance.zone.as_deref().filter(|_| shown.selected);
        let zone = zone.and_then(|zone| self.zone(zone)).unwrap_or(Host::NO_ZONE);
        self.hosts.push(Host {
            label: shown.label,
            len4: (self.v4.len() - at4) as u8,
            len6: (self.v6.len() - at6) as u8,
            selected: shown.selected,
            source: shown.source,
            zone,
            at4: at4 as u32,
            at6: at6 as u32,
        });
    }

    fn zone(&mut self, given: &'a str) -> Option<u16> {
        let known = self.zones.iter().position(|zone| zone.given.eq_ignore_ascii_case(given));
        let at = match known {
            Some(at) => at,
            // One more than there may be, to be told of.
            None if self.zones.len() > ZONES_MAX => return None,
            None => {
                self.zones.push(FaultDomain { given, label: sanitise_label(given)? });
                self.zones.len() - 1
            }
        };
        u16::try_from(at).ok().filter(|_| at < ZONES_MAX)
    }

    /// The reverse names of a host: its node's for an address of the node, its own for its own.
    fn claim(&self, shown: &Shown<'_>, addresses: &[IpAddr], out: &mut ServiceNames) {
        let node = shown.instance.node.as_deref().and_then(node_name);
        for &address in addresses {
            let of_node = shown.instance.addresses.iter().any(|a| a.ip == address && a.is_of_host());
            match &node {
                Some(node) if of_node => {
                    out.reverse.push((address, PtrName::Node(node.as_slice().into())));
                    let given = shown.instance.node.as_ref().map(lower_case).unwrap_or_default();
                    out.nodes.push(NodeName { name: node.clone(), given, addresses: vec![address] });
                }
                // What the address is here, it is by the instance that is counted.
                _ if shown.duplicate => {}
                _ => out.reverse.extend(self.instance_name(shown).map(|name| (address, name))),
            }
        }
    }

    /// The shortest name that the instance is answered by: its service's, unless that name leads elsewhere or has
    /// not the instance, else its source's.
    fn instance_name(&self, shown: &Shown<'_>) -> Option<PtrName> {
        let (suffix, owner) = if shown.selected && !self.reserved {
            (&*self.context.whole, Arc::clone(&self.owner))
        } else {
            let suffix = self.context.source(SourceId(shown.source))?.suffix.as_deref()?;
            (suffix, [&*self.owner, suffix].concat().into())
        };
        self.fits(suffix, INSTANCE_LEN).then_some(PtrName::Instance(shown.label, owner))
    }

    fn fits(&self, suffix: &[u8], prefix_len: usize) -> bool {
        prefix_len + self.owner.len() + suffix.len() + self.context.apex_len <= NAME_LEN_MAX
    }

    fn parts(&mut self, sources: &[u16], out: &mut ServiceNames) {
        self.part(Arc::clone(&self.context.whole), PartKind::Whole, out);
        for source in self.context.sources.iter().filter(|source| sources.contains(&source.id.0)) {
            let Some(suffix) = &source.suffix else { continue };
            self.part(Arc::clone(suffix), PartKind::Source(source.id.0), out);
        }
        let zones = core::mem::take(&mut self.zones);
        let mut place_of = vec![Host::NO_ZONE; zones.len()];
        for (index, zone) in zones.iter().enumerate() {
            let kind = match zones.iter().any(|other| zone.follows(other)) {
                _ if index >= ZONES_MAX => Some(ProblemKind::TooManyZones),
                true => Some(ProblemKind::ZoneLabel),
                false => None,
            };
            if let Some(kind) = kind {
                out.problems.push(Problem::new(self.service.name.as_str(), kind, zone.given));
                continue;
            }
            let place = self.parts.len() as u16;
            let suffix = self.context.zone_suffix(&zone.label);
            // Hosts carry the index until all places are known, so the group is chosen by the index.
            if self.part(suffix, PartKind::Zone(index as u16), out) {
                place_of[index] = place;
            }
        }
        for part in &mut self.parts {
            if let PartKind::Zone(index) = &mut part.kind {
                *index = place_of[usize::from(*index)];
            }
        }
        for host in &mut self.hosts {
            host.zone = place_of.get(usize::from(host.zone)).copied().unwrap_or(Host::NO_ZONE);
        }
        self.part(Arc::clone(&self.context.vip), PartKind::Vip, out);
    }

    /// Adds a part; `false` if its name is too long.
    fn part(&mut self, suffix: Arc<[u8]>, kind: PartKind, out: &mut ServiceNames) -> bool {
        if !self.fits(&suffix, 0) {
            let kind = ProblemKind::NameTooLong;
            out.problems.push(Problem::new(
                self.service.name.as_str(),
                kind,
                &crate::wire::name_to_text(&suffix),
            ));
            return false;
        }
        let deep = self.fits(&suffix, INSTANCE_LEN);
        if !deep && kind != PartKind::Vip {
            let kind = ProblemKind::InstanceNameTooLong;
            out.problems.push(Problem::new(
                self.service.name.as_str(),
                kind,
                &crate::wire::name_to_text(&suffix),
            ));
        }
        let group = if kind == PartKind::Vip { Part::NO_GROUP } else { self.group(kind) };
        let has_hosts = deep && self.hosts.iter().any(|host| host.is_in(kind));
        self.parts.push(Part { suffix, kind, group, deep, has_hosts });
        true
    }

    /// The group of the hosts that are in the answers of `kind`: an existing one if it has the same hosts.
    fn group(&mut self, kind: PartKind) -> u16 {
        let selection: Vec<bool> = self.hosts.iter().map(|host| host.is_in(kind)).collect();
        if let Some(at) = self.selections.iter().position(|other| *other == selection) {
            return at as u16;
        }
        self.record_sets(&selection);
        self.selections.push(selection);
        (self.selections.len() - 1) as u16
    }

    fn record_sets(&mut self, selection: &[bool]) {
        let chosen = || self.hosts.iter().zip(selection).filter(|(_, chosen)| **chosen).map(|(host, _)| host);
        let mut v4: Vec<[u8; 4]> = chosen()
            .flat_map(|host| &self.v4[host.at4 as usize..][..usize::from(host.len4)])
            .copied()
            .collect();
        let mut v6: Vec<[u8; 16]> = chosen()
            .flat_map(|host| &self.v6[host.at6 as usize..][..usize::from(host.len6)])
            .copied()
            .collect();
        v4.sort_unstable();
        v4.dedup();
        v6.sort_unstable();
        v6.dedup();
        for (at, _) in &self.ports {
            for endpoint in &self.service.ports[*at].endpoints {
                let host = self.host_of.get(endpoint.member as usize).copied().unwrap_or(u32::MAX);
                if selection.get(host as usize).copied().unwrap_or(false) {
                    let (port, weight) = (endpoint.address.port(), endpoint.weight);
                    self.groups.target(Target { host, port, weight });
                }
            }
            self.groups.close_port();
        }
        self.groups.close(&v4, &v6);
    }

    fn finish(self) -> ServiceEntry {
        let (first_v4, groups) = self.groups.finish(self.ports.len());
        ServiceEntry {
            owner: Owner::from_slice(&self.owner),
            first_v4,
            groups,
            hosts: self.hosts.into(),
            v4: self.v4.into(),
            v6: self.v6.into(),
            ports: self.ports.into_iter().map(|(_, port)| port).collect(),
            parts: self.context.shared_parts(&self.parts),
            texts: self.texts,
        }
    }
}

/// One TXT record per source: its name, the version of its definition, the labels chosen by configuration.
fn texts(service: &Service, context: &Context) -> SmallVec<[Text; 1]> {
    let mut texts = SmallVec::new();
    for (id, spec) in &service.specs {
        let Some(source) = context.source(*id) else { continue };
        let mut data = Vec::new();
        push_text(&mut data, "source", &source.name);
        if let Some(version) = &spec.version {
            push_text(&mut data, "version", version);
        }
        for name in &context.txt_labels {
            if let Some(value) = spec.labels.get(name) {
                push_text(&mut data, name, value);
            }
        }
        texts.push(Text { source: id.0, data: data.into() });
    }
    texts
}

/// Appends `name=value` as one character string, cut at 255 octets (RFC 1035 §3.3, RFC 1464).
fn push_text(data: &mut Vec<u8>, name: &str, value: &str) {
    let start = data.len();
    data.push(0);
    data.extend(name.bytes().chain([b'=']).chain(value.bytes()).take(255));
    data[start] = (data.len() - start - 1) as u8;
}
