//! What the zones tell operators: names that cannot be served as wished, and counts.

use core::fmt;
use std::sync::Arc;

use prometheus::{IntCounter, IntGaugeVec, Opts, Registry};

/// A name that is not served as its owner would expect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Whose: the name of a service, of a source, or of the node that keeps its name.
    pub subject: Arc<str>,
    /// What is wrong.
    pub kind: ProblemKind,
    /// The label, suffix or other name it is about.
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
    /// A port's own name gives no SRV name: another port has the same label, or the label means something else.
    PortLabel,
    /// Two fault domains of a service have one label; the first by name keeps it.
    ZoneLabel,
    /// A service has instances in more fault domains than get names of their own.
    TooManyZones,
    /// Two nodes have one label; this edge keeps it, or else the first by name.
    NodeLabel,
    /// The label of a source is none, or that of an earlier source: it has no names under `src`.
    SourceLabel,
}

impl ProblemKind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::ReservedLabel,
        Self::NameTooLong,
        Self::InstanceNameTooLong,
        Self::PortLabel,
        Self::ZoneLabel,
        Self::TooManyZones,
        Self::NodeLabel,
        Self::SourceLabel,
    ];

    /// The word used in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReservedLabel => "reserved_label",
            Self::NameTooLong => "name_too_long",
            Self::InstanceNameTooLong => "instance_name_too_long",
            Self::PortLabel => "port_label",
            Self::ZoneLabel => "zone_label",
            Self::TooManyZones => "too_many_zones",
            Self::NodeLabel => "node_label",
            Self::SourceLabel => "source_label",
        }
    }
}

impl Problem {
    pub(crate) fn new(subject: &str, kind: ProblemKind, detail: &str) -> Self {
        Self { subject: subject.into(), kind, detail: detail.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, kind, detail } = self;
        match kind {
            ProblemKind::ReservedLabel => {
                write!(
                    f,
                    "{subject}: the last label {detail:?} is reserved; reachable by its source-qualified name"
                )
            }
            ProblemKind::NameTooLong => {
                write!(f, "{subject}: the name with suffix {detail:?} is longer than 255 octets and left out")
            }
            ProblemKind::InstanceNameTooLong => {
                write!(
                    f,
                    "{subject}: instance names with suffix {detail:?} are longer than 255 octets; no SRV there"
                )
            }
            ProblemKind::PortLabel => {
                write!(
                    f,
                    "{subject}: the port {detail:?} has no SRV name of its own but its number: \
                     the label is taken, reserved or too long"
                )
            }
            ProblemKind::ZoneLabel => {
                write!(f, "{subject}: the zone {detail:?} has the label of another one, which keeps it")
            }
            ProblemKind::TooManyZones => {
                write!(f, "{subject}: the zone {detail:?} and more have no names; there are too many")
            }
            ProblemKind::NodeLabel => {
                write!(f, "node {subject}: the node {detail:?} has the same label and is not in its answers")
            }
            ProblemKind::SourceLabel => {
                write!(
                    f,
                    "source {subject}: the label {detail:?} is none or taken; no source-qualified names"
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
