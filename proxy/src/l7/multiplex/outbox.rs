//! What is on its way to an endpoint: frames of all streams, in the order they are written.

use crate::l7::buffer::forget_front;

/// Where something stands in all that is ever written on a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(u64);

impl Place {
    /// So many octets behind it.
    pub(super) const fn behind(self, count: usize) -> Self {
        Self(self.0 + count as u64)
    }
}

/// Octets in order, of which the first may have left.
#[derive(Debug)]
pub(super) struct Outbox {
    /// More is appended at its end.
    pub(super) octets: Vec<u8>,
    written: usize,
    /// Octets behind those that stand encrypted already: a write that goes on must have them again.
    committed: usize,
    /// Octets that were written and are not here any more.
    gone: u64,
}

impl Outbox {
    pub(super) const fn new(octets: Vec<u8>) -> Self {
        Self { octets, written: 0, committed: 0, gone: 0 }
    }

    /// What waits for the socket.
    pub(super) fn unwritten(&self) -> &[u8] {
        &self.octets[self.written..]
    }

    /// How much that is.
    pub(super) fn pending(&self) -> usize {
        self.octets.len() - self.written
    }

    /// The socket took so much.
    pub(super) fn wrote(&mut self, count: usize) {
        self.written += count;
        self.committed = 0;
    }

    /// The socket took nothing, but will so much.
    pub(super) fn commit(&mut self, count: usize) {
        self.committed = count;
    }

    /// Forgets what was written.
    pub(super) fn tidy(&mut self) {
        let written = self.written;
        if forget_front(&mut self.octets, &mut self.written) {
            self.gone += written as u64;
        }
    }

    /// Where an octet of `octets` stands.
    pub(super) const fn place(&self, at: usize) -> Place {
        Place(self.gone).behind(at)
    }

    /// Where in `octets` what stands at `place` is; `None` if the endpoint may have seen some of it.
    pub(super) fn unseen(&self, place: Place) -> Option<usize> {
        let at = usize::try_from(place.0.checked_sub(self.gone)?).ok()?;
        (at >= self.written + self.committed).then_some(at)
    }
}
