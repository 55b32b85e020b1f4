//! Up to the head of the response: an endpoint is picked and connected, the request goes out, and again elsewhere
//! where that is safe.

use core::pin::pin;
use core::task::{Context, Poll};
use std::future::poll_fn;
use std::io;
use std::time::Instant;

use super::stream::Exchange;
use super::upload::UploadWaits;
use crate::l7::buffer::{Buffer, LARGE};
use crate::l7::head::HeadEnd;
use crate::l7::refusal::{self, Fault, Refusal};
use crate::l7::response::{self, ResponseFacts};
use crate::stream::{Stream, dial};
use crate::upstream::Picked;
use crate::worker::Worker;

/// Interim responses to one request.
const INTERIM_MAX: u32 = 32;

/// A connection to an endpoint, in use.
pub(super) struct Upstream {
    pub(super) stream: Stream,
    pub(super) picked: Picked,
    is_reused: bool,
}

/// Why an attempt brought no response.
struct Failure {
    refusal: Refusal,
    may_retry: bool,
}

/// What is waited for, and how far the head of the response got.
#[derive(Default)]
struct Wait {
    of: Option<UploadWaits>,
    end: HeadEnd,
}

impl Failure {
    const fn last(refusal: Refusal) -> Self {
        Self { refusal, may_retry: false }
    }
}

impl Exchange {
    /// Tries endpoints until one answers.
    pub(super) async fn obtain(&mut self) -> Result<(Upstream, ResponseFacts), Refusal> {
        let mut failure: Option<Refusal> = None;
        loop {
            let picked = self.pick(failure)?;
            match self.attempt(picked).await {
                Ok(answered) => return Ok(answered),
                Err(Failure { refusal, may_retry: true }) => {
                    failure = Some(refusal);
                    self.upload.rewind();
                    self.reply.discard(&self.open.origin.worker.stock);
                }
                Err(Failure { refusal, .. }) => return Err(refusal),
            }
        }
    }

    fn pick(&mut self, failure: Option<Refusal>) -> Result<Picked, Refusal> {
        let attempts = self.attempts.as_mut().map_err(|refusal| *refusal)?;
        let worker = &self.open.origin.worker;
        let snapshot = worker.table.load();
        let routes = snapshot.view(worker.routes);
        let picked = attempts
            .pick(&snapshot, routes, Instant::now())
            .map_err(|nobody| failure.unwrap_or(refusal::nobody(nobody)))?;
        self.endpoint = Some(picked.address);
        Ok(picked)
    }

    async fn attempt(&mut self, picked: Picked) -> Result<(Upstream, ResponseFacts), Failure> {
        let worker = &self.open.origin.worker;
        let config = self.attempts.as_ref().map_err(|refusal| Failure::last(*refusal))?.config();
        let is_tls = config.tls.is_for(picked.app_protocol);
        let idle = worker.pool.take((picked.address, picked.slot), is_tls, !self.facts.is_idempotent);
        let mut upstream = match idle {
            Some(stream) => {
                worker.cells.reuses.add(1);
                Upstream { stream, picked, is_reused: true }
            }
            None => Upstream {
                stream: self.connect(dial(worker, &picked, config), &picked).await?,
                picked,
                is_reused: false,
            },
        };
        let mut wait = Wait::default();
        for _ in 0..=INTERIM_MAX {
            let response = poll_fn(|cx| self.poll_head(cx, &mut upstream, &mut wait)).await?;
            if !response.is_interim() {
                return Ok((upstream, response));
            }
            // hyper has no way to send interim responses on a stream; a client may not depend on them.
            self.reply.consume(response.head_length);
            wait = Wait::default();
        }
        Err(Failure::last(refusal::UPSTREAM_MALFORMED))
    }

    async fn connect(
        &self,
        dialling: impl Future<Output = io::Result<Stream>>,
        picked: &Picked,
    ) -> Result<Stream, Failure> {
        let worker = &self.open.origin.worker;
        worker.cells.connects.add(1);
        self.open.timer.set(worker.config().timeouts.connect);
        let mut dialling = pin!(dialling);
        let connected = poll_fn(|cx| match dialling.as_mut().poll(cx) {
            Poll::Ready(connected) => Poll::Ready(connected.map_err(|error| refusal::not_connected(&error))),
            Poll::Pending if self.open.timer.is_expired() => Poll::Ready(Err(refusal::CONNECT_TIMED_OUT)),
            Poll::Pending => Poll::Pending,
        })
        .await;
        connected.map_err(|refusal| {
            if refusal.fault == Fault::Upstream {
                picked.failed(Instant::now());
            }
            Failure { refusal, may_retry: true }
        })
    }

    /// Polls both directions until the head of a response is there.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        upstream: &mut Upstream,
        wait: &mut Wait,
    ) -> Poll<Result<ResponseFacts, Failure>> {
        let worker = &self.open.origin.worker;
        let config = worker.config();
        let before = self.upload.moved;
        if let Poll::Ready(Err(refusal)) = self.upload.poll(cx, &mut upstream.stream) {
            return Poll::Ready(Err(Failure::last(refusal)));
        }
        let waits = self.upload.waits();
        match waits {
            UploadWaits::Read => upstream.picked.awaits_client(self.upload.moved != before),
            UploadWaits::Write | UploadWaits::Nothing => upstream.picked.awaits_endpoint(),
        }
        if self.upload.moved != before || wait.of != Some(waits) {
            wait.of = Some(waits);
            self.open.moved();
            self.open.timer.set(match waits {
                UploadWaits::Nothing => config.timeouts.response_head,
                UploadWaits::Read => config.timeouts.request_body_idle,
                UploadWaits::Write => config.timeouts.write_stall,
            });
        }
        loop {
            match response::judge(
                self.reply.filled(),
                &mut wait.end,
                config.limits.response_head_max,
                &self.facts,
            ) {
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
                Poll::Pending if self.open.has_left(|| upstream.picked.left_at()) => {
                    return Poll::Ready(Err(Failure::last(refusal::ENDPOINT_GONE)));
                }
                Poll::Pending if !self.open.timer.is_expired() => return Poll::Pending,
                Poll::Pending => return Poll::Ready(Err(time_out(waits, &upstream.picked))),
            }
        }
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
}

/// Whose fault it is that nothing moves.
fn time_out(waits: UploadWaits, picked: &Picked) -> Failure {
    let refusal = match waits {
        UploadWaits::Read => return Failure::last(refusal::BODY_TIMED_OUT),
        UploadWaits::Write => refusal::UPSTREAM_WRITE_STALLED,
        UploadWaits::Nothing => refusal::UPSTREAM_TIMED_OUT,
    };
    picked.failed(Instant::now());
    Failure::last(refusal)
}

pub(super) fn poll_more(
    cx: &mut Context<'_>,
    from: &mut Stream,
    buffer: &mut Buffer,
    worker: &Worker,
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
