//! What is asked, how it goes out to a resolver, and whether a packet that comes back answers it. No I/O.

/// Longest trail of loop tokens carried along: one Portolan adds one, so a longer chain of forwarders is
/// taken for a loop.
pub(super) const TRAIL_MAX: usize = 8;

/// EDNS option that carries the trail (RFC 6891 §9: 65001–65534 are for local use). Resolvers ignore options
/// they don't know (§6.1.2); another Portolan hands it on.
pub(super) const TRAIL_OPTION: u16 = 65_313;

/// UDP payload offered to resolvers (RFC 6891 §6.2.5, and the size that is not fragmented anywhere).
const UDP_PAYLOAD: u16 = 1232;

/// A name with fewer letters than this has too few random cases for its spelling to prove anything.
const LETTERS_FOR_PROOF: usize = 8;

const HEADER_LEN: usize = 12;

/// What a client asks the forwarder. Class IN only; nothing else is ever forwarded.
#[derive(Debug, Clone)]
pub struct Question {
    /// The name in wire form, in the case the client wrote.
    name: Box<[u8]>,
    record_type: u16,
    /// RFC 3225: the client wants DNSSEC records.
    dnssec_ok: bool,
    /// RFC 4035 §3.2.2: the client checks signatures itself.
    checking_disabled: bool,
    /// Tokens of the forwarders that the query came through.
    trail: Vec<u64>,
}

/// What makes two questions the same: one answer serves both.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    name: Box<[u8]>,
    record_type: u16,
    dnssec_ok: bool,
    checking_disabled: bool,
}

impl Key {
    /// The name in wire form, in lower case.
    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }
}

impl Question {
    /// A question for `name` (in wire form, root label included), with the flags of the client's query.
    #[must_use]
    pub fn new(name: &[u8], record_type: u16, dnssec_ok: bool, checking_disabled: bool) -> Self {
        Self { name: name.into(), record_type, dnssec_ok, checking_disabled, trail: Vec::new() }
    }

    /// Takes over the loop tokens from the query's EDNS option 65313, if it has any. Malformed ones count
    /// for a chain that is too long, as nobody else writes this option.
    pub fn set_trail(&mut self, option: &[u8]) {
        let (tokens, rest) = option.as_chunks::<8>();
        self.trail = tokens.iter().take(TRAIL_MAX).map(|token| u64::from_be_bytes(*token)).collect();
        if !rest.is_empty() {
            self.trail.resize(TRAIL_MAX, 0);
        }
    }

    pub(super) fn key(&self) -> Key {
        Key {
            name: self.name.to_ascii_lowercase().into(),
            record_type: self.record_type,
            dnssec_ok: self.dnssec_ok,
            checking_disabled: self.checking_disabled,
        }
    }

    pub(super) fn trail(&self) -> &[u64] {
        &self.trail
    }

    pub(super) fn wire_name(&self) -> &[u8] {
        &self.name
    }

    /// True for types that ask for more than a record set: transfers, and the pseudo types of RFC 6895 §3.1.
    pub(super) fn is_meta(&self) -> bool {
        matches!(self.record_type, 0 | 41 | 128..=254)
    }

    /// The spelling that goes out: every letter in random case (draft-vixie-dnsext-dns0x20), so that a forged
    /// answer must guess that too, and so that our own query is known when it comes back.
    pub(super) fn spelling(&self, random: u128) -> Box<[u8]> {
        let mut bits = random;
        let mut name = self.name.to_ascii_lowercase();
        let mut at = 0;
        while at < name.len() && name[at] != 0 {
            let end = at + 1 + usize::from(name[at]);
            for octet in &mut name[at + 1..end] {
                if octet.is_ascii_lowercase() {
                    if bits & 1 == 1 {
                        octet.make_ascii_uppercase();
                    }
                    bits = bits.rotate_right(1);
                }
            }
            at = end;
        }
        name.into()
    }
}

/// True if `name` is spelled so that only the one who chose `spelling` would.
pub(super) fn is_own_spelling(spelling: &[u8], name: &[u8]) -> bool {
    let letters = spelling.iter().filter(|octet| octet.is_ascii_alphabetic()).count();
    letters >= LETTERS_FOR_PROOF && spelling.iter().any(u8::is_ascii_uppercase) && spelling == name
}

/// The query as it goes to one resolver.
#[derive(Debug)]
pub(super) struct Outgoing {
    wire: Vec<u8>,
    question_end: usize,
}

