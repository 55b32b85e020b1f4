//! A downstream connection: reads request after request and has each one carried out.
//!
//! ```text
//!  accepted ─► head ─► exchange ─► idle ─► head ─► …        idle: no buffer held, limit keep_alive
//!               │         │         └─► closed (client, limit, drain)
//!               │         ├─► lingering close (Connection: close, answers of ours that end it)
//!               └─► 4xx ──┘─► dropped (the response broke in the middle)
//! ```

use core::net::SocketAddr;
use core::task::{Context, Poll};
use core::time::Duration;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;

use tokio::io::AsyncWrite;

use super::buffer::{Buffer, LARGE, SMALL};
use super::clock::Timer;
use super::exchange::{Ending, Exchange, Upgraded};
use super::head::{HeadEnd, slots};
use super::http2;
use super::origin::{ListenerState, Origin, Outcome, Plan};
use super::refusal::{self, Refusal};
use super::request::{Verdict, judge};
use crate::l4;
use crate::stream::Stream;
use crate::worker::Worker;

/// The first octets of an HTTP/2 connection (RFC 9113 §3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a closed connection is read, so that a reset does not overtake the answer.
const LINGER: Duration = Duration::from_secs(2);
/// How long a connection that has sent nothing yet is waited for while the worker drains.
const FIRST_REQUEST: Duration = Duration::from_millis(500);
/// Octets read and dropped meanwhile.
const LINGER_OCTETS_MAX: usize = 1024 * 1024;

/// One downstream connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) origin: Rc<Origin>,
    pub(super) client: Stream,
    pub(super) inbound: Buffer,
    pub(super) timer: Timer,
    /// The client will send no more.
    pub(super) ended: bool,
    /// Requests carried out.
    served: u64,
    /// The worker drains, and the connection knows.
    is_last: bool,
}

/// What the client wants next.
enum Next {
    Request(Plan),
    Http2,
    Refused(Refusal),
    Closed,
}

impl Connection {
    pub(crate) fn new(
        worker: &Rc<Worker>,
        listener: &Rc<ListenerState>,
        client: Stream,
        peer: SocketAddr,
    ) -> Self {
        Self {
            timer: worker.clock.timer(),
            origin: Rc::new(Origin::new(worker, listener, peer, client.is_tls())),
            client,
            inbound: Buffer::default(),
            ended: false,
            served: 0,
            is_last: false,
        }
    }

    /// Serves the connection to its end.
    pub(crate) async fn run(mut self) {
        poll_fn(|cx| {
            self.timer.watch(cx);
            Poll::Ready(())
        })
        .await;
        self.timer.set(self.origin.worker.config().timeouts.request_head);
        loop {
            let plan = match self.next().await {
                Next::Request(plan) => plan,
                Next::Http2 => {
                    let Self { origin, client, inbound, timer, .. } = self;
                    return Box::pin(http2::serve(origin, client, inbound, timer)).await;
                }
                Next::Refused(refusal) => return self.refuse(refusal).await,
                Next::Closed => return self.leave().await,
            };
            self.served += 1;
            match Exchange::new(&mut self, plan).run().await {
                Ending::KeepAlive => {}
                Ending::Close => return self.close().await,
                Ending::Done => return,
                Ending::Tunnel(upgraded) => return self.tunnel(*upgraded).await,
            }
            let timeouts = &self.origin.worker.config().timeouts;
            self.timer.set(if self.inbound.is_empty() { timeouts.keep_alive } else { timeouts.request_head });
        }
    }

    async fn next(&mut self) -> Next {
        let mut end = HeadEnd::default();
        poll_fn(|cx| self.poll_next(cx, &mut end)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, end: &mut HeadEnd) -> Poll<Next> {
        loop {
            if !self.inbound.is_empty()
                && let Some(next) = self.admit(end)
            {
                return Poll::Ready(next);
            }
            if self.ended {
                return Poll::Ready(Next::Closed);
            }
            match self.poll_read_head(cx) {
                Poll::Ready(Ok(0)) => self.ended = true,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Next::Closed),
                Poll::Pending => return self.poll_give_up(),
            }
        }
    }

    /// Nothing came: whether to go on waiting.
    fn poll_give_up(&mut self) -> Poll<Next> {
        let idle = self.inbound.is_empty();
        if self.origin.listener.draining.get() && !core::mem::replace(&mut self.is_last, true) {
            if idle && self.served > 0 {
                return Poll::Ready(Next::Closed);
            }
            // Whoever has just connected was going to send a request: it is still served.
            self.timer.set(FIRST_REQUEST);
        }
        match (self.timer.is_expired(), idle) {
            (false, _) => Poll::Pending,
            (true, true) => Poll::Ready(Next::Closed),
            (true, false) => Poll::Ready(Next::Refused(refusal::HEAD_TIMED_OUT)),
        }
    }

