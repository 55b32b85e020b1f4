//! The compiled rules of one generation.

use std::sync::Arc;

use portolan_table::{HostMatch, PathMatch, ServiceName, Shards};

use super::explain::{Step, Verdict};
use super::host::Host;
use super::order::{self, prefix_key};
use super::path::HostRules;
use super::sets::RuleSets;
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
    pub(super) rules: RuleSets,
    /// What balancing needs beyond the endpoints, for the services that need any.
    pub(super) tables: Shards<(ServiceName, ServiceTables)>,
}

impl Routes {
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
        let shared = self.rules.shared.find(host, query);
        let Some(own) = self.rules.of(query.listener).and_then(|rules| rules.find(host, query)) else {
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
        self.rules.of(listener)?.host(&HostMatch::Any)?.routes().iter().find(|route| {
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
        self.rules.sets().flat_map(|(_, rules)| rules.hosts()).flat_map(|(_, host)| host.routes())
    }

    /// Rules that can never be chosen. For the control path: it compares every rule with its neighbours.
    #[must_use]
    pub fn losers(&self) -> Vec<Loser> {
        let mut losers = Vec::new();
        for (listener, rules) in self.rules.sets() {
            for (host, own) in rules.hosts() {
                let shared =
                    listener.and_then(|_| self.rules.shared.host(&host)).map_or(&[][..], HostRules::routes);
                collect_losers(listener, own.routes(), shared, &mut losers);
            }
        }
        losers
    }

    /// What balancing keeps about `service` beyond its endpoints.
    pub(crate) fn tables(&self, hash: u64, service: &ServiceName) -> Option<&ServiceTables> {
        self.tables.get(hash, |(name, _), ()| name == service).map(|found| &found.1)
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
