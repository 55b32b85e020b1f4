//! Keeps [`Zones`] in step with the table.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use portolan_table::{Changes, Core, NodeFact, Service, ServiceChange, ServiceName, ViewBuilder};
use tracing::{info, warn};

use super::entry::ServiceEntry;
use super::mesos_dns::{self, Listing};
use super::names::{NameData, NamesWriter};
use super::native::{Native, node_name};
use super::nodes::{claim_node, release_node};
use super::report::{Problem, ProblemKind, ZoneMetrics};
use super::reverse::{PtrName, ReverseWriter};
use super::schema::{Context, NodeName, OwnName, Schema, Source};
use super::serial::Serial;
use super::{Fixed, Listed, ListingFixed, Zone, Zones};
use crate::wire::text_to_name;
use crate::{Config, NodeConfig, Schema as SchemaName, ZoneConfig};

/// Compiles [`Zones`] from the table, then only what changes. One per configuration; a reload makes a new one.
#[derive(Debug)]
pub struct ZoneBuilder {
    config: Config,
    metrics: ZoneMetrics,
    serial: Serial,
    clock: fn() -> u64,
    /// In the order of [`Zones::zones`].
    states: Vec<State>,
}

/// What the builder keeps of one zone beside the zone itself.
#[derive(Debug)]
struct State {
    config: ZoneConfig,
    fixed: Arc<Fixed>,
    context: Context,
    names: NamesWriter,
    reverse: ReverseWriter,
    /// Of a schema that lists its records one by one; then the two before are empty.
    listing: Option<Listing>,
    problems: BTreeMap<Subject, Vec<Problem>>,
}

/// What a problem is kept under, until it is solved.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Sources,
    Service(ServiceName),
    /// A node, by its owner name.
    Node(Vec<u8>),
}

impl ZoneBuilder {
    /// A builder for the configured zones. `metrics` outlives it: a reload makes a new builder.
    #[must_use]
    pub fn new(config: &Config, metrics: ZoneMetrics) -> Self {
        Self::with_clock(config, metrics, unix_seconds)
    }

    /// The same with a clock of the caller's (Unix seconds), for the serial.
    #[must_use]
    pub fn with_clock(config: &Config, metrics: ZoneMetrics, clock: fn() -> u64) -> Self {
        let (serial, read) = Serial::open(config.state_dir.as_deref());
        report_serial(&metrics, read);
        let mut states: Vec<State> =
            config.zones.iter().filter_map(|zone| State::new(config, zone)).collect();
        states.sort_by_key(|state| core::cmp::Reverse(state.fixed.labels));
        Self { config: config.clone(), metrics, serial, clock, states }
    }

    fn next_serial(&mut self) -> u32 {
        let (serial, kept) = self.serial.advance((self.clock)());
        report_serial(&self.metrics, kept);
        serial
    }

    fn problems(&self) -> Arc<[Problem]> {
        self.states.iter().flat_map(|state| state.problems.values().flatten()).cloned().collect()
    }

    fn show_names(&self, zones: &Zones) {
        for zone in &zones.zones {
            self.metrics.names.with_label_values(&[zone.name()]).set(zone.name_count() as i64);
        }
    }

    /// Costs as much as there are problems: for when some came or went.
    fn show_problems(&self, zones: &Zones) {
        for (zone, state) in zones.zones.iter().zip(&self.states) {
            for kind in ProblemKind::ALL {
                let count = state.problems.values().flatten().filter(|problem| problem.kind == kind).count();
                self.metrics.problems.with_label_values(&[zone.name(), kind.as_str()]).set(count as i64);
            }
        }
    }
}

impl ViewBuilder for ZoneBuilder {
    type View = Zones;

    fn build(&mut self, core: &Core) -> Zones {
        // Zones of the configuration before may be gone, and their series with them.
        self.metrics.names.reset();
        self.metrics.problems.reset();
        let zones = self.states.iter_mut().map(|state| state.build(&self.config, core)).collect();
        let zones = Zones { zones, serial: self.next_serial(), problems: self.problems() };
        self.show_names(&zones);
        self.show_problems(&zones);
        info!(zones = zones.zones.len(), serial = zones.serial, "zones built");
        zones
    }

