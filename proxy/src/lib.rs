//! proxy: laid out, to be filled.

mod balance;
pub mod checks;
mod config;
pub mod l4;
pub mod route;
pub mod upstream;

pub use config::*;
pub use route::{RouteBuilder, Routes};
