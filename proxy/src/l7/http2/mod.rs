//! HTTP/2 with prior knowledge (RFC 9113 §3.3): `hyper` speaks it, every stream is a request like any other.
//!
//! A stream's head is written down as an HTTP/1.1 head, judged and rewritten by the same code as a client's
//! own, so that no rule holds for one protocol alone. Limits: streams and header list by configuration,
//! memory by the windows below, resets by the defaults of `hyper` (RFC 9113 §10.5).

mod head;
mod obtain;
mod open;
mod reply;
mod stream;
mod upload;

use core::convert::Infallible;
use core::pin::pin;
use core::task::{Context, Poll};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffer::Buffer;
use super::clock::Timer;
use super::origin::Origin;
use crate::stream::Stream;
use open::{OnThisThread, OpenStream, Streams};
use reply::Reply;

/// Octets of one stream's content that a client may send ahead of the endpoint.
const STREAM_WINDOW: u32 = 128 * 1024;
/// The same of all streams together, and so what the uploads of one connection can hold in memory. Several times the
/// window of a stream, so that one endpoint that reads nothing does not stop the uploads beside it.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Octets of one stream's response that wait for the client, besides the two pieces being read and handed over.
const SEND_BUFFER: usize = 64 * 1024;

/// Serves a connection whose preface lies in `inbound`.
pub(super) async fn serve(origin: Rc<Origin>, client: Stream, inbound: Buffer, timer: Timer) {
    let config = origin.worker.config();
    let streams = Rc::new(Streams::default());
    let service = {
        let (origin, streams) = (Rc::clone(&origin), Rc::clone(&streams));
        service_fn(move |request: hyper::Request<Incoming>| {
            let open = OpenStream::new(&streams, &origin);
            async move { Ok::<hyper::Response<Reply>, Infallible>(stream::serve(open, request).await) }
        })
    };
    let mut builder = http2::Builder::new(OnThisThread::new(&streams));
    builder
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_concurrent_streams(config.limits.h2_streams_max)
        .max_header_list_size(u32::try_from(config.limits.request_head_max).unwrap_or(u32::MAX));
    let io = TokioIo::new(Replayed { first: inbound, stream: client });
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut limits = Limits { origin, timer, streams, moved: u64::MAX, is_ending: false };
    poll_fn(|cx| {
        if let Poll::Ready(end) = connection.as_mut().poll(cx) {
            if let Err(error) = end {
                tracing::debug!(%error, "HTTP/2 connection ended");
            }
            return Poll::Ready(());
        }
        match limits.judge() {
            Limit::Fine => Poll::Pending,
            Limit::Drain => {
                connection.as_mut().graceful_shutdown();
                // What this changed has to be polled for.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Limit::End => Poll::Ready(()),
        }
    })
    .await;
}

/// What the limits in time say about a connection as a whole, beside those of its streams.
struct Limits {
    origin: Rc<Origin>,
    timer: Timer,
    streams: Rc<Streams>,
    moved: u64,
    is_ending: bool,
}

enum Limit {
    Fine,
    /// No further streams.
    Drain,
    /// At once.
    End,
}

impl Limits {
    fn judge(&mut self) -> Limit {
        let timeouts = &self.origin.worker.config().timeouts;
        let is_idle = self.streams.is_idle();
        let moved = self.streams.moved();
        if core::mem::replace(&mut self.moved, moved) != moved {
            self.timer.set(if is_idle {
                timeouts.keep_alive
            } else {
                timeouts.response_head.max(timeouts.response_body_idle).max(timeouts.request_body_idle)
                    + timeouts.write_stall
            });
        }
        if !self.is_ending && self.origin.listener.draining.get() {
            self.is_ending = true;
            return Limit::Drain;
        }
        match (self.timer.is_expired(), is_idle && !self.is_ending) {
            (false, _) => Limit::Fine,
            (true, true) => {
                self.is_ending = true;
                self.timer.set(timeouts.write_stall);
                Limit::Drain
            }
            (true, false) => Limit::End,
        }
    }
}

/// A connection of which the first octets have been read already.
struct Replayed {
    first: Buffer,
    stream: Stream,
}

impl AsyncRead for Replayed {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.first.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buffer);
        }
        let count = this.first.len().min(buffer.remaining());
        buffer.put_slice(&this.first.filled()[..count]);
        this.first.consume(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replayed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
