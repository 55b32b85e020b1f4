//! Which rule a request belongs to: the rules of the file and of the services, compiled for lookup.
//!
//! ```text
//!  Config::routes ─┐                    listener ─► host: exact, then longest wildcard, then none
//!                  ├─► RouteBuilder ─►                └─► path: exact, then longest prefix, then regex
//!  services' rules ┘   (a view)                             └─► method, headers, origin, age, name
//! ```
//!
//! The order is total; the first rule in it whose every condition holds is the answer. Rules
//! are kept per listener and host, so a change of one service's rules compiles the hosts it names and no other.
//! A lookup takes no lock and allocates nothing.

mod builder;
mod explain;
mod fields;
mod host;
mod judge;
mod metrics;
mod order;
mod path;
mod sets;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use portolan_table::{PathMatch, RouteSpec, ServiceName};

pub use builder::RouteBuilder;
pub use explain::{Step, Verdict};
pub use fields::Fields;
pub(crate) use metrics::register;
pub use table::{Loser, Query, Routes};

use crate::UpstreamConfig;

/// One rule, ready for use.
#[derive(Debug)]
pub struct Route {
    /// The rule as written.
    pub spec: RouteSpec,
    /// Its upstreams, in the order of the rule.
    pub targets: Box<[Target]>,
    /// Running sums of the weights; the last is the whole.
    sums: Box<[u64]>,
    regex: Option<path::Pattern>,
    problem: Option<String>,
}

/// One upstream of a rule, with everything that can be known before a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// The service. It need not exist yet.
    pub service: ServiceName,
    /// Name or index of its port; `None` for the first.
    pub port: Option<Arc<str>>,
    /// Share of requests among the rule's targets.
    pub weight: u32,
    /// Policy towards its endpoints.
    pub config: Arc<UpstreamConfig>,
    /// [`ServiceName::index_hash`] of the service.
    pub service_hash: u64,
    /// Hash of service and port: what per-worker state is found by.
    pub key: u64,
}

impl Route {
    /// Compiles a rule; `config` says which policy a service has.
    fn new(spec: RouteSpec, config: impl Fn(&ServiceName) -> Arc<UpstreamConfig>) -> Self {
        let targets: Box<[Target]> = spec
            .targets
            .iter()
            .map(|target| Target {
                service: target.service.clone(),
                port: target.port.clone(),
                weight: target.weight,
                config: config(&target.service),
                service_hash: target.service.index_hash(),
                key: target_key(&target.service, target.port.as_deref()),
            })
            .collect();
        let mut sum = 0;
        let sums = targets
            .iter()
            .map(|target| {
                sum += u64::from(target.weight);
                sum
            })
            .collect();
        let (regex, problem) = match &spec.matches.path {
            PathMatch::Regex(text) => match path::Pattern::new(text) {
                Ok(regex) => (Some(regex), None),
                Err(problem) => (None, Some(problem)),
            },
            _ => (None, None),
        };
        Self { spec, targets, sums, regex, problem }
    }

    /// What is wrong with the rule, so that it matches nothing: its pattern cannot be compiled.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// The target that `random` (any 64 bits) falls on, by weight; `None` if all weights are 0.
    #[inline]
    #[must_use]
    pub fn target(&self, random: u64) -> Option<&Target> {
        let whole = *self.sums.last()?;
        if whole == 0 {
            return None;
        }
        if self.targets.len() == 1 {
            return self.targets.first();
        }
        let point = ((u128::from(random) * u128::from(whole)) >> 64) as u64;
        self.targets.get(self.sums.partition_point(|sum| *sum <= point))
    }
}

fn target_key(service: &ServiceName, port: Option<&str>) -> u64 {
    let port = port.map_or(0, |port| portolan_table::index_hash(port.as_bytes()) | 1);
    service.index_hash() ^ port.rotate_left(23)
}
