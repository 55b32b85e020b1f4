//! HTTP through real sockets: scripted clients and endpoints on either side of a listener. Modules are named
//! after the document whose rules they hold the proxy to, or after the behaviour.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[expect(dead_code, reason = "the tests that use the rest are on their way")]
mod harness;

mod forwarding;
