//! Readers of the event stream, each with a bounded queue.

use std::collections::HashSet;
use std::sync::Mutex;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::cluster::Event;

/// Most readers at once.
const READERS_MAX: usize = 1024;

#[derive(Debug)]
struct Reader {
    /// Wanted types; empty for all.
    kinds: HashSet<String>,
    queue: mpsc::Sender<Event>,
    /// Dropped or used, it ends the stream; with bytes, after writing these.
    cut: oneshot::Sender<Bytes>,
}

/// All readers.
#[derive(Debug)]
pub(crate) struct Hub {
    readers: Mutex<Vec<Reader>>,
    /// Events a reader may be behind before it is cut off.
    outstanding: usize,
}

/// The reading end of one subscription.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) events: mpsc::Receiver<Event>,
    /// Resolves when the server ends the stream (overflow, lost leader), with the bytes to end it with, if any.
    pub(crate) cut: oneshot::Receiver<Bytes>,
}

impl Hub {
    pub(crate) fn new(outstanding: usize) -> Self {
        Self { readers: Mutex::default(), outstanding: outstanding.max(1) }
    }

    /// A new reader of these types (none: all); `None` when there are too many.
    pub(crate) fn subscribe(&self, kinds: HashSet<String>) -> Option<Subscription> {
        let (queue, events) = mpsc::channel(self.outstanding);
        let (end, cut) = oneshot::channel();
        let mut readers = self.lock();
        readers.retain(|reader| !reader.queue.is_closed());
        if readers.len() >= READERS_MAX {
            return None;
        }
        readers.push(Reader { kinds, queue, cut: end });
        Some(Subscription { events, cut })
    }

    /// Hands events to all who want them. A reader whose queue is full is cut off.
    pub(crate) fn publish(&self, events: &[Event]) {
        if events.is_empty() {
            return;
        }
        self.lock().retain(|reader| {
            let mut wanted = events
                .iter()
                .filter(|event| reader.kinds.is_empty() || reader.kinds.contains(event.kind.as_ref()));
            wanted.all(|event| reader.queue.try_send(event.clone()).is_ok())
        });
    }

    /// Ends all streams.
    pub(crate) fn cut_all(&self) {
        self.lock().clear();
    }

    /// Ends all streams after these bytes, which may be half an event.
    pub(crate) fn tear_all(&self, last: &Bytes) {
        // A reader that has gone by itself needs no end.
        self.lock().drain(..).for_each(|reader| drop(reader.cut.send(last.clone())));
    }

    /// Number of readers.
    pub(crate) fn len(&self) -> usize {
        let mut readers = self.lock();
        readers.retain(|reader| !reader.queue.is_closed());
        readers.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Reader>> {
        // A poisoned list of readers is still a list of readers.
        self.readers.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
