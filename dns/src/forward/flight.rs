//! Questions that are with the resolvers right now: asked once for all who want to know, and known again when
//! they come back to us. No I/O.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::watch;

use super::cache::Stored;
use super::question::{Key, Question, TRAIL_MAX, is_own_spelling};

/// How a question ended.
#[derive(Debug, Clone)]
pub(super) enum Landed {
    Answer(Arc<Stored>),
    /// No resolver gave an answer.
    Failed,
    /// No resolver could be asked, for want of a socket.
    Starved,
}

/// Where a landing is awaited.
pub(super) type Landing = watch::Receiver<Option<Landed>>;

/// One question under way.
#[derive(Debug)]
struct Flight {
    landing: Landing,
    token: u64,
    spelling: Box<[u8]>,
}

/// All questions under way.
#[derive(Debug, Default)]
pub(super) struct Flights {
    by_key: HashMap<Key, Flight>,
    tokens: HashSet<u64>,
}

/// What becomes of a question.
pub(super) enum Boarding {
    /// It is being asked already: wait for this.
    Shared(Landing),
    /// It is our own query, come back.
    Loop,
    /// It is to be asked.
    Ask,
}

impl Flights {
    /// Finds out what to do with a question.
    pub(super) fn board(&self, key: &Key, question: &Question) -> Boarding {
        if self.is_loop(key, question) {
            return Boarding::Loop;
        }
        match self.by_key.get(key) {
            Some(flight) => Boarding::Shared(flight.landing.clone()),
            None => Boarding::Ask,
        }
    }

    pub(super) fn depart(&mut self, key: Key, landing: Landing, token: u64, spelling: Box<[u8]>) {
        self.tokens.insert(token);
        self.by_key.insert(key, Flight { landing, token, spelling });
    }

    /// The flight with this token is over.
    pub(super) fn land(&mut self, key: &Key, token: u64) {
        self.tokens.remove(&token);
        if self.by_key.get(key).is_some_and(|flight| flight.token == token) {
            self.by_key.remove(key);
        }
    }

    /// Lets nobody join the flights under way any more. They land for those who wait, and their tokens are known
    /// until then.
    pub(super) fn leave_behind(&mut self) {
        self.by_key.clear();
    }

    /// Ours is a query that carries one of our tokens (it came through another Portolan), or is spelled as we
    /// spelled it (it came through a forwarder that keeps the case, as nearly all do).
    fn is_loop(&self, key: &Key, question: &Question) -> bool {
        let trail = question.trail();
        trail.len() >= TRAIL_MAX
            || trail.iter().any(|token| self.tokens.contains(token))
            || self
                .by_key
                .get(key)
                .is_some_and(|flight| is_own_spelling(&flight.spelling, question.wire_name()))
    }
}
