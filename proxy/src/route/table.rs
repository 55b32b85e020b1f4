//! The compiled rules of one generation.

use std::sync::Arc;

use portolan_table::{HostMatch, PathMatch};

use super::explain::{Step, Verdict};
use super::host::Host;
use super::order::prefix_key;
use super::{Fields, Route};
use crate::Config;

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

/// A rule that can never be chosen on a listener, because another with the same conditions comes before it.
#[derive(Debug, Clone)]
pub struct Loser {
    /// The listener.
    pub listener: Arc<str>,
    /// The rule that loses.
    pub route: Arc<Route>,
    /// The rule that wins.
    pub winner: Arc<Route>,
}

/// The rules of one generation, and the configuration they were compiled with. A view of the snapshot.
#[derive(Debug, Clone)]
pub struct Routes {
    pub(super) config: Arc<Config>,
    pub(super) routes: Vec<Arc<Route>>,
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
        self.routes.iter().find(|route| judge(route, query) == Verdict::Chosen)
    }

    /// The rule for connections of a `tcp` listener. No lock, no allocation.
    #[must_use]
    pub fn tcp(&self, listener: &str) -> Option<&Arc<Route>> {
        self.routes.iter().find(|route| route.spec.matches.listener.as_deref() == Some(listener))
    }

    /// Every rule in the order in which rules are asked, with what `query` makes of it. For the control path.
    #[must_use]
    pub fn explain<F: Fields + ?Sized>(&self, query: &Query<'_, F>) -> Vec<Step> {
        let mut found = false;
        self.iter()
            .map(|route| {
                let mut verdict = judge(route, query);
                if verdict == Verdict::Chosen && core::mem::replace(&mut found, true) {
                    verdict = Verdict::Later;
                }
                Step { route: Arc::clone(route), verdict }
            })
            .collect()
    }

    /// All rules, in the total order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }

    /// Rules that can never be chosen.
    #[must_use]
    pub fn losers(&self) -> Vec<Loser> {
        Vec::new()
    }
}

fn judge<F: Fields + ?Sized>(route: &Route, query: &Query<'_, F>) -> Verdict {
    let matches = &route.spec.matches;
    if matches.listener.as_deref().is_some_and(|listener| listener != query.listener) {
        return Verdict::Listener;
    }
    let host = query.host.and_then(Host::parse);
    let host = host.as_ref().map_or(&b""[..], Host::as_bytes);
    let fits = match &matches.host {
        HostMatch::Exact(name) => name.as_bytes() == host,
        HostMatch::Below(domain) => {
            host.strip_suffix(domain.as_bytes()).is_some_and(|rest| rest.len() > 1 && rest.ends_with(b"."))
        }
        HostMatch::Any => true,
    };
    if !fits {
        return Verdict::Host;
    }
    let fits = match &matches.path {
        PathMatch::Exact(path) => **path == *query.path,
        PathMatch::Prefix(prefix) => query
            .path
            .strip_prefix(prefix_key(prefix))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || prefix_key(prefix).is_empty()),
        PathMatch::Regex(_) => false,
    };
    if !fits {
        return Verdict::Path;
    }
    if !matches.methods.is_empty() && !matches.methods.iter().any(|method| **method == *query.method) {
        return Verdict::Method;
    }
    if !matches.headers.iter().all(|header| query.fields.has(&header.name, header.value.as_deref())) {
        return Verdict::Header;
    }
    Verdict::Chosen
}
