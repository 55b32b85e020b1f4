//! What the forwarder counts.

use core::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Name, help (with the unit) and labels of every series.
pub const METRICS: &[(&str, &str, &[&str])] = &[
    ("portolan_dns_forward_queries_total", "Queries for names outside our zones, by outcome", &["outcome"]),
    (
        "portolan_dns_forward_tries_total",
        "Queries sent to resolvers, by how they ended",
        &["resolver", "outcome"],
    ),
    ("portolan_dns_forward_resolver_resting", "1 while a resolver that failed is asked last", &["resolver"]),
    ("portolan_dns_forward_foreign_total", "Packets from resolvers that answered no question of ours", &[]),
    ("portolan_dns_forward_in_flight", "Forwarded queries that wait for a resolver", &[]),
    ("portolan_dns_forward_cache_entries", "Answers held by the forwarder", &[]),
    (
        "portolan_dns_forward_seconds",
        "Time from a forwarded query to its answer, in seconds, cache included",
        &[],
    ),
];

/// How a forwarded query ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A resolver answered.
    Answered,
    /// The answer was in the cache.
    Cached,
    /// It waited for the answer to the same question by another client.
    Shared,
    /// No resolver, not allowed, or a question that is never forwarded.
    Refused,
    /// No resolver gave an answer in time.
    Failed,
    /// Too many were in flight, in all or of this client; or there was no socket to ask by.
    Overload,
    /// It was our own query.
    Loop,
}

impl Outcome {
    const fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Cached => "cached",
            Self::Shared => "shared",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Overload => "overload",
            Self::Loop => "loop",
        }
    }
}

#[derive(Debug)]
pub(super) struct Metrics {
    queries: IntCounterVec,
    pub(super) tries: IntCounterVec,
    pub(super) resting: IntGaugeVec,
    pub(super) foreign: IntCounter,
    pub(super) in_flight: IntGauge,
    pub(super) cache_entries: IntGauge,
    seconds: Histogram,
}

impl Metrics {
    /// Builds the series of [`METRICS`] and registers them.
    ///
    /// # Errors
    /// If the registry has one of the names already.
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let opts = |index: usize| Opts::new(METRICS[index].0, METRICS[index].1);
        let buckets = vec![0.000_1, 0.001, 0.005, 0.02, 0.05, 0.1, 0.3, 1.0, 3.0, 5.0];
        let seconds = HistogramOpts::new(METRICS[6].0, METRICS[6].1).buckets(buckets);
        let metrics = Self {
            queries: IntCounterVec::new(opts(0), METRICS[0].2)?,
            tries: IntCounterVec::new(opts(1), METRICS[1].2)?,
            resting: IntGaugeVec::new(opts(2), METRICS[2].2)?,
            foreign: IntCounter::with_opts(opts(3))?,
            in_flight: IntGauge::with_opts(opts(4))?,
            cache_entries: IntGauge::with_opts(opts(5))?,
            seconds: Histogram::with_opts(seconds)?,
        };
        registry.register(Box::new(metrics.queries.clone()))?;
        registry.register(Box::new(metrics.tries.clone()))?;
        registry.register(Box::new(metrics.resting.clone()))?;
        registry.register(Box::new(metrics.foreign.clone()))?;
        registry.register(Box::new(metrics.in_flight.clone()))?;
        registry.register(Box::new(metrics.cache_entries.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        Ok(metrics)
    }

    pub(super) fn count(&self, outcome: Outcome, time: Duration) {
        self.queries.with_label_values(&[outcome.label()]).inc();
        if !matches!(outcome, Outcome::Refused | Outcome::Overload | Outcome::Loop) {
            self.seconds.observe(time.as_secs_f64());
        }
    }

    #[cfg(test)]
    pub(super) fn count_of(&self, outcome: Outcome) -> u64 {
        self.queries.with_label_values(&[outcome.label()]).get()
    }

    pub(super) fn forget(&self, resolver: &str) {
        for outcome in super::race::TRY_OUTCOMES {
            // Gone already if that outcome never was.
            let _ = self.tries.remove_label_values(&[resolver, outcome]);
        }
        let _ = self.resting.remove_label_values(&[resolver]);
    }
}
