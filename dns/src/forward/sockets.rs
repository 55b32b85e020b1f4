//! Sockets towards resolvers. Every try has one of its own, for a port of its own (RFC 5452 §9.2), and the process has
//! only so many file descriptors for them, its clients, its endpoints and its sources.

use core::time::Duration;
use std::io;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One in so many of the descriptors may be a socket towards a resolver.
const DESCRIPTOR_SHARE: u64 = 4;
/// Fewer would be no service at all.
const MIN: u64 = 8;
/// Well under the 28,232 ports that Linux gives out unless told otherwise.
const MAX: u64 = 16_384;

/// While sockets are short a second try waits at least this long before it asks for one again.
pub(super) const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);

/// Those that may be opened yet.
#[derive(Debug)]
pub(super) struct Sockets {
    free: Arc<Semaphore>,
    max: usize,
}

/// The right to one socket, given back on drop.
pub(super) type Permit = OwnedSemaphorePermit;

impl Sockets {
    /// As many as the limit on open files allows; it is raised, if at all, before the server is made.
    pub(super) fn of_process() -> Self {
        let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
        Self::new((descriptors / DESCRIPTOR_SHARE).clamp(MIN, MAX) as usize)
    }

    pub(super) fn new(max: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(max)), max }
    }

    /// Waits for `patience`, then for a socket. `None`: none for now. While half or more are in use only those
    /// get one that wait for no other try: a second try at a name that is slow must not take the place of the first
    /// at another.
    ///
    /// Cancel-safe: nothing is taken unless it is returned; the place in the queue is lost.
    pub(super) async fn after(&self, patience: Duration, has_other: bool) -> Option<Permit> {
        tokio::time::sleep(patience).await;
        if has_other && self.free.available_permits() <= self.max / 2 {
            return None;
        }
        Arc::clone(&self.free).acquire_owned().await.ok()
    }
}

/// True if a socket failed for want of something of ours: descriptors or memory. That says nothing of the resolver.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    let short = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];
    error.raw_os_error().is_some_and(|code| short.contains(&Errno::from_raw(code)))
}
