//! Answers as Mesos-DNS itself gives them, where it departs from the RFCs too: for clients that rely on it, and for
//! comparing. What the departures are stands in `docs/mesos-dns.md`.

use std::sync::Arc;

use super::listed::{Near, soa_numbers, srv_numbers};
use super::records::{FIXED_LEN, QUESTION, turn};
use super::{Outcome, Terms, Written, bare, unwritable};
use crate::wire::{
    CLASS_IN, HEADER_LEN, NAME_LEN_MAX, Query, QueryName, Rcode, Reply, Section, UDP_SIZE_PLAIN, rtype,
};
use crate::zone::mesos_dns::Settings;
use crate::zone::{ListedStanding, ListingFixed, Sets, Srv, Zone, Zones};

/// Highest offset that a compression pointer can name (RFC 1035 §4.1.4).
const POINTER_MAX: usize = 0x3fff;

/// True if the zone's answers are made here.
pub(super) fn applies(zone: &Zone) -> bool {
    zone.mesos_dns().is_some_and(|settings| settings.is_strict())
}

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
    let key = Key::of(query.name());
    let own = key.octets().strip_suffix(&*zone.fixed().apex).unwrap_or_default();
    let sets = match zone.listed().get(own) {
        Some(ListedStanding::Records(sets)) => Some(sets),
        _ => None,
    };
    if sets.is_none() && !zone.is_complete() {
        return Outcome::Reply(bare(query, Rcode::ServFail, terms, out));
    }
    let plan = Plan::of(query.qtype(), sets);
    if plan.srv.iter().any(|srv| srv.target.is_none()) {
        // A target that cannot be encoded keeps the whole reply from being sent.
        return Outcome::Silence;
    }
    let limit = if terms.stream { terms.size_max } else { usize::MAX };
    let Some(reply) = Reply::begin_plain(out, query, limit) else { return Outcome::Reply(unwritable()) };
    let near = Near::of(&listing.settings, query, terms);
    let maker =
        Maker { reply, zones, zone, listing, settings: &listing.settings, key: &key, query, near, rotation };
    Outcome::Reply(maker.make(&plan, terms.stream))
}

/// Answers a query in a reverse tree: one name, or none.
pub(super) fn pointer(
    zones: &Zones,
    zone: &Zone,
    listing: &ListingFixed,
    query: &Query<'_>,
    name: Option<&Arc<[u8]>>,
    out: &mut [u8],
) -> Outcome {
    let key = Key::of(query.name());
    let Some(reply) = Reply::begin_plain(out, query, usize::MAX) else { return Outcome::Reply(unwritable()) };
    let settings = &*listing.settings;
    let mut maker =
        Maker { reply, zones, zone, listing, settings, key: &key, query, near: Near::none(), rotation: 0 };
    maker.begin();
    let rcode = match (name, query.qtype()) {
        (Some(name), rtype::PTR) => {
            maker.own(rtype::PTR, &[name, &zone.fixed().apex], true);
            Rcode::NoError
        }
        (_, rtype::NS) => {
            maker.name_server();
            Rcode::NoError
        }
        (_, rtype::SOA) | (Some(_), _) => {
            maker.soa();
            Rcode::NoError
        }
        (None, _) => {
            maker.soa();
            Rcode::NxDomain
        }
    };
    Outcome::Reply(Written { len: maker.reply.finish(rcode), rcode, truncated: false })
}

/// The name that is looked up: that of the question, lower-cased, without every `.*`.
struct Key {
    octets: [u8; NAME_LEN_MAX + 1],
    len: usize,
}

