//! The task that owns the catalog and the publisher: takes changes in, coalesces them, publishes.
//!
//! ```text
//!   idle ──change──► publish at once ──► for coalesce_time: gather ──► publish ──► … ──► idle
//!                                        (or until coalesce_changes are gathered)
//! ```

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use portolan_table::{Generation, Health, Publisher, SharedStr, SourceId};
use prometheus::Histogram;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinError;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{Applied, Catalog, Saved};
use crate::clock;
use crate::config::{Config, SourceConfig};
use crate::last_known_good::{Identity, Store};
use crate::metrics::Metrics;
use crate::report::Ledger;
use crate::saver::{SaveOutcome, Saver};
use crate::source::Update;
use crate::supervisor::Supervisor;

/// Changes that may wait for the catalog. A source that is faster waits.
pub(crate) const UPDATES_MAX: usize = 4096;
/// Commands that may wait for the catalog.
pub(crate) const COMMANDS_MAX: usize = 64;
/// Longest a change may be held for others, whatever the configuration says.
const COALESCE_TIME_MAX: Duration = Duration::from_millis(5);
/// Period of what is done by time alone.
const TICK: Duration = Duration::from_secs(1);

/// What others ask of the catalog task.
pub(crate) enum Command {
    /// Runs something on the publisher.
    Publisher(Box<dyn FnOnce(&mut Publisher) + Send>),
    /// Puts a configuration in force.
    Reload(Box<Config>, oneshot::Sender<()>),
    /// Takes in a saved table.
    Loaded {
        /// Whose.
        feed: u16,
        /// What was saved.
        saved: Saved,
        /// How long ago.
        age: Duration,
        /// Told when it is in.
        done: oneshot::Sender<()>,
    },
}

/// Verdicts of active checks on their way to the catalog; of one instance only the latest counts, so that
/// the number of instances bounds them.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

type Waiting = HashMap<(SourceId, SharedStr), Option<Health>, RandomState>;

impl Verdicts {
    pub(crate) fn put(&self, source: SourceId, instance: SharedStr, health: Option<Health>) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert((source, instance), health);
        self.arrived.notify_one();
    }

    fn take(&self) -> Waiting {
        mem::take(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Reads saved tables for source tasks.
#[derive(Debug, Clone)]
pub(crate) struct Loader {
    pub(crate) store: Option<Arc<Store>>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) metrics: Metrics,
}

impl Loader {
    /// Loads what was saved of a source into the catalog, before its first session. True if there was something.
    pub(crate) async fn load(&self, feed: u16, config: &SourceConfig) -> bool {
        let Some(store) = self.store.clone() else { return false };
        let identity = Identity::of(config);
        let read = tokio::task::spawn_blocking(move || store.load(&identity)).await;
        let loaded = match read {
            Ok(Ok(Some(loaded))) => loaded,
            Ok(Ok(None)) => return false,
            Ok(Err(error)) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(source = %config.name, %error, cause, "saved table not used");
                self.metrics.loads.with_label_values(&[error.kind()]).inc();
                return false;
            }
            // The runtime is stopping, or the reader panicked: there is nothing to load.
            Err(_) => return false,
        };
        self.metrics.loads.with_label_values(&["ok"]).inc();
        tracing::info!(source = %config.name, services = loaded.table.services.len(), "saved table loaded");
        let age = Duration::from_millis(clock::wall_ms().saturating_sub(loaded.saved_ms));
        let holds_something = loaded.table != Saved::default();
        let (done, is_done) = oneshot::channel();
        let command = Command::Loaded { feed, saved: loaded.table, age, done };
        if self.commands.send(command).await.is_ok() {
            let _ = is_done.await;
        }
        holds_something
    }
}

/// The catalog with everything around it.
pub(crate) struct CatalogTask {
    pub(crate) catalog: Catalog,
    pub(crate) publisher: Publisher,
    pub(crate) updates: mpsc::Receiver<Update>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) verdicts: Arc<Verdicts>,
    pub(crate) supervisor: Supervisor,
    pub(crate) saver: Saver,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) metrics: Metrics,
    pub(crate) generations: watch::Sender<Generation>,
    pub(crate) pace: Pace,
    /// Sources to run first; taken by [`run`](Self::run).
    pub(crate) first: Vec<(u16, SourceConfig)>,
}

/// How changes are gathered.
#[derive(Debug)]
pub(crate) struct Pace {
    time: Duration,
    changes: usize,
    /// Changes that wait to be published, with the time of their receipt.
    pending: Vec<(u16, Instant)>,
    /// Something waits that is not a source's change: a verdict, a reload.
    waiting: bool,
    published: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(config: &Config) -> Self {
        let mut pace =
            Self { time: Duration::ZERO, changes: 1, pending: Vec::new(), waiting: false, published: None };
        pace.set(config);
        pace
    }

    fn set(&mut self, config: &Config) {
        self.time = config.coalesce_time.min(COALESCE_TIME_MAX);
        self.changes = config.coalesce_changes.clamp(1, UPDATES_MAX);
    }

    /// When to publish; `None` while there is nothing to.
    fn due(&self, now: Instant) -> Option<Instant> {
        if self.pending.is_empty() && !self.waiting {
            return None;
        }
        let full = self.pending.len() >= self.changes;
        Some(self.published.filter(|_| !full).map_or(now, |published| published + self.time))
    }

