//! `portolan run`: the node, signals, and the configuration file as it changes.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use portolan_config::Config;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::Command;
use crate::files::Files;
use crate::logging::Logging;
use crate::node::Node;

/// How often the configuration file is looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// What a reload is asked by.
enum Event {
    Reload(&'static str),
    Stop(&'static str),
}

/// Runs until told to stop; returns once drained.
///
/// # Errors
/// When the node cannot start. Mistakes of the file have been told before, before this is called.
pub(crate) async fn run(config: Config, files: Files, mut watched: Watched, logging: Logging) -> Result<()> {
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut node = Node::start(config, watched.files.first().cloned()).await?;
    loop {
        // Every arm is cancel-safe: nothing is lost when another one is taken.
        let event = tokio::select! {
            _ = hangup.recv() => Event::Reload("SIGHUP"),
            () = watched.changed() => Event::Reload("file changed"),
            _ = terminate.recv() => Event::Stop("SIGTERM"),
            _ = interrupt.recv() => Event::Stop("SIGINT"),
            command = node.command() => match command {
                Some(Command::Reload) => Event::Reload("admin API"),
                Some(Command::Stop) | None => Event::Stop("admin API"),
            },
        };
        match event {
            Event::Reload(cause) => {
                watched.note();
                reload(&mut node, &logging, &files, cause).await;
            }
            Event::Stop(cause) => {
                tracing::info!(cause, "stopping");
                break;
            }
        }
    }
    // A second signal ends at once what the first lets drain.
    tokio::select! {
        () = node.drain() => Ok(()),
        _ = terminate.recv() => anyhow::bail!("stopped before the drain was done: second SIGTERM"),
        _ = interrupt.recv() => anyhow::bail!("stopped before the drain was done: second SIGINT"),
    }
}

async fn reload(node: &mut Node, logging: &Logging, files: &Files, cause: &'static str) {
    let paths = files.paths();
    let Some(file) = paths.first() else {
        tracing::info!(cause, "nothing to reload: running without a configuration file");
        return;
    };
    tracing::info!(cause, file = %file.display(), "reloading");
    let refused = match files.load() {
        Ok(config) => {
            let log = config.log.clone();
            match node.reload(config).await {
                Ok(()) => return logging.reload(&log),
                Err(error) => vec![format!("{error:#}")],
            }
        }
        Err(mistakes) => mistakes.list().iter().map(ToString::to_string).collect(),
    };
    for mistake in &refused {
        tracing::error!(mistake, "configuration refused; the one before stays in force");
    }
    node.refuse(refused);
}

/// The configuration files, looked at once a second: works on every file system and for every way to write.
///
/// Made before the file is read for the first time, so that no change is missed.
pub(crate) struct Watched {
    files: Vec<PathBuf>,
    seen: Option<Vec<Look>>,
}

/// Time of the last change, length, and inode: a file moved over another may have the first two in common.
type Look = (SystemTime, u64, u64);

impl Watched {
    pub(crate) fn new(files: Vec<PathBuf>) -> Self {
        let mut watched = Self { files, seen: None };
        watched.seen = watched.look();
        watched
    }

    /// The files are about to be read: what they are now need not be reported.
    fn note(&mut self) {
        self.seen = self.look().or_else(|| self.seen.take());
    }

    /// `None` while one of them is not there.
    fn look(&self) -> Option<Vec<Look>> {
        let look = |file: &PathBuf| {
            let metadata = std::fs::metadata(file).ok()?;
            Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
        };
        self.files.iter().map(look).collect()
    }

    /// Waits until the file differs from what it was and has held still for one look. Cancel-safe.
    async fn changed(&mut self) {
        if self.files.is_empty() {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            let now = self.look();
            if now.is_none() || now == self.seen {
                continue;
            }
            tokio::time::sleep(WATCH_INTERVAL / 4).await;
            if self.look() == now {
                self.seen = now;
                return;
            }
        }
    }
}