impl Key {
    fn of(name: &QueryName) -> Self {
        let mut key = Self { octets: [0; NAME_LEN_MAX + 1], len: 0 };
        let mut label_at = None;
        for index in 0..name.labels() {
            let label = name.label(index);
            match (label.strip_prefix(b"*"), label_at) {
                // What follows the star goes on where the label before ends.
                (Some(rest), Some(at)) => key.extend(at, rest),
                _ => {
                    label_at = Some(key.len);
                    key.octets[key.len] = 0;
                    key.len += 1;
                    key.extend(key.len - 1, label);
                }
            }
        }
        key.octets[key.len] = 0;
        key.len += 1;
        key
    }

    /// Appends to the label at `at`, which is the last one. Its length is right as long as it can be one.
    fn extend(&mut self, at: usize, octets: &[u8]) {
        self.octets[self.len..self.len + octets.len()].copy_from_slice(octets);
        self.len += octets.len();
        self.octets[at] = (self.len - at - 1).min(usize::from(u8::MAX)) as u8;
    }

    fn octets(&self) -> &[u8] {
        &self.octets[..self.len]
    }
}

/// What a reply is to hold.
struct Plan<'a> {
    v4: &'a [[u8; 4]],
    v6: &'a [[u8; 16]],
    srv: &'a [Srv],
    /// Records of the zone itself, in the authority section.
    name_server: bool,
    soas: usize,
    rcode: Rcode,
}

impl<'a> Plan<'a> {
    fn of(qtype: u16, sets: Option<&'a Sets>) -> Self {
        let mut plan =
            Self { v4: &[], v6: &[], srv: &[], name_server: false, soas: 0, rcode: Rcode::NoError };
        let any = qtype == rtype::ANY;
        if let Some(sets) = sets {
            if any || qtype == rtype::A {
                plan.v4 = sets.v4();
            }
            if any || qtype == rtype::AAAA {
                plan.v6 = sets.v6();
            }
            if any || qtype == rtype::SRV {
                plan.srv = sets.srv();
            }
        }
        plan.name_server = any || qtype == rtype::NS;
        plan.soas = usize::from(any || qtype == rtype::SOA);
        let empty = plan.v4.is_empty() && plan.v6.is_empty() && plan.srv.is_empty();
        if empty && !matches!(qtype, rtype::SOA | rtype::NS | rtype::SRV) {
            plan.soas += 1;
            if sets.is_none() {
                plan.rcode = Rcode::NxDomain;
            }
        }
        plan
    }

    fn answers(&self) -> usize {
        self.v4.len() + self.v6.len() + self.srv.len()
    }
}

/// A reply in the making.
struct Maker<'a, 'o> {
    reply: Reply<'o>,
    zones: &'a Zones,
    zone: &'a Zone,
    listing: &'a ListingFixed,
    settings: &'a Settings,
    key: &'a Key,
    query: &'a Query<'a>,
    near: Near,
    rotation: u32,
}

impl Maker<'_, '_> {
    fn begin(&mut self) {
        self.reply.authoritative();
        if self.settings.recursion_bit {
            self.reply.recursion_available();
        }
    }

    fn make(mut self, plan: &Plan<'_>, stream: bool) -> Written {
        self.begin();
        let (answers, additional) = self.fitting(plan, stream);
        let mut left = answers;
        let targets = self.services(plan.srv, &mut left);
        // Of addresses the key is the owner; it is written once, if it is not the question.
        let mut is_first = true;
        for v4 in self.near.first(plan.v4, self.rotation).take(left) {
            self.own(rtype::A, &[v4], core::mem::take(&mut is_first));
        }
        left -= left.min(plan.v4.len());
        for v6 in self.near.first(plan.v6, self.rotation).take(left) {
            self.own(rtype::AAAA, &[v6], core::mem::take(&mut is_first));
        }
        if plan.name_server {
            self.name_server();
        }
        for _ in 0..plan.soas {
            self.soa();
        }
        if additional {
            self.additional(plan.srv, targets);
        }
        let cut = answers < plan.answers() || !additional;
        let truncated = cut && self.settings.truncate_bit;
        if truncated {
            self.reply.truncated();
        }
        Written { len: self.reply.finish(plan.rcode), rcode: plan.rcode, truncated }
    }

