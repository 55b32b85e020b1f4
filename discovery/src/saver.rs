//! Writes last-known-good tables, off the runtime's threads, one at a time and not too often.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::catalog::Catalog;
use crate::clock;
use crate::last_known_good::{Identity, Store};
use crate::metrics::Metrics;

/// Shortest time between two writes of one table.
const PERIOD: Duration = Duration::from_secs(3);
/// A table that takes long to write is written less often: this many times what it took.
const PERIOD_PER_WRITE: u32 = 20;
/// Longest wait for the last write when the process stops.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// How a write ended.
#[derive(Debug)]
pub(crate) struct SaveOutcome {
    feed: u16,
    took: Duration,
    result: io::Result<u64>,
}

/// Owner of the writes.
#[derive(Debug)]
pub(crate) struct Saver {
    store: Option<Arc<Store>>,
    metrics: Metrics,
    writes: JoinSet<SaveOutcome>,
    not_before: HashMap<u16, Instant>,
}

impl Saver {
    pub(crate) fn new(store: Option<Arc<Store>>, metrics: Metrics) -> Self {
        Self { store, metrics, writes: JoinSet::new(), not_before: HashMap::new() }
    }

    /// Starts the next write that is due, if none is under way.
    pub(crate) fn start_due(&mut self, catalog: &mut Catalog) {
        let now = clock::now();
        let wait = |feed: &u16| self.not_before.get(feed).is_some_and(|at| *at > now);
        let due = catalog.unsaved().map(|state| state.feed).find(|feed| !wait(feed));
        if let Some(feed) = due.filter(|_| self.writes.is_empty()) {
            self.start(catalog, feed);
        }
        self.not_before.retain(|_, at| *at > now);
    }

    fn start(&mut self, catalog: &mut Catalog, feed: u16) {
        let Some(store) = self.store.clone() else { return };
        let Some(state) = catalog.sources().iter().find(|state| state.feed == feed) else { return };
        let identity = Identity::of(&state.config);
        let table = catalog.save(feed, clock::now());
        self.writes.spawn_blocking(move || {
            let begun = clock::now();
            let result = store.save(&identity, &table, clock::wall_ms());
            SaveOutcome { feed, took: clock::now().saturating_duration_since(begun), result }
        });
    }

    /// Waits for a write to end; never returns while none is under way. Cancel-safe.
    pub(crate) async fn finished(&mut self) -> SaveOutcome {
        loop {
            match self.writes.join_next().await {
                Some(Ok(outcome)) => return outcome,
                // A write that panicked left the former file in place; the next change writes again.
                Some(Err(error)) => tracing::error!(%error, "writing a last-known-good table panicked"),
                None => core::future::pending().await,
            }
        }
    }

    /// Notes how a write ended.
    pub(crate) fn finish(&mut self, catalog: &mut Catalog, outcome: &SaveOutcome) {
        let pause = PERIOD.max(outcome.took * PERIOD_PER_WRITE);
        self.not_before.insert(outcome.feed, clock::now() + pause);
        match &outcome.result {
            Ok(bytes) => {
                tracing::debug!(bytes, took = ?outcome.took, "last-known-good table written");
                self.metrics.saves.with_label_values(&["ok"]).inc();
            }
            Err(error) => {
                tracing::error!(%error, "last-known-good table not written; serving goes on");
                self.metrics.saves.with_label_values(&["error"]).inc();
                catalog.save_failed(outcome.feed);
            }
        }
    }

    /// Writes everything that is not saved, once, within a limit: the process is stopping.
    pub(crate) async fn finish_all(&mut self, catalog: &mut Catalog) {
        let all = async {
            while let Some(result) = self.writes.join_next().await {
                if let Ok(outcome) = result {
                    self.finish(catalog, &outcome);
                }
            }
            let feeds: Vec<u16> = catalog.unsaved().map(|state| state.feed).collect();
            for feed in feeds {
                self.start(catalog, feed);
                while let Some(result) = self.writes.join_next().await {
                    if let Ok(outcome) = result {
                        self.finish(catalog, &outcome);
                    }
                }
            }
        };
        if tokio::time::timeout(STOP_WAIT, all).await.is_err() {
            tracing::warn!("last-known-good tables not written within {STOP_WAIT:?}; the former ones stand");
        }
    }
}
