//! Answers from a zone whose records are listed one by one, as the RFCs want them.

use core::net::IpAddr;
use std::sync::Arc;

use super::records::{FIXED_LEN, QUESTION, record, turn};
use super::{Outcome, Terms, Written, bare, begin, strict, unwritable};
use crate::wire::{HEADER_LEN, Query, Rcode, Reply, Section, rtype};
use crate::zone::mesos_dns::Settings;
use crate::zone::{ListedStanding, ListingFixed, Sets, Srv, Zone, Zones};

/// SRV targets whose addresses are added; what lies beyond asks for itself.
const ADDITIONAL_MAX: usize = 64;
/// Highest offset that a compression pointer can name (RFC 1035 §4.1.4).
const POINTER_MAX: usize = 0x3fff;

/// Answers a query for a name in `zone`.
pub(super) fn answer(
    zones: &Zones,
    zone: &Zone,
    listing: &ListingFixed,
    query: &Query<'_>,
    terms: &Terms,
    rotation: u32,
    out: &mut [u8],
) -> Outcome {
    if listing.settings.is_strict() {
        return strict::answer(zones, zone, listing, query, terms, rotation, out);
    }
    let name = query.name();
    let own = &name.octets()[..name.octets().len() - zone.fixed().apex.len()];
    let standing = zone.listed().get(own);
    if !own.is_empty() && !zone.is_complete() && is_open(standing, query.qtype()) {
        return Outcome::Reply(bare(query, Rcode::ServFail, terms, out));
    }
    let Some(reply) = begin(query, terms, out) else { return Outcome::Reply(unwritable()) };
    let mut composer = Composer::new(reply, zones, zone, listing, query, terms, rotation);
    composer.reply.authoritative();
    Outcome::Reply(match standing {
        _ if own.is_empty() => composer.apex(),
        None => composer.negative(Rcode::NxDomain),
        Some(ListedStanding::Empty) => composer.negative(Rcode::NoError),
        Some(ListedStanding::Records(sets)) => composer.records(sets),
    })
}

/// True if a source that has not spoken yet may have records where the others have none.
fn is_open(standing: Option<ListedStanding<'_>>, qtype: u16) -> bool {
    match standing {
        None | Some(ListedStanding::Empty) => true,
        Some(ListedStanding::Records(sets)) => match qtype {
            rtype::A | rtype::AAAA => sets.v4().is_empty() && sets.v6().is_empty(),
            rtype::SRV => sets.srv().is_empty(),
            _ => false,
        },
    }
}

/// Answers a query for the reverse name of an address that a zone here answers for.
pub(super) fn reverse(
    zones: &Zones,
    address: IpAddr,
    query: &Query<'_>,
    terms: &Terms,
    rotation: u32,
    out: &mut [u8],
) -> Option<Outcome> {
    let known = |zone: &&Zone| zone.listed().pointed(address).is_some();
    let zone = zones.zones().iter().filter(|zone| answers_reverse(zone)).find(known);
    let Some(zone) = zone else { return reverse_tree(zones, query, terms, out) };
    let listing = zone.fixed().listing.as_ref()?;
    // Of an address with several names none is given: whoever checks the name against the address would trip.
    let name = zone.listed().pointed(address).filter(|names| names.len() == 1).map(|names| &names[0]);
    if listing.settings.is_strict() {
        return Some(strict::pointer(zones, zone, listing, query, name, out));
    }
    let Some(reply) = begin(query, terms, out) else { return Some(Outcome::Reply(unwritable())) };
    let mut composer = Composer::new(reply, zones, zone, listing, query, terms, rotation);
    composer.reply.authoritative();
    Some(Outcome::Reply(composer.pointer(name)))
}

fn answers_reverse(zone: &Zone) -> bool {
    zone.mesos_dns().is_some_and(|settings| settings.reverse)
}

/// A name in the reverse tree that nothing is known of: who is followed to the letter owns the whole tree.
pub(super) fn reverse_tree(
    zones: &Zones,
    query: &Query<'_>,
    terms: &Terms,
    out: &mut [u8],
) -> Option<Outcome> {
    let name = query.name();
    let tree: &[u8] = name.label(name.labels().checked_sub(2)?);
    if !matches!(tree, b"in-addr" | b"ip6") {
        return None;
    }
    let zone = zones.zones().iter().find(|zone| answers_reverse(zone) && strict::applies(zone))?;
    if !zone.is_complete() {
        return Some(Outcome::Reply(bare(query, Rcode::ServFail, terms, out)));
    }
    Some(strict::pointer(zones, zone, zone.fixed().listing.as_ref()?, query, None, out))
}

/// A reply in the making.
struct Composer<'a, 'o> {
    reply: Reply<'o>,
    zones: &'a Zones,
    zone: &'a Zone,
    listing: &'a ListingFixed,
    settings: &'a Settings,
    query: &'a Query<'a>,
    terms: &'a Terms,
    rotation: u32,
}

