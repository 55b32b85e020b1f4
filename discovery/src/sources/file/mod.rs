//! Source `file`: service definitions in files, directories or globs, in TOML, YAML or JSON.
//!
//! Two formats are read: Portolan's own (a table with `service`, see `definition.rs` and
//! `docs/sources-file.md`) and Prometheus' file-based discovery (a list of target groups). Files are watched,
//! for atomic renames as well as for writes in place, and looked at again at every `refresh` in case the
//! watch is blind (network file systems, exhausted inotify).
//!
//! - A file is read when it has held still for a moment and its writer has closed it, and applied whole or not at
//!   all: with a mistake its last good content stays, and the mistake is reported as `FILE:LINE:COLUMN: message`.
//! - A file that is removed and does not come back takes its services with it; one that can't be read takes nothing
//!   away.
//! - As long as a file has never been read well, the list is not complete: what it would say is unknown.
//! - Files that define one service in the same way add their endpoints together.

mod definition;
mod document;
mod folder;
#[cfg(test)]
mod tests;
mod watch;
mod writers;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clock;
use crate::config::{FileConfig, SourceConfig};
use crate::source::{Change, Session, Sink, Source, SourceError};
use crate::sources::telling::{Services, tell_difference, tell_list};
pub(super) use definition::{Defined, Place, RawEndpoint, assemble};
use folder::{Combined, Folder, Scan};
use watch::Watch;
use writers::Writers;

/// How soon a file that has not held still is looked at again.
const UNSETTLED_PERIOD: Duration = Duration::from_millis(50);
/// Period of looking when nothing can be watched.
const BLIND_PERIOD: Duration = Duration::from_secs(2);

/// The source. Good content survives its sessions.
#[derive(Debug)]
pub(crate) struct FileSource {
    folder: Arc<Mutex<Folder>>,
    writers: Writers,
    refresh: Duration,
    /// Every change is told as a whole list, so that the removal guard can judge it.
    guarded: bool,
}

impl FileSource {
    pub(crate) fn new(config: &SourceConfig, file: &FileConfig) -> Self {
        let writers = Writers::default();
        let folder = Folder::new(file.paths.clone(), file.service_label.clone(), writers.clone());
        Self {
            writers,
            folder: Arc::new(Mutex::new(folder)),
            refresh: config.refresh,
            guarded: config.max_removal < 1.0,
        }
    }

    /// Runs `work` on the folder, off the runtime's threads.
    async fn on_disk<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Folder) -> R + Send + 'static,
    ) -> Result<R, SourceError> {
        let folder = Arc::clone(&self.folder);
        let run = move || work(&mut folder.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::task::spawn_blocking(run).await.map_err(|error| match error.try_into_panic() {
            // The supervisor reports it and starts anew.
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => SourceError::Stopping,
        })
    }

    async fn follow(&self, sink: &Sink) -> Result<(), SourceError> {
        let mut watch = Watch::new(self.writers.clone());
        let mut told = Told::Nothing;
        loop {
            let directories = self.on_disk(|folder| folder.directories()).await?;
            watch.follow(&directories);
            let woken = clock::now();
            let (scan, whole) = self.on_disk(move |folder| (folder.scan(woken), folder.is_whole())).await?;
            self.tell(sink, woken, scan, whole, &mut told).await?;
            let period = match (scan.unsettled, watch.is_blind()) {
                (true, _) => UNSETTLED_PERIOD,
                (false, true) => BLIND_PERIOD.min(self.refresh),
                (false, false) => self.refresh,
            };
            // Both arms are cancel-safe: a change that is noted while nobody waits is kept.
            tokio::select! {
                () = watch.changed() => {}
                () = tokio::time::sleep(period) => {}
            }
        }
    }

    /// Tells what is new: a whole list at first, when problems change, or under a guard; else the difference.
    async fn tell(
        &self,
        sink: &Sink,
        received: Instant,
        scan: Scan,
        whole: bool,
        told: &mut Told,
    ) -> Result<(), SourceError> {
        let news = scan.content || scan.problems;
        match told {
            // Said to be alive even if a file has never been read well: the others are being followed.
            Told::Whole(_) | Told::Part if !news => return sink.send(received, Change::Alive).await,
            Told::Nothing if scan.unsettled && !news => return Ok(()),
            _ => {}
        }
        let Combined { services, problems } = self.on_disk(|folder| folder.combined()).await?;
        match std::mem::replace(told, Told::Part) {
            Told::Whole(before) if whole && !scan.problems && !self.guarded => {
                tell_difference(sink, received, &before, &services).await?;
            }
            _ => {
                // What a file would say that was never read well is unknown: no reason to be synced, nor to sweep.
                let end = if whole { Change::ListComplete } else { Change::ListPartial { synced: false } };
                tell_list(sink, received, &services, problems, end).await?;
            }
        }
        if whole {
            *told = Told::Whole(services);
        }
        Ok(())
    }
}

/// What the catalog has been told in this session.
enum Told {
    Nothing,
    /// A list that is not whole: it must be told again from its beginning.
    Part,
    Whole(Services),
}

impl Source for FileSource {
    fn session<'a>(&'a mut self, sink: &'a Sink) -> Session<'a> {
        Box::pin(async move {
            match self.follow(sink).await {
                Ok(()) => SourceError::Stopping,
                Err(error) => error,
            }
        })
    }
}
