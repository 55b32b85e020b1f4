//! Prepared DNS queries, and what their answers must be.

use std::net::Ipv4Addr;

/// Addresses of every name.
pub(crate) const ADDRESSES: u8 = 4;
/// What does not exist has the same shape and length as what does.
const ABSENT: usize = 5_000_000;

/// Address `k` of name `n`.
pub(crate) fn address(n: usize, k: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, k << 4 | (n >> 16) as u8, (n >> 8) as u8, n as u8)
}

/// A name in wire form, lower case as it is.
pub(crate) fn wire(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out
}

/// The type of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    A = 1,
    Srv = 33,
}

/// A query with EDNS for name `n`.
pub(crate) fn compose(n: usize, kind: Kind) -> Vec<u8> {
    let name = match kind {
        Kind::A => format!("svc{n:07}.svc.cluster"),
        Kind::Srv => format!("_http._tcp.svc{n:07}.svc.cluster"),
    };
    let mut out = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    out.extend(wire(&name));
    out.extend([0, kind as u8, 0, 1]);
    out.extend([0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]);
    out
}

/// Queries for random names out of a zone, a fifth of them for names that do not exist, all of one length.
#[derive(Debug)]
pub(crate) struct Questions {
    kind: Kind,
    bytes: Vec<u8>,
    len: usize,
    numbers: Vec<u32>,
}

impl Questions {
    /// `count` of them for a zone of `names`.
    pub(crate) fn new(kind: Kind, names: usize, count: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(7);
        let number = |_| random.usize(1..=names) + if random.u32(..5) == 0 { ABSENT } else { 0 };
        let numbers: Vec<u32> = (0..count).map(number).map(|n| n as u32).collect();
        let bytes: Vec<u8> = numbers.iter().flat_map(|&n| compose(n as usize, kind)).collect();
        Self { kind, len: bytes.len() / count, bytes, numbers }
    }

    /// The one for name `n`.
    pub(crate) fn one(kind: Kind, n: usize) -> Self {
        let bytes = compose(n, kind);
        Self { kind, len: bytes.len(), bytes, numbers: vec![n as u32] }
    }

    /// How many.
    pub(crate) fn count(&self) -> usize {
        self.numbers.len()
    }

    /// Octets of each.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Number `index`.
    pub(crate) fn query(&self, index: usize) -> &[u8] {
        &self.bytes[index * self.len..][..self.len]
    }

    /// True if a reply is right: the question, the code, whole, and the number of answers; `closely`: all addresses too.
    pub(crate) fn right(&self, index: usize, reply: &[u8], closely: bool) -> bool {
        let query = self.query(index);
        let question = 12..self.len - 11;
        if reply.len() < question.end || reply[2] & 0x82 != 0x80 || reply[question.clone()] != query[question]
        {
            return false;
        }
        let number = self.numbers[index] as usize;
        if number > ABSENT {
            return reply[3] & 15 == 3 && reply[7] == 0;
        }
        let counts = match self.kind {
            Kind::A => reply[7] == ADDRESSES,
            // The EDNS record is one of the additional ones.
            Kind::Srv => reply[7] == ADDRESSES && reply[11] > ADDRESSES,
        };
        let has = |k: &u8| {
            let octets = address(number, *k).octets();
            reply.windows(6).any(|six| six[..2] == [0, 4] && six[2..] == octets)
        };
        reply[3] & 15 == 0 && counts && (!closely || (1..=ADDRESSES).all(|k| has(&k)))
    }
}
