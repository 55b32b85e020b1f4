//! Single records, as transfers carry and differences compare them.

use crate::answer::{Outcome, Terms, answer};
use crate::wire::{CLASS_IN, HEADER_LEN, NAME_LEN_MAX, Request, rtype};
use crate::zone::Zones;

/// Types that some schema answers names with. What is answered for all names alike (ANY) is no record of a zone.
const TYPES: [u16; 5] = [rtype::NS, rtype::A, rtype::AAAA, rtype::TXT, rtype::SRV];

/// Largest set of one name and type. It has 65,535 records at most, since replies count no further.
const SET_LEN_MAX: usize = 8 << 20;

/// Octets of a record besides its owner and data.
const FIXED_LEN: usize = 10;

/// Every record of a zone but its SOA, in no order that means anything; nothing if there is no such zone. Walks
/// everything.
#[must_use]
pub fn records_of(zones: &Zones, apex: &[u8]) -> Vec<Record> {
    let (mut lookup, mut records) = (Lookup::new(zones), Vec::new());
    let Some(zone) = zones.zones().iter().find(|zone| zone.apex() == apex) else { return records };
    lookup.records(apex, &mut |record| records.push(record));
    zone.each_owner(|name| {
        lookup.records(name, &mut |record| records.push(record));
        core::ops::ControlFlow::Continue(())
    });
    records
}

/// One record, names in full.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    pub(super) owner: Box<[u8]>,
    pub(super) rtype: u16,
    pub(super) ttl: u32,
    pub(super) data: Box<[u8]>,
}

impl Record {
    /// Octets it takes in a message at most.
    pub(super) fn len(&self) -> usize {
        self.owner.len() + FIXED_LEN + self.data.len()
    }

    /// The serial of an SOA record: the first of the five numbers that end it.
    pub(super) fn serial(&self) -> u32 {
        let numbers = self.data.len().saturating_sub(20);
        self.data[numbers..].first_chunk().map_or(0, |serial| u32::from_be_bytes(*serial))
    }
}

/// Asks zones for records. Keeps its buffers.
pub(super) struct Lookup<'z> {
    zones: &'z Zones,
    question: Vec<u8>,
    reply: Vec<u8>,
}

impl<'z> Lookup<'z> {
    pub(super) fn new(zones: &'z Zones) -> Self {
        Self { zones, question: Vec::new(), reply: vec![0; SET_LEN_MAX] }
    }

    /// The zone's SOA record; `None` if there is no such zone.
    pub(super) fn soa(&mut self, apex: &[u8]) -> Option<Record> {
        let mut found = None;
        self.set(apex, rtype::SOA, &mut |record| found = Some(record));
        found
    }

    /// All records of a name but the SOA, sets in one piece.
    pub(super) fn records(&mut self, owner: &[u8], each: &mut impl FnMut(Record)) {
        for rtype in TYPES {
            self.set(owner, rtype, each);
        }
    }

    fn set(&mut self, owner: &[u8], rtype: u16, each: &mut impl FnMut(Record)) {
        self.question.clear();
        self.question.extend_from_slice(&[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        self.question.extend_from_slice(owner);
        self.question.extend(rtype.to_be_bytes());
        self.question.extend(CLASS_IN.to_be_bytes());
        let Request::Question(query) = Request::read(&self.question) else { return };
        let terms = Terms { size_max: self.reply.len(), ..Terms::tcp(0) };
        let Outcome::Reply(written) = answer(self.zones, &query, &terms, 0, &mut self.reply) else { return };
        if written.truncated {
            tracing::warn!(
                name = crate::wire::name_to_text(owner),
                rtype,
                "record set too large to be transferred whole"
            );
        }
        let reply = &self.reply[..written.len];
        if read(reply, HEADER_LEN + owner.len() + 4, (owner, rtype), each).is_none() {
            tracing::error!(
                name = crate::wire::name_to_text(owner),
                rtype,
                "an answer of our own cannot be read"
            );
        }
    }
}

/// Hands out the records of the answer section that belong to the question.
fn read(
    reply: &[u8],
    mut at: usize,
    (owner, wanted): (&[u8], u16),
    each: &mut impl FnMut(Record),
) -> Option<()> {
    for _ in 0..u16::from_be_bytes([reply[6], reply[7]]) {
        let (name, fixed) = name_at(reply, at)?;
        let &[t0, t1, _, _, l0, l1, l2, l3, d0, d1] = reply.get(fixed..)?.first_chunk::<FIXED_LEN>()?;
        let start = fixed + FIXED_LEN;
        let end = start + usize::from(u16::from_be_bytes([d0, d1]));
        let rtype = u16::from_be_bytes([t0, t1]);
        if rtype == wanted && *name == *owner {
            let (ttl, data) = (u32::from_be_bytes([l0, l1, l2, l3]), data(reply, rtype, start, end)?);
            each(Record { owner: owner.into(), rtype, ttl, data: data.into() });
        }
        at = end;
    }
    Some(())
}

/// The data of a record, its names in full.
fn data(reply: &[u8], rtype: u16, start: usize, end: usize) -> Option<Vec<u8>> {
    let (before, names) = match rtype {
        rtype::NS | rtype::PTR => (0, 1),
        rtype::SOA => (0, 2),
        rtype::SRV => (6, 1),
        _ => (0, 0),
    };
    let mut data = reply.get(start..start + before)?.to_vec();
    let mut at = start + before;
    for _ in 0..names {
        let (name, after) = name_at(reply, at)?;
        data.extend(name);
        at = after;
    }
    data.extend_from_slice(reply.get(at..end)?);
    Some(data)
}

/// The name at `at` in full, lower case, and where what follows begins.
fn name_at(packet: &[u8], mut at: usize) -> Option<(Vec<u8>, usize)> {
    let (mut name, mut after) = (Vec::new(), None);
    // Each label and each pointer is a step, of which no good name has more.
    for _ in 0..NAME_LEN_MAX {
        match *packet.get(at)? {
            0 => {
                name.push(0);
                return Some((name, after.unwrap_or(at + 1)));
            }
            len @ 1..=63 => {
                name.extend(packet.get(at..=at + usize::from(len))?.iter().map(u8::to_ascii_lowercase));
                at += usize::from(len) + 1;
            }
            high => {
                after.get_or_insert(at + 2);
                at = usize::from(u16::from_be_bytes([high, *packet.get(at + 1)?]) & 0x3fff);
            }
        }
    }
    None
}