    fn poll_read_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let stock = &self.origin.worker.stock;
        let was_idle = self.inbound.is_empty();
        if was_idle {
            self.inbound.release(stock);
            core::task::ready!(self.client.poll_read_ready(cx))?;
            self.inbound.reserve(stock, SMALL);
        } else if self.inbound.room() == 0 {
            self.inbound.compact();
            if self.inbound.room() == 0 {
                // The limit of a head is checked before its storage can grow this far.
                let most = self.origin.worker.config().limits.request_head_max + SMALL;
                self.inbound
                    .reserve(stock, if self.inbound.len() < LARGE { LARGE } else { most.max(2 * LARGE) });
            }
        }
        let read = core::task::ready!(self.inbound.poll_fill(cx, &mut self.client))?;
        if was_idle && self.served > 0 {
            self.timer.set(self.origin.worker.config().timeouts.request_head);
        }
        Poll::Ready(Ok(read))
    }

    /// Judges what has been read; `None` if more is needed.
    fn admit(&mut self, end: &mut HeadEnd) -> Option<Next> {
        if self.served == 0 {
            let octets = self.inbound.filled();
            let length = octets.len().min(PREFACE.len());
            if octets[..length] == PREFACE[..length] {
                return (length == PREFACE.len()).then_some(Next::Http2);
            }
        }
        // RFC 9112 §2.2: empty lines before a request line are left out.
        while *end == HeadEnd::default() && self.inbound.filled().starts_with(b"\r\n") {
            self.inbound.consume(2);
        }
        if matches!(self.inbound.filled(), b"" | b"\r") {
            return None;
        }
        let config = self.origin.worker.config();
        let mut slots = slots();
        let plan = match judge(self.inbound.filled(), end, &config.limits, &mut slots) {
            Ok(Verdict::Incomplete) => return None,
            Err(refusal) => return Some(Next::Refused(refusal)),
            Ok(Verdict::Complete(request)) => {
                // Only clients of HTTP/1.0 leave the host out; nobody else pays for the question.
                let is_nameless = request.authority.is_none();
                let own = is_nameless.then(|| self.client.socket().local_addr().ok()).flatten();
                self.origin.plan(&request, own)
            }
        };
        self.inbound.consume(plan.facts.head_length);
        Some(Next::Request(plan))
    }

    /// Answers a request that is none, and ends.
    pub(crate) async fn refuse(mut self, refusal: Refusal) {
        let mut answer = self.origin.worker.stock.take_head();
        refusal.compose(&mut answer, false, true);
        self.origin.worker.cells.answered(&refusal);
        let outcome = Outcome { status: refusal.status, refusal: Some(refusal.text), ..Outcome::default() };
        self.origin.ended(&outcome);
        if self.write_all(&answer).await.is_ok() {
            self.close().await;
        }
    }

    /// Writes all of it, within the limit for writes that stall.
    pub(super) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let limit = self.origin.worker.config().timeouts.write_stall;
        self.timer.set(limit);
        let mut written = 0;
        poll_fn(|cx| {
            while written < bytes.len() {
                match Pin::new(&mut self.client).poll_write(cx, &bytes[written..]) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(count)) => {
                        written += count;
                        self.timer.set(limit);
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending if self.timer.is_expired() => {
                        return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Ends between two requests: the closing message of TLS goes as far as that goes without waiting.
    async fn leave(mut self) {
        if self.client.is_tls() {
            poll_fn(|cx| {
                let _ = Pin::new(&mut self.client).poll_shutdown(cx);
                Poll::Ready(())
            })
            .await;
        }
    }

    /// Says that nothing more will come, then reads until the client has closed too: closing a socket with
    /// unread octets resets it, and the reset can overtake the answer (RFC 9112 §9.6).
    async fn close(mut self) {
        // The closing message of TLS waits behind what the client has not read.
        self.timer.set(self.origin.worker.config().timeouts.write_stall);
        let said = poll_fn(|cx| match Pin::new(&mut self.client).poll_shutdown(cx) {
            Poll::Pending if self.timer.is_expired() => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            polled => polled,
        })
        .await;
        if said.is_err() || self.ended {
            return;
        }
        self.timer.set(LINGER);
        let stock = &self.origin.worker.stock;
        let mut dropped = 0;
        poll_fn(|cx| {
            loop {
                self.inbound.discard(stock);
                if self.timer.is_expired() || dropped > LINGER_OCTETS_MAX {
                    return Poll::Ready(());
                }
                match self.client.poll_read_ready(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
                self.inbound.reserve(stock, SMALL);
                match core::task::ready!(self.inbound.poll_fill(cx, &mut self.client)) {
                    Ok(0) | Err(_) => return Poll::Ready(()),
                    Ok(count) => dropped += count,
                }
            }
        })
        .await;
    }

    /// The connection is another protocol's now: octets go both ways until both sides have closed.
    async fn tunnel(self, upgraded: Upgraded) {
        let Self { origin, client, inbound, timer, .. } = self;
        let worker = &origin.worker;
        // The relay has limits of its own.
        drop(timer);
        let config = worker.config();
        let tunnel = l4::Tunnel {
            downstream: client,
            upstream: upgraded.stream,
            to_upstream: inbound.filled(),
            to_downstream: upgraded.reply.filled(),
            idle: config.timeouts.tunnel_idle,
            picked: Some(&upgraded.picked),
            drain: config.drain,
        };
        l4::relay(&worker.relays, tunnel).await;
    }
}
