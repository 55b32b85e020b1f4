//! Portolan.

pub mod sim;
