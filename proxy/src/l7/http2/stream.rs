//! One stream: a request whose client speaks HTTP/2 and whose endpoint speaks HTTP/1.1.
//!
//! ```text
//!  fields ─► head (HTTP/1.1) ─► judge ─► plan ─► endpoint ─► head of the response ─► fields
//!  DATA, trailers ─► Upload ───────────────────► endpoint ─► Reply ─► DATA, trailers
//! ```
//! The upload goes on while the reply is polled, so both directions stream.

use core::pin::pin;
use core::task::{Context, Poll};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Response};
use hyper::body::{Body as _, Incoming};
use tokio::net::TcpStream;

use super::OpenStream;
use super::head;
use super::reply::{Relay, Reply};
use super::upload::Upload;
use crate::l7::buffer::{Buffer, LARGE};
use crate::l7::clock::Timer;
use crate::l7::head::{HeadEnd, slots};
use crate::l7::origin::{Origin, Outcome, Plan};
use crate::l7::refusal::{self, Refusal};
use crate::l7::request::{RequestFacts, Verdict, judge};
use crate::l7::response::{self, Downstream, ResponseFacts};
use crate::upstream::{Attempts, Picked};

/// Interim responses to one request.
const INTERIM_MAX: u32 = 32;

/// Carries the request of one stream out.
pub(super) async fn serve(
    origin: Rc<Origin>,
    open: OpenStream,
    request: hyper::Request<Incoming>,
) -> Response<Reply> {
    let (parts, content) = request.into_parts();
    let mut text = origin.worker.stock.take_head();
    let kind = head::write_down(&parts, !content.is_end_stream(), &mut text);
    let planned = plan(&origin, &text);
    origin.worker.stock.put_head(text);
    let timer = origin.worker.clock.timer();
    poll_fn(|cx| {
        timer.watch(cx);
        Poll::Ready(())
    })
    .await;
    let plan = match planned {
        Ok(plan) => plan,
        Err(refusal) => return refused(&origin, &refusal, Instant::now(), false, &[]),
    };
    let (facts, started) = (plan.facts, plan.started);
    let upload = Upload::new(content, kind, plan.out, &facts, origin.worker.config().limits.request_body_max);
    let drain_round = origin.worker.drain_round();
    let mut exchange =
        Exchange { drain_round, origin, open, timer, facts, upload, reply: Buffer::default(), started };
    exchange.timer.set_busy(true);
    let mut attempts = match plan.attempts {
        Ok(attempts) => attempts,
        Err(refusal) => {
            return refused(&exchange.origin, &refusal, started, facts.is_head, &exchange.upload.head);
        }
    };
    match exchange.obtain(&mut attempts).await {
        Ok((upstream, response)) => exchange.respond(upstream, &response, attempts),
        Err(refusal) => refused(&exchange.origin, &refusal, started, facts.is_head, &exchange.upload.head),
    }
}

fn plan(origin: &Origin, text: &[u8]) -> Result<Plan, Refusal> {
    let config = origin.worker.config();
    let mut slots = slots();
    match judge(text, &mut HeadEnd::default(), &config.limits, &mut slots)? {
        Verdict::Complete(request) => Ok(origin.plan(&request, None)),
        Verdict::Incomplete => Err(Refusal::bad(400, "malformed request")),
    }
}

