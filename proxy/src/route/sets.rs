//! Rules by listener, then by host.

use std::sync::Arc;

use portolan_table::{HostMatch, ShardMap, Shards, index_hash};

use super::path::HostRules;
use super::table::Query;
use super::{Fields, Route};

/// The rules of all listeners, for readers.
#[derive(Debug, Clone, Default)]
pub(super) struct RuleSets {
    /// Rules without a listener.
    pub(super) shared: RuleSet,
    /// Rules that name one.
    named: Arc<[(Arc<str>, RuleSet)]>,
}

/// The same for the one who changes them.
#[derive(Debug, Default)]
pub(super) struct RuleSetsWriter {
    shared: RuleSetWriter,
    named: Vec<(Arc<str>, RuleSetWriter)>,
}

impl RuleSets {
    /// The rules that name `listener`.
    pub(super) fn of(&self, listener: &str) -> Option<&RuleSet> {
        self.named.iter().find(|(name, _)| **name == *listener).map(|(_, rules)| rules)
    }

    pub(super) fn sets(&self) -> impl Iterator<Item = (Option<&Arc<str>>, &RuleSet)> {
        let named = self.named.iter().map(|(name, rules)| (Some(name), rules));
        core::iter::once((None, &self.shared)).chain(named)
    }
}

impl RuleSetsWriter {
    /// The rules with this listener condition, made if there are none.
    pub(super) fn set_mut(&mut self, listener: Option<&Arc<str>>) -> &mut RuleSetWriter {
        let Some(listener) = listener else { return &mut self.shared };
        let at = match self.named.iter().position(|(name, _)| name == listener) {
            Some(at) => at,
            None => {
                self.named.push((Arc::clone(listener), RuleSetWriter::default()));
                self.named.len() - 1
            }
        };
        &mut self.named[at].1
    }

    /// To be called after changes: forgets listeners without rules, and makes the result independent of the order in
    /// which rules came, like the rest of a snapshot.
    pub(super) fn settle(&mut self) {
        self.named.retain(|(_, set)| !set.is_empty());
        self.named.sort_by(|(a, _), (b, _)| a.cmp(b));
    }

    /// The rules as they stand, for readers.
    pub(super) fn view(&mut self) -> RuleSets {
        let named = self.named.iter_mut().map(|(name, set)| (Arc::clone(name), set.view()));
        RuleSets { named: named.collect(), shared: self.shared.view() }
    }
}

/// Rules by host, for readers.
#[derive(Debug, Clone, Default)]
pub(super) struct RuleSet {
    exact: Shards<HostEntry>,
    below: Shards<HostEntry>,
    any: Option<Arc<HostRules>>,
    below_labels: Arc<[u32]>,
}

/// The same for the one who changes them.
#[derive(Debug, Default)]
pub(super) struct RuleSetWriter {
    exact: Hosts,
    below: Hosts,
    any: Option<Arc<HostRules>>,
    /// How many wildcards have so many labels: a host is cut only where some wildcard begins, so what a lookup
    /// costs is decided by the rules and not by the client.
    below_labels: Vec<u32>,
}

/// A host, and the rules for it.
type HostEntry = (Arc<str>, HostRules);
type Hosts = ShardMap<HostEntry>;

impl RuleSet {
    pub(super) fn find<F: Fields + ?Sized>(
        &self,
        host: Option<&[u8]>,
        query: &Query<'_, F>,
    ) -> Option<&Arc<Route>> {
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

    pub(super) fn hosts(&self) -> impl Iterator<Item = (HostMatch, &HostRules)> {
        let exact = self.exact.iter().map(|(entry, ())| (HostMatch::Exact(Arc::clone(&entry.0)), &entry.1));
        let below = self.below.iter().map(|(entry, ())| (HostMatch::Below(Arc::clone(&entry.0)), &entry.1));
        exact.chain(below).chain(self.any.iter().map(|rules| (HostMatch::Any, &**rules)))
    }
}

impl RuleSetWriter {
    /// The rules of exactly this host condition.
    pub(super) fn host(&self, host: &HostMatch) -> Option<&HostRules> {
        let find = |hosts, host| Some(&held(hosts, host)?.1);
        match host {
            HostMatch::Exact(host) => find(&self.exact, host),
            HostMatch::Below(domain) => find(&self.below, domain),
            HostMatch::Any => self.any.as_deref(),
        }
    }

    /// Puts rules in the place of those of the host; an empty list takes the host out.
    pub(super) fn set_host(&mut self, host: &HostMatch, routes: Vec<Arc<Route>>) {
        let rules = (!routes.is_empty()).then(|| HostRules::new(routes));
        match host {
            HostMatch::Exact(host) => {
                set(&mut self.exact, host, rules);
            }
            HostMatch::Below(domain) => {
                let labels = domain.split('.').count();
                if self.below_labels.len() <= labels {
                    self.below_labels.resize(labels + 1, 0);
                }
                self.below_labels[labels] += u32::from(rules.is_some());
                let replaced = set(&mut self.below, domain, rules);
                self.below_labels[labels] -= u32::from(replaced);
            }
            HostMatch::Any => self.any = rules.map(Arc::new),
        }
    }

    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.below.is_empty() && self.any.is_none()
    }

    fn view(&mut self) -> RuleSet {
        RuleSet {
            exact: self.exact.view(),
            below: self.below.view(),
            any: self.any.clone(),
            below_labels: self.below_labels.as_slice().into(),
        }
    }
}

#[inline]
fn probe<'a>(hosts: &'a Shards<HostEntry>, host: &[u8]) -> Option<&'a HostRules> {
    Some(&hosts.get(index_hash(host), |(own, _), ()| own.as_bytes() == host)?.1)
}

fn held<'a>(hosts: &'a Hosts, host: &Arc<str>) -> Option<&'a Arc<HostEntry>> {
    hosts.get(index_hash(host.as_bytes()), |(own, _), ()| own == host)
}

/// True if the host had rules.
fn set(hosts: &mut Hosts, host: &Arc<str>, rules: Option<HostRules>) -> bool {
    let hash = index_hash(host.as_bytes());
    let same = |(own, _): &HostEntry, ()| own == host;
    match rules {
        Some(rules) => hosts.insert(hash, Arc::new((Arc::clone(host), rules)), (), same),
        None => hosts.remove(hash, same),
    }
}
