//! Transaction signatures (RFC 8945): requests that a key of ours has signed, and replies signed in return.
//!
//! ```text
//!  request ─► open ─┬─ unsigned ───────────────────────────► as it is
//!                   ├─ good: the message without its TSIG ─► reply ─► Signer::sign ─► reply, TSIG
//!                   ├─ bad key, signature, length, time ───► NOTAUTH, ready to be sent
//!                   └─ no signature by its form ───────────► FORMERR
//! ```
//!
//! Everything works on octets: a signature covers the message as it was sent, and no library's idea of it. Of the
//! algorithms, SHA-256 and SHA-512 are spoken; truncated signatures are not taken.

mod keys;
mod record;

use std::sync::Arc;

use aws_lc_rs::hmac;

pub use keys::{Key, KeyError, Keys};
use record::{Digest, TsigRecord};

use crate::wire::HEADER_LEN;

/// Seconds that two clocks may differ (RFC 8945 §10).
const FUDGE: u16 = 300;
const NOTAUTH: u8 = 9;

/// What is bad, as a TSIG record tells it (RFC 8945 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Error {
    Signature = 16,
    Key = 17,
    Time = 18,
    Truncation = 22,
}

/// What a request turns out to be.
#[derive(Debug)]
pub enum Opened {
    /// Not signed.
    Unsigned,
    /// Signed well: the message without the signature, and what signs the reply.
    Good(Vec<u8>, Signer),
    /// Signed badly: the whole reply, and the word for it in metrics.
    Bad(Vec<u8>, &'static str),
    /// Not readable: FORMERR.
    Malformed,
}

/// Takes the signature off a request. `now` is in Unix seconds.
#[must_use]
pub fn open(packet: &[u8], keys: &Keys, now: u64) -> Opened {
    let record = match record::find(packet) {
        Ok(None) => return Opened::Unsigned,
        Ok(Some(record)) => record,
        Err(record::Malformed) => return Opened::Malformed,
    };
    let message = unsigned(packet, &record);
    let Some(key) = keys.find(record.key, record.algorithm) else {
        return Opened::Bad(unsigned_refusal(&message, &record, Error::Key), "bad_key");
    };
    let expected = key.mac_len();
    if record.mac.len() > expected || record.mac.len() < (expected / 2).max(10) {
        return Opened::Malformed;
    }
    // Only replies tell an error (RFC 8945 §4.2). And a refusal of ours must never be a request that is taken.
    if record.error != 0 {
        return Opened::Malformed;
    }
    if record.mac.len() < expected {
        // Nothing is signed before a signature was found to be good: the client's octets are a part of what is signed,
        // and could be chosen such that our signature is one of another request.
        return Opened::Bad(unsigned_refusal(&message, &record, Error::Truncation), "bad_truncation");
    }
    let mut signer = Signer::new(key, record.mac.to_vec());
    let digest = Digest { prior: None, message: &message, record: &record, timers_only: false };
    if hmac::verify(signer.key.hmac(), &digest.octets(), record.mac).is_err() {
        return Opened::Bad(unsigned_refusal(&message, &record, Error::Signature), "bad_signature");
    }
    if now.abs_diff(record.time) > record.fudge.into() {
        return Opened::Bad(signer.wrong_time(&message, &record, now), "bad_time");
    }
    Opened::Good(message, signer)
}

/// The message as it was signed: without the record, under its original id.
fn unsigned(packet: &[u8], record: &TsigRecord<'_>) -> Vec<u8> {
    let mut message = packet[..record.start].to_vec();
    message[..2].copy_from_slice(&record.original_id.to_be_bytes());
    let additional = u16::from_be_bytes([message[10], message[11]]).saturating_sub(1);
    message[10..12].copy_from_slice(&additional.to_be_bytes());
    message
}

/// NOTAUTH to `message`: its header and nothing else.
fn header_of_refusal(message: &[u8]) -> Vec<u8> {
    let mut reply = vec![0; HEADER_LEN];
    reply[..2].copy_from_slice(&message[..2]);
    reply[2] = 0x80 | (message[2] & 0x79);
    reply[3] = NOTAUTH;
    reply
}

/// Whoever has no key of ours can check no signature: the record tells the error alone (RFC 8945 §5.3.2).
fn unsigned_refusal(message: &[u8], record: &TsigRecord<'_>, error: Error) -> Vec<u8> {
    let mut reply = header_of_refusal(message);
    let record = TsigRecord { mac: &[], error: error as u16, other: &[], ..*record };
    record.append(&mut reply);
    reply
}

/// Signs the messages of one reply, or one request and then checks its reply.
#[derive(Debug)]
pub struct Signer {
    key: Arc<Key>,
    /// The signature before: of the request, then of each message.
    prior: Vec<u8>,
    /// Messages after the first are covered with fewer words (RFC 8945 §5.3.1).
    following: bool,
}

impl Signer {
    fn new(key: Arc<Key>, prior: Vec<u8>) -> Self {
        Self { key, prior, following: false }
    }

