//! What the streams of a connection share: its session, and what is on its way to the client.

use super::ready::Bits;
use crate::h2::{Key, Reason, Session};

/// With this much on its way, streams wait. A piece and a head more fit what the stock of the worker keeps.
const WAITING_MAX: usize = 40 * 1024;
/// Content that one stream adds before the others get their turn.
const PIECE: usize = 16 * 1024;

/// The client's side of a connection, without its socket.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) session: Session,
    /// Frames of all streams, in the order they are written.
    pub(super) out: Vec<u8>,
    /// Octets of `out` that are written.
    pub(super) written: usize,
    /// Streams that wait for room: in a window, or in `out`.
    pub(super) blocked: Bits,
    /// Streams to be polled.
    pub(super) due: Bits,
}

impl Line {
    /// Octets that wait for the socket.
    pub(super) fn waiting(&self) -> usize {
        self.out.len() - self.written
    }

    pub(super) fn is_full(&self) -> bool {
        self.waiting() >= WAITING_MAX
    }

    /// Octets of content that a stream may send in this turn; 0 if it has to wait.
    pub(super) fn room(&self, key: Key) -> usize {
        if self.is_full() { 0 } else { self.session.room(key).min(PIECE) }
    }

    /// The stream goes on when there is room.
    pub(super) fn block(&mut self, key: Key) {
        self.blocked.set(key.index());
    }

    /// The stream goes on when the others had their turn.
    pub(super) fn defer(&mut self, key: Key) {
        self.due.set(key.index());
    }

    /// There may be room.
    pub(super) fn unblock(&mut self) {
        self.blocked.move_to(&mut self.due);
    }

    pub(super) fn send(&mut self, key: Key, data: &[u8], is_end: bool) -> usize {
        self.session.send_data(key, data, is_end, &mut self.out)
    }

    pub(super) fn reset(&mut self, key: Key, reason: Reason) {
        self.session.reset(key, reason, &mut self.out);
    }

    pub(super) fn used(&mut self, key: Key, count: usize) {
        if count > 0 {
            self.session.used(key, count, &mut self.out);
        }
    }

    /// Ends our side, and asks for no more of the other.
    pub(super) fn stop_request(&mut self, key: Key) {
        if self.session.is_receiving(key) {
            // RFC 9113 §8.1: the response is complete without the rest of the request.
            self.reset(key, Reason::No);
        }
    }
}
