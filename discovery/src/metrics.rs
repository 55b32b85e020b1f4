//! The metrics of this crate.
//!
//! | name | labels | unit | meaning |
//! |---|---|---|---|
//! | `portolan_convergence_seconds` | source | s | from the receipt of a change to the generation that holds it |
//! | `portolan_source_standing` | source, standing | 0 or 1 | where each source stands |
//! | `portolan_source_age_seconds` | source | s | since the last sign of life |
//! | `portolan_source_services` | source | count | services it holds |
//! | `portolan_source_instances` | source | count | instances it holds |
//! | `portolan_source_problems` | source | count | odd objects in its last list |
//! | `portolan_source_removals_held` | source | count | lists held back by `max_removal` |
//! | `portolan_source_held` | source | count | instances kept although the scheduler, just elected, does not list them |
//! | `portolan_source_sessions_total` | source | count | sessions begun |
//! | `portolan_source_errors_total` | source, kind | count | sessions that ended in an error |
//! | `portolan_source_queue_full_total` | source | count | waits because the catalog's queue was full |
//! | `portolan_catalog_generation` | | number | the generation in force |
//! | `portolan_catalog_publications_total` | | count | generations published by the catalog |
//! | `portolan_catalog_snapshots_retired` | | count | replaced snapshots that are still read |
//! | `portolan_state_saves_total` | result | count | writes of last-known-good tables |
//! | `portolan_state_loads_total` | result | count | reads of last-known-good tables |

use std::sync::Arc;

use portolan_table::Standing;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::report::Ledger;

/// What is counted and measured as it happens.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) convergence: HistogramVec,
    pub(crate) sessions: IntCounterVec,
    pub(crate) errors: IntCounterVec,
    pub(crate) queue_full: IntCounterVec,
    pub(crate) generation: IntGauge,
    pub(crate) publications: IntCounter,
    pub(crate) retired: IntGauge,
    pub(crate) saves: IntCounterVec,
    pub(crate) loads: IntCounterVec,
}

impl Metrics {
    /// Makes all metrics and registers them.
    pub(crate) fn register(registry: &Registry, ledger: Arc<Ledger>) -> prometheus::Result<Self> {
        let convergence = HistogramOpts::new(
            "portolan_convergence_seconds",
            "Delay from the receipt of a change to the generation that holds it",
        )
        .buckets(vec![0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0, 5.0]);
        let metrics = Self {
            convergence: HistogramVec::new(convergence, &["source"])?,
            sessions: counters("portolan_source_sessions_total", "Sessions begun", &["source"])?,
            errors: counters(
                "portolan_source_errors_total",
                "Sessions that ended in an error",
                &["source", "kind"],
            )?,
            queue_full: counters(
                "portolan_source_queue_full_total",
                "Waits because the catalog's queue was full",
                &["source"],
            )?,
            generation: IntGauge::new("portolan_catalog_generation", "The generation in force")?,
            publications: IntCounter::new(
                "portolan_catalog_publications_total",
                "Generations published by the catalog",
            )?,
            retired: IntGauge::new(
                "portolan_catalog_snapshots_retired",
                "Replaced snapshots that are still read",
            )?,
            saves: counters("portolan_state_saves_total", "Writes of last-known-good tables", &["result"])?,
            loads: counters("portolan_state_loads_total", "Reads of last-known-good tables", &["result"])?,
        };
        let all: [Box<dyn Collector>; 10] = [
            Box::new(metrics.convergence.clone()),
            Box::new(metrics.sessions.clone()),
            Box::new(metrics.errors.clone()),
            Box::new(metrics.queue_full.clone()),
            Box::new(metrics.generation.clone()),
            Box::new(metrics.publications.clone()),
            Box::new(metrics.retired.clone()),
            Box::new(metrics.saves.clone()),
            Box::new(metrics.loads.clone()),
            Box::new(SourceGauges::new(ledger)?),
        ];
        for collector in all {
            registry.register(collector)?;
        }
        Ok(metrics)
    }

    /// Removes the series of a source that is gone.
    pub(crate) fn forget(&self, source: &str) {
        // A series that was never made is not there to be removed; that is no error here.
        let _ = self.convergence.remove_label_values(&[source]);
        let _ = self.sessions.remove_label_values(&[source]);
        let _ = self.queue_full.remove_label_values(&[source]);
        for kind in ["connect", "status", "malformed", "idle", "ended", "setup", "stopping", "panic"] {
            let _ = self.errors.remove_label_values(&[source, kind]);
        }
    }
}

fn counters(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
    IntCounterVec::new(Opts::new(name, help), labels)
}

/// Gauges that are read off the ledger when asked for: series come and go with their sources.
struct SourceGauges {
    ledger: Arc<Ledger>,
    standing: IntGaugeVec,
    age: GaugeVec,
    services: IntGaugeVec,
    instances: IntGaugeVec,
    problems: IntGaugeVec,
    removals_held: IntGaugeVec,
    held: IntGaugeVec,
}

impl SourceGauges {
    fn new(ledger: Arc<Ledger>) -> prometheus::Result<Self> {
        let gauges = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &["source"]);
        Ok(Self {
            ledger,
            standing: IntGaugeVec::new(
                Opts::new("portolan_source_standing", "1 for where the source stands"),
                &["source", "standing"],
            )?,
            age: GaugeVec::new(
                Opts::new("portolan_source_age_seconds", "Seconds since the last sign of life"),
                &["source"],
            )?,
            services: gauges("portolan_source_services", "Services of the source")?,
            instances: gauges("portolan_source_instances", "Instances of the source")?,
            problems: gauges("portolan_source_problems", "Odd objects in the source's last list")?,
            removals_held: gauges("portolan_source_removals_held", "Lists held back by max_removal")?,
            held: gauges("portolan_source_held", "Instances kept though the scheduler does not list them")?,
        })
    }

    fn vectors(&self) -> [&dyn Collector; 7] {
        let Self { standing, age, services, instances, problems, removals_held, held, .. } = self;
        [standing, age, services, instances, problems, removals_held, held]
    }

    fn reset(&self) {
        self.age.reset();
        let Self { standing, services, instances, problems, removals_held, held, .. } = self;
        for gauges in [standing, services, instances, problems, removals_held, held] {
            gauges.reset();
        }
    }
}

impl Collector for SourceGauges {
    fn desc(&self) -> Vec<&Desc> {
        self.vectors().into_iter().flat_map(|vector| vector.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.reset();
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        for report in self.ledger.reports() {
            let source = &[&*report.name];
            for standing in [Standing::Unsynced, Standing::Synced, Standing::Stale] {
                let gauge = self.standing.with_label_values(&[&*report.name, standing.as_str()]);
                gauge.set(i64::from(standing == report.standing));
            }
            if let Some(age) = report.age_seconds {
                self.age.with_label_values(source).set(age);
            }
            self.services.with_label_values(source).set(count(report.services));
            self.instances.with_label_values(source).set(count(report.instances));
            self.problems.with_label_values(source).set(count(report.problems.len()));
            let held = i64::try_from(report.removals_held).unwrap_or(i64::MAX);
            self.removals_held.with_label_values(source).set(held);
            self.held.with_label_values(source).set(count(report.held));
        }
        self.vectors().into_iter().flat_map(|vector| vector.collect()).collect()
    }
}
