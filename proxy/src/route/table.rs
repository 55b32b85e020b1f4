//! The compiled rules of one generation.

use std::sync::Arc;

use portolan_table::{HostMatch, PathMatch, ServiceName, ShardMap, index_hash};

use super::explain::{Step, Verdict};
use super::host::Host;
use super::order::{self, prefix_key};
use super::path::HostRules;
use super::{Fields, Route};
use crate::Config;
use crate::balance::ServiceTables;

/// What a request asks for, as far as rules look at it.
#[derive(Debug)]
pub struct Query<'a, F: ?Sized> {
    /// Name of the listener it came in by.
    pub listener: &'a str,
    /// Value of the Host field or the authority; port and case don't matter.
    pub host: Option<&'a [u8]>,
    /// Path without the query.
    pub path: &'a str,
    /// Method, upper case.
    pub method: &'a str,
    /// Header fields.
    pub fields: &'a F,
}

/// A rule that can never be chosen, because another with the same conditions comes before it.
#[derive(Debug, Clone)]
pub struct Loser {
    /// The listener on which it loses; `None` for all.
    pub listener: Option<Arc<str>>,
    /// The rule that loses.
    pub route: Arc<Route>,
    /// The rule that wins.
    pub winner: Arc<Route>,
}

/// The rules of one generation, and the configuration they were compiled with. A view of the snapshot.
#[derive(Debug, Clone)]
pub struct Routes {
    pub(super) config: Arc<Config>,
    /// Rules without a listener.
    pub(super) shared: RuleSet,
    /// Rules that name one.
    pub(super) named: Vec<(Arc<str>, RuleSet)>,
    /// What balancing needs beyond the endpoints, for the services that need any.
    pub(super) tables: ShardMap<(ServiceName, Arc<ServiceTables>)>,
}

impl Routes {
    pub(super) fn new(config: Arc<Config>) -> Self {
        Self { config, shared: RuleSet::default(), named: Vec::new(), tables: ShardMap::new() }
    }

    /// The configuration in force in this generation.
    #[inline]
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// The rule a request goes by; `None` if there is none (404). No lock, no allocation.
    #[must_use]
    pub fn find<F: Fields + ?Sized>(&self, query: &Query<'_, F>) -> Option<&Arc<Route>> {
        let host = query.host.and_then(Host::parse);
        let host = host.as_ref().map(Host::as_bytes);
        let shared = self.shared.find(host, query);
        let Some(own) = self.of(query.listener).and_then(|rules| rules.find(host, query)) else {
            return shared;
        };
        match shared {
            Some(shared) if order::compare(&shared.spec, &own.spec).is_lt() => Some(shared),
            _ => Some(own),
        }
    }

    /// The rule for connections of a `tcp` listener: the first that names it and asks nothing that a connection
    /// cannot show. No lock, no allocation.
    #[must_use]
    pub fn tcp(&self, listener: &str) -> Option<&Arc<Route>> {
        self.of(listener)?.any.as_ref()?.routes().iter().find(|route| {
            let matches = &route.spec.matches;
            let any_path =
                matches!(&matches.path, PathMatch::Prefix(prefix) if prefix_key(prefix).is_empty());
            any_path && matches.methods.is_empty() && matches.headers.is_empty()
        })
    }

    /// Every rule in the order in which rules are asked, with what `query` makes of it. For the control path: it
    /// looks at all rules one by one.
    #[must_use]
    pub fn explain<F: Fields + ?Sized>(&self, query: &Query<'_, F>) -> Vec<Step> {
        let host = query.host.and_then(Host::parse);
        let host = host.as_ref().map(Host::as_bytes);
        let mut routes: Vec<_> = self.iter().collect();
        routes.sort_by(|a, b| order::compare(&a.spec, &b.spec));
        let mut found = false;
        let judge = |route: &Arc<Route>| {
            let mut verdict = route.judge(host, query);
            if verdict == Verdict::Chosen && core::mem::replace(&mut found, true) {
                verdict = Verdict::Later;
            }
            Step { route: Arc::clone(route), verdict }
        };
        routes.into_iter().map(judge).collect()
    }

    /// All rules, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.sets().flat_map(|(_, rules)| rules.hosts()).flat_map(|(_, host)| host.routes())
    }

    /// Rules that can never be chosen. For the control path: it compares every rule with its neighbours.
    #[must_use]
    pub fn losers(&self) -> Vec<Loser> {
        let mut losers = Vec::new();
        for (listener, rules) in self.sets() {
            for (host, own) in rules.hosts() {
                let shared =
                    listener.and_then(|_| self.shared.host(&host)).map_or(&[][..], HostRules::routes);
                collect_losers(listener, own.routes(), shared, &mut losers);
            }
        }
        losers
    }

    /// What balancing keeps about `service` beyond its endpoints.
    pub(crate) fn tables(&self, hash: u64, service: &ServiceName) -> Option<&ServiceTables> {
        self.tables.get(hash, |(name, _)| name == service).map(|(_, tables)| &**tables)
    }

    fn of(&self, listener: &str) -> Option<&RuleSet> {
        self.named.iter().find(|(name, _)| **name == *listener).map(|(_, rules)| rules)
    }

    fn sets(&self) -> impl Iterator<Item = (Option<&Arc<str>>, &RuleSet)> {
        let named = self.named.iter().map(|(name, rules)| (Some(name), rules));
        core::iter::once((None, &self.shared)).chain(named)
    }

    /// The rules with this listener condition, made if there are none.
    pub(super) fn set_mut(&mut self, listener: Option<&Arc<str>>) -> &mut RuleSet {
        let Some(listener) = listener else { return &mut self.shared };
        let at = match self.named.iter().position(|(name, _)| name == listener) {
            Some(at) => at,
            None => {
                self.named.push((Arc::clone(listener), RuleSet::default()));
                self.named.len() - 1
            }
        };
        &mut self.named[at].1
    }
}

