//! One stream: a request whose client speaks HTTP/2 and whose endpoint speaks HTTP/1.1, up to the head of the
//! response. A state machine rather than a future: it lies in the place of its stream and costs no allocation.
//!
//! ```text
//!  Pick ─► Connect ─► Head ─► Body ─► ended
//!   ▲ ╲        │         │       └─► reset (the response broke, the client takes nothing)
//!   │  ╲       └────┬────┴─► Pick (another endpoint, where that is safe)
//!   │   └─► answer of ours
//! ```

use core::fmt;
use core::net::SocketAddr;
use core::task::{Context, Poll};
use core::time::Duration;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant;

use super::download::Rest;
use super::line::Line;
use super::refuse;
use super::upload::Upload;
use crate::h2::{Fields, Key, Reason};
use crate::l7::buffer::Buffer;
use crate::l7::clock::Timer;
use crate::l7::head::HeadEnd;
use crate::l7::link::Link;
use crate::l7::origin::{Origin, Outcome, Plan};
use crate::l7::refusal::{self, Fault, Refusal};
use crate::l7::request::RequestFacts;
use crate::upstream::{Attempts, Picked};

type Connecting = Pin<Box<dyn Future<Output = io::Result<Link>>>>;

/// A request and its response.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) origin: Rc<Origin>,
    pub(super) key: Key,
    pub(super) facts: RequestFacts,
    is_grpc: bool,
    pub(super) upload: Upload,
    attempts: Result<Attempts, Refusal>,
    pub(super) stage: Stage,
    pub(super) upstream: Option<Upstream>,
    /// What the endpoint sent and was not passed on.
    pub(super) reply: Buffer,
    pub(super) reply_end: HeadEnd,
    pub(super) interims: u32,
    /// The content of the response.
    pub(super) rest: Rest,
    /// Trailer fields as they came.
    pub(super) trailers: Vec<u8>,
    pub(super) keep_alive: bool,
    /// What the limit that runs is for.
    pub(super) phase: Phase,
    drain_round: u32,
    pub(super) started: Instant,
    /// When the head of the response came.
    pub(super) answered_at: Instant,
    /// What the client got, or is getting.
    pub(super) status: u16,
    pub(super) octets: u64,
    endpoint: Option<SocketAddr>,
    refusal: Option<&'static str>,
    /// Why the attempt before this one brought nothing.
    failure: Option<Refusal>,
    is_ended: bool,
}

/// How far it is.
pub(super) enum Stage {
    Pick,
    Connect(Connecting, Picked),
    Head,
    Body,
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pick => "Pick",
            Self::Connect(..) => "Connect",
            Self::Head => "Head",
            Self::Body => "Body",
        })
    }
}

/// A connection to an endpoint, in use.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) stream: Link,
    pub(super) picked: Picked,
    pub(super) is_reused: bool,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Connect,
    RequestBody,
    RequestWrite,
    ResponseHead,
    ResponseBody,
    ResponseWrite,
}

/// Why there is no response of this attempt.
pub(super) enum Stop {
    /// The client gets this.
    Refuse(Refusal),
    /// Another endpoint may be tried; else the client gets this.
    Retry(Refusal),
    /// The client takes nothing.
    GiveUp,
}

impl Exchange {
    /// `is_end`: the head was all of the request.
    pub(super) fn new(origin: &Rc<Origin>, key: Key, plan: Plan, is_grpc: bool, is_end: bool) -> Self {
        let worker = &origin.worker;
        let most = worker.config().limits.request_body_max;
        let upload = Upload::new(plan.out, worker.stock.take_head(), plan.facts.framing, is_end, most);
        Self {
            origin: Rc::clone(origin),
            key,
            facts: plan.facts,
            is_grpc,
            upload,
            attempts: plan.attempts,
            stage: Stage::Pick,
            upstream: None,
            reply: Buffer::default(),
            reply_end: HeadEnd::default(),
            interims: 0,
            rest: Rest::Length(0),
            trailers: Vec::new(),
            keep_alive: false,
            phase: Phase::Connect,
            drain_round: worker.drain_round(),
            started: plan.started,
            answered_at: plan.started,
            status: 0,
            octets: 0,
            endpoint: None,
            refusal: None,
            failure: None,
            is_ended: false,
        }
    }

