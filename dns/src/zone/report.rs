//! What the zones tell operators: names that cannot be served as wished, and counts.

use core::fmt;
use std::sync::Arc;

use portolan_table::ServiceName;
use prometheus::{IntCounter, IntGaugeVec, Opts, Registry};

/// A name that is not served as its owner would expect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The service.
    pub service: ServiceName,
    /// What is wrong.
    pub kind: ProblemKind,
    /// The label or suffix it is about; may be empty.
    pub detail: Arc<str>,
}

/// Kinds of [`Problem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProblemKind {
    /// The service's own name ends in a label with a meaning of its own; that meaning wins.
    ReservedLabel,
    /// A name would be longer than 255 octets and is left out.
    NameTooLong,
    /// Names of instances, and with them SRV records, would be longer than 255 octets and are left out.
    InstanceNameTooLong,
}

impl ProblemKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::ReservedLabel, Self::NameTooLong, Self::InstanceNameTooLong];

    /// The word used in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReservedLabel => "reserved_label",
            Self::NameTooLong => "name_too_long",
            Self::InstanceNameTooLong => "instance_name_too_long",
        }
    }
}

impl Problem {
    pub(crate) fn new(service: &ServiceName, kind: ProblemKind, detail: &str) -> Self {
        Self { service: service.clone(), kind, detail: detail.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, kind, detail } = self;
        match kind {
            ProblemKind::ReservedLabel => {
                write!(
                    f,
                    "{service}: the last label {detail:?} is reserved; reachable by its source-qualified name"
                )
            }
            ProblemKind::NameTooLong => {
                write!(f, "{service}: the name with suffix {detail:?} is longer than 255 octets and left out")
            }
            ProblemKind::InstanceNameTooLong => {
                write!(
                    f,
                    "{service}: instance names with suffix {detail:?} are longer than 255 octets; no SRV there"
                )
            }
        }
    }
}

/// Metrics of the zones. Clones share the same counters; made once per process, handed to every builder.
#[derive(Debug, Clone)]
pub struct ZoneMetrics {
    /// Owner names served, by zone.
    pub(crate) names: IntGaugeVec,
    /// Names not served as wished, by zone and kind.
    pub(crate) problems: IntGaugeVec,
    /// Times the serial's high-water mark could not be kept.
    pub(crate) serial_failures: IntCounter,
}

impl ZoneMetrics {
    /// Registers the metrics, once per process.
    ///
    /// # Errors
    /// When a metric of the same name is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            names: IntGaugeVec::new(
                Opts::new(
                    "portolan_dns_zone_names",
                    "Owner names in the index of a zone, empty non-terminals included.",
                ),
                &["zone"],
            )?,
            problems: IntGaugeVec::new(
                Opts::new("portolan_dns_zone_problems", "Names that are not served as wished, by kind."),
                &["zone", "kind"],
            )?,
            serial_failures: IntCounter::new(
                "portolan_dns_serial_failures_total",
                "Times the high-water mark of the SOA serial could not be read or written.",
            )?,
        };
        registry.register(Box::new(metrics.names.clone()))?;
        registry.register(Box::new(metrics.problems.clone()))?;
        registry.register(Box::new(metrics.serial_failures.clone()))?;
        Ok(metrics)
    }
}
