//! Keeps one task per source running: session after session, with a back-off between them.
//!
//! ```text
//!   load last-known-good ──► build ──► session ──► lost ──► wait (jittered, growing) ─┐
//!                              ▲          │ asked to list again, or reconfigured      │
//!                              └──────────┴───────────────────────────────────────────┘
//! ```
//!
//! A source keeps its task, its feed and what the catalog holds of it as long as its name and type stay in
//! the configuration, even if its URLs change: the first list of the new session corrects the rest.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use portolan_table::{SharedStr, SourceId};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::catalog::task::Loader;
use crate::clock;
use crate::config::SourceConfig;
use crate::metrics::Metrics;
use crate::source::{Change, Sink, Source, SourceError, Update};

/// A list that was held back is asked for again after this long.
const CONFIRM_AFTER: Duration = Duration::from_secs(1);
/// A source task that panicked starts anew after this long.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// Makes the source that a configuration describes.
pub(crate) type Build =
    Arc<dyn Fn(&SourceConfig) -> Result<Box<dyn Source>, SourceError> + Send + Sync + 'static>;

/// All source tasks.
pub(crate) struct Supervisor {
    build: Build,
    updates: mpsc::Sender<Update>,
    loader: Loader,
    metrics: Metrics,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    running: HashMap<u16, Running>,
    feed_last: u16,
}

struct Running {
    config: watch::Sender<SourceConfig>,
    confirm: Arc<Notify>,
    stop: CancellationToken,
    task: Id,
}

impl Supervisor {
    pub(crate) fn new(
        build: Build,
        updates: mpsc::Sender<Update>,
        loader: Loader,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> Self {
        let (tasks, running) = (JoinSet::new(), HashMap::new());
        Self { build, updates, loader, metrics, stop, tasks, running, feed_last: 0 }
    }

    /// Which feed each source has or will have. Must be followed by [`run`](Self::run) with the same list.
    pub(crate) fn assign(&mut self, configs: Vec<SourceConfig>) -> Vec<(u16, SourceConfig)> {
        let mut feeds: Vec<(u16, SourceConfig)> = Vec::with_capacity(configs.len());
        for config in configs {
            let known = self.running.iter().find(|(feed, running)| {
                let before = running.config.borrow();
                before.name == config.name
                    && before.kind.as_str() == config.kind.as_str()
                    && !feeds.iter().any(|(taken, _)| taken == *feed)
            });
            let feed = known.map(|(feed, _)| *feed);
            let feed = feed.unwrap_or_else(|| self.next_feed());
            feeds.push((feed, config));
        }
        feeds
    }

    /// A number that no running source has.
    fn next_feed(&mut self) -> u16 {
        loop {
            self.feed_last = self.feed_last.wrapping_add(1);
            if !self.running.contains_key(&self.feed_last) {
                return self.feed_last;
            }
        }
    }

    /// Starts, reconfigures and stops source tasks so that exactly `feeds` run.
    pub(crate) fn run(&mut self, feeds: &[(u16, SourceConfig)]) {
        let kept = |feed: u16| feeds.iter().any(|(f, _)| *f == feed);
        let gone: Vec<u16> = self.running.keys().copied().filter(|feed| !kept(*feed)).collect();
        for running in gone.iter().filter_map(|feed| self.running.remove(feed)) {
            running.stop.cancel();
            self.metrics.forget(&running.config.borrow().name);
        }
        for (feed, config) in feeds {
            match self.running.get(feed) {
                Some(running) => {
                    running.config.send_if_modified(|before| {
                        let restart = session_differs(before, config);
                        *before = config.clone();
                        restart
                    });
                }
                None => self.spawn(*feed, config.clone(), None),
            }
        }
    }

    fn spawn(&mut self, feed: u16, config: SourceConfig, after: Option<Change>) {
        let (config_tx, config_rx) = watch::channel(config);
        let confirm = Arc::new(Notify::new());
        let stop = self.stop.child_token();
        let name = config_tx.borrow().name.clone();
        let task = SourceTask {
            feed,
            config: config_rx,
            build: Arc::clone(&self.build),
            resumes: after.is_some(),
            sink: Sink::new(SourceId(feed), self.updates.clone())
                .counting(self.metrics.queue_full.with_label_values(&[&*name])),
            loader: self.loader.clone(),
            metrics: self.metrics.clone(),
            confirm: Arc::clone(&confirm),
            name,
        };
        let stopped = stop.clone();
        let handle = self.tasks.spawn(async move {
            // Dropping the work at any of its awaits is safe: a change is sent whole or not at all.
            tokio::select! {
                () = stopped.cancelled() => {}
                () = task.run(after) => {}
            }
        });
        self.running.insert(feed, Running { config: config_tx, confirm, stop, task: handle.id() });
    }

    /// Asks a source to list again, to confirm a list that was held back.
    pub(crate) fn confirm(&self, feed: u16) {
        if let Some(running) = self.running.get(&feed) {
            running.confirm.notify_one();
        }
    }

    /// Waits for a task to end; never returns while none is there. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> Result<(), JoinError> {
        match self.tasks.join_next().await {
            Some(result) => result,
            None => core::future::pending().await,
        }
    }

