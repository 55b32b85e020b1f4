//! What the zones answer, seen from outside: questions in, full answers out, decoded by another library.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod cluster;
mod collisions;
mod guard;
mod incomplete;
mod incremental;
mod native;
mod packets;
mod rfc1035;
mod rfc2181;
mod rfc2308;
mod rfc2782;
mod rfc4343;
mod rfc6891;
mod rfc8020;
mod rfc8482;
mod udp;
