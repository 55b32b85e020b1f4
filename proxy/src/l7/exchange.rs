//! One request and its response: an endpoint is found, the request goes out, the response comes back.
//!
//! Both directions are polled by one task, so a response may begin before the request has ended, and a client
//! that goes away ends the request at the endpoint.

use core::net::SocketAddr;
use core::task::{Context, Poll};
use core::time::Duration;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::time::Instant;

use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use super::buffer::{Buffer, LARGE, SMALL};
use super::connection::Connection;
use super::head::HeadEnd;
use super::origin::{Outcome, Plan};
use super::pump::{Pump, PumpError, Waiting};
use super::refusal::{self, Refusal};
use super::request::{Framing, RequestFacts};
use super::response::{self, Downstream, HEADROOM, ResponseFacts};
use crate::upstream::{Attempts, Picked};

/// How long a request goes on after its client has sent the end of its stream. A client that only half-closed
/// gets a quick answer; for one that is gone the endpoint does not work for longer.
const HALF_CLOSED: Duration = Duration::from_secs(1);
/// Interim responses to one request.
const INTERIM_MAX: u32 = 32;

/// What becomes of the downstream connection.
#[derive(Debug)]
pub(super) enum Ending {
    /// Another request may come.
    KeepAlive,
    /// It ends in order.
    Close,
    /// The response broke: the client must notice.
    Reset,
    /// It is gone.
    Done,
    /// It is another protocol's.
    Tunnel(Box<Upgraded>),
}

/// An upgraded connection to an endpoint.
#[derive(Debug)]
pub(super) struct Upgraded {
    pub(super) stream: TcpStream,
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
    stream: TcpStream,
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

