//! The content of a stream's response, read from an endpoint that speaks HTTP/1.1 as the client takes it.

use core::net::SocketAddr;
use core::task::{Context, Poll};
use std::io;
use std::pin::Pin;
use std::time::Instant;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::head;
use super::stream::{Exchange, Upstream, poll_more};
use crate::l7::chunked::ChunkScanner;
use crate::l7::origin::Outcome;
use crate::l7::request::Framing;
use crate::l7::response::ResponseFacts;
use crate::upstream::{Attempts, Picked};

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
    /// What comes behind a head that has been taken off.
    pub(super) fn new(
        exchange: Exchange,
        upstream: Upstream,
        attempts: Attempts,
        facts: &ResponseFacts,
    ) -> Self {
        let rest = match facts.framing {
            Framing::None => Rest::Length(0),
            Framing::Length(length) => Rest::Length(length),
            Framing::Chunked => Rest::Chunked(ChunkScanner::new()),
            Framing::UntilClose => Rest::UntilClose,
        };
        exchange.timer.set(exchange.origin.worker.config().timeouts.response_body_idle);
        let mut relay = Self {
            endpoint: upstream.picked.address,
            octets: 0,
            exchange,
            upstream: Some(upstream),
            attempts,
            rest,
            trailers: Vec::new(),
            status: facts.status,
            keep_alive: facts.keep_alive,
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