    /// Goes on as far as it can. Ready when the stream has ended, on our side at least.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, line: &mut Line, timer: &Timer) -> Poll<()> {
        loop {
            let stopped = match &mut self.stage {
                Stage::Pick => self.pick(timer),
                Stage::Connect(..) => core::task::ready!(self.poll_connect(cx, timer)),
                Stage::Head => core::task::ready!(self.poll_head(cx, line, timer)),
                Stage::Body => {
                    core::task::ready!(self.poll_body(cx, line, timer));
                    self.end();
                    return Poll::Ready(());
                }
            };
            match stopped {
                Ok(()) => {}
                Err(Stop::Retry(refusal)) => self.retry(refusal),
                Err(Stop::Refuse(refusal)) => {
                    self.answer(refusal, line);
                    return Poll::Ready(());
                }
                Err(Stop::GiveUp) => {
                    self.give_up(line);
                    return Poll::Ready(());
                }
            }
        }
    }

    fn retry(&mut self, refusal: Refusal) {
        self.failure = Some(refusal);
        // What is in flight counts against the next choice.
        self.upstream = None;
        self.stage = Stage::Pick;
        self.upload.rewind();
        self.reply.discard(&self.origin.worker.stock);
        self.reply_end = HeadEnd::default();
    }

    fn pick(&mut self, timer: &Timer) -> Result<(), Stop> {
        let attempts = self.attempts.as_mut().map_err(|refusal| Stop::Refuse(*refusal))?;
        let worker = &self.origin.worker;
        let now = if self.failure.is_some() { Instant::now() } else { self.started };
        let picked = {
            let snapshot = worker.table.load();
            let routes = snapshot.view(worker.routes);
            attempts
                .pick(&snapshot, routes, now)
                .map_err(|nobody| Stop::Refuse(self.failure.unwrap_or(refusal::nobody(nobody))))?
        };
        self.endpoint = Some(picked.address);
        match Link::take(worker, &picked, attempts, !self.facts.is_idempotent) {
            Some(stream) => {
                worker.cells.reuses.add(1);
                self.begin(Upstream { stream, picked, is_reused: true }, timer);
            }
            None => {
                let connecting = Box::pin(Link::connect(worker, &picked, attempts));
                self.stage = Stage::Connect(connecting, picked);
                self.enter(Phase::Connect, timer);
            }
        }
        Ok(())
    }

    fn begin(&mut self, upstream: Upstream, timer: &Timer) {
        self.upstream = Some(upstream);
        self.stage = Stage::Head;
        self.enter(Phase::RequestWrite, timer);
    }

    fn poll_connect(&mut self, cx: &mut Context<'_>, timer: &Timer) -> Poll<Result<(), Stop>> {
        let Stage::Connect(connecting, picked) = &mut self.stage else { return Poll::Ready(Ok(())) };
        let connected = match connecting.as_mut().poll(cx) {
            Poll::Ready(connected) => connected.map_err(|error| refusal::not_connected(&error)),
            Poll::Pending if timer.is_expired() => Err(refusal::CONNECT_TIMED_OUT),
            Poll::Pending => return Poll::Pending,
        };
        let stream = match connected {
            Ok(stream) => stream,
            Err(refusal) => {
                if refusal.fault == Fault::Upstream {
                    picked.failed(Instant::now());
                }
                return Poll::Ready(Err(Stop::Retry(refusal)));
            }
        };
        if let Stage::Connect(_, picked) = core::mem::replace(&mut self.stage, Stage::Pick) {
            self.begin(Upstream { stream, picked, is_reused: false }, timer);
        }
        Poll::Ready(Ok(()))
    }

    /// The head of a response went to the client.
    pub(super) fn is_answered(&self) -> bool {
        matches!(self.stage, Stage::Body)
    }

    /// Content of the request came.
    pub(super) fn take_data(&mut self, data: &[u8], is_end: bool, line: &mut Line) -> Result<(), Refusal> {
        let unwanted = self.upload.take(data, is_end)?;
        line.used(self.key, unwanted);
        Ok(())
    }

    pub(super) fn take_trailers(&mut self, fields: &Fields) -> Result<(), Refusal> {
        self.upload.take_trailers(fields)
    }

    /// Answers in the place of an endpoint, and ends the stream.
    pub(super) fn answer(&mut self, refusal: Refusal, line: &mut Line) {
        self.status = refusal.status;
        self.refusal = Some(refusal.text);
        self.origin.worker.cells.answered(&refusal);
        self.octets = if self.is_grpc {
            refuse::answer_grpc(line, self.key, &refusal)
        } else {
            refuse::answer(line, self.key, &refusal, self.facts.is_head)
        };
        line.stop_request(self.key);
        self.end();
    }

    /// The client takes nothing. That is not the endpoint's fault.
    pub(super) fn give_up(&mut self, line: &mut Line) {
        self.cancel();
        line.reset(self.key, Reason::Cancel);
    }

    /// The client gave the stream up.
    pub(super) fn cancel(&mut self) {
        self.status = 499;
        self.end();
    }

    /// Counts it, and gives back what it held.
    fn end(&mut self) {
        if core::mem::replace(&mut self.is_ended, true) {
            return;
        }
        let head = &self.upload.first[..self.upload.head];
        self.origin.ended(&Outcome {
            head,
            status: self.status,
            took: self.started.elapsed(),
            octets: self.octets,
            attempts: self.attempts.as_ref().ok(),
            endpoint: self.endpoint,
            refusal: self.refusal,
        });
        let stock = &self.origin.worker.stock;
        self.reply.discard(stock);
        let (first, rest) = self.upload.storage();
        stock.put_head(first);
        stock.put_head(rest);
    }

    /// Keeps the endpoint's connection for another request, if it is at the beginning of one.
    pub(super) fn keep_upstream(&mut self) {
        let Some(Upstream { stream, picked, .. }) = self.upstream.take() else { return };
        if !self.keep_alive || !self.upload.is_sent() || !self.reply.is_empty() {
            return;
        }
        let Ok(attempts) = &self.attempts else { return };
        stream.keep(&self.origin.worker, &picked, attempts);
    }

    /// Begins the limit of a phase.
    pub(super) fn enter(&mut self, phase: Phase, timer: &Timer) {
        self.phase = phase;
        timer.set(self.limit());
    }

    /// How long its phase may last.
    fn limit(&self) -> Duration {
        let config = self.origin.worker.config();
        match self.phase {
            Phase::Connect => config.timeouts.connect,
            Phase::RequestBody => config.timeouts.request_body_idle,
            Phase::RequestWrite | Phase::ResponseWrite => config.timeouts.write_stall,
            Phase::ResponseHead => config.timeouts.response_head,
            Phase::ResponseBody => config.timeouts.response_body_idle,
        }
    }

    /// The same, unless it runs and nothing moved.
    pub(super) fn stay(&mut self, phase: Phase, has_moved: bool, timer: &Timer) {
        if has_moved || self.phase != phase {
            self.enter(phase, timer);
        }
    }

    /// The endpoint left the table, and the time its open requests get is over. Looked up once a round.
    pub(super) fn has_left(&mut self) -> bool {
        let worker = &self.origin.worker;
        let round = worker.drain_round();
        if core::mem::replace(&mut self.drain_round, round) == round {
            return false;
        }
        let left = self.upstream.as_ref().and_then(|upstream| upstream.picked.left_at());
        left.is_some_and(|left| left.elapsed() >= worker.config().drain)
    }

    /// The endpoint did nothing for as long as it may.
    pub(super) fn doubt(&self) {
        if let Some(upstream) = &self.upstream {
            upstream.stream.doubt(&self.origin.worker, self.limit());
        }
    }

    /// The endpoint did not do its part.
    pub(super) fn blame(&self) {
        if let Some(upstream) = &self.upstream {
            upstream.picked.failed(Instant::now());
        }
    }
}

impl Drop for Exchange {
    /// The whole connection ended, or was dropped at the drain limit.
    fn drop(&mut self) {
        self.cancel();
    }
}
