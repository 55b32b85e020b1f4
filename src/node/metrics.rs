//! The metrics of the process as a whole.

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// Name, help and labels of each.
const TABLE: [(&str, &str, &[&str]); 4] = [
    ("portolan_build_info", "1; the version is in the label.", &["version"]),
    (
        "portolan_config_reloads_total",
        "Reloads of the configuration, by result: ok, or refused with the one before still in force.",
        &["result"],
    ),
    (
        "portolan_config_last_reload_successful",
        "1 if the last load of the configuration was taken, 0 if it was refused.",
        &[],
    ),
    (
        "portolan_admin_connections_cut_total",
        "Connections of the admin side cut for others' sake, by reason: crowded, slow, or room (an answer that waits for its client takes memory another needs).",
        &["reason"],
    ),
];

/// How reloads went.
#[derive(Debug)]
pub(super) struct Metrics {
    reloads: IntCounterVec,
    successful: IntGauge,
    /// Connections of the admin side that were cut, by reason.
    pub(super) admin_cuts: IntCounterVec,
}

impl Metrics {
    /// Registers the metrics, once per registry.
    ///
    /// # Errors
    /// When a metric of the same name is registered already.
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let opts = |row: usize| Opts::new(TABLE[row].0, TABLE[row].1);
        let build = IntGaugeVec::new(opts(0), TABLE[0].2)?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let reloads = IntCounterVec::new(opts(1), TABLE[1].2)?;
        // Series that are there from the start can be watched for their increase.
        for result in ["ok", "refused"] {
            reloads.with_label_values(&[result]);
        }
        let successful = IntGauge::with_opts(opts(2))?;
        successful.set(1);
        let admin_cuts = IntCounterVec::new(opts(3), TABLE[3].2)?;
        for reason in ["crowded", "slow", "room"] {
            admin_cuts.with_label_values(&[reason]);
        }
        registry.register(Box::new(build))?;
        registry.register(Box::new(admin_cuts.clone()))?;
        registry.register(Box::new(reloads.clone()))?;
        registry.register(Box::new(successful.clone()))?;
        Ok(Self { reloads, successful, admin_cuts })
    }

    /// A new configuration was taken or refused.
    pub(super) fn reloaded(&self, taken: bool) {
        self.reloads.with_label_values(&[if taken { "ok" } else { "refused" }]).inc();
        self.successful.set(i64::from(taken));
    }
}
