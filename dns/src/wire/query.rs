//! Reading a query, strictly, without copying or allocating.

use core::net::IpAddr;

use super::name::NAME_LEN_MAX;
use super::{CLASS_IN, HEADER_LEN, Rcode, UDP_SIZE_PLAIN, rtype};

const FLAG_QR: u8 = 0x80;
/// A name has at most 127 labels of one octet each, and the root.
const LABELS_MAX: usize = 128;

/// What a packet turns out to be.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "lives on the stack of one worker, once per packet")]
pub enum Request<'a> {
    /// A query that can be looked up.
    Question(Query<'a>),
    /// Not readable as a query, to be answered with this code (FORMERR, NOTIMP) by [`super::error_reply`].
    Malformed(Rcode),
    /// Too short for a header, or itself a reply: answering would invite loops.
    Ignore,
}

/// One well-formed query.
#[derive(Debug, Clone)]
pub struct Query<'a> {
    packet: &'a [u8],
    name: QueryName,
    qtype: u16,
    edns: Option<Edns>,
    cookie: Option<&'a [u8]>,
    signed: bool,
    verdict: Option<Rcode>,
}

/// What stands behind the question.
#[derive(Default)]
struct Records<'a> {
    edns: Option<Edns>,
    version: u8,
    cookie: Option<&'a [u8]>,
    signed: bool,
}

/// What the sender's OPT record says (RFC 6891 §6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// Largest UDP message the sender takes; never below 512 (§6.2.3).
    pub udp_size: u16,
    /// The DO bit (RFC 3225).
    pub dnssec_ok: bool,
    /// The network on whose behalf it asks, by its first address (RFC 7871 §6).
    pub client_subnet: Option<IpAddr>,
}

/// The name asked for, lower-cased (RFC 4343 §3), with the places of its labels.
#[derive(Debug, Clone)]
pub struct QueryName {
    octets: [u8; NAME_LEN_MAX + 1],
    len: u8,
    starts: [u8; LABELS_MAX],
    labels: u8,
}

impl QueryName {
    /// The whole name in wire form, root label included.
    #[inline]
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.octets[..usize::from(self.len)]
    }

    /// Number of labels, without the root.
    #[inline]
    #[must_use]
    pub fn labels(&self) -> usize {
        usize::from(self.labels)
    }

    /// Where label `index` begins (its length octet); for `index == labels()` the place of the root label.
    #[inline]
    #[must_use]
    pub fn start(&self, index: usize) -> usize {
        if index < self.labels() { usize::from(self.starts[index]) } else { usize::from(self.len) - 1 }
    }

    /// Label `index` without its length octet; the empty root label for `index >= labels()`.
    #[inline]
    #[must_use]
    pub fn label(&self, index: usize) -> &[u8] {
        let start = self.start(index);
        &self.octets[start + 1..start + 1 + usize::from(self.octets[start])]
    }

    /// The name that is all of `wire`, root label included; `None` if that is no uncompressed name.
    #[must_use]
    pub fn of(wire: &[u8]) -> Option<Self> {
        Self::read(wire).filter(|(_, rest)| rest.is_empty()).map(|(name, _)| name)
    }

    /// Reads an uncompressed name at the start of `octets`; returns it and what follows.
    #[inline]
    fn read(octets: &[u8]) -> Option<(Self, &[u8])> {
        let mut name = Self { octets: [0; NAME_LEN_MAX + 1], len: 0, starts: [0; LABELS_MAX], labels: 0 };
        let mut at = 0;
        loop {
            let len = usize::from(*octets.get(at)?);
            if len == 0 {
                break;
            }
            // Above 63 stands a compression pointer, which has nothing to point at in a first name.
            if len > 63 || at + len + 2 > NAME_LEN_MAX {
                return None;
            }
            name.starts[usize::from(name.labels)] = at as u8;
            name.labels += 1;
            at += len + 1;
        }
        let (wire, rest) = octets.split_at(at + 1);
        name.len = wire.len() as u8;
        let copy = &mut name.octets[..wire.len()];
        copy.copy_from_slice(wire);
        // Length octets are at most 63 and no letters: the whole name is lowered in one sweep.
        copy.make_ascii_lowercase();
        Some((name, rest))
    }
}

