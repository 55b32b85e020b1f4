//! Routing rules: what a listener's request or connection must look like, and which upstreams get it.
//!
//! Rules come from the configuration file and from schedulers' labels and objects; both are [`RouteSpec`]s.
//! The proxy compiles them; this module only says what they are.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::name::ServiceName;

/// One routing rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteSpec {
    /// Name of the rule, unique within its origin; the last step of the total order and what `explain` shows.
    pub name: Arc<str>,
    /// Where the rule was written. The file wins over schedulers.
    pub origin: RouteOrigin,
    /// When the rule was made, in milliseconds since the Unix epoch; the older of two equal rules wins. 0 in a file.
    pub created_ms: u64,
    /// What must hold.
    pub matches: RouteMatch,
    /// Who gets the request, by weight. One target or more; all weights 0 means nobody.
    pub targets: Vec<RouteTarget>,
}

/// Where a rule was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteOrigin {
    /// The configuration file, with the position of the rule in it.
    File(u32),
    /// A service of the named source, by its native key.
    Source(Arc<str>, Arc<str>),
}

/// Conditions of a rule; all must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteMatch {
    /// Name of the listener; `None` for every one whose protocol fits.
    pub listener: Option<Arc<str>>,
    /// The host asked for, without port, lower case.
    pub host: HostMatch,
    /// The path asked for.
    pub path: PathMatch,
    /// Methods, upper case; empty for any.
    pub methods: Vec<Arc<str>>,
    /// Headers; all must match.
    pub headers: Vec<HeaderMatch>,
}

/// Condition on the host (or on the server name of a TLS connection).
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostMatch {
    /// Exactly this host, lower case.
    Exact(Arc<str>),
    /// Any depth below this domain, not the domain itself. Written `*.example.com`, held as `example.com`.
    Below(Arc<str>),
    /// Any host, or none.
    #[default]
    Any,
}

/// Condition on the path (without the query).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathMatch {
    /// Exactly this path.
    Exact(Arc<str>),
    /// This path and everything below it, by whole segments: `/a` matches `/a` and `/a/b`, not `/ab`.
    Prefix(Arc<str>),
    /// A regular expression that must match the whole path.
    Regex(Arc<str>),
}

impl Default for PathMatch {
    fn default() -> Self {
        Self::Prefix("/".into())
    }
}

/// Condition on one header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderMatch {
    /// Header name, lower case.
    pub name: Arc<str>,
    /// Exact value; `None` if the header only has to be there.
    pub value: Option<Arc<str>>,
}

/// One upstream of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTarget {
    /// The service.
    pub service: ServiceName,
    /// Name or index of its port; `None` for the first.
    pub port: Option<Arc<str>>,
    /// Share of requests among the rule's targets.
    pub weight: u32,
}
