//! What the server counts of connections. Queries and replies of both transports are in [`crate::metrics`].

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Name, help (with the unit) and labels of every series.
pub const METRICS: &[(&str, &str, &[&str])] = &[
    ("portolan_dns_tcp_connections", "TCP connections open", &[]),
    (
        "portolan_dns_tcp_accepted_total",
        "TCP connections accepted, by what became of them at once",
        &["outcome"],
    ),
    ("portolan_dns_tcp_closed_total", "TCP connections closed, by reason", &["reason"]),
    ("portolan_dns_signatures_total", "Signed requests, by whether the signature was good", &["outcome"]),
    ("portolan_dns_slow_overload_total", "UDP queries answered SERVFAIL as too many were in progress", &[]),
];

/// Why a TCP connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    /// The client closed it.
    Client,
    /// No whole query for `tcp_idle`.
    Idle,
    /// It was the oldest idle one, and a new one needed its place.
    Evicted,
    /// The client did not take its replies.
    Slow,
    /// What came is no DNS message.
    Malformed,
    /// The network.
    Broken,
    /// The client may not ask, and is not answered.
    Denied,
    /// The server stops.
    Stopped,
}

impl Closed {
    const fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Idle => "idle",
            Self::Evicted => "evicted",
            Self::Slow => "slow",
            Self::Malformed => "malformed",
            Self::Broken => "broken",
            Self::Denied => "denied",
            Self::Stopped => "stopped",
        }
    }
}

/// The series of signed requests.
///
/// # Errors
/// If the registry has it already.
pub(super) fn signatures(registry: &Registry) -> prometheus::Result<IntCounterVec> {
    let signatures = IntCounterVec::new(Opts::new(METRICS[3].0, METRICS[3].1), METRICS[3].2)?;
    // From the start, so that an alert on a first bad one has something to rise from.
    for outcome in ["good", "bad_key", "bad_signature", "bad_time", "bad_truncation", "malformed"] {
        signatures.with_label_values(&[outcome]);
    }
    registry.register(Box::new(signatures.clone()))?;
    Ok(signatures)
}

#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) connections: IntGauge,
    accepted: IntCounterVec,
    closed: IntCounterVec,
    pub(super) overload: IntCounter,
}

impl Metrics {
    /// Builds the series of [`METRICS`] and registers them.
    ///
    /// # Errors
    /// If the registry has one of the names already.
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let opts = |index: usize| Opts::new(METRICS[index].0, METRICS[index].1);
        let metrics = Self {
            connections: IntGauge::with_opts(opts(0))?,
            accepted: IntCounterVec::new(opts(1), METRICS[1].2)?,
            closed: IntCounterVec::new(opts(2), METRICS[2].2)?,
            overload: IntCounter::with_opts(opts(4))?,
        };
        registry.register(Box::new(metrics.connections.clone()))?;
        registry.register(Box::new(metrics.accepted.clone()))?;
        registry.register(Box::new(metrics.closed.clone()))?;
        registry.register(Box::new(metrics.overload.clone()))?;
        Ok(metrics)
    }

    /// `served`, `refused` (over the limit) or `failed` (the kernel gave none).
    pub(super) fn accepted(&self, outcome: &str) {
        self.accepted.with_label_values(&[outcome]).inc();
    }

    pub(super) fn closed(&self, reason: Closed) {
        self.closed.with_label_values(&[reason.label()]).inc();
    }
}
