//! The DNS server from outside: real sockets on loopback, a table of its own. Modules are named by the document
//! whose promise they check.

#![expect(clippy::unwrap_used, reason = "tests: a failure is a failure, wherever it shows")]

mod forwarding;
mod node;
mod resolver;
mod rfc1035;
mod rfc6891;
mod rfc7766;
mod stopping;
mod two_paths;
