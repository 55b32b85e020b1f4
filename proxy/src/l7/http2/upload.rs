//! The content of a stream's request, framed for an endpoint that speaks HTTP/1.1.

use core::task::{Context, Poll};
use std::pin::Pin;

use tokio::io::AsyncWrite;

use super::head;
use crate::h2::Fields;
use crate::l7::buffer::{LARGE, forget_front};
use crate::l7::chunked::push_size;
use crate::l7::refusal::{self, Refusal};
use crate::l7::request::Framing;

/// Content that came before anything was sent goes out with the head, in one write, and again with it if need be: so
/// much of it.
const WITH_HEAD_MAX: usize = LARGE;

/// The content of a request on its way to the endpoint.
#[derive(Debug)]
pub(super) struct Upload {
    /// The head, and the content that goes with it.
    pub(super) first: Vec<u8>,
    /// Octets of the head alone.
    pub(super) head: usize,
    /// Octets of `first` written in this attempt.
    sent: usize,
    /// Content behind `first`, framed.
    rest: Vec<u8>,
    written: usize,
    is_chunked: bool,
    /// Octets that Content-Length still promises, or that may still come.
    left: u64,
    /// The client's end has been read.
    is_read: bool,
    /// Nothing more is to be sent: the endpoint stopped reading, or the client broke the rules. An answer may still come.
    is_rejected: bool,
    /// The client broke the rules, and is asked for nothing more.
    is_refused: bool,
    /// Octets that the client may send again once they are written.
    owed: usize,
    moved: u64,
    /// Something of what came is not here any more: it was written, or nobody wanted it.
    is_forgotten: bool,
}

impl Upload {
    /// `is_end`: there is no content. `spare` is storage for what does not go with the head.
    pub(super) fn new(
        head: Vec<u8>,
        spare: Vec<u8>,
        framing: Framing,
        is_end: bool,
        most: Option<u64>,
    ) -> Self {
        let left = match framing {
            Framing::Length(length) => length,
            _ => most.unwrap_or(u64::MAX),
        };
        Self {
            head: head.len(),
            first: head,
            sent: 0,
            rest: spare,
            written: 0,
            is_chunked: framing == Framing::Chunked,
            left,
            is_read: is_end,
            is_rejected: false,
            is_refused: false,
            owed: 0,
            moved: 0,
            is_forgotten: false,
        }
    }

    /// Nothing more of the request is to be sent.
    pub(super) fn is_over(&self) -> bool {
        self.is_rejected || self.is_sent()
    }

    /// All of the request was sent.
    pub(super) fn is_sent(&self) -> bool {
        !self.is_rejected && self.is_read && self.is_written()
    }

    fn is_written(&self) -> bool {
        self.sent == self.first.len() && self.written == self.rest.len()
    }

    /// What was written so far; grows with every step.
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    /// Waits for the client rather than for the endpoint.
    pub(super) fn is_waiting_for_client(&self) -> bool {
        !self.is_read && self.is_written()
    }

    /// Nothing was sent in this attempt.
    pub(super) fn is_unsent(&self) -> bool {
        self.sent == 0
    }

    /// Nothing behind the head was sent in this attempt.
    pub(super) fn is_content_unsent(&self) -> bool {
        self.sent <= self.head && self.is_whole()
    }

    /// All that came is still here: the request can be sent from its beginning.
    pub(super) fn is_whole(&self) -> bool {
        self.written == 0 && !self.is_forgotten
    }

    /// Begins again, for another endpoint.
    pub(super) fn rewind(&mut self) {
        debug_assert!(self.is_whole(), "only what is still here can be sent again");
        self.sent = 0;
        self.is_rejected = false;
    }

    /// What it held.
    pub(super) fn storage(&mut self) -> (Vec<u8>, Vec<u8>) {
        self.head = 0;
        (core::mem::take(&mut self.first), core::mem::take(&mut self.rest))
    }

    /// Where more content goes.
    fn target(&mut self, length: usize) -> &mut Vec<u8> {
        let is_early = self.sent == 0 && self.is_whole() && self.rest.is_empty();
        let goes_first = is_early && self.first.len() + length <= WITH_HEAD_MAX;
        if goes_first { &mut self.first } else { &mut self.rest }
    }

