//! Writing a reply into a buffer of the caller's, never past its limit.

use super::{HEADER_LEN, Query, Rcode, rtype};

/// Octets of the OPT record that ends a reply to a query with EDNS.
pub const OPT_LEN: usize = 11;
const FLAG_QR: u8 = 0x80;
const FLAG_AA: u8 = 0x04;
const FLAG_TC: u8 = 0x02;
const FLAG_RD: u8 = 0x01;
const FLAG_RA: u8 = 0x80;
const FLAG_CD: u8 = 0x10;

/// A reply being written: header and question stand, sections are appended in their order. Room for the OPT
/// record is set aside from the start, so that whatever fits, the reply can be finished.
#[derive(Debug)]
pub struct Reply<'o> {
    out: &'o mut [u8],
    len: usize,
    /// What records may fill: the size limit less the room for OPT.
    room: usize,
    counts: [u16; 3],
    opt: Option<[u8; OPT_LEN]>,
}

/// The sections of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Answer = 0,
    Authority = 1,
    Additional = 2,
}

impl<'o> Reply<'o> {
    /// Begins a reply of at most `limit` octets: id, RD and CD as in the query, its question as it was sent.
    /// `None` if not even that fits. `udp_size` is what we say we take.
    #[inline]
    #[must_use]
    pub fn begin(out: &'o mut [u8], query: &Query<'_>, limit: usize, udp_size: u16) -> Option<Self> {
        let opt = query.edns().map(|edns| {
            let [size0, size1] = udp_size.to_be_bytes();
            let flags = if edns.dnssec_ok { 0x80 } else { 0 };
            [0, 0, rtype::OPT as u8, size0, size1, 0, 0, flags, 0, 0, 0]
        });
        Self::begin_with(out, query, limit, opt)
    }

    /// The same without an OPT record, whatever the query has: for following programs that know of none.
    #[must_use]
    pub fn begin_plain(out: &'o mut [u8], query: &Query<'_>, limit: usize) -> Option<Self> {
        Self::begin_with(out, query, limit, None)
    }

    #[inline]
    fn begin_with(
        out: &'o mut [u8],
        query: &Query<'_>,
        limit: usize,
        opt: Option<[u8; OPT_LEN]>,
    ) -> Option<Self> {
        let question = query.question();
        let reserve = if opt.is_some() { OPT_LEN } else { 0 };
        let room = limit.min(out.len()).checked_sub(reserve)?;
        let len = HEADER_LEN + question.len();
        if len > room {
            return None;
        }
        let packet = query.packet();
        out[0] = packet[0];
        out[1] = packet[1];
        out[2] = FLAG_QR | (packet[2] & FLAG_RD);
        out[3] = packet[3] & FLAG_CD;
        out[4..HEADER_LEN].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
        out[HEADER_LEN..len].copy_from_slice(question);
        Some(Self { out, len, room, counts: [0; 3], opt })
    }

    /// Sets the AA bit.
    #[inline]
    pub fn authoritative(&mut self) {
        self.out[2] |= FLAG_AA;
    }

    /// Sets the TC bit.
    #[inline]
    pub fn truncated(&mut self) {
        self.out[2] |= FLAG_TC;
    }

    /// Sets the RA bit.
    #[inline]
    pub fn recursion_available(&mut self) {
        self.out[3] |= FLAG_RA;
    }

    /// Octets written so far: where the next record will begin.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: header and question always stand.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Octets left for records.
    #[inline]
    #[must_use]
    pub fn free(&self) -> usize {
        self.room - self.len
    }

    /// Takes room for `records` records of `octets` octets together; the caller fills it. `None` if it is
    /// not there; nothing is changed then.
    #[inline]
    pub(crate) fn take(&mut self, section: Section, records: u16, octets: usize) -> Option<&mut [u8]> {
        if octets > self.free() {
            return None;
        }
        self.counts[section as usize] += records;
        let start = self.len;
        self.len += octets;
        Some(&mut self.out[start..start + octets])
    }

    /// Ends the reply; returns its length.
    #[inline]
    #[must_use]
    pub fn finish(mut self, rcode: Rcode) -> usize {
        let code = rcode as u16;
        self.out[3] |= (code & 15) as u8;
        if let Some(mut opt) = self.opt {
            opt[5] = (code >> 4) as u8;
            self.out[self.len..self.len + OPT_LEN].copy_from_slice(&opt);
            self.len += OPT_LEN;
            self.counts[Section::Additional as usize] += 1;
        }
        for (at, count) in (6..).step_by(2).zip(self.counts) {
            self.out[at..at + 2].copy_from_slice(&count.to_be_bytes());
        }
        self.len
    }
}

/// The reply to what cannot be read as a query (FORMERR, NOTIMP): a header alone, since nothing behind the
/// query's header can be trusted. Returns the length; 0 if `packet` has no header or `out` no room for one.
#[must_use]
pub fn error_reply(packet: &[u8], rcode: Rcode, out: &mut [u8]) -> usize {
    let Some(header) = packet.first_chunk::<HEADER_LEN>() else { return 0 };
    let Some(out) = out.first_chunk_mut::<HEADER_LEN>() else { return 0 };
    out.fill(0);
    out[..2].copy_from_slice(&header[..2]);
    out[2] = FLAG_QR | (header[2] & (0x78 | FLAG_RD));
    out[3] = (rcode as u16 & 15) as u8;
    HEADER_LEN
}
