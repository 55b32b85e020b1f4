//! Entries for fuzzing: each takes any octets, must not panic, and checks what must hold whatever comes in.
//!
//! The targets in `discovery/fuzz` call these; a test replays their corpus.

pub use crate::sources::consul::fuzz::consul;
pub use crate::sources::docker::fuzz::docker;
pub use crate::sources::etcd::fuzz::etcd;
pub use crate::sources::kubernetes::fuzz::kubernetes;
pub use crate::sources::marathon::fuzz::{marathon_apps, sse};
