//! discovery: laid out, to be filled.

mod config;

pub use config::*;