impl Outgoing {
    /// Composes the query. `spelling` is a spelling of the question's name; without `edns` it is a query of
    /// RFC 1035 only, for a resolver that knows nothing else.
    pub(super) fn new(question: &Question, id: u16, spelling: &[u8], token: u64, edns: bool) -> Self {
        let mut wire = Vec::with_capacity(HEADER_LEN + spelling.len() + 4 + 11 + 4 + 8 * TRAIL_MAX);
        let checking_disabled = if question.checking_disabled { 0x10 } else { 0 };
        wire.extend_from_slice(&id.to_be_bytes());
        wire.extend_from_slice(&[0x01, checking_disabled, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)]);
        wire.extend_from_slice(spelling);
        wire.extend_from_slice(&question.record_type.to_be_bytes());
        wire.extend_from_slice(&1_u16.to_be_bytes());
        let question_end = wire.len();
        if edns {
            push_opt(&mut wire, question, token);
        }
        Self { wire, question_end }
    }

    pub(super) fn wire(&self) -> &[u8] {
        &self.wire
    }

    fn question(&self) -> &[u8] {
        &self.wire[HEADER_LEN..self.question_end]
    }

    /// Whether `packet` answers this query (RFC 5452 §9.1; the source is checked by the connected socket).
    pub(super) fn judge(&self, packet: &[u8]) -> Verdict {
        let Some(header) = packet.first_chunk::<HEADER_LEN>() else { return Verdict::Foreign };
        let is_response = header[2] & 0x80 != 0;
        let opcode = header[2] & 0x78;
        if header[..2] != self.wire[..2] || !is_response || opcode != 0 {
            return Verdict::Foreign;
        }
        let (code, truncated) = (header[3] & 0x0f, header[2] & 0x02 != 0);
        match u16::from_be_bytes([header[4], header[5]]) {
            // Some servers refuse without repeating the question. Such a packet can only send us elsewhere.
            0 if code != 0 && code != 3 => return Verdict::Answer { code, truncated },
            1 => {}
            _ => return Verdict::Foreign,
        }
        let question = self.question();
        match packet.get(HEADER_LEN..HEADER_LEN + question.len()) {
            Some(echoed) if echoed == question => Verdict::Answer { code, truncated },
            Some(echoed) if echoed.eq_ignore_ascii_case(question) => Verdict::OtherCase,
            _ => Verdict::Foreign,
        }
    }
}

/// What a packet is to a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its answer; the low four bits of the response code, and TC.
    Answer { code: u8, truncated: bool },
    /// Its answer but for the case of the name: forged, or from a resolver that doesn't keep the case.
    OtherCase,
    /// Something else: forged, late, or garbage.
    Foreign,
}

fn push_opt(wire: &mut Vec<u8>, question: &Question, token: u64) {
    let tokens = question.trail.len() + 1;
    let option_len = (tokens * 8) as u16;
    wire.push(0);
    wire.extend_from_slice(&41_u16.to_be_bytes());
    wire.extend_from_slice(&UDP_PAYLOAD.to_be_bytes());
    wire.extend_from_slice(&[0, 0, if question.dnssec_ok { 0x80 } else { 0 }, 0]);
    wire.extend_from_slice(&(option_len + 4).to_be_bytes());
    wire.extend_from_slice(&TRAIL_OPTION.to_be_bytes());
    wire.extend_from_slice(&option_len.to_be_bytes());
    for token in question.trail.iter().chain([&token]) {
        wire.extend_from_slice(&token.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::text_to_name;

    fn question(name: &str) -> Question {
        Question::new(&text_to_name(name).unwrap(), 1, false, false)
    }

    fn answer_to(outgoing: &Outgoing) -> Vec<u8> {
        let mut packet = outgoing.wire().to_vec();
        packet[2] |= 0x80;
        packet
    }

    #[test]
    fn only_the_answer_to_the_very_question_counts() {
        let question = question("Www.Example.");
        let outgoing = Outgoing::new(&question, 0x1234, b"\x03wWw\x07eXample\x00", 7, true);
        let good = answer_to(&outgoing);
        let changed = |at: usize, to: u8| {
            let mut packet = good.clone();
            packet[at] = to;
            outgoing.judge(&packet)
        };
        assert_eq!(outgoing.judge(&good), Verdict::Answer { code: 0, truncated: false });
        assert_eq!(changed(2, 0x83), Verdict::Answer { code: 0, truncated: true });
        assert_eq!(changed(0, 0x13), Verdict::Foreign, "another id");
        assert_eq!(changed(2, 0x01), Verdict::Foreign, "a query");
        assert_eq!(changed(2, 0xa1), Verdict::Foreign, "another opcode");
        assert_eq!(changed(5, 2), Verdict::Foreign, "two questions");
        assert_eq!(changed(5, 0), Verdict::Foreign, "no question, yet no error");
        assert_eq!(changed(13, b'W'), Verdict::OtherCase);
        assert_eq!(changed(13, b'x'), Verdict::Foreign, "another name");
        assert_eq!(changed(outgoing.question_end - 3, 28), Verdict::Foreign, "another type");
        assert_eq!(outgoing.judge(&good[..20]), Verdict::Foreign, "cut off");
    }

    #[test]
    fn a_spelling_proves_nothing_when_short_or_plain() {
        assert!(is_own_spelling(b"\x03wWw\x07example\x00", b"\x03wWw\x07example\x00"));
        assert!(!is_own_spelling(b"\x03www\x07example\x00", b"\x03www\x07example\x00"));
        assert!(!is_own_spelling(b"\x01A\x02io\x00", b"\x01A\x02io\x00"));
    }

    #[test]
    fn a_malformed_trail_counts_as_too_long() {
        let mut question = question("a.");
        question.set_trail(&[1; 16]);
        assert_eq!(question.trail().len(), 2);
        question.set_trail(&[1; 15]);
        assert_eq!(question.trail().len(), TRAIL_MAX);
    }

    proptest! {
        #[test]
        fn judging_never_fails(packet in proptest::collection::vec(any::<u8>(), 0..64)) {
            let outgoing = Outgoing::new(&question("a.b."), 1, b"\x01a\x01b\x00", 0, true);
            prop_assert_eq!(outgoing.judge(&packet), Verdict::Foreign);
        }

        #[test]
        fn a_spelling_is_the_same_name(random in any::<u128>()) {
            let question = question("some-long.name.example.");
            let spelling = question.spelling(random);
            prop_assert!(spelling.eq_ignore_ascii_case(question.wire_name()));
        }
    }
}