    fn room(&self) -> usize {
        self.changes.saturating_sub(self.pending.len()).max(1)
    }
}

enum Event {
    Stop,
    Due,
    Command(Command),
    Verdicts,
    Updates,
    SourceEnded(Result<(), JoinError>),
    Saved(SaveOutcome),
    Tick,
}

impl CatalogTask {
    /// Puts the first configuration in force and publishes the list of sources, so that from the first
    /// answer on what is unknown is not taken for empty.
    pub(crate) fn begin(&mut self, sources: Vec<SourceConfig>) {
        let feeds = self.supervisor.assign(sources);
        self.catalog.configure(feeds.clone(), clock::now());
        self.first = feeds;
        self.publish();
        self.ledger.write(self.catalog.sources_mut());
    }

    /// Runs until `stop`, then saves what is not saved.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let first = mem::take(&mut self.first);
        self.supervisor.run(&first);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::new();
        loop {
            match self.next(&stop, &mut tick, &mut batch).await {
                Event::Stop => break,
                Event::Due => {}
                Event::Command(command) => self.obey(command),
                Event::Verdicts => self.take_verdicts(),
                Event::Updates => batch.drain(..).for_each(|update| self.take(update)),
                Event::SourceEnded(result) => self.supervisor.reap(result),
                Event::Saved(outcome) => self.saver.finish(&mut self.catalog, &outcome),
                Event::Tick => self.tick(),
            }
            let now = clock::now();
            if self.pace.due(now).is_some_and(|due| due <= now) {
                self.publish();
            }
            self.ledger.write(self.catalog.sources_mut());
        }
        self.supervisor.drain().await;
        self.saver.finish_all(&mut self.catalog).await;
    }

    /// The next thing to do. Every arm is cancel-safe: what is not returned stays where it was.
    async fn next(
        &mut self,
        stop: &CancellationToken,
        tick: &mut Interval,
        batch: &mut Vec<Update>,
    ) -> Event {
        let due = self.pace.due(clock::now());
        let room = self.pace.room();
        let at_due = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => core::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => Event::Stop,
            () = at_due => Event::Due,
            Some(command) = self.commands.recv() => Event::Command(command),
            () = self.verdicts.arrived.notified() => Event::Verdicts,
            result = self.supervisor.ended() => Event::SourceEnded(result),
            outcome = self.saver.finished() => Event::Saved(outcome),
            _ = tick.tick() => Event::Tick,
            _ = self.updates.recv_many(batch, room) => Event::Updates,
        }
    }

    fn take(&mut self, update: Update) {
        let Update { source: SourceId(feed), received, change } = update;
        match self.catalog.apply(feed, change, received, clock::now()) {
            Applied::Nothing => {}
            Applied::Touched => self.pace.pending.push((feed, received)),
            Applied::Confirm => self.supervisor.confirm(feed),
        }
    }

    fn take_verdicts(&mut self) {
        for ((source, instance), health) in self.verdicts.take() {
            self.catalog.set_verdict(source, &instance, health);
        }
        self.pace.waiting = true;
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Publisher(run) => {
                run(&mut self.publisher);
                self.announce(self.publisher.table().load().generation());
            }
            Command::Reload(config, done) => {
                self.pace.set(&config);
                let feeds = self.supervisor.assign(config.sources);
                self.catalog.configure(feeds.clone(), clock::now());
                self.supervisor.run(&feeds);
                self.publish();
                self.ledger.write(self.catalog.sources_mut());
                // Whoever asked may have gone; the configuration is in force all the same.
                let _ = done.send(());
            }
            Command::Loaded { feed, saved, age, done } => {
                self.catalog.load(feed, saved, age, clock::now());
                self.publish();
                let _ = done.send(());
            }
        }
    }

    fn tick(&mut self) {
        self.catalog.tick(clock::now());
        self.pace.waiting = true;
        self.metrics.retired.set(i64::try_from(self.publisher.collect()).unwrap_or(i64::MAX));
        self.saver.start_due(&mut self.catalog);
    }

    /// Publishes what is touched.
    fn publish(&mut self) {
        self.pace.waiting = false;
        let pending = mem::take(&mut self.pace.pending);
        let Some(published) = self.catalog.flush(&mut self.publisher, clock::now()) else { return };
        let now = clock::now();
        self.pace.published = Some(now);
        self.metrics.publications.inc();
        self.observe(&pending, now);
        self.announce(published.generation);
    }

    fn observe(&self, pending: &[(u16, Instant)], now: Instant) {
        let mut histograms: Vec<(u16, Histogram)> = Vec::new();
        for (feed, received) in pending {
            let at = histograms.iter().position(|(f, _)| f == feed).or_else(|| {
                let state = self.catalog.sources().iter().find(|state| state.feed == *feed)?;
                histograms.push((*feed, self.metrics.convergence.with_label_values(&[&*state.config.name])));
                Some(histograms.len() - 1)
            });
            if let Some(at) = at {
                histograms[at].1.observe(now.saturating_duration_since(*received).as_secs_f64());
            }
        }
    }

    fn announce(&self, generation: Generation) {
        self.metrics.generation.set(i64::try_from(generation.0).unwrap_or(i64::MAX));
        self.generations.send_if_modified(|held| mem::replace(held, generation) != generation);
    }
}
