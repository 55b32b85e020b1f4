//! Portolan's control side: what schedulers and files say, merged into one table.
//!
//! ```text
//!  sources/<name> ──Update──► catalog task ──ChangeSet──► Publisher ──► Table (read by DNS and proxy)
//!     ▲    session after          │  ▲ verdicts of active checks, reload
//!  supervisor  session            └──► last-known-good files, reports, metrics
//! ```
//!
//! It answers no query and moves no byte of traffic; it knows neither DNS nor HTTP servers. [`Discovery::start`]
//! is the entry, [`Handle`] what the rest of the process holds.

mod backoff;
mod catalog;
mod clock;
mod config;
mod discovery;
#[cfg(test)]
mod discovery_tests;
pub mod fuzz;
mod hosts;
mod http;
mod last_known_good;
mod lenient;
mod metrics;
mod report;
mod saver;
mod source;
mod sources;
mod supervisor;
mod zookeeper;

pub use config::*;
pub use discovery::{Discovery, Handle, StartError};
pub use report::{ErrorReport, ProblemReport, SourceReport};
pub use source::{Change, Session, Sink, Source, SourceError, Unread, Update};
pub use sources::marathon::Marathon;
