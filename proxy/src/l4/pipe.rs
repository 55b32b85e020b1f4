//! Kernel pipes for `splice`, kept and counted per worker.

use core::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// What a pipe is asked to hold, in octets; the second size is for processes that may not have the first (the
/// kernel limits the pipes of an unprivileged user together).
const SIZES: [usize; 2] = [1 << 20, 256 << 10];
/// Pipes of one worker at most. A pipe is held while it has octets in it: by directions whose receiver is slow. Those beyond
/// are relayed by copying, which holds less memory for each.
const IN_USE_MAX: usize = 256;
/// Empty pipes kept for the next use.
const SPARE_MAX: usize = 32;

/// The pipes of one worker.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    spare: RefCell<Vec<Pipe>>,
    in_use: Cell<usize>,
}

/// One pipe.
#[derive(Debug)]
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    size: usize,
}

impl Pipes {
    /// An empty pipe; `None` if there are too many, or the system gives none of a useful size.
    pub(super) fn take(&self) -> Option<Pipe> {
        if self.in_use.get() >= IN_USE_MAX {
            return None;
        }
        let spare = self.spare.borrow_mut().pop();
        let pipe = spare.map_or_else(Pipe::new, Some)?;
        self.in_use.set(self.in_use.get() + 1);
        Some(pipe)
    }

    /// Gives an empty pipe back.
    pub(super) fn give(&self, pipe: Pipe) {
        self.forget();
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE_MAX {
            spare.push(pipe);
        }
    }

    /// Notes that a pipe was dropped with octets in it.
    pub(super) fn forget(&self) {
        self.in_use.set(self.in_use.get().saturating_sub(1));
    }

    #[cfg(test)]
    pub(super) fn in_use(&self) -> usize {
        self.in_use.get()
    }
}

impl Pipe {
    fn new() -> Option<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        let size = SIZES.iter().find_map(|size| fcntl_setpipe_size(&write, *size).ok())?;
        Some(Self { read, write, size })
    }

    /// Moves what is there from a socket into the pipe, which must be empty: "would block" then means the socket.
    pub(super) fn fill(&self, from: &impl std::os::fd::AsFd) -> std::io::Result<usize> {
        moved(|| splice(from, None, &self.write, None, self.size, SpliceFlags::MOVE | SpliceFlags::NONBLOCK))
    }

    /// Moves up to `len` octets from the pipe, which must hold as many, to a socket.
    pub(super) fn empty(&self, to: &impl std::os::fd::AsFd, len: usize) -> std::io::Result<usize> {
        moved(|| splice(&self.read, None, to, None, len, SpliceFlags::MOVE | SpliceFlags::NONBLOCK))
    }
}

fn moved(mut call: impl FnMut() -> Result<usize, Errno>) -> std::io::Result<usize> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}
