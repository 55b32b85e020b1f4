//! One request and its response: an endpoint is found, the request goes out, the response comes back.
//!
//! Both directions are polled by one task, so a response may begin before the request has ended, and a client
//! that goes away ends the request at the endpoint.

mod obtain;
mod relay;

use core::net::SocketAddr;
use core::time::Duration;
use std::time::Instant;

use socket2::SockRef;

use super::buffer::Buffer;
use super::connection::Connection;
use super::head::HeadEnd;
use super::link::Link;
use super::origin::{Outcome, Plan};
use super::pump::Pump;
use super::refusal::Refusal;
use super::request::RequestFacts;
use crate::stream::Stream;
use crate::upstream::{Attempts, Picked};

/// How long a request goes on after its client has sent the end of its stream. A client that only half-closed
/// gets a quick answer; for one that is gone the endpoint does not work for longer.
const HALF_CLOSED: Duration = Duration::from_secs(1);

/// What becomes of the downstream connection.
#[derive(Debug)]
pub(super) enum Ending {
    /// Another request may come.
    KeepAlive,
    /// It ends in order.
    Close,
    /// It is gone, or the response broke: what is left is to drop it.
    Done,
    /// It is another protocol's.
    Tunnel(Box<Upgraded>),
}

/// An upgraded connection to an endpoint.
#[derive(Debug)]
pub(super) struct Upgraded {
    pub(super) stream: Stream,
    pub(super) picked: Picked,
    /// What the client is to get first: the head of the 101 response, and what came with it.
    pub(super) reply: Buffer,
}

/// Why there is no response of an endpoint.
enum Stop {
    /// The client is gone.
    ClientGone,
    /// The client gets this.
    Refuse(Refusal),
    /// Another endpoint may be tried; else the client gets this.
    Retry(Refusal),
}

/// A connection to an endpoint, in use.
struct Upstream {
    stream: Link,
    picked: Picked,
    is_reused: bool,
}

/// One request and its response.
pub(super) struct Exchange<'c> {
    connection: &'c mut Connection,
    facts: RequestFacts,
    /// The head for the endpoint, and the content that came with it.
    out: Vec<u8>,
    /// Octets of `out` that were written in this attempt.
    sent: usize,
    /// The rest of the request's content.
    upload: Pump,
    /// The request was sent to its end.
    is_sent: bool,
    /// The endpoint stopped reading; it may still answer.
    is_rejected: bool,
    /// What the endpoint sent and was not passed on.
    reply: Buffer,
    reply_end: HeadEnd,
    interims: u32,
    /// The head of the response was written by itself.
    has_led: bool,
    /// The end of the connection would be the end of the response's content, of which there should be more.
    ends_content: bool,
    /// What the limit that runs is for.
    phase: Phase,
    drain_round: u32,
    attempts: Result<Attempts, Refusal>,
    started: Instant,
    status: u16,
    octets_down: u64,
    endpoint: Option<SocketAddr>,
    refusal: Option<&'static str>,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    RequestBody,
    RequestWrite,
    ResponseHead,
    HalfClosed,
    ResponseBody,
    ResponseWrite,
}

impl<'c> Exchange<'c> {
    pub(super) fn new(connection: &'c mut Connection, plan: Plan) -> Self {
        let most = connection.origin.worker.config().limits.request_body_max;
        let drain_round = connection.origin.worker.drain_round();
        Self {
            facts: plan.facts,
            sent: 0,
            out: plan.out,
            upload: Pump::new(plan.facts.framing, most),
            is_sent: false,
            is_rejected: false,
            reply: Buffer::default(),
            reply_end: HeadEnd::default(),
            interims: 0,
            has_led: false,
            ends_content: false,
            phase: Phase::RequestWrite,
            drain_round,
            attempts: plan.attempts,
            started: plan.started,
            status: 0,
            octets_down: 0,
            endpoint: None,
            refusal: None,
            connection,
        }
    }

    /// Carries the request out and the response back.
    pub(super) async fn run(mut self) -> Ending {
        self.connection.timer.set_busy(true);
        let ending = match self.obtain().await {
            Ok((upstream, response)) => self.relay(upstream, response).await,
            Err(Stop::Refuse(refusal) | Stop::Retry(refusal)) => self.answer(refusal).await,
            Err(Stop::ClientGone) => {
                self.status = 499;
                Ending::Done
            }
        };
        debug_assert!(
            !matches!(ending, Ending::KeepAlive) || self.upload.is_drained(),
            "content of this request would be read as the next one"
        );
        self.connection.timer.set_busy(false);
        self.finish();
        ending
    }

    fn finish(&mut self) {
        let worker = &self.connection.origin.worker;
        self.connection.origin.ended(&Outcome {
            head: &self.out,
            status: self.status,
            took: self.started.elapsed(),
            octets: self.octets_down,
            attempts: self.attempts.as_ref().ok(),
            endpoint: self.endpoint,
            refusal: self.refusal,
        });
        self.reply.discard(&worker.stock);
        worker.stock.put_head(core::mem::take(&mut self.out));
    }

    /// Answers in the place of an endpoint.
    async fn answer(&mut self, refusal: Refusal) -> Ending {
        self.status = refusal.status;
        self.refusal = Some(refusal.text);
        // What is left of the request's content would be read as the next request.
        let close = refusal.close
            || !self.upload.is_drained()
            || !self.facts.keep_alive
            || self.connection.origin.listener.draining.get();
        let mut answer = self.connection.origin.worker.stock.take_head();
        refusal.compose(&mut answer, self.facts.is_head, close);
        self.connection.origin.worker.cells.answered(&refusal);
        self.octets_down = answer.len() as u64;
        let written = self.connection.write_all(&answer).await;
        self.connection.origin.worker.stock.put_head(answer);
        match written {
            Err(_) => Ending::Done,
            Ok(()) if close => Ending::Close,
            Ok(()) => Ending::KeepAlive,
        }
    }

    /// Begins the limit of a phase.
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.connection.timer.set(self.limit());
    }

    /// How long its phase may last.
    fn limit(&self) -> Duration {
        let timeouts = &self.connection.origin.worker.config().timeouts;
        match self.phase {
            Phase::RequestBody => timeouts.request_body_idle,
            Phase::RequestWrite | Phase::ResponseWrite => timeouts.write_stall,
            Phase::ResponseHead => timeouts.response_head,
            Phase::HalfClosed => timeouts.response_head.min(HALF_CLOSED),
            Phase::ResponseBody => timeouts.response_body_idle,
        }
    }

    fn enter_if_other(&mut self, phase: Phase) {
        if self.phase != phase {
            self.enter(phase);
        }
    }

    /// The endpoint left the table, and the time its open requests get is over. Looked up once a round.
    fn has_left(&mut self, picked: &Picked) -> bool {
        let worker = &self.connection.origin.worker;
        if worker.drain_round() == self.drain_round {
            return false;
        }
        self.drain_round = worker.drain_round();
        picked.left_at().is_some_and(|left| left.elapsed() >= worker.config().drain)
    }
}

impl Drop for Exchange<'_> {
    /// However a response ends early, also where the whole connection is dropped at the drain limit: the client must
    /// not take what it has for all of it. Where the framing shows that something is missing, an ordinary end will do,
    /// and what is there arrives; elsewhere it has to be a reset.
    fn drop(&mut self) {
        if self.ends_content {
            // Should the option be refused, there is no other way to say it.
            let _ = SockRef::from(self.connection.client.socket()).set_linger(Some(Duration::ZERO));
        }
    }
}