impl<'a, 'o> Composer<'a, 'o> {
    fn new(
        reply: Reply<'o>,
        zones: &'a Zones,
        zone: &'a Zone,
        listing: &'a ListingFixed,
        query: &'a Query<'a>,
        terms: &'a Terms,
        rotation: u32,
    ) -> Self {
        Self { reply, zones, zone, listing, settings: &listing.settings, query, terms, rotation }
    }

    fn ttl(&self) -> u32 {
        self.settings.ttl
    }

    fn finish(mut self, wanted: usize, written: usize) -> Written {
        if wanted == 0 {
            return self.negative(Rcode::NoError);
        }
        let truncated = written < wanted && self.settings.truncate_bit;
        if truncated {
            self.reply.truncated();
        }
        Written { len: self.reply.finish(Rcode::NoError), rcode: Rcode::NoError, truncated }
    }

    /// No such name, or nothing of the type: the SOA says for how long that holds (RFC 2308 §3).
    fn negative(mut self, rcode: Rcode) -> Written {
        let apex_at = self.query.name().octets().len() - self.zone.fixed().apex.len();
        self.soa(Section::Authority, (HEADER_LEN + apex_at) as u16 | 0xc000);
        Written { len: self.reply.finish(rcode), rcode, truncated: false }
    }

    fn soa(&mut self, section: Section, owner: u16) -> bool {
        let numbers = soa_numbers(self.zones, self.settings);
        let data: [&[u8]; 3] = [&self.listing.mname, &self.listing.rname, &numbers];
        record(&mut self.reply, section, owner, rtype::SOA, self.settings.ttl, &data)
    }

    fn apex(mut self) -> Written {
        match self.query.qtype() {
            rtype::SOA => {
                let written = self.soa(Section::Answer, QUESTION);
                self.finish(1, usize::from(written))
            }
            rtype::NS => self.name_server(),
            rtype::ANY => self.any(),
            _ => self.finish(0, 0),
        }
    }

    /// NS, with this server's addresses beside it.
    fn name_server(mut self) -> Written {
        let (ttl, target_at) = (self.ttl(), self.reply.len() + FIXED_LEN);
        let mname: &[u8] = &self.listing.mname;
        let written = record(&mut self.reply, Section::Answer, QUESTION, rtype::NS, ttl, &[mname]);
        let own = mname.strip_suffix(&*self.zone.fixed().apex);
        if let (true, Some(ListedStanding::Records(sets))) =
            (written, own.and_then(|own| self.zone.listed().get(own)))
        {
            self.glue(target_at as u16 | 0xc000, sets);
        }
        self.finish(1, usize::from(written))
    }

    /// The addresses of a target, all or none: what does not fit can be asked for (RFC 2181 §9).
    fn glue(&mut self, owner: u16, sets: &Sets) -> bool {
        let needed = sets.v4().len() * (FIXED_LEN + 4) + sets.v6().len() * (FIXED_LEN + 16);
        if needed > self.reply.free() {
            return false;
        }
        let ttl = self.ttl();
        for v4 in sets.v4() {
            record(&mut self.reply, Section::Additional, owner, rtype::A, ttl, &[v4]);
        }
        for v6 in sets.v6() {
            record(&mut self.reply, Section::Additional, owner, rtype::AAAA, ttl, &[v6]);
        }
        true
    }

    /// ANY gets one small record instead of everything (RFC 8482 §4.2).
    fn any(mut self) -> Written {
        let ttl = self.ttl();
        let data: [&[u8]; 1] = [b"\x07RFC8482\x00"];
        let written = record(&mut self.reply, Section::Answer, QUESTION, rtype::HINFO, ttl, &data);
        self.finish(1, usize::from(written))
    }

    fn records(mut self, sets: &Sets) -> Written {
        let (ttl, rotation) = (self.ttl(), self.rotation);
        let near = Near::of(self.settings, self.query, self.terms);
        match self.query.qtype() {
            rtype::A => {
                let mut put =
                    |v4: &[u8; 4]| record(&mut self.reply, Section::Answer, QUESTION, rtype::A, ttl, &[v4]);
                let written = near.first(sets.v4(), rotation).map_while(|v4| put(v4).then_some(())).count();
                self.finish(sets.v4().len(), written)
            }
            rtype::AAAA => {
                let mut put = |v6: &[u8; 16]| {
                    record(&mut self.reply, Section::Answer, QUESTION, rtype::AAAA, ttl, &[v6])
                };
                let written = near.first(sets.v6(), rotation).map_while(|v6| put(v6).then_some(())).count();
                self.finish(sets.v6().len(), written)
            }
            rtype::SRV => self.services(sets.srv()),
            rtype::ANY => self.any(),
            _ => self.finish(0, 0),
        }
    }

    /// SRV records, and the addresses of their targets. Targets stand in full (RFC 2782); the owner names of the
    /// addresses point at them.
    fn services(mut self, records: &[Srv]) -> Written {
        let first = self.reply.len();
        let (late, early) = records.split_at(turn(self.rotation, records.len()));
        let mut written = 0;
        for srv in early.iter().chain(late) {
            if !self.service(srv) {
                break;
            }
            written += 1;
        }
        if written == records.len() {
            self.targets(early, late, first);
        }
        self.finish(records.len(), written)
    }

