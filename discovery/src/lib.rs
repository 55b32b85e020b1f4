//! discovery: laid out, to be filled.

mod config;
mod source;

pub use config::*;
pub use source::{Change, Session, Sink, Source, SourceError, Update};