    /// Tries endpoints until one answers.
    async fn obtain(&mut self) -> Result<(Upstream, ResponseFacts), Stop> {
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
        let reused = worker.pool.take(picked.address, picked.slot, !self.facts.is_idempotent);
        let mut upstream = match reused {
            Some(stream) => {
                worker.cells.reuses.add(1);
                Upstream { stream, picked, is_reused: true }
            }
            None => {
                let stream = self.connect(&picked).await?;
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

    async fn connect(&self, picked: &Picked) -> Result<TcpStream, Stop> {
        let timer = &self.connection.timer;
        timer.set(self.connection.origin.worker.config().timeouts.connect);
        self.connection.origin.worker.cells.connects.add(1);
        let mut connecting = pin!(TcpStream::connect(picked.address));
        let connected = poll_fn(|cx| match connecting.as_mut().poll(cx) {
            Poll::Ready(connected) => Poll::Ready(connected.map_err(|_| refusal::CONNECT_FAILED)),
            Poll::Pending if timer.is_expired() => Poll::Ready(Err(refusal::CONNECT_TIMED_OUT)),
            Poll::Pending => Poll::Pending,
        })
        .await;
        connected
            .inspect(|stream| {
                // A request is one write; waiting for more to send with it would only delay it.
                let _ = stream.set_nodelay(true);
            })
            .map_err(|refusal| {
                picked.failed(Instant::now());
                Stop::Retry(refusal)
            })
    }

    /// Polls both directions until the head of a response is there.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        upstream: &mut Upstream,
    ) -> Poll<Result<ResponseFacts, Stop>> {
        let upload = self.poll_upload(cx, &mut upstream.stream);
        if let Poll::Ready(Err(error)) = upload {
            return Poll::Ready(Err(refuse_upload(&error)));
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
        Poll::Ready(Err(self.time_out(&upstream.picked)))
    }

    fn time_out(&self, picked: &Picked) -> Stop {
        match self.phase {
            Phase::RequestBody => Stop::Refuse(refusal::BODY_TIMED_OUT),
            Phase::HalfClosed => Stop::ClientGone,
            Phase::RequestWrite => {
                picked.failed(Instant::now());
                Stop::Refuse(refusal::UPSTREAM_WRITE_STALLED)
            }
            Phase::ResponseHead | Phase::ResponseBody | Phase::ResponseWrite => {
                picked.failed(Instant::now());
                Stop::Refuse(refusal::UPSTREAM_TIMED_OUT)
            }
        }
    }

    /// Sends what there is of the request. Ready when nothing more of it is to be sent.
    fn poll_upload(&mut self, cx: &mut Context<'_>, upstream: &mut TcpStream) -> Poll<Result<(), PumpError>> {
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
        if response.status == 101 && !(self.facts.upgrade && self.is_sent) {
            return Err(Stop::Refuse(refusal::UPSTREAM_MALFORMED));
        }
        Ok(response)
    }

    /// The endpoint closed before it answered. Sending the request again is safe if none of it was sent, or if
    /// doing it twice does no harm (RFC 9110 §9.2.2) and all of it is still here.
    fn lost(&self, upstream: &Upstream) -> Stop {
        // An idle connection that closes is nobody's failure: the endpoint may do that at any time.
        if !upstream.is_reused {
            upstream.picked.failed(Instant::now());
        }
        let is_whole = self.upload.moved() == 0;
        let is_unanswered = self.reply.is_empty() && self.interims == 0;
        if is_whole && is_unanswered && (self.sent == 0 || self.facts.is_idempotent) {
            Stop::Retry(refusal::UPSTREAM_CLOSED)
        } else {
            Stop::Refuse(refusal::UPSTREAM_CLOSED)
        }
    }

    /// Sees whether the client went away while the endpoint works; keeps what it sends meanwhile. Ready when its
    /// stream has ended.
    fn poll_watch_client(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
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

    /// Passes the response on.
    async fn relay(&mut self, mut upstream: Upstream, response: ResponseFacts) -> Ending {
        let now = Instant::now();
        self.status = response.status;
        match response.status {
            502..=504 => upstream.picked.failed(now),
            _ => upstream.picked.succeeded(now.duration_since(self.started), now),
        }
        let must_decode = self.facts.is_http10 && response.framing == Framing::Chunked;
        let keep_alive = self.facts.keep_alive
            && self.is_sent
            && !self.connection.origin.listener.draining.get()
            && response.framing != Framing::UntilClose
            && !must_decode;
        let mut download = Pump::new(response.framing, None);
        if must_decode {
            download.decode();
        }
        if self.lead(&response, keep_alive, &mut download).await.is_err() {
            return Ending::Done;
        }
        if response.status == 101 {
            let Upstream { stream, picked, .. } = upstream;
            return Ending::Tunnel(Box::new(Upgraded {
                stream,
                picked,
                reply: core::mem::take(&mut self.reply),
            }));
        }
        self.enter(Phase::ResponseBody);
        let moved = poll_fn(|cx| self.poll_download(cx, &mut upstream, &mut download)).await;
        self.octets_down = download.moved();
        match moved {
            Ok(()) => {
                self.keep(upstream, &response);
                if keep_alive { Ending::KeepAlive } else { Ending::Close }
            }
            Err(PumpError::Write(_)) => Ending::Done,
            Err(_) => {
                upstream.picked.failed(Instant::now());
                drop(upstream);
                self.break_off(&download, response.framing, must_decode).await
            }
        }
    }

    /// The response broke. The client must not take what it has for all of it.
    async fn break_off(&mut self, download: &Pump, framing: Framing, is_decoded: bool) -> Ending {
        if download.moved() == 0 && !self.has_led {
            return self.answer(refusal::UPSTREAM_MALFORMED).await;
        }
        // Where the framing shows that something is missing, an end will do, and what is there arrives. Where the
        // end of the connection would be the end of the content, it has to be a reset.
        if framing == Framing::UntilClose || is_decoded { Ending::Reset } else { Ending::Done }
    }

    /// Makes the response's head what the client is to get, in front of the content that came with it.
    async fn lead(
        &mut self,
        response: &ResponseFacts,
        keep_alive: bool,
        download: &mut Pump,
    ) -> std::io::Result<()> {
        let stock = &self.connection.origin.worker.stock;
        let mut head = stock.take_head();
        let downstream = Downstream { is_http10: self.facts.is_http10, keep_alive };
        let as_it_came = &self.reply.filled()[..response.head_length];
        if !response::rewrite(as_it_came, response, downstream, &mut head) {
            download.lead(response.head_length);
        } else if self.reply.replace_front(response.head_length, &head) {
            download.lead(head.len());
        } else {
            self.reply.consume(response.head_length);
            self.has_led = true;
            self.connection.write_all(&head).await?;
        }
        self.connection.origin.worker.stock.put_head(head);
        Ok(())
    }

    /// Polls both directions until the response has been passed on.
    fn poll_download(
        &mut self,
        cx: &mut Context<'_>,
        upstream: &mut Upstream,
        download: &mut Pump,
    ) -> Poll<Result<(), PumpError>> {
        let sent_before = self.upload.moved();
        if !self.is_sent
            && let Poll::Ready(Err(_)) = self.poll_upload(cx, &mut upstream.stream)
        {
            // What is wrong with the rest of the request does not concern the response that is on its way.
            self.is_rejected = true;
        }
        let before = download.moved();
        let mut waiting = Waiting::Read;
        let Connection { client, origin, .. } = &mut *self.connection;
        let moving = download.poll(
            cx,
            &mut upstream.stream,
            client,
            (&mut self.reply, &origin.worker.stock),
            &mut waiting,
        );
        if moving.is_ready() {
            return moving;
        }
        let phase = if waiting == Waiting::Read { Phase::ResponseBody } else { Phase::ResponseWrite };
        if download.moved() > before || self.upload.moved() > sent_before {
            self.enter(phase);
        } else {
            self.enter_if_other(phase);
        }
        if self.connection.timer.is_expired() || self.has_left(&upstream.picked) {
            let timed_out = std::io::ErrorKind::TimedOut.into();
            return Poll::Ready(Err(match waiting {
                Waiting::Read => PumpError::Read(timed_out),
                Waiting::Write => PumpError::Write(timed_out),
            }));
        }
        Poll::Pending
    }

    /// Keeps the endpoint's connection for another request, if it is at the beginning of one.
    fn keep(&self, upstream: Upstream, response: &ResponseFacts) {
        if !response.keep_alive || !self.is_sent || !self.reply.is_empty() {
            return;
        }
        let Ok(attempts) = &self.attempts else { return };
        let Picked { address, slot, .. } = upstream.picked;
        let pool = &self.connection.origin.worker.pool;
        pool.put(upstream.stream, (address, slot), attempts.service(), attempts.config());
    }

    /// Answers in the place of an endpoint.
    async fn answer(&mut self, refusal: Refusal) -> Ending {
        self.status = refusal.status;
        self.refusal = Some(refusal.text);
        // What is left of the request's content would be read as the next request.
        let is_read = self.is_sent || self.upload.is_complete();
        let close = refusal.close
            || !is_read
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
        let timeouts = &self.connection.origin.worker.config().timeouts;
        self.connection.timer.set(match phase {
            Phase::RequestBody => timeouts.request_body_idle,
            Phase::RequestWrite | Phase::ResponseWrite => timeouts.write_stall,
            Phase::ResponseHead => timeouts.response_head,
            Phase::HalfClosed => timeouts.response_head.min(HALF_CLOSED),
            Phase::ResponseBody => timeouts.response_body_idle,
        });
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

fn refuse_upload(error: &PumpError) -> Stop {
    match error {
        PumpError::Malformed(_) => Stop::Refuse(refusal::BODY_MALFORMED),
        PumpError::TooLarge => Stop::Refuse(refusal::BODY_TOO_LARGE),
        PumpError::Truncated | PumpError::Read(_) | PumpError::Write(_) => Stop::ClientGone,
    }
}
