//! The TSIG record (RFC 8945 §4.2) and what it covers.

use crate::wire::{HEADER_LEN, NAME_LEN_MAX, rtype};

/// Class ANY.
const CLASS_ANY: u16 = 255;

/// A TSIG record. Names are in wire form; as read they are in the case in which they were sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct TsigRecord<'a> {
    /// Where it begins in its message.
    pub(super) start: usize,
    pub(super) key: &'a [u8],
    pub(super) algorithm: &'a [u8],
    /// Unix seconds, of which 48 bits are sent.
    pub(super) time: u64,
    pub(super) fudge: u16,
    pub(super) mac: &'a [u8],
    pub(super) original_id: u16,
    pub(super) error: u16,
    pub(super) other: &'a [u8],
}

/// A message, or the signature in it, that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Finds the signature at the end of a message; `None` if it has none.
pub(super) fn find(packet: &[u8]) -> Result<Option<TsigRecord<'_>>, Malformed> {
    walk(packet).ok_or(Malformed)
}

fn walk(packet: &[u8]) -> Option<Option<TsigRecord<'_>>> {
    let header = packet.first_chunk::<HEADER_LEN>()?;
    let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let mut at = HEADER_LEN;
    for _ in 0..count(4) {
        at = skip_name(packet, at)? + 4;
    }
    let records = u32::from(count(6)) + u32::from(count(8)) + u32::from(count(10));
    let last = records.checked_sub(1).filter(|_| count(10) > 0);
    for index in 0..records {
        let start = at;
        let fixed = skip_name(packet, at)?;
        let &[t0, t1, c0, c1, l0, l1, l2, l3, d0, d1] = packet.get(fixed..)?.first_chunk::<10>()?;
        let data = packet.get(fixed + 10..fixed + 10 + usize::from(u16::from_be_bytes([d0, d1])))?;
        at = fixed + 10 + data.len();
        if u16::from_be_bytes([t0, t1]) != rtype::TSIG {
            continue;
        }
        // It ends the message (RFC 8945 §5.1), of class ANY and TTL 0 (§4.2).
        let is_plain = u16::from_be_bytes([c0, c1]) == CLASS_ANY && [l0, l1, l2, l3] == [0; 4];
        if Some(index) != last || at != packet.len() || !is_plain {
            return None;
        }
        return read(start, &packet[start..fixed], data).map(Some);
    }
    (at == packet.len()).then_some(None)
}

fn read<'a>(start: usize, key: &'a [u8], data: &'a [u8]) -> Option<TsigRecord<'a>> {
    // A compressed name would be covered by the signature in another form than it is sent in.
    let (algorithm, rest) = data.split_at_checked(plain_name(data)?)?;
    if plain_name(key)? != key.len() {
        return None;
    }
    let (&[a, b, c, d, e, f, f0, f1, m0, m1], rest) = rest.split_first_chunk::<10>()?;
    let (mac, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([m0, m1])))?;
    let (&[i0, i1, e0, e1, o0, o1], other) = rest.split_first_chunk::<6>()?;
    (other.len() == usize::from(u16::from_be_bytes([o0, o1]))).then_some(TsigRecord {
        start,
        key,
        algorithm,
        time: u64::from_be_bytes([0, 0, a, b, c, d, e, f]),
        fudge: u16::from_be_bytes([f0, f1]),
        mac,
        original_id: u16::from_be_bytes([i0, i1]),
        error: u16::from_be_bytes([e0, e1]),
        other,
    })
}

/// Where the name at `at` ends; it may be compressed.
fn skip_name(packet: &[u8], mut at: usize) -> Option<usize> {
    let end = at + NAME_LEN_MAX;
    while at < end {
        match *packet.get(at)? {
            0 => return Some(at + 1),
            len @ 1..=63 => at += usize::from(len) + 1,
            0xc0.. => return packet.get(at + 1).map(|_| at + 2),
            _ => return None,
        }
    }
    None
}

/// Length of the uncompressed name at the start of `octets`.
fn plain_name(octets: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < NAME_LEN_MAX {
        match *octets.get(at)? {
            0 => return Some(at + 1),
            len @ 1..=63 => at += usize::from(len) + 1,
            _ => return None,
        }
    }
    None
}

impl TsigRecord<'_> {
    /// Puts the record behind a message and counts it there.
    pub(super) fn append(&self, message: &mut Vec<u8>) {
        let length = |len: usize| u16::try_from(len).expect("names and signatures are short").to_be_bytes();
        message.extend_from_slice(self.key);
        for number in [rtype::TSIG, CLASS_ANY, 0, 0] {
            message.extend_from_slice(&number.to_be_bytes());
        }
        message.extend(length(self.algorithm.len() + 16 + self.mac.len() + self.other.len()));
        message.extend_from_slice(self.algorithm);
        message.extend(self.timers());
        message.extend(length(self.mac.len()));
        message.extend_from_slice(self.mac);
        message.extend(self.original_id.to_be_bytes());
        message.extend(self.error.to_be_bytes());
        message.extend(length(self.other.len()));
        message.extend_from_slice(self.other);
        let additional = u16::from_be_bytes([message[10], message[11]]) + 1;
        message[10..12].copy_from_slice(&additional.to_be_bytes());
    }

    fn timers(&self) -> [u8; 8] {
        let [.., a, b, c, d, e, f] = self.time.to_be_bytes();
        let [f0, f1] = self.fudge.to_be_bytes();
        [a, b, c, d, e, f, f0, f1]
    }
}

/// What a signature covers (RFC 8945 §4.3.3, §5.3).
pub(super) struct Digest<'a> {
    /// The signature before, for all but requests.
    pub(super) prior: Option<&'a [u8]>,
    /// The message without its signature.
    pub(super) message: &'a [u8],
    pub(super) record: &'a TsigRecord<'a>,
    /// For the messages of a reply that follow its first.
    pub(super) timers_only: bool,
}

impl Digest<'_> {
    pub(super) fn octets(&self) -> Vec<u8> {
        let Self { message, record, .. } = self;
        let mut octets = Vec::with_capacity(message.len() + 256);
        if let Some(prior) = self.prior {
            octets.extend_from_slice(&(prior.len() as u16).to_be_bytes());
            octets.extend_from_slice(prior);
        }
        octets.extend_from_slice(message);
        if self.timers_only {
            octets.extend(record.timers());
            return octets;
        }
        octets.extend(record.key.iter().map(u8::to_ascii_lowercase));
        for number in [CLASS_ANY, 0, 0] {
            octets.extend_from_slice(&number.to_be_bytes());
        }
        octets.extend(record.algorithm.iter().map(u8::to_ascii_lowercase));
        octets.extend(record.timers());
        octets.extend(record.error.to_be_bytes());
        octets.extend((record.other.len() as u16).to_be_bytes());
        octets.extend_from_slice(record.other);
        octets
    }
}
