//! The streams of a connection: which there are, and how far each is (RFC 9113 §5.1).

use std::collections::{HashMap, VecDeque};

use super::flow::{Overflow, ReceiveWindow, SendWindow};

/// Streams we ended early whose frames may still be on their way; of older ones they are nobody's fault either,
/// but count as chores.
const RECENT_MAX: usize = 128;

/// The place of a stream: small numbers, used again once released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key(u32);

impl Key {
    /// For what others keep per stream.
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) const fn of(index: usize) -> Self {
        Self(index as u32)
    }
}

/// One stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    pub(super) send: SendWindow,
    pub(super) receive: ReceiveWindow,
    /// The peer has not ended its side.
    pub(super) is_receiving: bool,
    /// We have not ended ours.
    pub(super) is_sending: bool,
    /// The head of the peer's message has come.
    pub(super) has_head: bool,
    /// Content must not come: the response to HEAD.
    pub(super) is_bodiless: bool,
    /// What Content-Length still promises.
    pub(super) promised: Option<u64>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Streams {
    places: Vec<Stream>,
    free: Vec<u32>,
    by_id: HashMap<u32, u32, foldhash::fast::RandomState>,
    recent: VecDeque<u32>,
}

impl Streams {
    /// Streams that are not closed.
    pub(super) fn open(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn find(&self, id: u32) -> Option<Key> {
        self.by_id.get(&id).copied().map(Key)
    }

    pub(super) fn of(&mut self, key: Key) -> &mut Stream {
        &mut self.places[key.index()]
    }

    pub(super) fn get(&self, key: Key) -> &Stream {
        &self.places[key.index()]
    }

    pub(super) fn insert(&mut self, stream: Stream) -> Key {
        let id = stream.id;
        let place = match self.free.pop() {
            Some(place) => {
                self.places[place as usize] = stream;
                place
            }
            None => {
                self.places.push(stream);
                (self.places.len() - 1) as u32
            }
        };
        self.by_id.insert(id, place);
        Key(place)
    }

    /// Closes the stream if neither side goes on. True if it is closed.
    pub(super) fn close_if_over(&mut self, key: Key) -> bool {
        let Stream { id, is_receiving, is_sending, .. } = self.places[key.index()];
        !is_receiving && !is_sending && self.by_id.remove(&id).is_some()
    }

    /// Closes the stream whatever its state. False if it was closed.
    pub(super) fn close(&mut self, key: Key) -> bool {
        let stream = &mut self.places[key.index()];
        (stream.is_receiving, stream.is_sending) = (false, false);
        self.by_id.remove(&stream.id).is_some()
    }

    pub(super) fn close_all(&mut self) {
        for place in self.by_id.values() {
            let stream = &mut self.places[*place as usize];
            (stream.is_receiving, stream.is_sending) = (false, false);
        }
        self.by_id.clear();
    }

    /// The place may be used again.
    pub(super) fn release(&mut self, key: Key) {
        debug_assert!(
            !self.by_id.contains_key(&self.places[key.index()].id),
            "only what is closed is released"
        );
        self.free.push(key.0);
    }

    /// Gives the storage back.
    pub(super) fn rest(&mut self) {
        debug_assert!(self.free.len() == self.places.len(), "while no key is in use");
        (self.places, self.free) = (Vec::new(), Vec::new());
        self.by_id.shrink_to_fit();
    }

    /// We end this stream, and the peer does not know yet.
    pub(super) fn remember(&mut self, id: u32) {
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(id);
    }

    pub(super) fn is_recent(&self, id: u32) -> bool {
        self.recent.contains(&id)
    }

    /// §6.9.2: the initial window changed, and with it that of every stream.
    pub(super) fn change_windows(&mut self, by: i64) -> Result<(), Overflow> {
        for place in self.by_id.values() {
            self.places[*place as usize].send.change(by)?;
        }
        Ok(())
    }

    /// Keys of the streams whose number is above `last`.
    pub(super) fn above(&self, last: u32) -> impl Iterator<Item = Key> {
        self.by_id.iter().filter(move |(id, _)| **id > last).map(|(_, place)| Key(*place))
    }
}
