//! The one integration binary: whole nodes, fake and simulated schedulers, real sockets.

mod scheduler_faults;
mod starting;
mod support;
mod tidy;