    fn update(&mut self, view: &Zones, core: &Core, changes: &Changes) -> Option<Zones> {
        if changes.sources && self.states.iter().any(|state| state.sources_differ(&self.config, core)) {
            return Some(self.build(core));
        }
        let mut next = view.clone();
        let mut changed = Changed::default();
        for (state, zone) in self.states.iter_mut().zip(&mut next.zones) {
            changed.merge(state.update(zone, core, changes));
        }
        if !changed.zone {
            return None;
        }
        next.serial = self.next_serial();
        if changed.problems {
            next.problems = self.problems();
            self.show_problems(&next);
        }
        self.show_names(&next);
        Some(next)
    }
}

/// What an update did.
#[derive(Debug, Clone, Copy, Default)]
struct Changed {
    zone: bool,
    problems: bool,
}

impl Changed {
    fn merge(&mut self, other: Self) {
        self.zone |= other.zone;
        self.problems |= other.problems;
    }
}

impl State {
    /// `None`, with a word in the log, if the zone's name is none; the configuration has checked it.
    fn new(config: &Config, zone: &ZoneConfig) -> Option<Self> {
        let Some(apex) = text_to_name(&zone.name.to_ascii_lowercase()) else {
            warn!(zone = &*zone.name, "not a domain name; the zone is not served");
            return None;
        };
        let edge = node_name(&config.node.name).unwrap_or_else(|| b"\x04edge\x04node".to_vec());
        let proxies = served(&config.node.proxy_addresses);
        let fixed = Fixed {
            name: Arc::clone(&zone.name),
            labels: labels(&apex),
            apex,
            edge,
            proxy4: proxies.iter().filter_map(|ip| v4(*ip)).collect(),
            proxy6: proxies.iter().filter_map(|ip| v6(*ip)).collect(),
            ttl: config.ttl,
            negative_ttl: config.negative_ttl,
            listing: None,
        };
        let (fixed, listing) = match &zone.schema {
            SchemaName::Native => (fixed, None),
            SchemaName::MesosDns(settings) => listed(fixed, settings, zone, &config.node)?,
        };
        Some(Self {
            config: zone.clone(),
            fixed: Arc::new(fixed),
            context: Context::default(),
            names: NamesWriter::default(),
            reverse: ReverseWriter::default(),
            listing,
            problems: BTreeMap::new(),
        })
    }

