//! Field compression (RFC 7541): a decoder with its dynamic table, an encoder without one.
//!
//! What we send is indexed by the static table or literal. An encoder's dynamic table would have to be searched
//! for every field, and the peer would have to keep it; the octets saved cost more than they are worth here.

mod decode;
mod encode;
mod fields;
mod huffman;
mod table;

pub(crate) use decode::{BlockError, Decoder};
pub(crate) use encode::{SIZE_0, push_field, push_indexed, push_named, push_status};
pub(crate) use fields::Fields;

/// Octets of a dynamic table that a peer may use from the start (RFC 9113 §6.5.2).
pub(crate) const TABLE_SIZE: usize = 4096;

#[cfg(test)]
mod tests;
