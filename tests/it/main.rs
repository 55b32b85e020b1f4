//! The one integration binary: whole nodes, fake and simulated schedulers, real sockets.

mod marathon_client;
mod marathon_lb_cases;
mod propagation;
mod rolling_deploy;
mod scheduler_faults;
mod starting;
mod stopping;
mod support;
mod tidy;
