//! HTTP/2 on the wire (RFC 9113) and its field compression (RFC 7541): pure, for either end of a connection.
//!
//! ```text
//!  octets read ─► Session::receive ─► Event (borrows the octets) ─► whoever carries streams out
//!                     │ hpack · windows · states · guard
//!  octets to write ◄──┴── one Vec: answers of the session, and frames of many streams
//! ```
//! No socket, no clock, no task: what is fed in pieces gives the same events as what is fed at once. The session
//! keeps the rules between frames and what a peer may cost; it knows no request. Both are up to `l7`.

mod blocks;
mod error;
mod flow;
mod frame;
mod guard;
mod hpack;
mod message;
pub(crate) mod oracle;
mod receive;
mod session;
mod settings;
mod streams;
#[cfg(test)]
mod tests;

pub(crate) use error::{Broken, Reason};
pub(crate) use frame::begin_block;
pub(crate) use hpack::{Fields, push_field, push_indexed, push_named, push_status};
pub(crate) use receive::{Block, Event};
pub(crate) use session::{Bounds, Session};
pub(crate) use streams::Key;
