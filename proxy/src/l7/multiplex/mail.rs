//! What came for one stream and was not read.

use core::task::{Context, Waker};

use super::outbox::Place;

/// Why a stream ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The endpoint did not begin with the request.
    Refused,
    /// RST_STREAM with this reason.
    Reset(u32),
    /// The connection is lost.
    Lost,
}

/// What came for one stream.
#[derive(Debug, Default)]
pub(super) struct Mail {
    /// The response as HTTP/1.1, as far as it has not been read.
    pub(super) text: Vec<u8>,
    pub(super) at: usize,
    /// Octets of content in it that the endpoint may send again once they are read.
    pub(super) owed: usize,
    pub(super) is_chunked: bool,
    /// The request was HEAD.
    pub(super) is_head: bool,
    /// Where the head of the request stands on its way out.
    pub(super) place: Place,
    pub(super) is_ended: bool,
    pub(super) fate: Option<Fate>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Mail {
    /// `text` is storage.
    pub(super) fn new(text: Vec<u8>, place: Place, is_head: bool) -> Self {
        Self { text, place, is_head, ..Self::default() }
    }

    pub(super) fn unread(&self) -> &[u8] {
        &self.text[self.at..]
    }

    /// There is something to say to a reader.
    pub(super) fn is_ready(&self) -> bool {
        !self.unread().is_empty() || self.is_ended || self.fate.is_some()
    }

    pub(super) fn watch_reader(&mut self, cx: &Context<'_>) {
        watch(&mut self.reader, cx);
    }

    /// There may be room for more of the request.
    pub(super) fn wake_writer(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    pub(super) fn watch_writer(&mut self, cx: &Context<'_>) {
        watch(&mut self.writer, cx);
    }

    pub(super) fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn wake(&mut self) {
        self.wake_reader();
        self.wake_writer();
    }

    /// The first fate is the one that counts: a connection that is lost afterwards changes nothing for those that were
    /// refused before.
    pub(super) fn end(&mut self, fate: Fate) {
        if !self.is_ended {
            self.fate.get_or_insert(fate);
        }
        self.wake();
    }
}

pub(super) fn watch(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        place => *place = Some(cx.waker().clone()),
    }
}
