//! The content of a response, from an endpoint that speaks HTTP/1.1 into DATA frames.

use core::task::{Context, Poll};
use std::time::Instant;

use super::exchange::{Exchange, Phase};
use super::head;
use super::line::Line;
use crate::h2::{Reason, begin_block};
use crate::l7::chunked::{ChunkError, ChunkScanner, keep_trailers};
use crate::l7::clock::Timer;
use crate::l7::request::Framing;

/// Content after which other streams get their turn.
const FAIR: u64 = 16 * 1024;

/// What is still to come of a response's content.
#[derive(Debug)]
pub(super) enum Rest {
    Length(u64),
    Chunked(ChunkScanner),
    UntilClose,
}

impl Rest {
    pub(super) fn of(framing: Framing) -> Self {
        match framing {
            Framing::None => Self::Length(0),
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(ChunkScanner::new()),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::Length(rest) => *rest == 0,
            Self::Chunked(scanner) => scanner.is_done(),
            Self::UntilClose => false,
        }
    }
}

/// How far content was passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passed {
    /// To its end.
    All,
    /// All that was there.
    Some,
    /// There is no room for more now.
    Full,
}

/// How a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Close {
    Whole,
    /// The endpoint did not send all of it, or had to go.
    Broken,
    /// The client takes nothing.
    GivenUp,
}

impl Exchange {
    /// The endpoint answered; whether its answer is whole is not known yet.
    pub(super) fn answered(&mut self) {
        let Some(upstream) = &self.upstream else { return };
        let now = Instant::now();
        self.answered_at = now;
        match self.status {
            502..=504 => upstream.picked.failed(now),
            _ => upstream.picked.answered(now),
        }
    }

    /// Passes content on until the stream has ended, one way or another.
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>, line: &mut Line, timer: &Timer) -> Poll<()> {
        match core::task::ready!(self.poll_content(cx, line, timer)) {
            Close::Whole => self.complete(line),
            Close::Broken => self.break_off(line),
            Close::GivenUp => self.give_up(line),
        }
        Poll::Ready(())
    }

    fn poll_content(&mut self, cx: &mut Context<'_>, line: &mut Line, timer: &Timer) -> Poll<Close> {
        // An upload on its way keeps the limit of the endpoint from running out.
        let has_uploaded = self.push_upload(cx, line, timer);
        let mut has_moved = false;
        loop {
            let before = self.octets;
            let Ok(passed) = self.pass(line) else { return Poll::Ready(Close::Broken) };
            let moved = self.octets - before;
            has_moved |= moved > 0;
            match passed {
                Passed::All => return Poll::Ready(Close::Whole),
                Passed::Full => {
                    line.block(self.key);
                    return self.wait(Phase::ResponseWrite, has_moved, timer);
                }
                Passed::Some if moved >= FAIR => {
                    // The others come first.
                    line.defer(self.key);
                    return self.wait(Phase::ResponseBody, has_moved, timer);
                }
                Passed::Some => {}
            }
            match self.poll_fill(cx, line) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) if matches!(self.rest, Rest::UntilClose) => {
                    self.rest = Rest::Length(0);
                    line.send(self.key, b"", true);
                }
                Poll::Ready(_) => return Poll::Ready(Close::Broken),
                Poll::Pending => return self.wait(Phase::ResponseBody, has_moved || has_uploaded, timer),
            }
        }
    }

    /// The limits in time, while nothing more can be done.
    fn wait(&mut self, phase: Phase, has_moved: bool, timer: &Timer) -> Poll<Close> {
        self.stay(phase, has_moved, timer);
        if self.has_left() {
            return Poll::Ready(Close::Broken);
        }
        match (timer.is_expired(), phase) {
            (false, _) => Poll::Pending,
            (true, Phase::ResponseBody) if !self.upload.is_refused() => {
                self.doubt();
                Poll::Ready(Close::Broken)
            }
            // The client takes nothing, or has ended its request in the middle: that is not the endpoint's fault.
            (true, _) => Poll::Ready(Close::GivenUp),
        }
    }

    /// Passes on what is there, as far as there is room.
    fn pass(&mut self, line: &mut Line) -> Result<Passed, ChunkError> {
        while !self.rest.is_over() {
            if self.reply.is_empty() {
                return Ok(Passed::Some);
            }
            let room = line.room(self.key);
            let octets = self.reply.filled();
            let (length, is_data) = match &mut self.rest {
                Rest::Chunked(scanner) => {
                    // Framing goes nowhere, and needs no room.
                    let most = if scanner.is_in_data() { octets.len().min(room) } else { octets.len() };
                    if most == 0 {
                        return Ok(Passed::Full);
                    }
                    let run = scanner.next_run(&octets[..most])?;
                    if run.is_trailer {
                        keep_trailers(&octets[..run.length], &mut self.trailers);
                    }
                    (run.length, run.is_data)
                }
                _ if room == 0 => return Ok(Passed::Full),
                Rest::Length(rest) => {
                    let length = octets.len().min(room).min(usize::try_from(*rest).unwrap_or(usize::MAX));
                    *rest -= length as u64;
                    (length, true)
                }
                Rest::UntilClose => (octets.len().min(room), true),
            };
            if is_data {
                let is_end = matches!(self.rest, Rest::Length(0));
                let sent = line.send(self.key, &octets[..length], is_end);
                debug_assert_eq!(sent, length, "there was room for it");
                self.octets += length as u64;
            }
            self.reply.consume(length);
        }
        Ok(Passed::All)
    }

    /// The response came to its end. Chunks that end, or trailers, end the stream here.
    fn complete(&mut self, line: &mut Line) {
        if matches!(self.rest, Rest::Chunked(_)) {
            let start = begin_block(&mut line.out);
            if head::push_trailers(&self.trailers, &mut line.out) {
                line.session.end_headers(self.key, start, true, &mut line.out);
            } else {
                line.out.truncate(start);
                line.send(self.key, b"", true);
            }
        }
        if let Some(upstream) = &self.upstream {
            upstream.picked.completed(self.answered_at);
        }
        self.keep_upstream();
        line.session.served();
        line.stop_request(self.key);
    }

    /// The response broke in the middle: the client must not take what it has for all of it.
    fn break_off(&mut self, line: &mut Line) {
        if !self.upload.is_refused() {
            self.blame();
        }
        let reason = self.upstream.as_ref().and_then(|upstream| upstream.stream.reset_reason());
        // Where the endpoint cancelled, the client is told so.
        let is_cancelled = reason == Some(Reason::Cancel as u32);
        line.reset(self.key, if is_cancelled { Reason::Cancel } else { Reason::Internal });
    }
}