    /// How many answers are sent, and whether the additional records are: a reply of more than 512 octets loses
    /// those first, then answers from its end, until it is smaller than 512. Over TCP as much as a message holds.
    fn fitting(&self, plan: &Plan<'_>, stream: bool) -> (usize, bool) {
        let apex = self.zone.fixed().apex.len();
        let key_more = if self.key_is_question() { 0 } else { self.key.octets().len() - 2 };
        let srv = |srv: &Srv| FIXED_LEN + 6 + srv.target.as_ref().map_or(0, |target| target.len()) + apex;
        let soa = FIXED_LEN + self.listing.mname.len() + self.listing.rname.len() + 20;
        let name_server = if plan.name_server { FIXED_LEN + self.listing.mname.len() } else { 0 };
        let fixed = self.reply.len() + name_server + plan.soas * soa;
        let room = if stream { self.reply.free() + self.reply.len() } else { UDP_SIZE_PLAIN };
        let addresses = plan.v4.len() * (FIXED_LEN + 4) + plan.v6.len() * (FIXED_LEN + 16);
        let addresses_more = if addresses > 0 { key_more } else { 0 };
        let all =
            fixed + turned(plan.srv, self.rotation).map(srv).sum::<usize>() + addresses + addresses_more;
        if all <= room {
            let additional = additional_len(self.zone, plan.srv, self.rotation);
            if all + additional <= room {
                return (plan.answers(), true);
            }
        }
        let room = if stream { room } else { UDP_SIZE_PLAIN - 1 };
        let mut len = fixed;
        let mut count = 0;
        let sizes = turned(plan.srv, self.rotation).map(srv);
        let sizes =
            sizes.chain(plan.v4.iter().map(|_| FIXED_LEN + 4)).chain(plan.v6.iter().map(|_| FIXED_LEN + 16));
        for (index, size) in sizes.enumerate() {
            len += size + if index == plan.srv.len() { key_more } else { 0 };
            if len > room {
                break;
            }
            count += 1;
        }
        (count, false)
    }

    fn key_is_question(&self) -> bool {
        let question = self.query.question();
        question[..question.len() - 4] == *self.key.octets()
    }

    /// Writes the first `left` SRV records, which it takes from `left`; returns where the first begins.
    fn services(&mut self, records: &[Srv], left: &mut usize) -> usize {
        let first = self.reply.len();
        let count = records.len().min(*left);
        for srv in turned(records, self.rotation).take(count) {
            let numbers = srv_numbers(self.settings, srv);
            let target = srv.target.as_deref().unwrap_or_default();
            let apex = &self.zone.fixed().apex;
            self.put(Section::Answer, &QUESTION.to_be_bytes(), rtype::SRV, &[&numbers, target, apex]);
        }
        *left -= count;
        first
    }

    /// The addresses beside the SRV records, the first of which begins at `first`.
    fn additional(&mut self, records: &[Srv], first: usize) {
        let (zone, rotation) = (self.zone, self.rotation);
        let apex = &zone.fixed().apex;
        let mut at = first;
        for (srv, beside) in turned(records, rotation).zip(beside(zone, records, rotation)) {
            let Some(target) = &srv.target else { continue };
            let target_at = at + FIXED_LEN + 6;
            at = target_at + target.len() + apex.len();
            let pointer = (target_at.min(POINTER_MAX) as u16 | 0xc000).to_be_bytes();
            let mut full = [0; NAME_LEN_MAX + 1];
            let owner: &[u8] = match target_at <= POINTER_MAX {
                true => &pointer,
                false => {
                    full[..target.len()].copy_from_slice(target);
                    full[target.len()..target.len() + apex.len()].copy_from_slice(apex);
                    &full[..target.len() + apex.len()]
                }
            };
            if let Some(v4) = beside.0 {
                self.put(Section::Additional, owner, rtype::A, &[v4]);
            }
            if let Some(v6) = beside.1 {
                self.put(Section::Additional, owner, rtype::AAAA, &[v6]);
            }
        }
    }