    fn service(&mut self, srv: &Srv) -> bool {
        // Records whose target cannot be written are not put into such a zone.
        let Some(target) = &srv.target else { return true };
        let numbers = srv_numbers(self.settings, srv);
        let data: [&[u8]; 3] = [&numbers, target, &self.zone.fixed().apex];
        record(&mut self.reply, Section::Answer, QUESTION, rtype::SRV, self.settings.ttl, &data)
    }

    /// The addresses of the targets of SRV records, `early` before `late`; the first record begins at `first`.
    fn targets(&mut self, early: &[Srv], late: &[Srv], first: usize) {
        let mut at = first;
        let records = early.iter().chain(late);
        for (index, srv) in records.clone().enumerate().take(ADDITIONAL_MAX) {
            let Some(target) = &srv.target else { continue };
            let target_at = at + FIXED_LEN + 6;
            at = target_at + target.len() + self.zone.fixed().apex.len();
            if target_at > POINTER_MAX {
                return;
            }
            if records.clone().take(index).any(|earlier| earlier.target.as_ref() == Some(target)) {
                continue;
            }
            if let Some(ListedStanding::Records(sets)) = self.zone.listed().get(target)
                && !self.glue(target_at as u16 | 0xc000, sets)
            {
                return;
            }
        }
    }

    /// One PTR record; a name without one is answered as a zone of its own.
    fn pointer(mut self, name: Option<&Arc<[u8]>>) -> Written {
        let ttl = self.ttl();
        let (answered, rcode) = match (name, self.query.qtype()) {
            (Some(name), rtype::PTR) => {
                let data: [&[u8]; 2] = [name, &self.zone.fixed().apex];
                (record(&mut self.reply, Section::Answer, QUESTION, rtype::PTR, ttl, &data), Rcode::NoError)
            }
            (Some(_), rtype::ANY) => return self.any(),
            (Some(_), _) => (false, Rcode::NoError),
            (None, _) => (false, Rcode::NxDomain),
        };
        if !answered {
            self.soa(Section::Authority, QUESTION);
        }
        Written { len: self.reply.finish(rcode), rcode, truncated: false }
    }
}

/// Serial, refresh, retry, expire, minimum.
pub(super) fn soa_numbers(zones: &Zones, settings: &Settings) -> [u8; 20] {
    let [refresh, retry, expire] = settings.soa_times;
    let mut numbers = [0; 20];
    let values = [zones.serial(), refresh, retry, expire, settings.ttl];
    for (place, value) in numbers.chunks_exact_mut(4).zip(values) {
        place.copy_from_slice(&value.to_be_bytes());
    }
    numbers
}

/// Priority, weight, port.
pub(super) fn srv_numbers(settings: &Settings, srv: &Srv) -> [u8; 6] {
    let ([w0, w1], [p0, p1]) = (settings.srv_weight.to_be_bytes(), srv.port.to_be_bytes());
    [0, 0, w0, w1, p0, p1]
}

/// The client's own network, whose addresses come first in answers where that is wished.
#[derive(Debug, Clone, Copy)]
pub(super) struct Near(Option<IpAddr>);

impl Near {
    /// Of nobody.
    pub(super) const fn none() -> Self {
        Self(None)
    }

    /// The client is who the query names, else who sent it.
    pub(super) fn of(settings: &Settings, query: &Query<'_>, terms: &Terms) -> Self {
        let named = || query.edns().and_then(|edns| edns.client_subnet);
        Self(if settings.subnet_first { named().or(terms.client) } else { None })
    }

    /// True for addresses in the client's /24 or /64.
    fn holds(self, octets: &[u8]) -> bool {
        match self.0.map(|client| client.to_canonical()) {
            Some(IpAddr::V4(client)) => octets.len() == 4 && client.octets()[..3] == octets[..3],
            Some(IpAddr::V6(client)) => octets.len() == 16 && client.octets()[..8] == octets[..8],
            None => false,
        }
    }

    /// The addresses in turned order, those nearby first.
    pub(super) fn first<const N: usize>(
        self,
        items: &[[u8; N]],
        rotation: u32,
    ) -> impl Iterator<Item = &[u8; N]> {
        let (late, early) = items.split_at(turn(rotation, items.len()));
        let near = early.iter().chain(late).filter(move |item| self.holds(&item[..]));
        near.chain(early.iter().chain(late).filter(move |item| !self.holds(&item[..])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_clients_network_come_first() {
        let near = Near(Some("192.168.10.22".parse().unwrap()));
        let items = [[192, 168, 123, 113], [192, 168, 10, 17]];
        assert!(near.first(&items, 0).eq([&items[1], &items[0]]));
        let far = Near(Some("10.0.0.1".parse().unwrap()));
        assert!(far.first(&items, 0).eq(&items));
    }
}
