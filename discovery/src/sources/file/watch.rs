//! The watch on directories: wakes the source, says nothing more. What has changed is found by looking.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::writers::Writers;
use crate::clock;

/// A watch. Without inotify it is blind, and the source looks more often.
pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    changed: Arc<Notify>,
    /// The directories watched, by inode: one that was replaced is watched anew.
    watched: BTreeMap<PathBuf, u64>,
    blind: bool,
}

impl Watch {
    /// A watch that tells `writers` what it sees of them.
    pub(super) fn new(writers: Writers) -> Self {
        let changed = Arc::new(Notify::new());
        let wake = Arc::clone(&changed);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if let Ok(event) = &event {
                writers.note(event, clock::now());
            }
            // An error may stand for events that were lost: look.
            if event.map_or(true, |event| is_change(&event)) {
                wake.notify_one();
            }
        });
        let watcher = watcher
            .inspect_err(|error| tracing::warn!(%error, "files cannot be watched; they are polled"))
            .ok();
        Self { blind: watcher.is_none(), watcher, changed, watched: BTreeMap::new() }
    }

    /// Watches exactly `directories`, as far as they exist.
    pub(super) fn follow(&mut self, directories: &BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        self.blind = false;
        self.watched.retain(|path, inode| {
            let same = directories.contains(path) && inode_of(path) == Some(*inode);
            if !same {
                // The watch may have gone with its directory.
                let _ = watcher.unwatch(path);
            }
            same
        });
        for path in directories {
            let Some(inode) = inode_of(path).filter(|_| !self.watched.contains_key(path)) else { continue };
            match watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(path.clone(), inode);
                }
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "cannot be watched; polled");
                    self.blind = true;
                }
            }
        }
        self.blind |= self.watched.len() < directories.len();
    }

    /// True if something can only be found by looking.
    pub(super) fn is_blind(&self) -> bool {
        self.blind
    }

    /// Waits until something may have changed. Cancel-safe.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// Reading is no change: our own reading would wake us for ever.
fn is_change(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

fn inode_of(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().filter(fs::Metadata::is_dir).map(|meta| meta.ino())
}
