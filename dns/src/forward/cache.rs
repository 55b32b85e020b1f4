//! What resolvers answered, for as long as they said. No I/O, no clock.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, Record};

use super::question::Key;

/// Nothing is kept longer, whatever its TTL says (RFC 8767 §4 advises a cap of days to weeks; edges are small).
const POSITIVE_TTL_MAX: u32 = 86_400;

/// RFC 2308 §5: negative answers of more than three hours cause more trouble than they save.
const NEGATIVE_TTL_MAX: u32 = 10_800;

/// RFC 9520 §3.2: a failure is remembered for a moment, so that retries don't multiply against dead resolvers.
const FAILURE_KEPT: Duration = Duration::from_secs(1);

/// A longer answer is not kept: bounds the cache's memory at this times the number of entries.
const ENTRY_LEN_MAX: usize = 4096;

const HEADER_LEN: usize = 12;

/// An answer as a resolver sent it.
#[derive(Debug)]
pub(super) struct Stored {
    wire: Vec<u8>,
    received: Instant,
}

impl Stored {
    /// Takes a packet that was judged to be an answer. `None` if it is not a well-formed message.
    pub(super) fn new(wire: Vec<u8>, received: Instant) -> Option<(Self, Message)> {
        let message = Message::from_vec(&wire).ok()?;
        Some((Self { wire, received }, message))
    }

    /// The message for a client that wrote the question's name as `name`, TTLs counted down to `now`.
    pub(super) fn message(&self, name: &[u8], now: Instant) -> Option<Message> {
        let mut wire = self.wire.clone();
        // The records' names point into the question, so they follow its spelling back to the client's.
        wire.get_mut(HEADER_LEN..HEADER_LEN + name.len())?.copy_from_slice(name);
        let mut message = Message::from_vec(&wire).ok()?;
        let age = now.saturating_duration_since(self.received).as_secs();
        let age = u32::try_from(age).unwrap_or(u32::MAX);
        let sections = [&mut message.answers, &mut message.authorities, &mut message.additionals];
        for record in sections.into_iter().flatten() {
            // RFC 2181 §8: a TTL with the top bit set is zero.
            record.ttl = if record.ttl > i32::MAX as u32 { 0 } else { record.ttl.saturating_sub(age) };
        }
        Some(message)
    }
}

/// How long `message` may be kept; `None` if not at all.
pub(super) fn lifetime(message: &Message) -> Option<Duration> {
    if message.metadata.truncation {
        return None;
    }
    let denied = message.metadata.response_code == ResponseCode::NXDomain;
    let negative = denied || message.answers.is_empty();
    // RFC 2308 §5: without an SOA there is no word on how long, so it is not kept.
    if negative && !message.authorities.iter().any(|record| matches!(record.data, RData::SOA(_))) {
        return None;
    }
    let shortest = message.all_sections().map(ttl).min()?;
    let cap = if negative { NEGATIVE_TTL_MAX } else { POSITIVE_TTL_MAX };
    (shortest > 0 && shortest <= i32::MAX as u32).then(|| Duration::from_secs(shortest.min(cap).into()))
}

/// The TTL that counts: for an SOA, how long its denial may be kept (RFC 2308 §5).
fn ttl(record: &Record) -> u32 {
    match &record.data {
        RData::SOA(soa) => record.ttl.min(soa.minimum),
        _ => record.ttl,
    }
}

/// What is known about a question.
#[derive(Debug, Clone)]
pub(super) enum Known {
    Answer(Arc<Stored>),
    /// No resolver could say.
    Failure,
}

#[derive(Debug)]
struct Entry {
    known: Known,
    expires: Instant,
}

/// A bounded cache. Two halves: what is used moves to the young one; when that is full it becomes the old one,
/// and what was in the old one and not used since is forgotten. Every operation is O(1), amortised.
#[derive(Debug, Default)]
pub(super) struct Cache {
    young: HashMap<Key, Entry>,
    old: HashMap<Key, Entry>,
    half: usize,
}

impl Cache {
    /// Keeps at most `entries` answers; none for 0.
    pub(super) fn new(entries: usize) -> Self {
        Self { half: entries.div_ceil(2), ..Self::default() }
    }

    /// Changes the limit; forgets everything if it is a smaller one.
    pub(super) fn resize(&mut self, entries: usize) {
        let half = entries.div_ceil(2);
        if half < self.half {
            self.clear();
        }
        self.half = half;
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        (self.young, self.old) = Default::default();
    }

    /// What is known about `key` and not expired.
    pub(super) fn find(&mut self, key: &Key, now: Instant) -> Option<Known> {
        if let Some(entry) = self.young.get(key) {
            return (entry.expires > now).then(|| entry.known.clone());
        }
        let entry = self.old.remove(key).filter(|entry| entry.expires > now)?;
        let known = entry.known.clone();
        self.insert(key.clone(), entry);
        Some(known)
    }

    /// Remembers an answer, if it may be.
    pub(super) fn keep(&mut self, key: Key, stored: Arc<Stored>, lifetime: Option<Duration>) {
        let Some(lifetime) = lifetime.filter(|_| stored.wire.len() <= ENTRY_LEN_MAX) else { return };
        let expires = stored.received + lifetime;
        self.insert(key, Entry { known: Known::Answer(stored), expires });
    }

    /// Remembers for a moment that nobody could answer.
    pub(super) fn keep_failure(&mut self, key: Key, now: Instant) {
        self.insert(key, Entry { known: Known::Failure, expires: now + FAILURE_KEPT });
    }

