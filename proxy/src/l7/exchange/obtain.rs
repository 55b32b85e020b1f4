//! Up to the head of the response: an endpoint is picked and connected, the request goes out, and again elsewhere
//! where that is safe.

use core::task::{Context, Poll};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::time::Instant;

use tokio::io::AsyncWrite;

use super::{Exchange, Phase, Stop, Upstream};
use crate::l7::buffer::{LARGE, SMALL};
use crate::l7::connection::Connection;
use crate::l7::head::HeadEnd;
use crate::l7::link::Link;
use crate::l7::pump::{PumpError, Waiting};
use crate::l7::refusal::{self, Fault, Refusal};
use crate::l7::request::Framing;
use crate::l7::response::{self, Downstream, HEADROOM, ResponseFacts};
use crate::upstream::Picked;

/// Interim responses to one request.
const INTERIM_MAX: u32 = 32;

impl Exchange<'_> {
    /// Tries endpoints until one answers.
    pub(super) async fn obtain(&mut self) -> Result<(Upstream, ResponseFacts), Stop> {
        self.upload
            .take_first(&mut self.connection.inbound, &mut self.out)
            .map_err(|error| refuse_upload(&error))?;
        let mut failure = None;
        loop {
            let picked = self.pick(failure)?;
            match self.attempt(picked).await {
                Err(Stop::Retry(refusal)) => {
                    failure = Some(refusal);
                    self.sent = 0;
                    self.is_sent = false;
                    self.is_rejected = false;
                    self.reply.discard(&self.connection.origin.worker.stock);
                    self.reply_end = HeadEnd::default();
                }
                outcome => return outcome,
            }
        }
    }

    fn pick(&mut self, failure: Option<Refusal>) -> Result<Picked, Stop> {
        let attempts = self.attempts.as_mut().map_err(|refusal| Stop::Refuse(*refusal))?;
        let worker = &self.connection.origin.worker;
        let now = if failure.is_some() { Instant::now() } else { self.started };
        let snapshot = worker.table.load();
        let routes = snapshot.view(worker.routes);
        attempts
            .pick(&snapshot, routes, now)
            .map_err(|nobody| Stop::Refuse(failure.unwrap_or(refusal::nobody(nobody))))
    }

    /// Sends the request to one endpoint and reads the head of its response.
    async fn attempt(&mut self, picked: Picked) -> Result<(Upstream, ResponseFacts), Stop> {
        let worker = &self.connection.origin.worker;
        self.endpoint = Some(picked.address);
        let attempts = self.attempts.as_ref().map_err(|refusal| Stop::Refuse(*refusal))?;
        let mut upstream = match Link::take(worker, &picked, attempts, !self.facts.is_idempotent) {
            Some(stream) => {
                worker.cells.reuses.add(1);
                Upstream { stream, picked, is_reused: true }
            }
            None => {
                let connecting = Link::connect(worker, &picked, attempts);
                let stream = self.connect(connecting, &picked).await?;
                Upstream { stream, picked, is_reused: false }
            }
        };
        self.enter(if self.facts.framing == Framing::None {
            Phase::ResponseHead
        } else {
            Phase::RequestBody
        });
        loop {
            let response = poll_fn(|cx| self.poll_head(cx, &mut upstream)).await?;
            if !response.is_interim() {
                return Ok((upstream, response));
            }
            self.relay_interim(&response).await?;
        }
    }

    async fn connect(
        &self,
        connecting: impl Future<Output = io::Result<Link>>,
        picked: &Picked,
    ) -> Result<Link, Stop> {
        let timer = &self.connection.timer;
        timer.set(self.connection.origin.worker.config().timeouts.connect);
        let mut connecting = pin!(connecting);
        let connected = poll_fn(|cx| match connecting.as_mut().poll(cx) {
            Poll::Ready(connected) => Poll::Ready(connected.map_err(|error| refusal::not_connected(&error))),
            Poll::Pending if timer.is_expired() => Poll::Ready(Err(refusal::CONNECT_TIMED_OUT)),
            Poll::Pending => Poll::Pending,
        })
        .await;
        connected.map_err(|refusal| {
            if refusal.fault == Fault::Upstream {
                picked.failed(Instant::now());
            }
            Stop::Retry(refusal)
        })
    }

    /// Polls both directions until the head of a response is there.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        upstream: &mut Upstream,
    ) -> Poll<Result<ResponseFacts, Stop>> {
        let before = self.upload.moved();
        match self.poll_upload(cx, &mut upstream.stream) {
            Poll::Ready(Err(error)) => return Poll::Ready(Err(refuse_upload(&error))),
            Poll::Pending if self.phase == Phase::RequestBody => {
                upstream.picked.awaits_client(self.upload.moved() > before);
            }
            _ => upstream.picked.awaits_endpoint(),
        }
        if upstream.stream.is_unfit() {
            return Poll::Ready(Err(Stop::Refuse(refusal::UNFIT)));
        }
        if let Poll::Ready(response) = self.poll_read_reply(cx, upstream) {
            return Poll::Ready(response);
        }
        if self.is_sent && !self.connection.ended {
            match self.poll_watch_client(cx) {
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Stop::ClientGone)),
                Poll::Ready(Ok(())) => self.enter(Phase::HalfClosed),
                Poll::Pending => {}
            }
        }
        if self.has_left(&upstream.picked) {
            return Poll::Ready(Err(Stop::Refuse(refusal::ENDPOINT_GONE)));
        }
        if !self.connection.timer.is_expired() {
            return Poll::Pending;
        }
        Poll::Ready(Err(self.time_out(upstream)))
    }

    fn time_out(&self, upstream: &Upstream) -> Stop {
        let refusal = match self.phase {
            Phase::RequestBody => return Stop::Refuse(refusal::BODY_TIMED_OUT),
            Phase::HalfClosed => return Stop::ClientGone,
            Phase::RequestWrite => refusal::UPSTREAM_WRITE_STALLED,
            Phase::ResponseHead | Phase::ResponseBody | Phase::ResponseWrite => refusal::UPSTREAM_TIMED_OUT,
        };
        upstream.picked.failed(Instant::now());
        upstream.stream.doubt(&self.connection.origin.worker, self.limit());
        Stop::Refuse(refusal)
    }

    /// Sends what there is of the request. Ready when nothing more of it is to be sent.
    pub(super) fn poll_upload(
        &mut self,
        cx: &mut Context<'_>,
        upstream: &mut Link,
    ) -> Poll<Result<(), PumpError>> {
        if self.is_sent || self.is_rejected {
            return Poll::Ready(Ok(()));
        }
        while self.sent < self.out.len() {
            match Pin::new(&mut *upstream).poll_write(cx, &self.out[self.sent..]) {
                Poll::Ready(Ok(count)) if count > 0 => self.sent += count,
                Poll::Ready(_) => return Poll::Ready(self.reject()),
                Poll::Pending => {
                    self.enter_if_other(Phase::RequestWrite);
                    return Poll::Pending;
                }
            }
        }
        let before = self.upload.moved();
        let mut waiting = Waiting::Read;
        let Connection { client, inbound, origin, .. } = &mut *self.connection;
        let moving = self.upload.poll(cx, client, upstream, (inbound, &origin.worker.stock), &mut waiting);
        match moving {
            Poll::Ready(Ok(())) => {
                self.is_sent = true;
                self.enter(if self.connection.ended { Phase::HalfClosed } else { Phase::ResponseHead });
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(PumpError::Write(_))) => Poll::Ready(self.reject()),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let phase = if waiting == Waiting::Read { Phase::RequestBody } else { Phase::RequestWrite };
                if self.upload.moved() > before {
                    self.enter(phase)
                } else {
                    self.enter_if_other(phase)
                }
                Poll::Pending
            }
        }
    }

    /// The endpoint takes no more. It may have answered before that, so its answer is waited for.
    fn reject(&mut self) -> Result<(), PumpError> {
        self.is_rejected = true;
        self.enter(Phase::ResponseHead);
        Ok(())
    }

    fn poll_read_reply(
        &mut self,
        cx: &mut Context<'_>,
        upstream: &mut Upstream,
    ) -> Poll<Result<ResponseFacts, Stop>> {
        let worker = &self.connection.origin.worker;
        let head_max = worker.config().limits.response_head_max;
        loop {
            if !self.reply.is_empty() {
                match response::judge(self.reply.filled(), &mut self.reply_end, head_max, &self.facts) {
                    Ok(Some(response)) => return Poll::Ready(self.accept(response)),
                    Ok(None) => {}
                    Err(refusal) => {
                        upstream.picked.failed(Instant::now());
                        return Poll::Ready(Err(Stop::Refuse(refusal)));
                    }
                }
                if self.reply.room() == 0 {
                    self.reply.reserve(&worker.stock, head_max + LARGE);
                }
            } else {
                match upstream.stream.poll_read_ready(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(_) => self.reply.reserve(&worker.stock, LARGE),
                }
                self.reply.leave_headroom(HEADROOM);
            }
            match core::task::ready!(self.reply.poll_fill(cx, &mut upstream.stream)) {
                Ok(0) | Err(_) => return Poll::Ready(Err(self.lost(upstream))),
                Ok(_) => {}
            }
        }
    }

    fn accept(&self, response: ResponseFacts) -> Result<ResponseFacts, Stop> {
        if response.status != 101 {
            return Ok(response);
        }
        let head = &self.reply.filled()[..response.head_length];
        if self.facts.upgrade && self.is_sent && response::switches_as_asked(head, &self.out) {
            return Ok(response);
        }
        Err(Stop::Refuse(refusal::UPSTREAM_MALFORMED))
    }

    /// The endpoint closed before it answered. Sending the request again is safe if none of it was sent, or if
    /// doing it twice does no harm (RFC 9110 §9.2.2) and all of it is still here.
    fn lost(&self, upstream: &Upstream) -> Stop {
        let was_refused = upstream.stream.was_refused();
        // An idle connection that closes is nobody's failure: the endpoint may do that at any time.
        if !upstream.is_reused && !was_refused {
            upstream.picked.failed(Instant::now());
        }
        let is_whole = self.upload.moved() == 0;
        let is_unanswered = self.reply.is_empty() && self.interims == 0;
        let is_unsent = self.sent == 0 && !upstream.stream.is_underway();
        if is_whole && is_unanswered && (was_refused || is_unsent || self.facts.is_idempotent) {
            Stop::Retry(refusal::UPSTREAM_CLOSED)
        } else {
            Stop::Refuse(refusal::UPSTREAM_CLOSED)
        }
    }

    /// Sees whether the client went away while the endpoint works; keeps what it sends meanwhile. Ready when its
    /// stream has ended.
    fn poll_watch_client(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Connection { client, inbound, origin, ended, .. } = &mut *self.connection;
        loop {
            core::task::ready!(client.poll_read_ready(cx))?;
            inbound.reserve(&origin.worker.stock, SMALL);
            if inbound.room() == 0 {
                // The next requests fill the buffer: they wait for this one to end.
                return Poll::Pending;
            }
            if core::task::ready!(inbound.poll_fill(cx, client))? == 0 {
                *ended = true;
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Passes a 1xx response on; a client of HTTP/1.0 does not know them (RFC 9110 §15.2).
    async fn relay_interim(&mut self, interim: &ResponseFacts) -> Result<(), Stop> {
        self.interims += 1;
        if self.interims > INTERIM_MAX {
            return Err(Stop::Refuse(refusal::UPSTREAM_MALFORMED));
        }
        if !self.facts.is_http10 {
            let mut head = self.connection.origin.worker.stock.take_head();
            let as_it_came = &self.reply.filled()[..interim.head_length];
            let downstream = Downstream { is_http10: false, keep_alive: true };
            if !response::rewrite(as_it_came, interim, downstream, &mut head) {
                head.extend_from_slice(as_it_came);
            }
            self.connection.write_all(&head).await.map_err(|_| Stop::ClientGone)?;
            self.connection.origin.worker.stock.put_head(head);
        }
        self.reply.consume(interim.head_length);
        self.reply_end = HeadEnd::default();
        self.enter(if self.is_sent { Phase::ResponseHead } else { Phase::RequestBody });
        Ok(())
    }
}

fn refuse_upload(error: &PumpError) -> Stop {
    match error {
        PumpError::Malformed(_) => Stop::Refuse(refusal::BODY_MALFORMED),
        PumpError::TooLarge => Stop::Refuse(refusal::BODY_TOO_LARGE),
        PumpError::Truncated | PumpError::Read(_) | PumpError::Write(_) => Stop::ClientGone,
    }
}
