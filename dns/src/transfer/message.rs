//! The messages of a transfer: as many records as fit, owner names compressed.

use super::records::Record;
use crate::wire::{CLASS_IN, HEADER_LEN, OPT_LEN, Query, rtype};

/// Highest offset that a compression pointer can name (RFC 1035 §4.1.4).
const POINTER_MAX: usize = 0x3fff;
/// The question's name, which is the zone's apex.
const APEX: u16 = 0xc000 | HEADER_LEN as u16;

/// A message in the making. Every message repeats the question (RFC 5936 §2.2.1 allows it), so that the apex can be
/// pointed at in all of them.
pub(super) struct Message {
    packet: Vec<u8>,
    /// Header and question.
    begin: usize,
    apex_len: usize,
    answers: u16,
    opt: bool,
    /// The owner written last, and where each of its labels stands: its place in the name, and in the message.
    owner: Vec<u8>,
    places: Vec<(usize, usize)>,
}

impl Message {
    pub(super) fn new(query: &Query<'_>) -> Self {
        let mut packet = Vec::with_capacity(1024);
        let [id0, id1] = query.id().to_be_bytes();
        // A reply with authority.
        packet.extend_from_slice(&[id0, id1, 0x84, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        packet.extend_from_slice(query.question());
        Self {
            begin: packet.len(),
            packet,
            apex_len: query.name().octets().len(),
            answers: 0,
            opt: query.edns().is_some(),
            owner: Vec::new(),
            places: Vec::new(),
        }
    }

    /// True if there is no record in it.
    pub(super) fn is_empty(&self) -> bool {
        self.answers == 0
    }

    /// Writes a record; `false`, and nothing written, if the message would be longer than `limit`.
    pub(super) fn push(&mut self, record: &Record, limit: usize) -> bool {
        let before = self.packet.len();
        let reserve = if self.opt { OPT_LEN } else { 0 };
        if self.answers == u16::MAX || before + record.len() + reserve > limit {
            return false;
        }
        self.owner(&record.owner);
        for number in [record.rtype, CLASS_IN] {
            self.packet.extend(number.to_be_bytes());
        }
        self.packet.extend(record.ttl.to_be_bytes());
        self.packet.extend((record.data.len() as u16).to_be_bytes());
        self.packet.extend_from_slice(&record.data);
        self.answers += 1;
        true
    }

    /// The owner of a record, with a pointer to what it has in common with the one before, or to the apex.
    fn owner(&mut self, owner: &[u8]) {
        let known = self.places.iter().find_map(|(at, place)| {
            let shared = &self.owner[*at..];
            let is_end = owner.ends_with(shared) && is_label(owner, owner.len() - shared.len());
            is_end.then(|| (owner.len() - shared.len(), *place, *at))
        });
        let apex = (owner.len() - self.apex_len, HEADER_LEN, usize::MAX);
        let (literal, place, shared_at) = known.unwrap_or(apex);
        let start = self.packet.len();
        self.packet.extend_from_slice(&owner[..literal]);
        let pointer = if place == HEADER_LEN { APEX } else { 0xc000 | place as u16 };
        self.packet.extend(pointer.to_be_bytes());
        let mut places: Vec<(usize, usize)> = labels(&owner[..literal])
            .map(|at| (at, start + at))
            .filter(|(_, at)| *at <= POINTER_MAX)
            .collect();
        let after = self.places.iter().filter(|(at, _)| *at >= shared_at);
        places.extend(after.map(|(at, place)| (at - shared_at + literal, *place)));
        self.places = places;
        self.owner.clear();
        self.owner.extend_from_slice(owner);
    }

    /// The finished message; another one is begun.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let fresh = self.packet[..self.begin].to_vec();
        let mut packet = core::mem::replace(&mut self.packet, fresh);
        packet[6..8].copy_from_slice(&self.answers.to_be_bytes());
        if self.opt {
            packet.extend_from_slice(&[0, 0, rtype::OPT as u8, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]);
            packet[11] = 1;
        }
        self.answers = 0;
        self.owner.clear();
        self.places.clear();
        packet
    }
}

/// Where the labels of a name begin, the root's left out.
fn labels(name: &[u8]) -> impl Iterator<Item = usize> {
    let next =
        |at: &usize| Some(at + usize::from(name[*at]) + 1).filter(|at| *at < name.len() && name[*at] != 0);
    core::iter::successors((!name.is_empty() && name[0] != 0).then_some(0), next)
}

/// True if a label of the name begins at `at`.
fn is_label(name: &[u8], at: usize) -> bool {
    labels(name).any(|label| label == at)
}
