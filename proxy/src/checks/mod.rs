//! Active checks: for services that ask for them, every endpoint is tried from time to time.

use std::sync::Arc;

use portolan_table::{Generation, Health, SourceId, Table};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Config;

/// Runs the checks that `config` asks for on the services of `table`, and follows both, until `stop`. On the control
/// runtime. `report` gets a verdict when it changes, and `None` when an instance is checked no more.
pub async fn run(
    _table: Table,
    _config: watch::Receiver<Arc<Config>>,
    _generations: watch::Receiver<Generation>,
    _report: impl Fn(SourceId, Arc<str>, Option<Health>) + Send + Sync,
    stop: CancellationToken,
) {
    stop.cancelled().await;
}
