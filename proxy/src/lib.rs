//! Portolan's proxy: takes connections, finds the route and an endpoint for each request, and moves the bytes.
//!
//! ```text
//!  listener (per worker, SO_REUSEPORT)
//!     ├─ http(s) ─► (tls) ─► l7: judge the head ─► route ─► upstream (pick) ─► pool / connect ─► relay, tunnel
//!     ├─ tcp ──────────────► l4:                   route ─► upstream (pick) ─► connect ─► relay
//!     └─ udp ──────────────► flow of the client, or  route ─► upstream (pick) ─► connect ─► relay
//! ```
//!
//! Thread per core: a [`Worker`] has its own sockets, pool, endpoint state and counters, and lives on one
//! thread's `LocalSet`; what all share ([`Proxy`]) is read-only or looked at once per tick. The routing table
//! is loaded per request and never held across an await.
//!
//! This crate does not talk to schedulers and knows nothing of DNS; it reads `portolan-table`.

mod access_log;
pub mod balance;
pub mod checks;
mod config;
#[cfg(test)]
mod fixture;
#[doc(hidden)]
pub mod fuzz;
mod h2;
pub mod l4;
mod l7;
mod listener;
mod metrics;
pub mod route;
mod stream;
pub mod tls;
mod udp;
pub mod upstream;
mod worker;

pub use config::*;
pub use listener::{Bound, bind, serve};
pub use route::{RouteBuilder, Routes};
pub use stream::Stream;
pub use worker::{Proxy, Worker};
