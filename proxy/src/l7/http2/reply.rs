//! The content of a stream's response, read from an endpoint that speaks HTTP/1.1 as the client takes it.

use core::task::{Context, Poll};
use std::io;
use std::pin::Pin;
use std::time::Instant;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::head;
use super::obtain::{Upstream, poll_more};
use super::open::{Ending, Waits};
use super::stream::Exchange;
use crate::l7::chunked::ChunkScanner;
use crate::l7::request::Framing;
use crate::l7::response::ResponseFacts;
use crate::upstream::Picked;

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
    rest: Rest,
    /// Trailer fields as they came.
    trailers: Vec<u8>,
    keep_alive: bool,
    /// When the head came.
    answered: Instant,
}

enum Rest {
    Length(u64),
    Chunked(ChunkScanner),
    UntilClose,
}

impl Relay {
    /// What comes behind a head that has been taken off.
    pub(super) fn new(
        exchange: Exchange,
        upstream: Upstream,
        facts: &ResponseFacts,
        answered: Instant,
    ) -> Self {
        let rest = match facts.framing {
            Framing::None => Rest::Length(0),
            Framing::Length(length) => Rest::Length(length),
            Framing::Chunked => Rest::Chunked(ChunkScanner::new()),
            Framing::UntilClose => Rest::UntilClose,
        };
        exchange.open.enter(Waits::Client);
        exchange.open.depend_on(Some(upstream.picked.departure()));
        let mut relay = Self {
            exchange,
            upstream: Some(upstream),
            rest,
            trailers: Vec::new(),
            keep_alive: facts.keep_alive,
            answered,
        };
        relay.finish_if_over();
        relay
    }

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
        upstream.picked.completed(self.answered);
        let Exchange { open, upload, reply, attempts, .. } = &self.exchange;
        open.depend_on(None);
        open.end(Ending::Whole);
        if self.keep_alive
            && upload.is_done()
            && !upload.is_rejected
            && reply.is_empty()
            && let Ok(attempts) = attempts
        {
            let Picked { address, slot, .. } = upstream.picked;
            let pool = &open.origin.worker.pool;
            pool.put(upstream.stream, (address, slot), attempts.service(), attempts.config());
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            match self.take() {
                Ok(Some(data)) => {
                    self.exchange.open.moved();
                    self.exchange.open.enter(Waits::Client);
                    self.exchange.octets += data.len() as u64;
                    self.finish_if_over();
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(self.break_off(error)))),
            }
            self.finish_if_over();
            let Some(upstream) = &mut self.upstream else { return Poll::Ready(self.take_trailers()) };
            let Exchange { reply, open, upload, .. } = &mut self.exchange;
            let before = upload.moved;
            // What is wrong with the rest of the request does not concern the response on its way.
            let _ = upload.poll(cx, &mut upstream.stream);
            if upload.moved != before {
                open.moved();
                open.enter(Waits::Endpoint);
            }
            match poll_more(cx, &mut upstream.stream, reply, &open.origin.worker) {
                Poll::Ready(Ok(0)) if matches!(self.rest, Rest::UntilClose) => {
                    self.rest = Rest::Length(0);
                    self.keep_alive = false;
                }
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Some(Err(self.break_off(io::ErrorKind::UnexpectedEof.into()))));
                }
                Poll::Ready(Ok(_)) => open.enter(Waits::Endpoint),
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(self.break_off(error)))),
                Poll::Pending => {
                    open.enter_if_other(Waits::Endpoint);
                    if !open.timer.is_expired() {
                        return Poll::Pending;
                    }
                    return Poll::Ready(Some(Err(self.break_off(io::ErrorKind::TimedOut.into()))));
                }
            }
        }
    }

    /// The endpoint did not send all of it.
    fn break_off(&mut self, error: io::Error) -> io::Error {
        if let Some(upstream) = self.upstream.take() {
            upstream.picked.failed(Instant::now());
        }
        self.exchange.open.end(Ending::Broken);
        error
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