    /// Answers held, expired ones included until they are pushed out.
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    fn insert(&mut self, key: Key, entry: Entry) {
        if self.half == 0 {
            return;
        }
        self.old.remove(&key);
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.old = core::mem::take(&mut self.young);
        }
        self.young.insert(key, entry);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::op::{MessageType, OpCode, Query};
    use hickory_proto::rr::rdata::SOA;
    use hickory_proto::rr::{Name, RecordType};

    use super::super::Question;
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn key(text: &str) -> Key {
        Question::new(&crate::wire::text_to_name(text).unwrap(), 1, false, false).key()
    }

    fn answer(ttls: &[u32]) -> Message {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        message.add_query(Query::query(name("a.example."), RecordType::A));
        for ttl in ttls {
            message.add_answer(Record::from_rdata(
                name("a.example."),
                *ttl,
                RData::A(Ipv4Addr::LOCALHOST.into()),
            ));
        }
        message
    }

    fn denial(ttl: u32, minimum: u32) -> Message {
        let mut message = answer(&[]);
        message.metadata.response_code = ResponseCode::NXDomain;
        let soa = SOA::new(name("ns.example."), name("mail.example."), 1, 1, 1, 1, minimum);
        message.add_authority(Record::from_rdata(name("example."), ttl, RData::SOA(soa)));
        message
    }

    fn stored(message: &Message, at: Instant) -> Arc<Stored> {
        Arc::new(Stored::new(message.to_vec().unwrap(), at).unwrap().0)
    }

    #[test]
    fn an_answer_lives_as_long_as_its_shortest_record() {
        let seconds = |message: &Message| lifetime(message).map(|time| time.as_secs());
        assert_eq!(seconds(&answer(&[300, 60])), Some(60));
        assert_eq!(seconds(&answer(&[0, 60])), None);
        assert_eq!(seconds(&answer(&[u32::MAX])), None, "RFC 2181 §8");
        assert_eq!(seconds(&answer(&[1_000_000])), Some(86_400));
        assert_eq!(seconds(&denial(600, 30)), Some(30), "RFC 2308 §5: the lesser of TTL and minimum");
        assert_eq!(seconds(&denial(20, 30)), Some(20));
        assert_eq!(seconds(&denial(600_000, 300_000)), Some(10_800));
        assert_eq!(seconds(&answer(&[])), None, "no SOA, not kept");
        let mut cut = answer(&[60]);
        cut.metadata.truncation = true;
        assert_eq!(seconds(&cut), None);
    }

    #[test]
    fn ttls_count_down_and_then_the_answer_is_gone() {
        let start = Instant::now();
        let message = answer(&[60]);
        let mut cache = Cache::new(4);
        cache.keep(key("a.example."), stored(&message, start), lifetime(&message));
        let later = start + Duration::from_secs(45);
        let Some(Known::Answer(found)) = cache.find(&key("a.example."), later) else {
            panic!("must be there")
        };
        let reply = found.message(b"\x01A\x07exAmple\x00", later).unwrap();
        assert_eq!(reply.answers[0].ttl, 15);
        assert_eq!(reply.answers[0].name.to_ascii(), "A.exAmple.", "in the client's spelling");
        assert!(cache.find(&key("a.example."), start + Duration::from_secs(60)).is_none());
    }

    #[test]
    fn a_failure_is_kept_for_a_moment_only() {
        let start = Instant::now();
        let mut cache = Cache::new(4);
        cache.keep_failure(key("a."), start);
        assert!(matches!(cache.find(&key("a."), start + Duration::from_millis(900)), Some(Known::Failure)));
        assert!(cache.find(&key("a."), start + Duration::from_secs(1)).is_none());
    }

    #[test]
    fn the_limit_holds_and_what_is_used_stays() {
        let start = Instant::now();
        let message = answer(&[3600]);
        let mut cache = Cache::new(10);
        for index in 0..1000 {
            cache.keep(key(&format!("n{index}.")), stored(&message, start), lifetime(&message));
            cache.find(&key("n0."), start);
            assert!(cache.len() <= 10, "{} entries", cache.len());
        }
        assert!(cache.find(&key("n0."), start).is_some());
        assert!(cache.find(&key("n500."), start).is_none());
        let mut none = Cache::new(0);
        none.keep(key("a."), stored(&message, start), lifetime(&message));
        assert_eq!(none.len(), 0);
    }

    proptest::proptest! {
        #[test]
        fn nothing_a_resolver_sends_makes_us_fail(
            changes in proptest::collection::vec(proptest::prelude::any::<(usize, u8)>(), 0..6),
            cut in proptest::prelude::any::<usize>(),
        ) {
            let mut wire = if cut % 2 == 0 { answer(&[60, 5]) } else { denial(60, 5) }.to_vec().unwrap();
            for (at, octet) in changes {
                let at = at % wire.len();
                wire[at] = octet;
            }
            wire.truncate(wire.len() - (cut / 2) % wire.len().min(40));
            let now = Instant::now();
            if let Some((stored, message)) = Stored::new(wire, now) {
                let kept = lifetime(&message);
                proptest::prop_assert!(kept.is_none_or(|kept| kept.as_secs() <= 86_400));
                let _ = stored.message(b"\x01A\x07example\x00", now + Duration::from_secs(1));
            }
        }
    }
}
