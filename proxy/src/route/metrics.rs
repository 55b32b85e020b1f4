//! The rules' metrics, counted on the snapshot in force when scraped.

use portolan_table::{Table, ViewKey};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, Registry};

use super::Routes;

/// What is counted, name, help. All are gauges.
type Row = (fn(&Routes) -> usize, &'static str, &'static str);

const TABLE: [Row; 3] = [
    (|routes| routes.iter().count(), "portolan_proxy_routes", "Routing rules in force."),
    (
        |routes| routes.losers().len(),
        "portolan_proxy_route_conflicts",
        "Rules never chosen as another with the same conditions comes before.",
    ),
    (
        |routes| routes.iter().filter(|route| route.problem().is_some()).count(),
        "portolan_proxy_routes_broken",
        "Rules that match nothing as their pattern cannot be compiled.",
    ),
];

struct Counted {
    table: Table,
    key: ViewKey<Routes>,
    /// What the figures are described by; their values are not used.
    described: Vec<Gauge>,
}

/// Adds the rules' metrics to `registry`.
///
/// # Errors
/// If they were added before.
pub(crate) fn register(table: Table, key: ViewKey<Routes>, registry: &Registry) -> prometheus::Result<()> {
    let described =
        TABLE.iter().map(|(_, name, help)| Gauge::new(*name, *help)).collect::<prometheus::Result<_>>()?;
    registry.register(Box::new(Counted { table, key, described }))
}

impl Collector for Counted {
    fn desc(&self) -> Vec<&Desc> {
        self.described.iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // A snapshot and not a guard: counting goes over all rules.
        let snapshot = self.table.snapshot();
        let routes = snapshot.view(self.key);
        let figure = |(of, name, help): &Row| {
            let gauge = Gauge::new(*name, *help).ok()?;
            gauge.set(of(routes) as f64);
            Some(gauge.collect())
        };
        TABLE.iter().filter_map(figure).flatten().collect()
    }
}
