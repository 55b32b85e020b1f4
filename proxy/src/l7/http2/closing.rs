//! How a connection ends: drained, broken off, or after too long a wait.

use core::task::{Context, Poll};
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

use super::limits::Waiting;
use super::{Engine, Stage};
use crate::h2::{Broken, Reason};

impl<C: AsyncRead + AsyncWrite + Unpin> Engine<C> {
    fn open_streams(&self) -> usize {
        self.line.session.open_streams()
    }

    /// Gives back what only streams need: a connection that once had many must not hold as much for ever.
    fn rest(&mut self) {
        self.is_at_rest = true;
        self.slots = Vec::new();
        self.cookie = Vec::new();
        self.line.session.rest();
    }

    pub(super) fn drain_if_asked(&mut self) {
        if self.stage == Stage::Open && self.origin.listener.draining.get() {
            self.drain();
        }
    }

    fn drain(&mut self) {
        self.stage = Stage::Draining;
        self.line.session.drain(&mut self.line.out);
    }

    pub(super) fn finish(&mut self) {
        if self.stage == Stage::Draining {
            self.stage = Stage::Finishing;
            self.line.session.finish(&mut self.line.out);
        }
    }

    /// The client broke the rules, or is too slow.
    pub(super) fn break_off(&mut self, broken: Broken) {
        let cells = &self.origin.worker.cells;
        match broken.0 {
            Reason::EnhanceYourCalm => cells.http2_floods.add(1),
            Reason::No => {}
            _ => cells.http2_errors.add(1),
        }
        tracing::debug!(error = %broken, client = %self.origin.peer, "HTTP/2 connection ends");
        self.line.session.abandon(broken.0, &mut self.line.out);
        self.stage = Stage::Closing(0);
        self.slots.clear();
    }

    /// Nothing more can be done now: what is waited for, and whether for too long.
    pub(super) fn judge_limits(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let waiting = self.waiting();
        if waiting == Waiting::Nothing {
            return self.poll_close(cx);
        }
        let timeouts = &self.origin.worker.config().timeouts;
        if !self.limits.is_over(waiting, timeouts) {
            return if matches!(self.stage, Stage::Closing(_)) { self.poll_close(cx) } else { Poll::Pending };
        }
        match waiting {
            Waiting::Pause => self.rest(),
            Waiting::First | Waiting::Idle => self.drain(),
            Waiting::Drained => self.finish(),
            Waiting::Head => self.break_off(Broken(Reason::No, "a frame does not come to its end")),
            _ => return Poll::Ready(()),
        }
        // What this changed has to be looked at.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn waiting(&self) -> Waiting {
        let is_open = self.open_streams() > 0;
        match self.stage {
            Stage::Closing(_) => Waiting::Closed,
            _ if self.line.waiting() > 0 => Waiting::Write,
            _ if self.limits.has_ended() && !is_open => Waiting::Nothing,
            _ if self.limits.has_ended() => Waiting::HalfClosed,
            Stage::Finishing if !is_open => Waiting::Nothing,
            Stage::Draining if !is_open => Waiting::Drained,
            _ if is_open => Waiting::Streams,
            _ if !self.input.is_empty() || self.line.session.is_in_block() => Waiting::Head,
            _ if self.limits.has_served() && !self.is_at_rest => Waiting::Pause,
            _ if self.limits.has_served() => Waiting::Idle,
            _ => Waiting::First,
        }
    }

    /// Says that nothing more will come, and waits until the client has closed too: closing a socket with unread
    /// octets resets it, and the reset can overtake what was said last.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !matches!(self.stage, Stage::Closing(_)) {
            self.stage = Stage::Closing(0);
            cx.waker().wake_by_ref();
        }
        if self.line.waiting() > 0 {
            return Poll::Pending;
        }
        match Pin::new(&mut self.client).poll_shutdown(cx) {
            Poll::Ready(Err(_)) => Poll::Ready(()),
            Poll::Ready(Ok(())) if self.limits.has_ended() => Poll::Ready(()),
            // The closing message of TLS may have to wait for room; the limit runs.
            _ => Poll::Pending,
        }
    }
}
