//! What a name is here, for people: the same lookup that answers use, put into words a caller can go by.

use core::net::IpAddr;

use portolan_table::{SharedStr, SourceId};

use super::{Found, NodeEntry, Part, PartKind, ServiceEntry, Zone, Zones};
use crate::wire::{QueryName, address_of, name_to_text};

/// What a name is.
#[derive(Debug)]
pub enum Match<'a> {
    /// In none of the zones, and no address that is served.
    NotOurs,
    /// The reverse name of an address that is served, and the names it goes by.
    Reverse(&'a Zone, IpAddr, Vec<String>),
    /// A name in a zone.
    In(&'a Zone, Meaning),
}

/// What a name means in its zone.
#[derive(Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The zone itself.
    Apex,
    /// A node, by its name as its source gives it; this edge, if it is that.
    Node {
        /// The name.
        name: SharedStr,
        /// The addresses that are answered.
        addresses: Vec<IpAddr>,
        /// It is this edge's own name.
        edge: bool,
    },
    /// A service, or a part of it.
    Service(Selection),
    /// There are names below, and nothing here.
    Empty,
    /// No such name; [`Zone::is_complete`] says whether that is certain.
    Missing,
}

/// Which instances of which service a name stands for.
#[derive(Debug, PartialEq, Eq)]
pub struct Selection {
    /// The service's full name.
    pub service: String,
    /// What the name's suffix selects.
    pub scope: Scope,
    /// The instance that the name is about, by its label.
    pub instance: Option<String>,
    /// The port that the name is about, as it is named there: `_http._tcp`.
    pub port: Option<String>,
    /// Labels of the instances that are in the answers, sorted.
    pub answered: Vec<String>,
}

/// What a name's suffix selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// The service as it is.
    Whole,
    /// What one source says of it.
    Source(SourceId),
    /// What is in the fault domain of this label.
    Zone(String),
    /// The way through the edge proxies.
    Vip,
}

impl Zones {
    /// Says what `name` is. Allocates; for tools.
    #[must_use]
    pub fn explain(&self, name: &QueryName) -> Match<'_> {
        if let Some(zone) = self.zone_of(name) {
            return Match::In(zone, zone.meaning(name));
        }
        let Some((address, (zone, names))) =
            address_of(name.octets()).and_then(|address| Some((address, self.reverse(address)?)))
        else {
            return Match::NotOurs;
        };
        let names = names.iter().map(|(pointed, _)| {
            let mut wire = vec![0; pointed.len()];
            pointed.write(&mut wire);
            name_to_text(&[&wire, &zone.fixed.apex[..]].concat())
        });
        Match::Reverse(zone, address, names.collect())
    }
}

impl Zone {
    fn meaning(&self, name: &QueryName) -> Meaning {
        let label = |at: usize| String::from_utf8_lossy(name.label(at)).into_owned();
        let port = || Some(format!("{}.{}", label(0), label(1)));
        match self.find(name) {
            Found::Apex => Meaning::Apex,
            Found::Node(node) => self.node_meaning(node),
            Found::Service(entry, part) => Meaning::Service(selection(entry, part.of(entry))),
            Found::Instance(entry, host) => Meaning::Service(Selection {
                answered: vec![text(&host.label)],
                instance: Some(text(&host.label)),
                // The suffix plays no part: an instance is the same below every name of its service.
                ..selection(entry, self.part_of(entry, name, 2))
            }),
            Found::Ports { entry, part, first, end, .. } => Meaning::Service(Selection {
                answered: with_port(entry, part, first..end),
                port: port(),
                ..selection(entry, part)
            }),
            Found::InstancePorts { entry, part, first, end, host, .. } => {
                let own = text(&host.label);
                let mut answered = with_port(entry, part, first..end);
                answered.retain(|label| *label == own);
                let instance = Some(own);
                Meaning::Service(Selection { answered, instance, port: port(), ..selection(entry, part) })
            }
            Found::Inner | Found::Empty => Meaning::Empty,
            Found::Missing => Meaning::Missing,
        }
    }

    fn node_meaning(&self, node: &NodeEntry) -> Meaning {
        Meaning::Node {
            name: node.holder().map_or_else(|| "".into(), |holder| holder.given.clone()),
            addresses: node.addresses().iter().map(|(address, _)| *address).collect(),
            edge: *node.name == *self.fixed.edge,
        }
    }

    /// The part of `entry` that `name` without its first `prefix` labels stands for.
    fn part_of<'a>(&self, entry: &'a ServiceEntry, name: &QueryName, prefix: usize) -> &'a Part {
        let own = &name.octets()[name.start(prefix)..name.start(name.labels() - self.fixed.labels)];
        let suffix = own.strip_prefix(&*entry.owner).unwrap_or_default();
        entry.parts.iter().find(|part| *part.suffix == *suffix).unwrap_or(&entry.parts[0])
    }
}

/// All instances that `part` answers with.
fn selection(entry: &ServiceEntry, part: &Part) -> Selection {
    let hosts = entry.hosts.iter().filter(|host| host.is_in(part.kind));
    let scope = match part.kind {
        PartKind::Whole => Scope::Whole,
        PartKind::Source(source) => Scope::Source(SourceId(source)),
        PartKind::Zone(_) => Scope::Zone(first_label(&part.suffix)),
        PartKind::Vip => Scope::Vip,
    };
    Selection {
        service: name_to_text(&entry.owner).trim_end_matches('.').to_owned(),
        scope,
        instance: None,
        port: None,
        answered: hosts.map(|host| text(&host.label)).collect(),
    }
}

/// The instances that have a target in this run of ports.
fn with_port(entry: &ServiceEntry, part: &Part, ports: core::ops::Range<usize>) -> Vec<String> {
    let targets = entry.group(part).map_or(&[][..], |group| group.targets_of(ports));
    let mut labels: Vec<String> =
        targets.iter().map(|target| text(&entry.hosts[target.host as usize].label)).collect();
    labels.sort();
    labels.dedup();
    labels
}

fn first_label(wire: &[u8]) -> String {
    wire.split_first().map_or_else(String::new, |(len, rest)| text(&rest[..usize::from(*len)]))
}

fn text(label: &[u8]) -> String {
    String::from_utf8_lossy(label).into_owned()
}