/// An answer of ours.
fn refused(
    origin: &Origin,
    refusal: &Refusal,
    started: Instant,
    is_head: bool,
    head: &[u8],
) -> Response<Reply> {
    origin.worker.cells.answered(refusal);
    origin.ended(&Outcome {
        head,
        status: refusal.status,
        took: started.elapsed(),
        refusal: Some(refusal.text),
        ..Outcome::default()
    });
    let text = (!is_head).then(|| Bytes::from(format!("{}\n", refusal.text)));
    let mut response = Response::new(Reply::Text(text));
    *response.status_mut() =
        http::StatusCode::from_u16(refusal.status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let kind = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

/// A connection to an endpoint, in use.
pub(super) struct Upstream {
    pub(super) stream: TcpStream,
    pub(super) picked: Picked,
    is_reused: bool,
}

/// Why an attempt brought no response.
struct Failure {
    refusal: Refusal,
    may_retry: bool,
}

impl Failure {
    const fn last(refusal: Refusal) -> Self {
        Self { refusal, may_retry: false }
    }
}

/// A request up to the head of its response.
pub(super) struct Exchange {
    pub(super) origin: Rc<Origin>,
    pub(super) open: OpenStream,
    pub(super) timer: Timer,
    facts: RequestFacts,
    drain_round: u32,
    pub(super) upload: Upload,
    pub(super) reply: Buffer,
    pub(super) started: Instant,
}

impl Exchange {
    async fn obtain(&mut self, attempts: &mut Attempts) -> Result<(Upstream, ResponseFacts), Refusal> {
        let mut failure: Option<Refusal> = None;
        loop {
            let picked = {
                let worker = &self.origin.worker;
                let snapshot = worker.table.load();
                let routes = snapshot.view(worker.routes);
                attempts
                    .pick(&snapshot, routes, Instant::now())
                    .map_err(|nobody| failure.unwrap_or(refusal::nobody(nobody)))?
            };
            match self.attempt(picked).await {
                Ok(answered) => return Ok(answered),
                Err(Failure { refusal, may_retry: true }) => {
                    failure = Some(refusal);
                    self.upload.sent = 0;
                    self.reply.discard(&self.origin.worker.stock);
                }
                Err(Failure { refusal, .. }) => return Err(refusal),
            }
        }
    }

    async fn attempt(&mut self, picked: Picked) -> Result<(Upstream, ResponseFacts), Failure> {
        let worker = &self.origin.worker;
        let mut upstream = match worker.pool.take(picked.address, picked.slot, !self.facts.is_idempotent) {
            Some(stream) => {
                worker.cells.reuses.add(1);
                Upstream { stream, picked, is_reused: true }
            }
            None => Upstream { stream: self.connect(&picked).await?, picked, is_reused: false },
        };
        let mut end = HeadEnd::default();
        for _ in 0..=INTERIM_MAX {
            let response = poll_fn(|cx| self.poll_head(cx, &mut upstream, &mut end)).await?;
            if !response.is_interim() {
                return Ok((upstream, response));
            }
            // hyper has no way to send interim responses on a stream; a client may not depend on them.
            self.reply.consume(response.head_length);
            end = HeadEnd::default();
        }
        Err(Failure::last(refusal::UPSTREAM_MALFORMED))
    }

    async fn connect(&self, picked: &Picked) -> Result<TcpStream, Failure> {
        let worker = &self.origin.worker;
        worker.cells.connects.add(1);
        self.timer.set(worker.config().timeouts.connect);
        let mut connecting = pin!(TcpStream::connect(picked.address));
        let connected = poll_fn(|cx| match connecting.as_mut().poll(cx) {
            Poll::Ready(connected) => Poll::Ready(connected.map_err(|_| refusal::CONNECT_FAILED)),
            Poll::Pending if self.timer.is_expired() => Poll::Ready(Err(refusal::CONNECT_TIMED_OUT)),
            Poll::Pending => Poll::Pending,
        })
        .await;
        let stream = connected.map_err(|refusal| {
            picked.failed(Instant::now());
            Failure { refusal, may_retry: true }
        })?;
        // A request is one write; waiting for more to send with it would only delay it.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    /// Polls both directions until the head of a response is there.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        upstream: &mut Upstream,
        end: &mut HeadEnd,
    ) -> Poll<Result<ResponseFacts, Failure>> {
        let worker = &self.origin.worker;
        let config = worker.config();
        let before = self.upload.moved;
        if let Poll::Ready(Err(refusal)) = self.upload.poll(cx, &mut upstream.stream) {
            return Poll::Ready(Err(Failure::last(refusal)));
        }
        if self.upload.moved != before {
            self.open.moved();
            self.timer.set(if self.upload.is_done() {
                config.timeouts.response_head
            } else {
                config.timeouts.request_body_idle
            });
        }
        loop {
            match response::judge(self.reply.filled(), end, config.limits.response_head_max, &self.facts) {
                Ok(Some(response)) if response.status == 101 => {
                    return Poll::Ready(Err(Failure::last(refusal::UPSTREAM_MALFORMED)));
                }
                Ok(Some(response)) => return Poll::Ready(Ok(response)),
                Ok(None) => {}
                Err(refusal) => {
                    upstream.picked.failed(Instant::now());
                    return Poll::Ready(Err(Failure::last(refusal)));
                }
            }
            match poll_more(cx, &mut upstream.stream, &mut self.reply, worker) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(self.lost(upstream))),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending if self.has_left(&upstream.picked) => {
                    return Poll::Ready(Err(Failure::last(refusal::ENDPOINT_GONE)));
                }
                Poll::Pending if !self.timer.is_expired() => return Poll::Pending,
                Poll::Pending if self.upload.is_done() => {
                    upstream.picked.failed(Instant::now());
                    return Poll::Ready(Err(Failure::last(refusal::UPSTREAM_TIMED_OUT)));
                }
                Poll::Pending => return Poll::Ready(Err(Failure::last(refusal::BODY_TIMED_OUT))),
            }
        }
    }

    /// The endpoint left the table, and the time its open requests get is over. Looked up once a round.
    pub(super) fn has_left(&mut self, picked: &Picked) -> bool {
        let worker = &self.origin.worker;
        let round = worker.drain_round();
        core::mem::replace(&mut self.drain_round, round) != round
            && picked.left_at().is_some_and(|left| left.elapsed() >= worker.config().drain)
    }

    /// As for a client of HTTP/1.1: again only if nothing was sent, or twice is as good as once.
    fn lost(&self, upstream: &Upstream) -> Failure {
        if !upstream.is_reused {
            upstream.picked.failed(Instant::now());
        }
        let is_whole = self.upload.is_untouched() && self.reply.is_empty();
        let may_retry = is_whole && (self.upload.sent == 0 || self.facts.is_idempotent);
        Failure { refusal: refusal::UPSTREAM_CLOSED, may_retry }
    }

    fn respond(mut self, upstream: Upstream, facts: &ResponseFacts, attempts: Attempts) -> Response<Reply> {
        let now = Instant::now();
        match facts.status {
            502..=504 => upstream.picked.failed(now),
            _ => upstream.picked.succeeded(now.duration_since(self.started), now),
        }
        let Some(fields) = self.read_fields(facts) else {
            return refused(
                &self.origin,
                &refusal::UPSTREAM_MALFORMED,
                self.started,
                self.facts.is_head,
                &self.upload.head,
            );
        };
        self.reply.consume(facts.head_length);
        let relay = Relay::new(self, upstream, attempts, facts);
        let mut response = Response::new(Reply::Relay(Box::new(relay)));
        *response.status_mut() =
            http::StatusCode::from_u16(facts.status).unwrap_or(http::StatusCode::BAD_GATEWAY);
        *response.headers_mut() = fields;
        response
    }

    fn read_fields(&self, facts: &ResponseFacts) -> Option<HeaderMap> {
        let as_it_came = &self.reply.filled()[..facts.head_length];
        let mut rewritten = self.origin.worker.stock.take_head();
        let downstream = Downstream { is_http10: false, keep_alive: true };
        let fields = if response::rewrite(as_it_came, facts, downstream, &mut rewritten) {
            head::read_response(&rewritten)
        } else {
            head::read_response(as_it_came)
        };
        self.origin.worker.stock.put_head(rewritten);
        fields
    }
}

pub(super) fn poll_more(
    cx: &mut Context<'_>,
    from: &mut TcpStream,
    buffer: &mut Buffer,
    worker: &crate::worker::Worker,
) -> Poll<io::Result<usize>> {
    if buffer.is_empty() {
        core::task::ready!(from.poll_read_ready(cx))?;
        buffer.reserve(&worker.stock, LARGE);
    } else if buffer.room() == 0 {
        buffer.compact();
        // Only a head that is long by configuration fills a large buffer without anything to consume.
        buffer.reserve(&worker.stock, worker.config().limits.response_head_max + LARGE);
    }
    buffer.poll_fill(cx, from)
}
