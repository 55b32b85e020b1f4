//! proxy: laid out, to be filled.

pub mod balance;
pub mod checks;
mod config;
#[cfg(test)]
mod fixture;
pub mod l4;
pub mod route;
pub mod upstream;

pub use config::*;
pub use route::{RouteBuilder, Routes};