/// Rules by host.
#[derive(Debug, Clone, Default)]
pub(super) struct RuleSet {
    exact: ShardMap<(Arc<str>, Arc<HostRules>)>,
    below: ShardMap<(Arc<str>, Arc<HostRules>)>,
    any: Option<Arc<HostRules>>,
    /// How many wildcards have so many labels: a host is cut only where some wildcard begins, so what a lookup
    /// costs is decided by the rules and not by the client.
    below_labels: Vec<u32>,
}

impl RuleSet {
    fn find<F: Fields + ?Sized>(&self, host: Option<&[u8]>, query: &Query<'_, F>) -> Option<&Arc<Route>> {
        let by_host = host.and_then(|host| self.by_host(host, query));
        by_host.or_else(|| self.any.as_ref()?.find(query))
    }

    fn by_host<F: Fields + ?Sized>(&self, host: &[u8], query: &Query<'_, F>) -> Option<&Arc<Route>> {
        let exact = probe(&self.exact, host).and_then(|rules| rules.find(query));
        if exact.is_some() || self.below.is_empty() {
            return exact;
        }
        let mut labels = memchr::memchr_iter(b'.', host).count() + 1;
        memchr::memchr_iter(b'.', host).find_map(|dot| {
            labels -= 1;
            // `*.x` asks for at least one octet before the dot.
            if dot == 0 || self.below_labels.get(labels).is_none_or(|count| *count == 0) {
                return None;
            }
            probe(&self.below, &host[dot + 1..])?.find(query)
        })
    }

    /// The rules of exactly this host condition.
    pub(super) fn host(&self, host: &HostMatch) -> Option<&HostRules> {
        match host {
            HostMatch::Exact(host) => probe(&self.exact, host.as_bytes()),
            HostMatch::Below(domain) => probe(&self.below, domain.as_bytes()),
            HostMatch::Any => self.any.as_deref(),
        }
    }

    /// Puts rules in the place of those of the host; an empty list takes the host out.
    pub(super) fn set_host(&mut self, host: &HostMatch, routes: Vec<Arc<Route>>) {
        let rules = (!routes.is_empty()).then(|| Arc::new(HostRules::new(routes)));
        match host {
            HostMatch::Exact(host) => drop(set(&mut self.exact, host, rules)),
            HostMatch::Below(domain) => {
                let labels = domain.split('.').count();
                if self.below_labels.len() <= labels {
                    self.below_labels.resize(labels + 1, 0);
                }
                self.below_labels[labels] += u32::from(rules.is_some());
                let before = set(&mut self.below, domain, rules);
                self.below_labels[labels] -= u32::from(before.is_some());
            }
            HostMatch::Any => self.any = rules,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.below.is_empty() && self.any.is_none()
    }

    fn hosts(&self) -> impl Iterator<Item = (HostMatch, &HostRules)> {
        let exact = self.exact.iter().map(|(host, rules)| (HostMatch::Exact(Arc::clone(host)), &**rules));
        let below = self.below.iter().map(|(host, rules)| (HostMatch::Below(Arc::clone(host)), &**rules));
        exact.chain(below).chain(self.any.iter().map(|rules| (HostMatch::Any, &**rules)))
    }
}

type Hosts = ShardMap<(Arc<str>, Arc<HostRules>)>;

#[inline]
fn probe<'a>(hosts: &'a Hosts, host: &[u8]) -> Option<&'a HostRules> {
    hosts.get(index_hash(host), |(own, _)| own.as_bytes() == host).map(|(_, rules)| &**rules)
}

fn set(
    hosts: &mut Hosts,
    host: &Arc<str>,
    rules: Option<Arc<HostRules>>,
) -> Option<(Arc<str>, Arc<HostRules>)> {
    let hash = index_hash(host.as_bytes());
    match rules {
        Some(rules) => hosts.insert(hash, (Arc::clone(host), rules), |(own, _)| own == host),
        None => hosts.remove(hash, |(own, _)| own == host),
    }
}

/// Finds the losers among the rules `own` of one host and listener, beside the rules `shared` of the same host
/// without a listener. Both are sorted.
fn collect_losers(
    listener: Option<&Arc<str>>,
    own: &[Arc<Route>],
    shared: &[Arc<Route>],
    losers: &mut Vec<Loser>,
) {
    let mut all: Vec<&Arc<Route>> = own.iter().chain(shared).collect();
    all.sort_by(|a, b| order::in_host(&a.spec, &b.spec));
    // Rules with the same conditions have the same rank up to their origin, so they are near each other, though
    // not always next to each other: other headers may stand between.
    for (at, route) in all.iter().enumerate() {
        let near = all[..at].iter().rev().take_while(|before| order::same_rank(&before.spec, &route.spec));
        let Some(winner) = near.filter(|before| order::same_conditions(&before.spec, &route.spec)).last()
        else {
            continue;
        };
        // Two rules without a listener are reported once, not for every listener.
        if listener.is_some()
            && route.spec.matches.listener.is_none()
            && winner.spec.matches.listener.is_none()
        {
            continue;
        }
        losers.push(Loser {
            listener: listener.cloned(),
            route: Arc::clone(route),
            winner: Arc::clone(winner),
        });
    }
}
