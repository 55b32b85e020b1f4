//! The zones as they are served: what [`ZoneBuilder`] compiles and [`crate::answer::answer`] reads.
//!
//! ```text
//!  Zones ── Zone svc.cluster ─┬─ names     owner name ──► (entry of a service, part) │ node │ empty
//!        └─ Zone …            └─ reverse   address    ──► node's or instance's name
//! ```
//!
//! All maps share structure with the generation before: a change of one service costs its own names and the
//! shards they stand in. Entries are shared by all names of a service; see `entry.rs` for what they hold.

mod builder;
mod claims;
mod entry;
mod explain;
mod groups;
mod listed;
mod lookup;
pub mod mesos_dns;
mod names;
mod native;
mod nodes;
mod owners;
mod ports;
mod report;
mod reverse;
mod schema;
mod serial;

use core::net::IpAddr;
use std::sync::Arc;

pub use builder::ZoneBuilder;
pub(crate) use claims::Claims;
pub(crate) use entry::{Host, Part, PartKind, ServiceEntry, Target};
pub use explain::{Match, Meaning, Scope, Selection};
pub(crate) use listed::{Listed, Sets, Srv, Standing as ListedStanding};
pub(crate) use lookup::Found;
pub(crate) use names::PartRef;
pub(crate) use nodes::NodeEntry;
pub use report::{Problem, ProblemKind, ZoneMetrics};
pub(crate) use reverse::{INST, PtrName};
pub(crate) use serial::ahead_of;

use crate::wire::name_to_text;

/// All zones of one generation: the view of the routing table that DNS is answered from. Cloning is cheap.
#[derive(Debug, Clone, Default)]
pub struct Zones {
    /// Longest apex first, so that the first that matches is the closest enclosing one.
    zones: Box<[Zone]>,
    serial: u32,
    problems: Arc<[Problem]>,
}

/// One zone.
#[derive(Debug, Clone)]
pub struct Zone {
    fixed: Arc<Fixed>,
    names: names::Names,
    reverse: reverse::Reverse,
    /// The records of a schema that lists them; then the two before are empty.
    listed: Listed,
    complete: bool,
}

/// What only another configuration changes.
#[derive(Debug, Default)]
pub(crate) struct Fixed {
    /// The apex as configured.
    pub(crate) name: Arc<str>,
    /// The apex in wire form, root included.
    pub(crate) apex: Vec<u8>,
    /// Number of its labels.
    pub(crate) labels: usize,
    /// `<edge>.node` in wire form.
    pub(crate) edge: Vec<u8>,
    pub(crate) proxy4: Vec<[u8; 4]>,
    pub(crate) proxy6: Vec<[u8; 16]>,
    pub(crate) ttl: u32,
    pub(crate) negative_ttl: u32,
    /// What a schema that lists its records says of the zone itself.
    pub(crate) listing: Option<ListingFixed>,
}

/// The part of [`Fixed`] that only zones of listed records have.
#[derive(Debug)]
pub(crate) struct ListingFixed {
    pub(crate) settings: Arc<mesos_dns::Settings>,
    /// Names of the sources shown; empty for all.
    pub(crate) sources: Vec<Arc<str>>,
    /// The SOA's names in wire form, root included.
    pub(crate) mname: Vec<u8>,
    pub(crate) rname: Vec<u8>,
}

impl Zones {
    /// The zones, longest apex first.
    #[must_use]
    pub fn zones(&self) -> &[Zone] {
        &self.zones
    }

    /// The SOA serial of all zones.
    #[inline]
    #[must_use]
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// Names that are not served as wished, in all zones.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The first zone that serves `address`, and the names it goes by there.
    pub(crate) fn reverse(&self, address: IpAddr) -> Option<(&Zone, &[(PtrName, Claims)])> {
        self.zones.iter().find_map(|zone| Some((zone, zone.reverse.get(address)?)))
    }
}

impl Zone {
    /// Its apex as configured, without a dot at the end.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.fixed.name
    }

    /// False while a required source that the zone shows has no data: a name that is not there may exist.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Number of names in the index, empty non-terminals included; not those found inside a service's entry.
    #[must_use]
    pub fn name_count(&self) -> usize {
        self.names.len() + self.listed.len()
    }

    /// The settings of a zone of the schema `mesos-dns`.
    #[must_use]
    pub fn mesos_dns(&self) -> Option<&Arc<mesos_dns::Settings>> {
        self.fixed.listing.as_ref().map(|listing| &listing.settings)
    }

    /// Every owner name of the zone as text, sorted: the index, what is found inside entries, and the apex.
    /// Walks everything; for tests and tools.
    #[must_use]
    pub fn owner_names(&self) -> Vec<String> {
        let mut all = vec![name_to_text(&self.fixed.apex)];
        all.extend(self.listed.iter().map(|(name, _)| name_to_text(&[name, &self.fixed.apex[..]].concat())));
        for (name, standing) in self.names.iter() {
            let full = name_to_text(&[&name, &self.fixed.apex[..]].concat());
            if let names::Standing::Service(entry, part) = standing {
                all.extend(
                    entry.inner_names(part.of(entry)).into_iter().map(|inner| format!("{inner}{full}")),
                );
            }
            all.push(full);
        }
        all.sort();
        all.dedup();
        all
    }

    /// Every address that has a PTR record here, sorted. Walks everything; for tests and tools.
    #[must_use]
    pub fn reverse_addresses(&self) -> Vec<IpAddr> {
        let mut all: Vec<IpAddr> = self.reverse.addresses().chain(self.listed.pointed_addresses()).collect();
        all.sort();
        all
    }

    /// What stands at this edge's own name.
    pub(crate) fn edge(&self) -> Option<&NodeEntry> {
        match self.names.get(&self.fixed.edge)? {
            names::Standing::Node(node) => Some(node),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn listed(&self) -> &Listed {
        &self.listed
    }

    #[inline]
    pub(crate) fn fixed(&self) -> &Fixed {
        &self.fixed
    }
}
