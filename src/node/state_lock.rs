//! One instance per state directory.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// The hold on a state directory. Dropped, it is free for the next instance, also after a crash.
#[derive(Debug)]
pub(crate) struct StateLock(File);

impl Drop for StateLock {
    fn drop(&mut self) {
        // Closing the file would not do: a child that somebody has just forked holds it too until it runs another
        // program. An error leaves that as the way it is freed.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// Why a state directory was not taken.
#[derive(Debug)]
pub(crate) enum StateError {
    /// Another instance holds it.
    Held,
    /// It cannot be made or written.
    Unusable(io::Error),
}

impl StateLock {
    /// Makes the directory if needed (mode 0700) and takes it for this process.
    pub(crate) fn take(directory: &Path) -> Result<Self, StateError> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(StateError::Unusable)?;
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(directory.join("lock"))
            .map_err(StateError::Unusable)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StateError::Held),
            Err(error) => Err(StateError::Unusable(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_until_the_first_is_gone() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("a/b");
        let first = StateLock::take(&directory).unwrap();
        assert!(matches!(StateLock::take(&directory), Err(StateError::Held)));
        // As a child has it between fork and exec.
        let inherited = first.0.try_clone().unwrap();
        drop(first);
        StateLock::take(&directory).unwrap();
        drop(inherited);
    }
}
