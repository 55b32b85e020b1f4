//! The request goes out, and the head of the response comes back.

use core::task::{Context, Poll};
use std::io;

use super::download::Rest;
use super::exchange::{Exchange, Phase, Stage, Stop, Upstream};
use super::head;
use super::line::Line;
use crate::h2::begin_block;
use crate::l7::buffer::{LARGE, SMALL};
use crate::l7::clock::Timer;
use crate::l7::head::HeadEnd;
use crate::l7::refusal;
use crate::l7::request::Framing;
use crate::l7::response::{self, ResponseFacts};

/// Interim responses to one request.
const INTERIM_MAX: u32 = 32;

/// What the octets of an endpoint were.
enum Judged {
    /// Not all of a head.
    Part,
    /// A 1xx response; there may be more.
    Interim,
    /// The head of the response.
    Head,
}

impl Exchange {
    /// Polls both directions until the head of a response has been passed on.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        line: &mut Line,
        timer: &Timer,
    ) -> Poll<Result<(), Stop>> {
        self.push_upload(cx, line, timer);
        if self.upstream.as_ref().is_some_and(|upstream| upstream.stream.is_unfit()) {
            return Poll::Ready(Err(Stop::Refuse(refusal::UNFIT)));
        }
        if let Poll::Ready(came) = self.poll_reply(cx, line, timer) {
            return Poll::Ready(came);
        }
        if self.has_left() {
            return Poll::Ready(Err(Stop::Refuse(refusal::ENDPOINT_GONE)));
        }
        if !timer.is_expired() {
            return Poll::Pending;
        }
        Poll::Ready(Err(match self.phase {
            Phase::ResponseWrite => Stop::GiveUp,
            _ => Stop::Refuse(self.time_out()),
        }))
    }

    fn time_out(&self) -> refusal::Refusal {
        match self.phase {
            // The client's fault alone.
            Phase::RequestBody => return refusal::BODY_TIMED_OUT,
            _ => self.blame(),
        }
        self.doubt();
        if self.phase == Phase::RequestWrite {
            refusal::UPSTREAM_WRITE_STALLED
        } else {
            refusal::UPSTREAM_TIMED_OUT
        }
    }

    /// Sends what there is of the request, and lets the client send as much again. True if something moved.
    pub(super) fn push_upload(&mut self, cx: &mut Context<'_>, line: &mut Line, timer: &Timer) -> bool {
        let Some(upstream) = &mut self.upstream else { return false };
        if self.upload.is_over() {
            return false;
        }
        let before = self.upload.moved();
        let mut given = 0;
        let is_over = self.upload.poll(cx, &mut upstream.stream, &mut given).is_ready();
        line.used(self.key, given);
        let has_moved = self.upload.moved() > before;
        if self.is_answered() {
            // The limits of the response run.
            return has_moved;
        }
        let phase = match (is_over, self.upload.is_waiting_for_client()) {
            (true, _) => Phase::ResponseHead,
            (false, true) => Phase::RequestBody,
            (false, false) => Phase::RequestWrite,
        };
        if let Some(Upstream { picked, .. }) = &self.upstream {
            match phase {
                Phase::RequestBody => picked.awaits_client(has_moved),
                _ => picked.awaits_endpoint(),
            }
        }
        self.stay(phase, has_moved, timer);
        has_moved
    }

    fn poll_reply(&mut self, cx: &mut Context<'_>, line: &mut Line, timer: &Timer) -> Poll<Result<(), Stop>> {
        loop {
            if !self.reply.is_empty() {
                if line.is_full() {
                    return self.wait_for_room(line, timer);
                }
                match self.judge_reply(line, timer)? {
                    Judged::Head => return Poll::Ready(Ok(())),
                    Judged::Interim => continue,
                    Judged::Part => {}
                }
            }
            match core::task::ready!(self.poll_fill(cx, line)) {
                Ok(true) => {}
                Ok(false) | Err(_) => return Poll::Ready(Err(self.lost())),
            }
        }
    }

    /// What came stays where it is until the client has taken what came before, on any stream.
    fn wait_for_room<T>(&mut self, line: &mut Line, timer: &Timer) -> Poll<T> {
        line.block(self.key);
        self.stay(Phase::ResponseWrite, false, timer);
        Poll::Pending
    }

    /// Judges what came, and passes it on.
    fn judge_reply(&mut self, line: &mut Line, timer: &Timer) -> Result<Judged, Stop> {
        if self.phase == Phase::ResponseWrite {
            self.enter(Phase::ResponseHead, timer);
        }
        let head_max = self.origin.worker.config().limits.response_head_max;
        let out = &mut line.out;
        let start = begin_block(out);
        let judged = response::judge_with(
            self.reply.filled(),
            &mut self.reply_end,
            head_max,
            &self.facts,
            |facts, headers| head::push_response(facts.status, headers, out),
        );
        let response = match judged {
            Ok(Some(response)) if response.status != 101 => response,
            Ok(None) => {
                line.out.truncate(start);
                return Ok(Judged::Part);
            }
            refused => {
                line.out.truncate(start);
                self.blame();
                return Err(Stop::Refuse(refused.err().unwrap_or(refusal::UPSTREAM_MALFORMED)));
            }
        };
        self.reply.consume(response.head_length);
        if response.is_interim() {
            return self.pass_interim(start, line, timer);
        }
        self.pass_head(&response, start, line, timer);
        Ok(Judged::Head)
    }

    fn pass_interim(&mut self, start: usize, line: &mut Line, timer: &Timer) -> Result<Judged, Stop> {
        self.interims += 1;
        if self.interims > INTERIM_MAX {
            line.out.truncate(start);
            return Err(Stop::Refuse(refusal::UPSTREAM_MALFORMED));
        }
        line.session.end_headers(self.key, start, false, &mut line.out);
        self.reply_end = HeadEnd::default();
        self.enter(self.phase, timer);
        Ok(Judged::Interim)
    }

    fn pass_head(&mut self, response: &ResponseFacts, start: usize, line: &mut Line, timer: &Timer) {
        self.rest = Rest::of(response.framing);
        self.status = response.status;
        self.keep_alive = response.keep_alive && response.framing != Framing::UntilClose;
        self.stage = Stage::Body;
        let is_end = self.rest.is_over();
        line.session.end_headers(self.key, start, is_end, &mut line.out);
        self.octets += (line.out.len() - start) as u64;
        self.answered();
        self.enter(Phase::ResponseBody, timer);
    }

    /// Reads more of the response; `false` at the end of the connection.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>, line: &Line) -> Poll<io::Result<bool>> {
        let worker = &self.origin.worker;
        let Some(upstream) = &mut self.upstream else { return Poll::Ready(Ok(false)) };
        if self.reply.is_empty() {
            core::task::ready!(upstream.stream.poll_read_ready(cx))?;
            // What can't be passed on is better left where it is.
            let size = if line.room(self.key) == 0 { SMALL } else { LARGE };
            self.reply.reserve(&worker.stock, size);
        } else if self.reply.room() == 0 {
            self.reply.compact();
            // Only a head that is long by configuration fills a large buffer without anything to consume.
            let most = worker.config().limits.response_head_max + LARGE;
            self.reply.reserve(&worker.stock, if self.reply.len() < LARGE { LARGE } else { most });
        }
        self.reply.poll_fill(cx, &mut upstream.stream).map_ok(|count| count > 0)
    }

    /// The endpoint closed before it answered. Sending the request again is safe if the endpoint did not begin with
    /// it, if none of it was sent, or if doing it twice does no harm (RFC 9110 §9.2.2): that goes for what has no
    /// content, or none that was sent, as for clients of HTTP/1.1.
    fn lost(&self) -> Stop {
        let was_refused = self.upstream.as_ref().is_some_and(|upstream| upstream.stream.was_refused());
        let is_reused = self.upstream.as_ref().is_some_and(|upstream| upstream.is_reused);
        if !is_reused && !was_refused {
            // An idle connection that closes is nobody's failure: the endpoint may do that at any time.
            self.blame();
        }
        let is_unanswered = self.reply.is_empty() && self.interims == 0;
        let is_underway = self.upstream.as_ref().is_some_and(|upstream| upstream.stream.is_underway());
        let is_unsent = self.upload.is_unsent() && !is_underway;
        let is_harmless = self.facts.is_idempotent && self.upload.is_content_unsent();
        let is_safe = was_refused || is_unsent || is_harmless;
        if self.upload.is_whole() && is_unanswered && is_safe {
            Stop::Retry(refusal::UPSTREAM_CLOSED)
        } else {
            Stop::Refuse(refusal::UPSTREAM_CLOSED)
        }
    }
}