    /// Starts a task anew that panicked; what the catalog holds of its source stays. The new task tells of
    /// the panic itself, so that it comes behind what the old one has told.
    pub(crate) fn reap(&mut self, result: Result<(), JoinError>) {
        let Some(error) = result.err().filter(JoinError::is_panic) else { return };
        let feed = self.running.iter().find(|(_, running)| running.task == error.id()).map(|(feed, _)| *feed);
        let Some((feed, running)) = feed.and_then(|feed| Some((feed, self.running.remove(&feed)?))) else {
            return;
        };
        let config = running.config.borrow().clone();
        tracing::error!(source = %config.name, "a source's task panicked; it starts anew");
        self.metrics.errors.with_label_values(&[&*config.name, "panic"]).inc();
        let message = "internal error: the source's task panicked and starts anew".to_owned();
        self.spawn(feed, config, Some(Change::Lost { kind: "panic", message }));
    }

    /// Waits until every task has ended, after `stop` was cancelled.
    pub(crate) async fn drain(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// True if a running session does not fit the new configuration. How parts are merged is the catalog's.
fn session_differs(before: &SourceConfig, after: &SourceConfig) -> bool {
    (&before.kind, before.refresh, before.timeout) != (&after.kind, after.refresh, after.timeout)
}

/// The loop of one source.
struct SourceTask {
    feed: u16,
    name: SharedStr,
    config: watch::Receiver<SourceConfig>,
    build: Build,
    sink: Sink,
    loader: Loader,
    metrics: Metrics,
    confirm: Arc<Notify>,
    /// The catalog may hold something that the next source to be made does not know of.
    resumes: bool,
}

/// How a session ended.
enum End {
    Failed(SourceError),
    Confirm,
    Reconfigured,
}

impl SourceTask {
    /// `after` is what is to be told of the task before this one, if there was one.
    async fn run(mut self, after: Option<Change>) {
        match after {
            Some(change) => {
                if self.sink.send(clock::now(), change).await.is_err() {
                    return;
                }
                tokio::time::sleep(RESTART_AFTER).await;
            }
            None => {
                let config = self.config.borrow_and_update().clone();
                self.resumes = self.loader.load(self.feed, &config).await;
            }
        }
        let mut backoff = Backoff::new(fastrand::Rng::new());
        let mut source: Option<Box<dyn Source>> = None;
        loop {
            let begun = clock::now();
            let end = self.session(&mut source).await;
            match end {
                End::Failed(error) => {
                    // Only a catalog that is gone ends the task, whatever the source believes.
                    if self.lose(&error).await.is_err() {
                        return;
                    }
                    let wait = backoff.after(clock::now().saturating_duration_since(begun));
                    if self.wait(wait).await {
                        source = None;
                    }
                }
                End::Confirm => {
                    if self.wait(CONFIRM_AFTER).await {
                        source = None;
                    }
                }
                End::Reconfigured => {
                    source = None;
                    let message = "session ended to take up another configuration".to_owned();
                    let change = Change::Lost { kind: "reload", message };
                    if self.sink.send(clock::now(), change).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// One session, of the source made before or of a new one.
    async fn session(&mut self, source: &mut Option<Box<dyn Source>>) -> End {
        self.metrics.sessions.with_label_values(&[&*self.name]).inc();
        let config = self.config.borrow_and_update().clone();
        let source = match source {
            Some(source) => source,
            None => match (self.build)(&config) {
                Ok(built) => {
                    let source = source.insert(built);
                    if std::mem::replace(&mut self.resumes, true) {
                        source.resume();
                    }
                    source
                }
                Err(error) => return End::Failed(error),
            },
        };
        // The session may be dropped at any await (see `Source::session`); the other two are cancel-safe.
        tokio::select! {
            error = source.session(&self.sink) => End::Failed(error),
            () = self.confirm.notified() => End::Confirm,
            Ok(()) = self.config.changed() => End::Reconfigured,
        }
    }

    async fn lose(&self, error: &SourceError) -> Result<(), SourceError> {
        let kind = error.kind();
        self.metrics.errors.with_label_values(&[&*self.name, kind]).inc();
        self.sink.send(clock::now(), Change::Lost { kind, message: with_causes(error) }).await
    }

    /// Waits out the back-off; true if the configuration changed meanwhile.
    async fn wait(&mut self, wait: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(wait) => false,
            Ok(()) = self.config.changed() => true,
        }
    }
}

/// The error and what caused it, in one line.
fn with_causes(error: &SourceError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