    /// Content came. What is owed for it is told by [`poll`](Self::poll), or at once if nobody wants it.
    pub(super) fn take(&mut self, data: &[u8], is_end: bool) -> Result<usize, Refusal> {
        let length = data.len();
        if self.is_rejected {
            self.is_read |= is_end;
            self.is_forgotten = true;
            return Ok(if self.is_refused { 0 } else { length });
        }
        let Some(left) = self.left.checked_sub(length as u64) else {
            self.refuse();
            return Err(refusal::BODY_TOO_LARGE);
        };
        self.left = left;
        let is_chunked = self.is_chunked;
        let out = self.target(length);
        if is_chunked && length > 0 {
            push_size(length, out);
        }
        out.extend_from_slice(data);
        if is_chunked && length > 0 {
            out.extend_from_slice(b"\r\n");
        }
        if is_chunked && is_end {
            out.extend_from_slice(b"0\r\n\r\n");
        }
        self.is_read |= is_end;
        self.owed += length;
        Ok(0)
    }

    /// The upload ends here, for good: what would come behind content that was refused is no part of it.
    fn refuse(&mut self) {
        (self.is_rejected, self.is_refused, self.is_forgotten) = (true, true, true);
    }

    /// The client broke the rules in the middle of it: if the endpoint waits for the rest, that is not its fault.
    pub(super) const fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Trailers came, and with them the end.
    pub(super) fn take_trailers(&mut self, fields: &Fields) -> Result<(), Refusal> {
        self.is_read = true;
        if self.is_rejected {
            self.is_forgotten = true;
        } else if self.is_chunked {
            if !head::has_fitting_trailers(fields) {
                self.refuse();
                return Err(refusal::TRAILERS_TOO_LARGE);
            }
            head::write_trailers(fields, self.target(0));
        }
        Ok(())
    }

    /// Sends what there is. Ready when the request was sent to its end, or the endpoint takes no more of it. Adds to
    /// `given` what the client may send again.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut (impl AsyncWrite + Unpin),
        given: &mut usize,
    ) -> Poll<()> {
        while !self.is_over() {
            let (piece, at) = if self.sent < self.first.len() {
                (&self.first, &mut self.sent)
            } else if self.written < self.rest.len() {
                (&self.rest, &mut self.written)
            } else {
                return Poll::Pending;
            };
            match core::task::ready!(Pin::new(&mut *to).poll_write(cx, &piece[*at..])) {
                Ok(count) if count > 0 => {
                    *at += count;
                    self.moved += count as u64;
                    self.give(count, given);
                }
                _ => self.is_rejected = true,
            }
        }
        if self.is_rejected {
            *given += core::mem::take(&mut self.owed);
        }
        Poll::Ready(())
    }

    fn give(&mut self, count: usize, given: &mut usize) {
        // Framing counts as content here; all is given back once all is written.
        let count = if self.is_written() { self.owed } else { self.owed.min(count) };
        self.owed -= count;
        *given += count;
        // From here on the beginning is not here any more.
        self.is_forgotten |= forget_front(&mut self.rest, &mut self.written);
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// An endpoint that closed.
    struct Closed;

    impl AsyncWrite for Closed {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn rejected() -> Upload {
        let head = b"POST / HTTP/1.1\r\n\r\n".to_vec();
        let mut upload = Upload::new(head, Vec::new(), Framing::Chunked, false, None);
        assert_eq!(upload.take(b"first", false), Ok(0));
        let mut cx = Context::from_waker(core::task::Waker::noop());
        assert!(upload.poll(&mut cx, &mut Closed, &mut 0).is_ready());
        upload
    }

    #[test]
    fn what_came_while_nobody_wanted_it_is_missed() {
        assert!(rejected().is_whole(), "all of it is still here");
        let mut upload = rejected();
        assert_eq!(upload.take(b"second", false), Ok(6));
        assert!(!upload.is_whole(), "content");
        let mut upload = rejected();
        assert_eq!(upload.take(b"", true), Ok(0));
        assert!(!upload.is_whole(), "the end");
        let mut upload = rejected();
        upload.take_trailers(&Fields::new(100, 10)).unwrap();
        assert!(!upload.is_whole(), "trailers");
    }
}
