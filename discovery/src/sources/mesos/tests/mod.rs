//! The source against a scripted master on loopback, and conversion against tables and recordings.

mod conversion;
mod failover;
mod fake;
mod faults;
mod follow;
mod harness;
mod recorded;
mod twins;
