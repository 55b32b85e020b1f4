//! From a query's name to what stands there.

use portolan_table::Protocol;

use super::names::{PartRef, Standing};
use super::nodes::NodeEntry;
use super::{Host, Part, PartKind, ServiceEntry, Zone, Zones};
use crate::wire::QueryName;

/// What a name in one of our zones is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Found<'a> {
    /// The zone itself.
    Apex,
    /// A service, said in one of its ways.
    Service(&'a ServiceEntry, PartRef),
    /// `_<port>._<protocol>` of a service: a run of its ports, and where the service's name begins.
    Ports { entry: &'a ServiceEntry, part: &'a Part, first: usize, end: usize, service_label: usize },
    /// The same of one instance.
    InstancePorts {
        entry: &'a ServiceEntry,
        part: &'a Part,
        first: usize,
        end: usize,
        host: &'a Host,
        service_label: usize,
    },
    /// One instance of a service.
    Instance(&'a ServiceEntry, &'a Host),
    /// A node.
    Node(&'a NodeEntry),
    /// Nothing, but there are names below: an empty non-terminal inside a service's entry.
    Inner,
    /// The same in the index: other names above or below may come from a source that is not known yet.
    Empty,
    /// No such name.
    Missing,
}

impl Zones {
    /// The zone that `name` is in, by longest apex.
    #[inline]
    pub(crate) fn zone_of(&self, name: &QueryName) -> Option<&Zone> {
        self.zones.iter().find(|zone| {
            let fixed = &*zone.fixed;
            let Some(above) = name.labels().checked_sub(fixed.labels) else { return false };
            name.octets()[name.start(above)..] == fixed.apex[..]
        })
    }
}

impl Zone {
    /// What `name`, which is in this zone, is here. No lock, no allocation.
    #[inline]
    pub(crate) fn find(&self, name: &QueryName) -> Found<'_> {
        let labels = name.labels() - self.fixed.labels;
        if labels == 0 {
            return Found::Apex;
        }
        if let Some(found) = self.inside(name, labels) {
            return found;
        }
        match self.standing(name, 0, labels) {
            Some(Standing::Service(entry, part)) => Found::Service(entry, part),
            Some(Standing::Node(node)) => Found::Node(node),
            Some(Standing::Empty) => Found::Empty,
            None => Found::Missing,
        }
    }

    /// What is found inside a service's entry.
    #[inline]
    fn inside(&self, name: &QueryName, labels: usize) -> Option<Found<'_>> {
        let prefix = Prefix::of(name, labels);
        if prefix.len == 0 {
            return None;
        }
        let found = self.behind(&prefix, name, labels).or_else(|| {
            // Or the protocol of a service whose own name begins with one (`_udp.web`).
            let shorter = prefix.without_port(name, labels)?;
            self.behind(&shorter, name, labels)
        })?;
        Some(if matches!(found, Found::Inner) { self.beside(name, labels) } else { found })
    }

    #[inline]
    fn behind(&self, prefix: &Prefix, name: &QueryName, labels: usize) -> Option<Found<'_>> {
        match self.standing(name, prefix.len, labels) {
            Some(Standing::Service(entry, part)) => prefix.find(name, entry, part.of(entry)),
            _ => None,
        }
    }

    /// Where an entry has an empty non-terminal (`inst.web`, `_tcp.web`) a service of that name may stand.
    fn beside(&self, name: &QueryName, labels: usize) -> Found<'_> {
        match self.standing(name, 0, labels) {
            Some(Standing::Service(entry, part)) => Found::Service(entry, part),
            _ => Found::Inner,
        }
    }

    #[inline]
    fn standing(&self, name: &QueryName, from: usize, labels: usize) -> Option<Standing<'_>> {
        if from >= labels {
            return None;
        }
        self.names.get(&name.octets()[name.start(from)..name.start(labels)])
    }
}

/// The labels in front of a service's name that its entry answers itself.
struct Prefix {
    /// The first label names a port: `_http` in `_http._tcp`.
    has_port: bool,
    protocol: Option<Protocol>,
    /// Place of the instance's label.
    instance: Option<usize>,
    /// `inst` alone.
    instances: bool,
    /// How many labels that is together.
    len: usize,
}

impl Prefix {
    #[inline]
    fn of(name: &QueryName, labels: usize) -> Self {
        let first = name.label(0);
        if first.first() != Some(&b'_') {
            return Self::new(false, None, name, labels);
        }
        // The second label first: `_tcp._udp` is a port named `tcp`.
        match protocol(if labels > 1 { name.label(1) } else { b"" }) {
            Some(second) => Self::new(true, Some(second), name, labels),
            None => Self::new(false, protocol(first), name, labels),
        }
    }

    /// `_tcp._udp` read the other way: the protocol alone, in front of what begins with `_udp`.
    fn without_port(&self, name: &QueryName, labels: usize) -> Option<Self> {
        let protocol = protocol(name.label(0)).filter(|_| self.has_port)?;
        Some(Self::new(false, Some(protocol), name, labels))
    }

    #[inline]
    fn new(has_port: bool, protocol: Option<Protocol>, name: &QueryName, labels: usize) -> Self {
        let len = usize::from(has_port) + usize::from(protocol.is_some());
        let mut prefix = Self { has_port, protocol, instance: None, instances: false, len };
        if len + 1 < labels && name.label(len + 1) == b"inst" {
            prefix.instance = Some(len);
            prefix.len += 2;
        } else if len == 0 && name.label(0) == b"inst" {
            prefix.instances = true;
            prefix.len = 1;
        }
        prefix
    }

    /// What these labels mean in front of a service; `None` if it has no such name.
    fn find<'a>(&self, name: &QueryName, entry: &'a ServiceEntry, part: &'a Part) -> Option<Found<'a>> {
        if self.instances {
            return part.has_hosts.then_some(Found::Inner);
        }
        let host = match self.instance {
            Some(at) => Some(entry.host(part, name.label(at))?),
            None => None,
        };
        let Some(protocol) = self.protocol else { return host.map(|host| Found::Instance(entry, host)) };
        // Below a part whose instances have no names there is nothing that SRV records could point at.
        if !part.deep && part.kind != PartKind::Vip {
            return None;
        }
        let service_label = self.len;
        if !self.has_port {
            return entry.speaks(protocol).then_some(Found::Inner);
        }
        let run = entry.ports_of(&name.label(0)[1..], protocol)?;
        let (first, end) = (run.start, run.end);
        Some(match host {
            Some(host) => Found::InstancePorts { entry, part, first, end, host, service_label },
            None => Found::Ports { entry, part, first, end, service_label },
        })
    }
}

fn protocol(label: &[u8]) -> Option<Protocol> {
    match label {
        b"_tcp" => Some(Protocol::Tcp),
        b"_udp" => Some(Protocol::Udp),
        _ => None,
    }
}