impl<'a> Request<'a> {
    /// Reads a packet. Every packet gets exactly one verdict; none makes it panic.
    #[inline]
    #[must_use]
    pub fn read(packet: &'a [u8]) -> Self {
        let Some((header, body)) = packet.split_first_chunk::<HEADER_LEN>() else { return Self::Ignore };
        if header[2] & FLAG_QR != 0 {
            return Self::Ignore;
        }
        if header[2] & 0x78 != 0 {
            return Self::Malformed(Rcode::NotImp);
        }
        // Exactly one question (RFC 9619); nothing is answered already; only IXFR has an authority (RFC 1995 §3).
        let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        if count(4) != 1 || count(6) != 0 {
            return Self::Malformed(Rcode::FormErr);
        }
        let Some((name, rest)) = QueryName::read(body) else { return Self::Malformed(Rcode::FormErr) };
        let Some((&[t0, t1, c0, c1], records)) = rest.split_first_chunk::<4>() else {
            return Self::Malformed(Rcode::FormErr);
        };
        let (qtype, class) = (u16::from_be_bytes([t0, t1]), u16::from_be_bytes([c0, c1]));
        if qtype == rtype::OPT || (count(8) != 0 && qtype != rtype::IXFR) {
            return Self::Malformed(Rcode::FormErr);
        }
        let Some(records) = Records::read(records, count(8), count(10)) else {
            return Self::Malformed(Rcode::FormErr);
        };
        let Records { edns, version, cookie, signed } = records;
        let verdict = match (version, class, qtype) {
            (1.., ..) => Some(Rcode::BadVers),
            // Who may have a zone whole is another module's business; of other classes there is nothing.
            (_, CLASS_IN, rtype::AXFR | rtype::IXFR) => Some(Rcode::Refused),
            (_, CLASS_IN, _) => None,
            _ => Some(Rcode::Refused),
        };
        Self::Question(Query { packet, name, qtype, edns, cookie, signed, verdict })
    }
}

impl<'a> Records<'a> {
    /// Walks the records after the question to the end of the packet; the one OPT among them is what counts, and
    /// whether the last is a signature. `None` if something is malformed.
    #[inline]
    fn read(mut rest: &'a [u8], authority: u16, additional: u16) -> Option<Self> {
        let mut records = Self::default();
        for _ in 0..authority {
            rest = read_record(rest)?.1;
        }
        for left in (0..additional).rev() {
            let (record, tail) = read_record(rest)?;
            rest = tail;
            match record.rtype {
                rtype::OPT => records.opt(&record)?,
                // It signs all that stands before it (RFC 8945 §5.1).
                rtype::TSIG if left > 0 => return None,
                rtype::TSIG => records.signed = true,
                _ => {}
            }
        }
        rest.is_empty().then_some(records)
    }

    /// One OPT at most, and of the root (RFC 6891 §6.1.1).
    fn opt(&mut self, record: &Record<'a>) -> Option<()> {
        if self.edns.is_some() || !record.of_root {
            return None;
        }
        self.cookie = read_options(record.data)?;
        self.version = (record.ttl >> 16) as u8;
        let udp_size = record.class.max(UDP_SIZE_PLAIN as u16);
        let client_subnet = client_subnet(record.data);
        self.edns = Some(Edns { udp_size, dnssec_ok: record.ttl & 0x8000 != 0, client_subnet });
        Some(())
    }
}

struct Record<'a> {
    of_root: bool,
    rtype: u16,
    class: u16,
    ttl: u32,
    data: &'a [u8],
}

#[inline]
fn read_record(octets: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let (of_root, rest) = skip_name(octets)?;
    let (&[t0, t1, c0, c1, l0, l1, l2, l3, d0, d1], rest) = rest.split_first_chunk::<10>()?;
    let (data, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([d0, d1])))?;
    let record = Record {
        of_root,
        rtype: u16::from_be_bytes([t0, t1]),
        class: u16::from_be_bytes([c0, c1]),
        ttl: u32::from_be_bytes([l0, l1, l2, l3]),
        data,
    };
    Some((record, rest))
}

/// Skips an owner name, compressed or not, without following it: nothing is read from it.
#[inline]
fn skip_name(octets: &[u8]) -> Option<(bool, &[u8])> {
    let mut at = 0;
    loop {
        match *octets.get(at)? {
            0 => return Some((at == 0, &octets[at + 1..])),
            len @ 1..=63 => at += usize::from(len) + 1,
            0xc0.. => return Some((false, octets.get(at + 2..)?)),
            _ => return None,
        }
        if at >= NAME_LEN_MAX {
            return None;
        }
    }
}

