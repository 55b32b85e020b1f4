//! Which files are being written, as far as the watch tells.
//!
//! A file that holds still may be one whose writer pauses, and every beginning of a TOML or YAML file that ends with a line
//! is a file without a mistake. So a file that was written is not read before its writer has closed it. A lease
//! (`F_SETLEASE`) would tell without a watch, but nothing wraps it without unsafe code.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind};

/// A file that its writer leaves open is read when it has not been written for this long: a process that keeps its files
/// open must not keep them from being read for ever, nor may an event that was lost.
const OPEN_MAX: Duration = Duration::from_secs(5);
/// Files kept in mind. Others in the same directories may be written too.
const FILES_MAX: usize = 10_000;

/// Files that were written and not closed since, with the time of the last write. Shared by the watch and the folder.
#[derive(Debug, Clone, Default)]
pub(super) struct Writers(Arc<Mutex<HashMap<PathBuf, Instant>>>);

impl Writers {
    /// Takes in an event of the watch.
    pub(super) fn note(&self, event: &Event, now: Instant) {
        let Some(path) = event.paths.first().and_then(|path| std::path::absolute(path).ok()) else { return };
        match event.kind {
            EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any) => self.written(path, now),
            // A link, or a file that is linked to its place, comes whole; nobody closes it.
            EventKind::Create(_) if is_new(&path) => self.written(path, now),
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Remove(_)
            | EventKind::Modify(ModifyKind::Name(_)) => {
                self.lock().remove(&path);
            }
            _ => {}
        }
    }

    /// True if the file has been written and not closed, not long ago.
    pub(super) fn has_open(&self, path: &Path, now: Instant) -> bool {
        let Ok(path) = std::path::absolute(path) else { return false };
        let written = self.lock().get(&path).copied();
        written.is_some_and(|at| now.saturating_duration_since(at) < OPEN_MAX)
    }

    fn written(&self, path: PathBuf, now: Instant) {
        let mut files = self.lock();
        if files.len() >= FILES_MAX {
            files.retain(|_, at| now.saturating_duration_since(*at) < OPEN_MAX);
        }
        if files.len() < FILES_MAX || files.contains_key(&path) {
            files.insert(path, now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// True for a file that was just made and holds nothing yet.
fn is_new(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == 0)
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, DataChange, RenameMode};

    use super::*;

    const WRITE: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    const CLOSE: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));

    fn event(kind: EventKind, path: &Path) -> Event {
        Event::new(kind).add_path(path.to_owned())
    }

    #[test]
    fn a_file_is_open_from_its_first_write_until_it_is_closed_replaced_or_left() {
        let now = clock();
        let path = Path::new("/etc/services.toml");
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        for end in [CLOSE, renamed, EventKind::Remove(notify::event::RemoveKind::File)] {
            let writers = Writers::default();
            writers.note(&event(CLOSE, path), now);
            assert!(!writers.has_open(path, now));
            writers.note(&event(WRITE, path), now);
            assert!(writers.has_open(path, now));
            assert!(!writers.has_open(Path::new("/etc/other.toml"), now));
            assert!(writers.has_open(path, now + OPEN_MAX / 2));
            assert!(!writers.has_open(path, now + OPEN_MAX), "left open");
            writers.note(&event(WRITE, path), now + OPEN_MAX);
            assert!(writers.has_open(path, now + OPEN_MAX), "written again");
            writers.note(&event(end, path), now + OPEN_MAX);
            assert!(!writers.has_open(path, now + OPEN_MAX), "{end:?}");
        }
    }

    #[test]
    fn paths_are_compared_as_they_are_meant() {
        let writers = Writers::default();
        let absolute = std::env::current_dir().unwrap().join("./services.toml");
        writers.note(&event(WRITE, &absolute), clock());
        assert!(writers.has_open(Path::new("services.toml"), clock()));
        assert!(writers.has_open(Path::new("./services.toml"), clock()));
    }

    #[test]
    fn what_appears_whole_has_no_writer() {
        let directory = tempfile::tempdir().unwrap();
        let [empty, whole, link] = ["empty", "whole", "link"].map(|name| directory.path().join(name));
        fs::write(&empty, "").unwrap();
        fs::write(&whole, "x").unwrap();
        std::os::unix::fs::symlink(&whole, &link).unwrap();
        let writers = Writers::default();
        for path in [&empty, &whole, &link] {
            writers.note(&event(EventKind::Create(CreateKind::File), path), clock());
        }
        let open = [&empty, &whole, &link].map(|path| writers.has_open(path, clock()));
        assert_eq!(open, [true, false, false]);
    }

    fn clock() -> Instant {
        crate::clock::now()
    }
}
