//! File descriptors of the process.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit on open files to the hard one. The soft one is 1024 on most systems, for the sake of programs
/// that use select(2) and would break beyond; a data plane has a descriptor for each connection, and a simulated
/// backend for each task. Whoever wants a bound on us sets the hard limit. What is derived from the limit is made later.
pub(crate) fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit on open files stays as it is");
    }
}
