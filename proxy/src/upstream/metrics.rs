//! The upstreams' metrics, read from the workers' counts when scraped.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Registry};

use super::Board;
use super::counters::{Count, Counters};

/// Name, help, and which count it is. All are counts since start.
type Row = (&'static str, &'static str, fn(&Counters) -> &Count);

const TABLE: [Row; 6] = [
    ("portolan_proxy_retries_total", "Attempts after the first.", |c| &c.retries),
    ("portolan_proxy_retries_refused_total", "Retries that the budget did not allow.", |c| {
        &c.retries_refused
    }),
    ("portolan_proxy_ejections_total", "Ejections of an endpoint by a worker.", |c| &c.ejections),
    ("portolan_proxy_ejections_refused_total", "Ejections not made because of the panic threshold.", |c| {
        &c.ejections_refused
    }),
    (
        "portolan_proxy_saturated_total",
        "Requests refused because every endpoint had as many in flight as it may.",
        |c| &c.saturated,
    ),
    ("portolan_proxy_no_endpoint_total", "Requests for a service without a live endpoint.", |c| {
        &c.no_endpoint
    }),
];

struct Sums {
    board: Arc<Board>,
    /// What the sums are described by; their values are not used.
    described: Vec<Counter>,
}

impl Board {
    /// Adds the upstreams' metrics to `registry`.
    ///
    /// # Errors
    /// If they were added before.
    pub fn register(self: &Arc<Self>, registry: &Registry) -> prometheus::Result<()> {
        let described = TABLE
            .iter()
            .map(|(name, help, _)| Counter::new(*name, *help))
            .collect::<prometheus::Result<_>>()?;
        registry.register(Box::new(Sums { board: Arc::clone(self), described }))
    }
}

impl Collector for Sums {
    fn desc(&self) -> Vec<&Desc> {
        self.described.iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let sum = |(name, help, of): &Row| {
            // Made anew, so that two scrapes at once don't add up.
            let counter = Counter::new(*name, *help).ok()?;
            let sum: u64 = self.board.workers.iter().map(|worker| of(&worker.counters).value()).sum();
            counter.inc_by(sum as f64);
            Some(counter.collect())
        };
        TABLE.iter().filter_map(sum).flatten().collect()
    }
}