    /// The name of the key.
    #[must_use]
    pub fn key(&self) -> &str {
        self.key.name()
    }

    /// Octets that a signature adds to a message.
    #[must_use]
    pub fn reserve(&self) -> usize {
        self.key.record_len()
    }

    /// Signs the next message of the reply. `now` is in Unix seconds.
    pub fn sign(&mut self, message: &mut Vec<u8>, now: u64) {
        let timers_only = core::mem::replace(&mut self.following, true);
        self.sign_with(message, (now, FUDGE), 0, &[], timers_only);
    }

    fn sign_with(
        &mut self,
        message: &mut Vec<u8>,
        (time, fudge): (u64, u16),
        error: u16,
        other: &[u8],
        timers_only: bool,
    ) {
        let key = Arc::clone(&self.key);
        let record = TsigRecord {
            start: message.len(),
            key: key.wire(),
            algorithm: key.algorithm_name(),
            time,
            fudge,
            mac: &[],
            original_id: u16::from_be_bytes([message[0], message[1]]),
            error,
            other,
        };
        let prior = Some(&*self.prior).filter(|prior| !prior.is_empty());
        let digest = Digest { prior, message, record: &record, timers_only };
        let mac = hmac::sign(key.hmac(), &digest.octets());
        TsigRecord { mac: mac.as_ref(), ..record }.append(message);
        self.prior = mac.as_ref().to_vec();
    }

    /// NOTAUTH, signed: the client's clock is off, and ours is told (RFC 8945 §5.2.3).
    fn wrong_time(&mut self, message: &[u8], record: &TsigRecord<'_>, now: u64) -> Vec<u8> {
        let mut reply = header_of_refusal(message);
        let times = (record.time, record.fudge);
        self.sign_with(&mut reply, times, Error::Time as u16, &now.to_be_bytes()[2..], false);
        reply
    }

    /// Signs a request of our own; returns what checks its reply.
    #[must_use]
    pub fn request(key: &Arc<Key>, message: &mut Vec<u8>, now: u64) -> Self {
        let mut signer = Self::new(Arc::clone(key), Vec::new());
        signer.sign_with(message, (now, FUDGE), 0, &[], false);
        signer
    }

    /// True if `packet` is signed well as the reply to the [request](Self::request).
    #[must_use]
    pub fn is_reply(&self, packet: &[u8], now: u64) -> bool {
        let Ok(Some(record)) = record::find(packet) else { return false };
        let message = unsigned(packet, &record);
        let digest =
            Digest { prior: Some(&self.prior), message: &message, record: &record, timers_only: false };
        self.key.is(record.key, record.algorithm)
            && now.abs_diff(record.time) <= record.fudge.into()
            && hmac::verify(self.key.hmac(), &digest.octets(), record.mac).is_ok()
    }
}

#[cfg(test)]
mod tests;
