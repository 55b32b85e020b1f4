//! HTTP through real sockets: scripted clients and endpoints on either side of a listener. Modules are named
//! after the document whose rules they hold the proxy to, or after the behaviour.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod authority;
mod frames;
mod h2_client;
mod h2_server;
mod harness;

mod access_log;
mod allocations;
mod balance;
mod broken;
mod drain;
mod forwarding;
mod grpc;
mod http2_hostile;
mod http2_limits;
mod http2_refusals;
mod http2_shared;
mod http2_upstream;
mod limits;
mod retries;
mod rfc9110;
mod rfc9112;
mod rfc9113;
mod smuggling;
mod streams;
mod tls;
mod tls_certificates;
mod tls_hostile;
mod tls_http2;
mod tls_policies;
mod tls_upstream;
mod windows;
