//! Session tickets (RFC 8446 §4.6.1, RFC 5077): what a client needs to resume is encrypted and kept by the client.
//!
//! ```text
//!  key name (8) │ nonce (12) │ AES-256-GCM of the session │ tag (16)
//! ```
//! All listeners and workers share the keys. The present key encrypts; the one before still decrypts, so a ticket is
//! good for one rotation at least and two at most. A key is random, in memory alone, and gone after that.

use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;

const NAME_LEN: usize = 8;
const KEY_LEN: usize = 32;

/// One key and the name by which its tickets are told.
struct TicketKey {
    name: [u8; NAME_LEN],
    key: RandomizedNonceKey,
}

impl TicketKey {
    fn random() -> Option<Arc<Self>> {
        let (mut name, mut secret) = ([0; NAME_LEN], [0; KEY_LEN]);
        rand::fill(&mut name).ok()?;
        rand::fill(&mut secret).ok()?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, &secret).ok()?;
        Some(Arc::new(Self { name, key }))
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = Vec::with_capacity(NAME_LEN + NONCE_LEN + session.len() + AES_256_GCM.tag_len());
        let mut content = session.to_vec();
        let nonce = self.key.seal_in_place_append_tag(Aad::from(&self.name), &mut content).ok()?;
        sealed.extend_from_slice(&self.name);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&content);
        Some(sealed)
    }

    /// The session in what follows the name of the key.
    fn decrypt(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, content) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut content = content.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.key.open_in_place(nonce, Aad::from(&self.name), &mut content).ok()?.len();
        content.truncate(length);
        Some(content)
    }
}

/// The keys in force, the present one first.
struct Keys {
    present: Arc<TicketKey>,
    before: Option<Arc<TicketKey>>,
    since: Instant,
}

/// Encrypts and decrypts tickets for every handshake of the process.
pub(super) struct Tickets {
    keys: Option<ArcSwap<Keys>>,
    /// In seconds.
    rotation: AtomicU32,
}

impl Tickets {
    /// Keys as of `now`. Without randomness there are no tickets, and every handshake is a full one.
    pub(super) fn new(rotation: Duration, now: Instant) -> Arc<Self> {
        let keys = TicketKey::random()
            .map(|present| ArcSwap::from_pointee(Keys { present, before: None, since: now }));
        let tickets = Self { keys, rotation: AtomicU32::new(0) };
        tickets.set_rotation(rotation);
        Arc::new(tickets)
    }

    pub(super) fn set_rotation(&self, rotation: Duration) {
        let seconds = u32::try_from(rotation.as_secs()).unwrap_or(u32::MAX).max(1);
        self.rotation.store(seconds, Ordering::Relaxed);
    }

    /// Takes a new key if the present one has served its time. To be called now and then, by one task.
    pub(super) fn rotate(&self, now: Instant) {
        let Some(keys) = &self.keys else { return };
        let present = keys.load_full();
        let rotation = Duration::from_secs(self.rotation.load(Ordering::Relaxed).into());
        if now.saturating_duration_since(present.since) < rotation {
            return;
        }
        // Without randomness the old key goes on: a resumption that fails costs a full handshake, no more.
        if let Some(next) = TicketKey::random() {
            let before = Some(Arc::clone(&present.present));
            keys.store(Arc::new(Keys { present: next, before, since: now }));
        }
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        self.keys.is_some()
    }

    fn lifetime(&self) -> u32 {
        self.rotation.load(Ordering::Relaxed).saturating_mul(2)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys.as_ref()?.load().present.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let (name, sealed) = cipher.split_first_chunk::<NAME_LEN>()?;
        let keys = self.keys.as_ref()?.load();
        let mut known = core::iter::once(&keys.present).chain(&keys.before);
        known.find(|key| key.name == *name)?.decrypt(sealed)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("rotation_seconds", &self.rotation).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_ticket_outlives_one_rotation_and_not_two() {
        let start = Instant::now();
        let tickets = Tickets::new(HOUR, start);
        let ticket = tickets.encrypt(b"session").unwrap();
        tickets.rotate(start + HOUR / 2);
        assert_eq!(tickets.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        tickets.rotate(start + HOUR);
        assert_eq!(
            tickets.decrypt(&ticket).as_deref(),
            Some(&b"session"[..]),
            "the key before is still good"
        );
        assert_ne!(
            tickets.encrypt(b"session").unwrap()[..NAME_LEN],
            ticket[..NAME_LEN],
            "and writes no more"
        );
        tickets.rotate(start + 2 * HOUR);
        assert_eq!(tickets.decrypt(&ticket), None);
    }

    #[test]
    fn what_was_not_encrypted_here_is_no_ticket() {
        let tickets = Tickets::new(HOUR, Instant::now());
        let ticket = tickets.encrypt(b"session").unwrap();
        for length in 0..ticket.len() {
            assert_eq!(tickets.decrypt(&ticket[..length]), None);
        }
        for at in 0..ticket.len() {
            let mut forged = ticket.clone();
            forged[at] ^= 1;
            assert_eq!(tickets.decrypt(&forged), None, "octet {at}");
        }
    }
}