/// The address in a client-subnet option, its missing octets zero. The options are whole.
#[inline]
fn client_subnet(mut data: &[u8]) -> Option<IpAddr> {
    const CLIENT_SUBNET: u16 = 8;
    while let Some((&[c0, c1, l0, l1], rest)) = data.split_first_chunk::<4>() {
        let (option, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([l0, l1])))?;
        if u16::from_be_bytes([c0, c1]) == CLIENT_SUBNET {
            let (&[f0, f1, _, _], address) = option.split_first_chunk::<4>()?;
            let mut octets = [0; 16];
            octets.get_mut(..address.len())?.copy_from_slice(address);
            let [a, b, c, d, ..] = octets;
            return match u16::from_be_bytes([f0, f1]) {
                1 if address.len() <= 4 => Some(IpAddr::from([a, b, c, d])),
                2 => Some(IpAddr::from(octets)),
                _ => None,
            };
        }
        data = rest;
    }
    None
}

/// Options must be whole (RFC 6891 §6.1.2); the first cookie among them is what counts (RFC 7873 §5.2). The others
/// are not understood.
fn read_options(mut data: &[u8]) -> Option<Option<&[u8]>> {
    const COOKIE: u16 = 10;
    let mut cookie = None;
    while let Some((&[c0, c1, l0, l1], rest)) = data.split_first_chunk::<4>() {
        let (content, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([l0, l1])))?;
        if u16::from_be_bytes([c0, c1]) == COOKIE {
            cookie = cookie.or(Some(content));
        }
        data = rest;
    }
    data.is_empty().then_some(cookie)
}

impl<'a> Query<'a> {
    /// The whole packet it was read from.
    #[inline]
    #[must_use]
    pub fn packet(&self) -> &'a [u8] {
        self.packet
    }

    /// The message id.
    #[must_use]
    pub fn id(&self) -> u16 {
        u16::from_be_bytes([self.packet[0], self.packet[1]])
    }

    /// The name asked for.
    #[inline]
    #[must_use]
    pub fn name(&self) -> &QueryName {
        &self.name
    }

    /// The type asked for.
    #[inline]
    #[must_use]
    pub fn qtype(&self) -> u16 {
        self.qtype
    }

    /// What its OPT record says, if it has one.
    #[inline]
    #[must_use]
    pub fn edns(&self) -> Option<Edns> {
        self.edns
    }

    /// The content of its cookie option (RFC 7873), of whatever length.
    #[inline]
    #[must_use]
    pub fn cookie(&self) -> Option<&'a [u8]> {
        self.cookie
    }

    /// True if its last record is a transaction signature (RFC 8945).
    #[inline]
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.signed
    }

    /// The serial in the SOA record of its authority section: what an IXFR client has (RFC 1995 §3).
    #[must_use]
    pub fn authority_serial(&self) -> Option<u32> {
        if self.packet[8..10] == [0, 0] {
            return None;
        }
        let (record, _) = read_record(&self.packet[HEADER_LEN + self.question().len()..])?;
        // Two names, of one octet at least each, and five numbers, of which the serial is the first.
        let numbers = record.data.len().checked_sub(20).filter(|before| *before >= 2)?;
        let serial = record.data[numbers..].first_chunk::<4>().filter(|_| record.rtype == rtype::SOA)?;
        Some(u32::from_be_bytes(*serial))
    }

    /// What it must be answered with, whatever name it asks for: BADVERS for an EDNS version we don't know
    /// (RFC 6891 §6.1.3), REFUSED for classes other than IN, and for zone transfers where nobody looks closer.
    #[inline]
    #[must_use]
    pub fn verdict(&self) -> Option<Rcode> {
        self.verdict
    }

    /// The RD bit.
    #[inline]
    #[must_use]
    pub fn recursion_desired(&self) -> bool {
        self.packet[2] & 1 != 0
    }

    /// The question as it was sent, case preserved: name, type, class.
    #[inline]
    #[must_use]
    pub fn question(&self) -> &'a [u8] {
        &self.packet[HEADER_LEN..HEADER_LEN + usize::from(self.name.len) + 4]
    }

    /// Largest UDP reply: what the sender takes, but no more than `udp_size_max` (RFC 6891 §6.2.5).
    #[inline]
    #[must_use]
    pub fn udp_limit(&self, udp_size_max: u16) -> usize {
        let offered = self.edns.map_or(UDP_SIZE_PLAIN, |edns| usize::from(edns.udp_size));
        offered.min(usize::from(udp_size_max).max(UDP_SIZE_PLAIN))
    }
}