    /// The schema of a zone that compiles services to entries.
    fn schema(&self) -> &'static dyn Schema {
        &Native
    }

    fn context(&self, config: &Config, core: &Core) -> Context {
        Context::new(self.fixed.apex.len(), core.sources(), &self.config.sources, &config.txt_labels)
    }

    /// Sources were added, taken away or renamed: nothing compiled before holds.
    fn sources_differ(&self, config: &Config, core: &Core) -> bool {
        let next: Vec<Source> = self.context(config, core).sources;
        next != self.context.sources
    }

    fn is_complete(&self, core: &Core) -> bool {
        let shown = |name: &str| {
            self.config.sources.is_empty() || self.config.sources.iter().any(|shown| **shown == *name)
        };
        core.sources().iter().all(|source| source.has_data || !source.required || !shown(&source.name))
    }

    fn build(&mut self, config: &Config, core: &Core) -> Zone {
        self.context = self.context(config, core);
        self.problems.clear();
        let problems = core::mem::take(&mut self.context.problems);
        self.note(Subject::Sources, problems);
        self.names = NamesWriter::default();
        self.reverse = ReverseWriter::default();
        if let Some(listing) = &mut self.listing {
            let sources = self.context.sources.iter().map(|source| source.id).collect();
            listing.build(core, sources);
            return self.zone(self.is_complete(core));
        }
        self.edge(config);
        for service in core.services() {
            self.service(&service.name, None, Some(service));
        }
        for node in core.nodes() {
            self.node(None, Some(node));
        }
        self.zone(self.is_complete(core))
    }

    /// The zone as it stands, for readers.
    fn zone(&mut self, complete: bool) -> Zone {
        let (names, reverse) = (self.names.view(), self.reverse.view());
        let listed = self.listing.as_mut().map_or_else(Listed::default, Listing::view);
        Zone { fixed: Arc::clone(&self.fixed), names, reverse, listed, complete }
    }

    /// This edge's own names, which stand whatever the table holds.
    fn edge(&mut self, config: &Config) {
        let addresses = served(&config.node.addresses);
        let given = config.node.name.to_ascii_lowercase().into();
        let own = NodeName { name: self.fixed.edge.clone(), given, addresses };
        claim_node(&mut self.names, &own, true);
        let mut addresses = served(&config.node.proxy_addresses);
        addresses.extend(&own.addresses);
        for address in addresses {
            self.reverse.claim(address, PtrName::Node(self.fixed.edge.as_slice().into()));
        }
    }

    fn update(&mut self, zone: &mut Zone, core: &Core, changes: &Changes) -> Changed {
        let mut changed = Changed::default();
        if let Some(listing) = &mut self.listing {
            changed.zone = listing.update(core, changes);
            return self.completed(zone, core, changed);
        }
        for ServiceChange { name, before, after } in &changes.services {
            changed.merge(self.service(name, before.as_ref(), after.as_ref()));
        }
        for (before, after) in &changes.nodes {
            changed.merge(self.node(before.as_ref(), after.as_ref()));
        }
        self.completed(zone, core, changed)
    }

    fn completed(&mut self, zone: &mut Zone, core: &Core, mut changed: Changed) -> Changed {
        let complete = self.is_complete(core);
        changed.zone |= complete != zone.complete;
        if changed.zone {
            *zone = self.zone(complete);
        }
        changed
    }

    /// Takes a service from what it was to what it is. Costs the service's own names.
    fn service(
        &mut self,
        name: &ServiceName,
        before: Option<&Arc<Service>>,
        after: Option<&Arc<Service>>,
    ) -> Changed {
        let compile = |service: Option<&Arc<Service>>| {
            service.and_then(|service| self.schema().service(service, &self.context)).unwrap_or_default()
        };
        let (before, mut after) = (compile(before), compile(after));
        let mut problems = before.problems != after.problems;
        let zone_changed = before.names != after.names || before.entry != after.entry;
        if problems {
            self.note(Subject::Service(name.clone()), after.problems.clone());
        }
        if zone_changed {
            put_names(&mut self.names, &before.names, &after.names, after.entry.take());
        }
        sorted_difference(&before.nodes, &after.nodes, |node, _| self.names.touch(&node.name));
        sorted_difference(&before.reverse, &after.reverse, |(address, _), _| self.reverse.touch(*address));
        let mut seen = zone_changed;
        sorted_difference(&before.reverse, &after.reverse, |(address, name), more| {
            seen |= match more {
                true => self.reverse.claim(*address, name.clone()),
                false => self.reverse.release(*address, name),
            };
        });
        sorted_difference(&before.nodes, &after.nodes, |node, more| {
            let claimed = match more {
                true => claim_node(&mut self.names, node, false),
                false => release_node(&mut self.names, node),
            };
            seen |= claimed.seen;
            problems |= claimed.several && self.judge_node(&node.name);
        });
        Changed { zone: seen || problems, problems }
    }

    fn note(&mut self, subject: Subject, problems: Vec<Problem>) {
        for problem in &problems {
            warn!(zone = &*self.fixed.name, kind = problem.kind.as_str(), "{problem}");
        }
        if problems.is_empty() {
            self.problems.remove(&subject);
        } else {
            self.problems.insert(subject, problems);
        }
    }

    /// Notes who goes by the label of another node. True if that is news.
    fn judge_node(&mut self, name: &[u8]) -> bool {
        let mut problems = Vec::new();
        if let Some(entry) = self.names.node(name)
            && let Some(holder) = entry.holder()
        {
            let others = entry.holders.iter().filter(|other| other.given != holder.given);
            problems.extend(
                others.map(|other| Problem::new(&holder.given, ProblemKind::NodeLabel, &other.given)),
            );
        }
        let subject = Subject::Node(name.to_vec());
        let news = self.problems.get(&subject).map_or(&[][..], Vec::as_slice) != problems;
        if news {
            self.note(subject, problems);
        }
        news
    }

    /// Takes a node from what it was to what it is.
    fn node(&mut self, before: Option<&Arc<NodeFact>>, after: Option<&Arc<NodeFact>>) -> Changed {
        let name =
            |node: Option<&Arc<NodeFact>>| node.and_then(|node| self.schema().node(node, &self.context));
        let (before, after) = (name(before), name(after));
        let (mut seen, mut problems) = (false, false);
        for node in after.iter() {
            let claimed = claim_node(&mut self.names, node, false);
            seen |= claimed.seen;
            problems |= claimed.several && self.judge_node(&node.name);
            for address in &node.addresses {
                seen |= self.reverse.claim(*address, PtrName::Node(node.name.as_slice().into()));
            }
        }
        for node in before.iter() {
            let claimed = release_node(&mut self.names, node);
            seen |= claimed.seen;
            problems |= claimed.several && self.judge_node(&node.name);
            for address in &node.addresses {
                seen |= self.reverse.release(*address, &PtrName::Node(node.name.as_slice().into()));
            }
        }
        Changed { zone: seen || problems, problems }
    }
}

