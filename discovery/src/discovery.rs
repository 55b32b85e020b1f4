//! Starts discovery and is its handle.

use core::fmt;
use core::future::Future;
use std::sync::Arc;

use portolan_table::{Generation, Health, Publisher, SharedStr, SourceId};
use prometheus::Registry;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::catalog::Catalog;
use crate::catalog::task::{COMMANDS_MAX, CatalogTask, Command, Loader, Pace, UPDATES_MAX, Verdicts};
use crate::config::Config;
use crate::last_known_good::{Identity, Store};
use crate::metrics::Metrics;
use crate::report::{Ledger, SourceReport};
use crate::saver::Saver;
use crate::sources;
use crate::supervisor::{Build, Supervisor};

/// Why discovery can't start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A metric of this name is registered already.
    #[error("metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

/// Entry to this crate.
#[derive(Debug)]
pub struct Discovery;

impl Discovery {
    /// Makes everything ready and publishes the list of sources, all unsynced. Work begins when the returned
    /// future, the driver, is polled; it must run on a tokio runtime with time and I/O, and ends after
    /// [`Handle::stop`] when every source has stopped and what was to be saved is saved.
    ///
    /// # Errors
    /// [`StartError::Metrics`]. A source that can't be reached, or a saved table that can't be read, is no
    /// error here: it is reported, and serving goes on.
    pub fn start(
        config: Config,
        publisher: Publisher,
        registry: &Registry,
    ) -> Result<(Handle, impl Future<Output = ()> + Send + 'static), StartError> {
        start_with(config, publisher, registry, Arc::new(sources::build))
    }
}

/// [`Discovery::start`] with sources made by `build`.
pub(crate) fn start_with(
    config: Config,
    publisher: Publisher,
    registry: &Registry,
    build: Build,
) -> Result<(Handle, impl Future<Output = ()> + Send + 'static), StartError> {
    let ledger = Arc::new(Ledger::default());
    let metrics = Metrics::register(registry, Arc::clone(&ledger))?;
    let store = config.state_dir.as_deref().map(|dir| Arc::new(Store::new(dir)));
    let stop = CancellationToken::new();
    let verdicts = Arc::new(Verdicts::default());
    let (updates_tx, updates) = mpsc::channel(UPDATES_MAX);
    let (commands_tx, commands) = mpsc::channel(COMMANDS_MAX);
    let (generations, generation) = watch::channel(publisher.table().load().generation());
    let loader = Loader { store: store.clone(), commands: commands_tx.clone(), metrics: metrics.clone() };
    let identities: Vec<Identity> = config.sources.iter().map(Identity::of).collect();
    let mut task = CatalogTask {
        catalog: Catalog::default(),
        publisher,
        updates,
        commands,
        verdicts: Arc::clone(&verdicts),
        supervisor: Supervisor::new(build, updates_tx, loader, metrics.clone(), stop.clone()),
        saver: Saver::new(store.clone(), metrics.clone()),
        ledger: Arc::clone(&ledger),
        metrics,
        generations,
        pace: Pace::new(&config),
        first: Vec::new(),
    };
    task.begin(config.sources);
    let handle = Handle { commands: commands_tx, verdicts, ledger, generation, stop: stop.clone() };
    let driver = async move {
        if let Some(store) = store {
            let pruned = tokio::task::spawn_blocking(move || store.prune(&identities)).await;
            if let Ok(Err(error)) = pruned {
                tracing::error!(%error, "old last-known-good tables not cleared away");
            }
        }
        task.run(stop).await;
    };
    Ok((handle, driver))
}

/// What the rest of the process does with discovery. Clones are one and the same.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    verdicts: Arc<Verdicts>,
    ledger: Arc<Ledger>,
    generation: watch::Receiver<Generation>,
    stop: CancellationToken,
}

impl Handle {
    /// Sets the verdict of an active check on an instance, or withdraws it with `None`. It goes before the
    /// scheduler's verdict until it is withdrawn or the instance is gone. Never waits; of two verdicts on one
    /// instance the later counts.
    pub fn set_verdict(&self, source: SourceId, instance: SharedStr, health: Option<Health>) {
        self.verdicts.put(source, instance, health);
    }

    /// Runs `run` on the publisher, on the catalog task: to add or replace views. `None` if discovery has
    /// stopped. If the returned future is dropped, `run` may run all the same.
    pub async fn with_publisher<R: Send + 'static>(
        &self,
        run: impl FnOnce(&mut Publisher) -> R + Send + 'static,
    ) -> Option<R> {
        let (result_tx, result) = oneshot::channel();
        let run = Box::new(move |publisher: &mut Publisher| {
            // Whoever asked may have gone.
            let _ = result_tx.send(run(publisher));
        });
        self.commands.send(Command::Publisher(run)).await.ok()?;
        result.await.ok()
    }

    /// Puts another configuration in force; returns when it is. Sources that stay, by name and type, keep
    /// their data, and their session too unless their own keys have changed; those that are gone take their
    /// services with them. `state_dir` is the one of the start.
    pub async fn reload(&self, config: Config) {
        let (done, is_done) = oneshot::channel();
        if self.commands.send(Command::Reload(Box::new(config), done)).await.is_ok() {
            let _ = is_done.await;
        }
    }

    /// What is known about each source, in the order of the configuration.
    #[must_use]
    pub fn sources(&self) -> Vec<SourceReport> {
        self.ledger.reports()
    }

    /// The generation in force, and a way to wait for another.
    #[must_use]
    pub fn generations(&self) -> watch::Receiver<Generation> {
        self.generation.clone()
    }

    /// Asks discovery to stop; the driver ends when it has.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("generation", &*self.generation.borrow()).finish_non_exhaustive()
    }
}
