//! The one integration binary: whole nodes, fake and simulated schedulers, real sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod admin_side;
mod commands;
mod datagrams;
mod descriptors;
mod differing;
mod explaining;
mod https;
mod marathon_client;
mod marathon_lb_cases;
mod mesos_dns;
mod mesos_dns_cases;
mod mesos_master;
mod propagation;
mod real_mesos;
mod rolling_deploy;
mod scheduler_faults;
mod serving;
mod several_sources;
mod starting;
mod stopping;
mod support;
mod tidy;
mod zone_transfer;
