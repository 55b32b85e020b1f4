//! Compiles the rules: all of them at start and on reload, later only those of the hosts that a change names.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;
use portolan_table::{
    Changes, Core, HostMatch, RouteSpec, Service, ServiceChange, ServiceName, ShardMap, ViewBuilder,
};

use super::path::HostRules;
use super::sets::RuleSetsWriter;
use super::{Route, Routes};
use crate::balance::ServiceTables;
use crate::{Config, UpstreamConfig};

/// Builds [`Routes`] out of the configuration and the rules that services bring along.
///
/// A change that touches endpoints alone leaves the view as it is, unless the service's policy keeps tables over
/// them (weights that differ, consistent hashing): those are made anew for that service.
#[derive(Debug)]
pub struct RouteBuilder {
    config: Arc<Config>,
    default: Arc<UpstreamConfig>,
    own: HashMap<ServiceName, Arc<UpstreamConfig>>,
    rules: RuleSetsWriter,
    tables: Tables,
}

/// What changes under one host of one listener.
#[derive(Default)]
struct Edit<'a> {
    removed: Vec<&'a RouteSpec>,
    added: Vec<Arc<Route>>,
}

type Edits<'a> = HashMap<(Option<Arc<str>>, HostMatch), Edit<'a>, FixedState>;

impl RouteBuilder {
    /// A builder for this configuration; on reload, replace the view by a new one's.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            config: Arc::new(config.clone()),
            default: Arc::new(config.upstream.clone()),
            own: config.services.iter().map(|(name, own)| (name.clone(), Arc::new(own.clone()))).collect(),
            rules: RuleSetsWriter::default(),
            tables: Tables::new(),
        }
    }

    fn policy(&self, service: &ServiceName) -> &Arc<UpstreamConfig> {
        self.own.get(service).unwrap_or(&self.default)
    }

    fn add<'a>(&self, spec: &'a RouteSpec, edits: &mut Edits<'a>) {
        let route = Arc::new(Route::new(spec.clone(), |service| Arc::clone(self.policy(service))));
        edits.entry(place(spec)).or_default().added.push(route);
    }

    /// True if that changed anything.
    fn set_tables(&mut self, service: &Service) -> bool {
        let built = ServiceTables::build(service, &self.policy(&service.name).balance);
        let Some(built) = built else { return self.remove_tables(&service.name) };
        let value = Arc::new((service.name.clone(), built));
        self.tables.insert(service.name.index_hash(), value, (), |(name, _), ()| *name == service.name);
        true
    }

    fn remove_tables(&mut self, service: &ServiceName) -> bool {
        self.tables.remove(service.index_hash(), |(name, _), ()| name == service)
    }

    fn apply(&mut self, edits: Edits<'_>) {
        for ((listener, host), edit) in edits {
            let set = self.rules.set_mut(listener.as_ref());
            let mut rules = set.host(&host).map_or(&[][..], HostRules::routes).to_vec();
            rules.retain(|route| !edit.removed.contains(&&route.spec));
            rules.extend(edit.added);
            set.set_host(&host, rules);
        }
        self.rules.settle();
    }

    fn routes(&mut self) -> Routes {
        Routes { config: Arc::clone(&self.config), rules: self.rules.view(), tables: self.tables.view() }
    }
}

/// What balancing keeps about services beyond their endpoints.
type Tables = ShardMap<(ServiceName, ServiceTables)>;

impl ViewBuilder for RouteBuilder {
    type View = Routes;

    fn build(&mut self, core: &Core) -> Routes {
        (self.rules, self.tables) = (RuleSetsWriter::default(), Tables::new());
        let config = Arc::clone(&self.config);
        let mut edits = Edits::default();
        for spec in core.services().flat_map(|service| rules(service)).chain(&config.routes) {
            self.add(spec, &mut edits);
        }
        self.apply(edits);
        for service in core.services() {
            self.set_tables(service);
        }
        self.routes()
    }

    fn update(&mut self, _: &Routes, _: &Core, changes: &Changes) -> Option<Routes> {
        let mut edits = Edits::default();
        for change in changes.services.iter().filter(|change| rules_differ(change)) {
            for spec in change.before.iter().flat_map(|service| rules(service)) {
                edits.entry(place(spec)).or_default().removed.push(spec);
            }
            for spec in change.after.iter().flat_map(|service| rules(service)) {
                self.add(spec, &mut edits);
            }
        }
        let mut changed = !edits.is_empty();
        self.apply(edits);
        for change in &changes.services {
            changed |= match &change.after {
                Some(service) => self.set_tables(service),
                None => self.remove_tables(&change.name),
            };
        }
        changed.then(|| self.routes())
    }
}

/// The rules that a service brings along, over all its definitions.
fn rules(service: &Service) -> impl Iterator<Item = &RouteSpec> {
    service.specs.iter().flat_map(|(_, spec)| &spec.routes)
}

fn rules_differ(change: &ServiceChange) -> bool {
    let before = change.before.iter().flat_map(|service| rules(service));
    let after = change.after.iter().flat_map(|service| rules(service));
    !before.eq(after)
}

fn place(spec: &RouteSpec) -> (Option<Arc<str>>, HostMatch) {
    (spec.matches.listener.clone(), spec.matches.host.clone())
}
