//! One stream: a request whose client speaks HTTP/2 and whose endpoint speaks HTTP/1.1.
//!
//! ```text
//!  fields ─► head (HTTP/1.1) ─► judge ─► plan ─► endpoint ─► head of the response ─► fields
//!  DATA, trailers ─► Upload ───────────────────► endpoint ─► Reply ─► DATA, trailers
//! ```
//! The upload goes on while the reply is polled, so both directions stream.

use core::net::SocketAddr;
use core::pin::pin;
use core::task::{Context, Poll};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use super::OpenStream;
use super::head::{self, Upload as UploadKind};
use crate::l7::buffer::{Buffer, LARGE};
use crate::l7::chunked::ChunkScanner;
use crate::l7::clock::Timer;
use crate::l7::head::{HeadEnd, slots};
use crate::l7::origin::{Origin, Outcome, Plan};
use crate::l7::refusal::{self, Refusal};
use crate::l7::request::{Framing, RequestFacts, Verdict, judge};
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
    let mut exchange = Exchange { origin, open, timer, facts, upload, reply: Buffer::default(), started };
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
        Verdict::Complete(request) => Ok(origin.plan(&request)),
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
struct Upstream {
    stream: TcpStream,
    picked: Picked,
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
struct Exchange {
    origin: Rc<Origin>,
    open: OpenStream,
    timer: Timer,
    facts: RequestFacts,
    upload: Upload,
    reply: Buffer,
    started: Instant,
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
        let was_done = self.upload.is_done();
        let before = self.upload.moved;
        if let Poll::Ready(Err(refusal)) = self.upload.poll(cx, &mut upstream.stream) {
            return Poll::Ready(Err(Failure::last(refusal)));
        }
        if self.upload.moved != before || !was_done {
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
                Poll::Pending if self.timer.is_expired() => {
                    upstream.picked.failed(Instant::now());
                    return Poll::Ready(Err(Failure::last(if self.upload.is_done() {
                        refusal::UPSTREAM_TIMED_OUT
                    } else {
                        refusal::BODY_TIMED_OUT
                    })));
                }
                Poll::Pending => return Poll::Pending,
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
        let rest = match facts.framing {
            Framing::None => Rest::Length(0),
            Framing::Length(length) => Rest::Length(length),
            Framing::Chunked => Rest::Chunked(ChunkScanner::new()),
            Framing::UntilClose => Rest::UntilClose,
        };
        let mut relay = Relay {
            endpoint: upstream.picked.address,
            octets: 0,
            exchange: self,
            upstream: Some(upstream),
            attempts,
            rest,
            trailers: Vec::new(),
            status: facts.status,
            keep_alive: facts.keep_alive,
        };
        relay.exchange.timer.set(relay.exchange.origin.worker.config().timeouts.response_body_idle);
        relay.finish_if_over();
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

fn poll_more(
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

/// The content of a request on its way to the endpoint.
struct Upload {
    content: Incoming,
    kind: UploadKind,
    head: Vec<u8>,
    /// Octets of `head` written in this attempt.
    sent: usize,
    /// Content not written yet, framed.
    piece: Vec<u8>,
    written: usize,
    /// Octets that Content-Length still promises, or that may still come.
    left: u64,
    /// The client's end has been read.
    is_read: bool,
    /// The endpoint stopped reading.
    is_rejected: bool,
    moved: u64,
}

impl Upload {
    fn new(
        content: Incoming,
        kind: UploadKind,
        head: Vec<u8>,
        facts: &RequestFacts,
        most: Option<u64>,
    ) -> Self {
        let left = match facts.framing {
            Framing::Length(length) => length,
            _ => most.unwrap_or(u64::MAX),
        };
        let is_read = kind == UploadKind::None;
        let piece = Vec::new();
        Self { content, kind, head, sent: 0, piece, written: 0, left, is_read, is_rejected: false, moved: 0 }
    }

    fn is_done(&self) -> bool {
        self.is_rejected || (self.is_read && self.sent == self.head.len() && self.written == self.piece.len())
    }

    /// No content was taken from the client: the request can be sent again.
    fn is_untouched(&self) -> bool {
        self.kind == UploadKind::None || (self.piece.is_empty() && !self.is_read)
    }

    fn poll(&mut self, cx: &mut Context<'_>, to: &mut TcpStream) -> Poll<Result<(), Refusal>> {
        while !self.is_done() {
            if self.sent < self.head.len() {
                match core::task::ready!(Pin::new(&mut *to).poll_write(cx, &self.head[self.sent..])) {
                    Ok(count) if count > 0 => self.sent += count,
                    _ => self.is_rejected = true,
                }
            } else if self.written < self.piece.len() {
                match core::task::ready!(Pin::new(&mut *to).poll_write(cx, &self.piece[self.written..])) {
                    Ok(count) if count > 0 => self.written += count,
                    _ => self.is_rejected = true,
                }
            } else {
                let frame = core::task::ready!(Pin::new(&mut self.content).poll_frame(cx));
                self.take(frame)?;
            }
            self.moved += 1;
        }
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, frame: Option<Result<Frame<Bytes>, hyper::Error>>) -> Result<(), Refusal> {
        const BROKEN: Refusal = Refusal::bad(400, "the request ended before its content did");
        self.piece.clear();
        self.written = 0;
        let is_chunked = self.kind == UploadKind::Chunked;
        match frame {
            None => {
                self.is_read = true;
                if is_chunked {
                    self.piece.extend_from_slice(b"0\r\n\r\n");
                } else if self.left > 0 {
                    return Err(BROKEN);
                }
            }
            Some(Err(_)) => return Err(BROKEN),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => self.take_data(&data)?,
                Err(frame) => {
                    if let (true, Ok(trailers)) = (is_chunked, frame.into_trailers()) {
                        self.is_read = true;
                        self.piece.extend_from_slice(b"0\r\n");
                        head::write_trailers(&trailers, &mut self.piece);
                        self.piece.extend_from_slice(b"\r\n");
                    }
                }
            },
        }
        Ok(())
    }

    fn take_data(&mut self, data: &[u8]) -> Result<(), Refusal> {
        let length = data.len() as u64;
        self.left = self.left.checked_sub(length).ok_or(refusal::BODY_TOO_LARGE)?;
        if self.kind == UploadKind::Chunked {
            if !data.is_empty() {
                self.piece.extend_from_slice(format!("{length:x}\r\n").as_bytes());
                self.piece.extend_from_slice(data);
                self.piece.extend_from_slice(b"\r\n");
            }
        } else {
            self.piece.extend_from_slice(data);
        }
        Ok(())
    }
}

/// The content of a response.
pub(super) enum Reply {
    /// An answer of ours.
    Text(Option<Bytes>),
    /// An endpoint's.
    Relay(Box<Relay>),
}

/// A response on its way to the client.
pub(super) struct Relay {
    exchange: Exchange,
    /// `None` once all has been read.
    upstream: Option<Upstream>,
    attempts: Attempts,
    rest: Rest,
    /// Trailer fields as they came.
    trailers: Vec<u8>,
    status: u16,
    keep_alive: bool,
    endpoint: SocketAddr,
    octets: u64,
}

enum Rest {
    Length(u64),
    Chunked(ChunkScanner),
    UntilClose,
}

impl Relay {
    fn is_over(&self) -> bool {
        match &self.rest {
            Rest::Length(rest) => *rest == 0,
            Rest::Chunked(scanner) => scanner.is_done(),
            Rest::UntilClose => false,
        }
    }

    /// All has been read: the endpoint's connection may serve another request.
    fn finish_if_over(&mut self) {
        if !self.is_over() {
            return;
        }
        let Some(upstream) = self.upstream.take() else { return };
        let upload = &self.exchange.upload;
        if self.keep_alive && upload.is_done() && !upload.is_rejected && self.exchange.reply.is_empty() {
            let Picked { address, slot, .. } = upstream.picked;
            let pool = &self.exchange.origin.worker.pool;
            pool.put(upstream.stream, (address, slot), self.attempts.service(), self.attempts.config());
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            if let Some(data) = self.take()? {
                self.exchange.open.moved();
                self.octets += data.len() as u64;
                self.finish_if_over();
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            self.finish_if_over();
            let Some(upstream) = &mut self.upstream else { return Poll::Ready(self.take_trailers()) };
            // What is wrong with the rest of the request does not concern the response on its way.
            let _ = self.exchange.upload.poll(cx, &mut upstream.stream);
            let Exchange { reply, origin, timer, .. } = &mut self.exchange;
            match poll_more(cx, &mut upstream.stream, reply, &origin.worker) {
                Poll::Ready(Ok(0)) if matches!(self.rest, Rest::UntilClose) => {
                    self.rest = Rest::Length(0);
                    self.keep_alive = false;
                }
                Poll::Ready(Ok(0)) => return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
                Poll::Ready(Ok(_)) => timer.set(origin.worker.config().timeouts.response_body_idle),
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Pending if timer.is_expired() => {
                    upstream.picked.failed(Instant::now());
                    return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Content that has been read.
    fn take(&mut self) -> io::Result<Option<Bytes>> {
        let reply = &mut self.exchange.reply;
        while !reply.is_empty() {
            let (length, is_data) = match &mut self.rest {
                Rest::Length(0) => return Ok(None),
                Rest::Length(rest) => {
                    let length = reply.len().min(usize::try_from(*rest).unwrap_or(usize::MAX));
                    *rest -= length as u64;
                    (length, true)
                }
                Rest::UntilClose => (reply.len(), true),
                Rest::Chunked(scanner) if scanner.is_done() => return Ok(None),
                Rest::Chunked(scanner) => {
                    let run = scanner
                        .next_run(reply.filled())
                        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                    if run.is_trailer {
                        self.trailers.extend_from_slice(&reply.filled()[..run.length]);
                    }
                    (run.length, run.is_data)
                }
            };
            let data = is_data.then(|| Bytes::copy_from_slice(&reply.filled()[..length]));
            reply.consume(length);
            if data.is_some() {
                return Ok(data);
            }
        }
        Ok(None)
    }

    fn take_trailers(&mut self) -> Option<io::Result<Frame<Bytes>>> {
        let text = core::mem::take(&mut self.trailers);
        let trailers = head::read_trailers(&text).filter(|trailers| !trailers.is_empty())?;
        Some(Ok(Frame::trailers(trailers)))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // A response that was not read to its end was given up by the client, or broke.
        let status = if self.is_over() { self.status } else { 499 };
        let Exchange { origin, reply, started, upload, .. } = &mut self.exchange;
        origin.ended(&Outcome {
            head: &upload.head,
            status,
            took: started.elapsed(),
            octets: self.octets,
            attempts: Some(&self.attempts),
            endpoint: Some(self.endpoint),
            refusal: None,
        });
        reply.discard(&origin.worker.stock);
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Relay(relay) => relay.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_none(),
            Self::Relay(relay) => {
                relay.upstream.is_none() && relay.trailers.is_empty() && relay.exchange.reply.is_empty()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            // Content-Length, where there is one, is among the fields already.
            Self::Relay(_) => SizeHint::default(),
        }
    }
}