/// What a zone of listed records is told, on top of what all zones are. `None`, with a word in the log, if a name of
/// the SOA is none; the configuration has checked it.
fn listed(
    mut fixed: Fixed,
    settings: &mesos_dns::Settings,
    zone: &ZoneConfig,
    node: &NodeConfig,
) -> Option<(Fixed, Option<Listing>)> {
    let wire = |name: &str| text_to_name(&name.to_ascii_lowercase());
    let (Some(mname), Some(rname)) = (wire(&settings.soa_mname), wire(&settings.soa_rname)) else {
        warn!(zone = &*fixed.name, "a name of the SOA is no domain name; the zone is not served");
        return None;
    };
    let settings = Arc::new(settings.placed(&node.addresses));
    fixed.ttl = settings.ttl;
    fixed.negative_ttl = settings.ttl;
    let listing = Listing::new(&settings, &fixed.name, fixed.apex.len());
    fixed.listing = Some(ListingFixed { settings, sources: zone.sources.clone(), mname, rname });
    Some((fixed, Some(listing)))
}

/// Puts the new names in before the old ones go, so that empty names between them don't come and go.
fn put_names(names: &mut NamesWriter, before: &[OwnName], after: &[OwnName], entry: Option<ServiceEntry>) {
    if let Some(entry) = entry {
        let data = Arc::new(NameData::Service(entry));
        for (name, part) in after {
            names.put_service(name, &data, *part);
        }
    }
    for (name, _) in before {
        if after.binary_search_by(|(other, _)| other.cmp(name)).is_err() {
            names.remove(name);
        }
    }
}

/// Walks two sorted lists together: `each(item, true)` for what only `after` has, `each(item, false)` for
/// what only `before` has; additions of one value come before its removals.
fn sorted_difference<T: Ord>(before: &[T], after: &[T], mut each: impl FnMut(&T, bool)) {
    let (mut before, mut after) = (before, after);
    loop {
        match (before.split_first(), after.split_first()) {
            (None, None) => return,
            (Some((old, rest)), Some((new, others))) if old == new => {
                (before, after) = (rest, others);
                continue;
            }
            (Some((old, rest)), new) if new.is_none_or(|(new, _)| old < new) => {
                each(old, false);
                before = rest;
            }
            (_, Some((new, others))) => {
                each(new, true);
                after = others;
            }
            (Some(_), None) => return,
        }
    }
}

fn labels(name: &[u8]) -> usize {
    let mut count = 0;
    let mut at = 0;
    while let Some(len) = name.get(at).filter(|len| **len > 0) {
        at += usize::from(*len) + 1;
        count += 1;
    }
    count
}

/// The addresses that can be answered, sorted: an unspecified one is no place to connect to.
fn served(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut served: Vec<IpAddr> = addresses.iter().copied().filter(|ip| !ip.is_unspecified()).collect();
    served.sort();
    served.dedup();
    served
}

fn v4(address: IpAddr) -> Option<[u8; 4]> {
    if let IpAddr::V4(v4) = address { Some(v4.octets()) } else { None }
}

fn v6(address: IpAddr) -> Option<[u8; 16]> {
    if let IpAddr::V6(v6) = address { Some(v6.octets()) } else { None }
}

fn report_serial(metrics: &ZoneMetrics, outcome: io::Result<()>) {
    if let Err(error) = outcome {
        metrics.serial_failures.inc();
        warn!(%error, "the serial's high-water mark cannot be kept; the clock alone decides");
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
