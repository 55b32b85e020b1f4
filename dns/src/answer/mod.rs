//! One query, one answer: a pure function of the zones, the query and a rotation.
//!
//! ```text
//!  verdict on the query ─► zone of the name ─► what stands there ─► records of the type, or why there are none
//!                              │ none: address of a PTR name? else not ours
//! ```

mod compose;
mod listed;
mod records;
mod strict;

use core::net::IpAddr;

use crate::wire::{Query, Rcode, Reply, rtype};
use crate::zone::{Found, PartKind, Zone, Zones};
use compose::Composer;

/// What the transport allows and the server offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Largest reply in octets: [`Query::udp_limit`] over UDP, 65,535 over TCP.
    pub size_max: usize,
    /// The UDP size stated in our OPT record.
    pub udp_size: u16,
    /// This client may use the forwarder: sets the RA bit.
    pub recursion_available: bool,
    /// It came over a transport that carries replies of any size.
    pub stream: bool,
    /// Who asks, for answers that depend on it.
    pub client: Option<IpAddr>,
}

impl Terms {
    /// Over UDP, of nobody in particular.
    #[must_use]
    pub const fn udp(size_max: usize, udp_size: u16) -> Self {
        Self { size_max, udp_size, recursion_available: false, stream: false, client: None }
    }

    /// Over TCP, of nobody in particular.
    #[must_use]
    pub const fn tcp(udp_size: u16) -> Self {
        Self { size_max: 65_535, udp_size, recursion_available: false, stream: true, client: None }
    }
}

/// What came of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The reply stands in the buffer.
    Reply(Written),
    /// The name is in none of our zones: forward it or refuse it.
    NotOurs,
    /// No reply must be sent: a program that is followed to the letter sends none either.
    Silence,
}

/// A reply in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Its length in octets; 0 if the buffer or the limit is too small for the question alone.
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
    let name = query.name();
    let zone = zones.zone_of(name);
    if let Some(rcode) = query.verdict() {
        // Who is followed to the letter answers any class, and zone transfers like other types.
        let followed = rcode == Rcode::Refused && zone.is_some_and(strict::applies);
        if !followed {
            return Outcome::Reply(bare(query, rcode, terms, out));
        }
    }
    let Some(zone) = zone else {
        return reverse(zones, query, terms, rotation, out);
    };
    if let Some(listing) = &zone.fixed().listing {
        return listed::answer(zones, zone, listing, query, terms, rotation, out);
    }
    let found = zone.find(name);
    if !zone.is_complete() && is_open(&found, query.qtype()) {
        return Outcome::Reply(bare(query, Rcode::ServFail, terms, out));
    }
    let Some(reply) = begin(query, terms, out) else { return Outcome::Reply(unwritable()) };
    let composer = Composer::new(reply, zones, zone, query, rotation);
    Outcome::Reply(match found {
        Found::Missing => composer.negative(Rcode::NxDomain),
        Found::Inner | Found::Empty => composer.negative(Rcode::NoError),
        _ if query.qtype() == rtype::ANY => composer.any(),
        Found::Apex => composer.apex(),
        Found::Service(entry, part) => composer.service(entry, part),
        Found::Ports { entry, part, first, end, service_label } => {
            composer.ports(entry, part, first..end, service_label)
        }
        Found::InstancePorts { entry, part, first, end, host, service_label } => {
            composer.instance_ports(entry, part, first..end, host, service_label)
        }
        Found::Instance(entry, host) => composer.instance(entry, host),
        Found::Node(node) => composer.node(node),
    })
}

/// True if the query is about a zone that follows a program to the letter.
#[must_use]
pub(crate) fn is_followed(zones: &Zones, query: &Query<'_>) -> bool {
    zones.zone_of(query.name()).is_some_and(strict::applies)
}

/// True if a source that has not spoken yet may have records where the others have none: unknown is not absent.
/// A set that is not empty may grow; it is answered as it is, and so is what one source says of a service.
fn is_open(found: &Found<'_>, qtype: u16) -> bool {
    let of_all = |kind| matches!(kind, PartKind::Whole | PartKind::Zone(_));
    match found {
        Found::Missing | Found::Empty => true,
        Found::Service(entry, part) if matches!(qtype, rtype::A | rtype::AAAA) => {
            // With addresses of one family the other one is a matter of the network, not of who has not spoken.
            let empty = part.group(entry).is_some_and(|group| group.v4.is_empty() && group.v6.is_empty());
            empty && of_all(part.of(entry).kind)
        }
        Found::Ports { entry, part, first, end, .. } if qtype == rtype::SRV => {
            of_all(part.kind)
                && entry.group(part).is_some_and(|group| group.targets_of(*first..*end).is_empty())
        }
        _ => false,
    }
}

/// A reply without records: REFUSED and SERVFAIL of the server, verdicts on the query itself.
#[must_use]
pub fn bare(query: &Query<'_>, rcode: Rcode, terms: &Terms, out: &mut [u8]) -> Written {
    let Some(reply) = begin(query, terms, out) else { return unwritable() };
    Written { len: reply.finish(rcode), rcode, truncated: false }
}

/// PTR for exactly the addresses served. Each such name is answered as a zone of its own; the rest of the
/// reverse tree is not ours.
fn reverse(zones: &Zones, query: &Query<'_>, terms: &Terms, rotation: u32, out: &mut [u8]) -> Outcome {
    let name = query.name();
    if name.labels() < 2 || name.label(name.labels() - 1) != b"arpa" {
        return Outcome::NotOurs;
    }
    let Some(address) = crate::wire::address_of(name.octets()) else {
        return listed::reverse_tree(zones, query, terms, out).unwrap_or(Outcome::NotOurs);
    };
    let Some((zone, names)) = zones.reverse(address) else {
        if let Some(outcome) = listed::reverse(zones, address, query, terms, rotation, out) {
            return outcome;
        }
        // A source that has not spoken yet may serve a private address, and nobody outside knows better.
        if is_private(address) && zones.zones().iter().any(|zone| !zone.is_complete()) {
            return Outcome::Reply(bare(query, Rcode::ServFail, terms, out));
        }
        return Outcome::NotOurs;
    };
    let Some(reply) = begin(query, terms, out) else { return Outcome::Reply(unwritable()) };
    Outcome::Reply(Composer::new(reply, zones, zone, query, rotation).pointer(names))
}

/// True for the addresses that a scheduler gives out and the public reverse tree does not know: private ones
/// (RFC 1918, RFC 4193), those of carrier-grade NAT, which clusters use as well (RFC 6598), loopback, link-local.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || shared
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_loopback() || v6.is_unicast_link_local(),
    }
}

#[inline]
fn begin<'o>(query: &Query<'_>, terms: &Terms, out: &'o mut [u8]) -> Option<Reply<'o>> {
    let mut reply = Reply::begin(out, query, terms.size_max, terms.udp_size)?;
    if terms.recursion_available {
        reply.recursion_available();
    }
    Some(reply)
}

/// The buffer or the limit has no room for the question alone.
fn unwritable() -> Written {
    Written { len: 0, rcode: Rcode::ServFail, truncated: false }
}

/// True if the zone's apex and the query's name are one; used where a reply may point at the question.
fn is_apex(zone: &Zone, query: &Query<'_>) -> bool {
    query.name().octets() == zone.fixed().apex
}
