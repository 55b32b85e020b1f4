//! The DNS server from outside: real sockets on loopback, a table of its own. Modules are named by the document
//! whose promise they check.

#![expect(clippy::unwrap_used, reason = "tests: a failure is a failure, wherever it shows")]

mod access;
mod forwarding;
mod node;
mod rate_limit;
mod resolver;
mod rfc1035;
mod rfc1995;
mod rfc1996;
mod rfc5936;
mod rfc6891;
mod rfc7766;
mod rfc7873;
mod rfc8945;
mod secondaries;
mod stopping;
mod two_paths;
mod zone_client;