    /// A record owned by the key.
    fn own(&mut self, rtype: u16, data: &[&[u8]], is_first: bool) {
        if self.key_is_question() {
            self.put(Section::Answer, &QUESTION.to_be_bytes(), rtype, data);
            return;
        }
        // Without SRV records before them, the first of these stands right behind the question.
        let key = self.key;
        if is_first {
            self.put(Section::Answer, key.octets(), rtype, data);
        } else {
            let at = (HEADER_LEN + self.query.question().len()) as u16;
            let srv_before = self.query.qtype() == rtype::ANY;
            let pointer = (at | 0xc000).to_be_bytes();
            let owner: &[u8] = if srv_before { key.octets() } else { &pointer };
            self.put(Section::Answer, owner, rtype, data);
        }
    }

    /// The name server and the SOA are said to be the question's.
    fn name_server(&mut self) {
        self.put(Section::Authority, &QUESTION.to_be_bytes(), rtype::NS, &[&self.listing.mname]);
    }

    fn soa(&mut self) {
        let numbers = soa_numbers(self.zones, self.settings);
        let data: [&[u8]; 3] = [&self.listing.mname, &self.listing.rname, &numbers];
        self.put(Section::Authority, &QUESTION.to_be_bytes(), rtype::SOA, &data);
    }

    /// Writes a record; nothing if it does not fit.
    fn put(&mut self, section: Section, owner: &[u8], rtype: u16, data: &[&[u8]]) {
        let len: usize = data.iter().map(|part| part.len()).sum();
        let Ok(data_len) = u16::try_from(len) else { return };
        let ttl = self.settings.ttl.to_be_bytes();
        let Some(out) = self.reply.take(section, 1, owner.len() + FIXED_LEN - 2 + len) else { return };
        let head: [&[u8]; 5] =
            [owner, &rtype.to_be_bytes(), &CLASS_IN.to_be_bytes(), &ttl, &data_len.to_be_bytes()];
        let mut rest = out;
        for part in head.iter().chain(data) {
            let (place, tail) = rest.split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = tail;
        }
    }
}

/// SRV records in turned order.
fn turned(records: &[Srv], rotation: u32) -> impl Iterator<Item = &Srv> {
    let (late, early) = records.split_at(turn(rotation, records.len()));
    early.iter().chain(late)
}

/// One address of either family.
type Beside<'a> = (Option<&'a [u8; 4]>, Option<&'a [u8; 16]>);

/// For each record in turned order the addresses that go with it: some of its target's, if no record before has
/// the same target. Records are sorted by target, so those of one stand side by side, or at both ends.
fn beside<'s>(zone: &'s Zone, records: &'s [Srv], rotation: u32) -> impl Iterator<Item = Beside<'s>> {
    let first = turned(records, rotation).next();
    let mut before: Option<&Srv> = None;
    turned(records, rotation).map(move |srv| {
        let is_again = before.is_some_and(|before| before.target == srv.target)
            || before.is_some() && first.is_some_and(|first| first.target == srv.target);
        before = Some(srv);
        let target = srv.target.as_ref().filter(|_| !is_again);
        match target.and_then(|target| zone.listed().get(target)) {
            Some(ListedStanding::Records(sets)) => (
                sets.v4().get(turn(rotation, sets.v4().len())),
                sets.v6().get(turn(rotation, sets.v6().len())),
            ),
            _ => (None, None),
        }
    })
}

fn additional_len(zone: &Zone, records: &[Srv], rotation: u32) -> usize {
    let len = |(v4, v6): Beside<'_>| v4.map_or(0, |_| FIXED_LEN + 4) + v6.map_or(0, |_| FIXED_LEN + 16);
    beside(zone, records, rotation).map(len).sum()
}
