//! HTTP/2 from clients: one task per connection carries all its streams.
//!
//! ```text
//!  read once ─► Session ─► events ─► streams made due ─┐
//!                                                      ├─► each polled in turn ─► frames ─► one write
//!  an endpoint's socket wakes a stream (Ready) ────────┘
//! ```
//! A stream's head is written down as an HTTP/1.1 head, judged and rewritten by the same code as a client's own, so
//! that no rule holds for one protocol alone. A stream costs no task and no allocation: its state lies in a place
//! that the next stream takes over, waker and timer included.
//!
//! Memory of a connection is bounded: 64 KiB of input, 64 KiB of output (more only for a response head that is larger,
//! and for refusals, one a stream), and per stream [`STREAM_WINDOW`] of its upload (and its framing, if it comes in tiny pieces) and one buffer of its
//! response, at most 64 KiB. Nothing of it is held while the connection is idle, and after a second of that the places
//! of its streams aren't either.

mod closing;
mod download;
mod exchange;
mod head;
mod intake;
mod limits;
mod line;
mod obtain;
mod ready;
mod refuse;
mod upload;

use core::task::{Context, Poll, Waker};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::buffer::{Buffer, LARGE, SMALL, forget_front};
use super::clock::Timer;
use super::origin::Origin;
use crate::h2::{Bounds, Key, Session};
use exchange::Exchange;
use limits::Limits;
use line::Line;
use ready::{Bits, Ready};

/// Octets of content on their way to us on all streams; and those that one stream may have sent ahead of its endpoint,
/// which holds up its own stream with them, and no other.
const WINDOW: u32 = 1024 * 1024;
const STREAM_WINDOW: u32 = 128 * 1024;
/// Streams of one connection, whatever the configuration says.
const STREAMS_MAX: u32 = 4096;
/// How often one poll goes round before other tasks of the worker get their turn.
const ROUNDS: usize = 8;
/// Octets read and dropped at the end, so that a reset does not overtake GOAWAY.
const LINGER_OCTETS_MAX: usize = 1024 * 1024;

/// Serves a connection whose first octets lie in `input`.
pub(super) async fn serve<C>(origin: Rc<Origin>, client: C, input: Buffer, timer: Timer)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let mut engine = Engine::new(origin, client, input, timer);
    poll_fn(|cx| engine.poll(cx)).await;
}

/// A connection.
struct Engine<C> {
    origin: Rc<Origin>,
    client: C,
    input: Buffer,
    /// Frames in `input` were not looked at: there was no room for answers.
    is_held: bool,
    line: Line,
    slots: Vec<Slot>,
    ready: Arc<Ready>,
    limits: Limits,
    /// Where the next round begins.
    turn: usize,
    /// Pieces of a cookie, while a head is written down.
    cookie: Vec<u8>,
    stage: Stage,
    /// It has been idle for a while, and holds next to nothing.
    is_at_rest: bool,
}

/// The place of a stream.
struct Slot {
    waker: Waker,
    timer: Timer,
    exchange: Option<Exchange>,
}

/// How far the connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The client was told to open no more streams.
    Draining,
    /// Further streams are not carried out.
    Finishing,
    /// What is left is written, then the client has the last word; so much of it was dropped.
    Closing(usize),
}

/// What became of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    /// There may be more.
    Came,
    /// Nothing at present, or nothing will come.
    Waits,
    /// Nothing is wanted before something was written.
    Blocked,
    /// The connection is lost.
    Lost,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Engine<C> {
    fn new(origin: Rc<Origin>, client: C, input: Buffer, timer: Timer) -> Self {
        let limits = &origin.worker.config().limits;
        let bounds = Bounds {
            streams_max: limits.h2_streams_max.min(STREAMS_MAX),
            list_max: limits.request_head_max,
            fields_max: limits.request_headers_max + 4,
            stream_window: STREAM_WINDOW,
            window: WINDOW,
        };
        let capacity = bounds.streams_max as usize + 1;
        let session = Session::server(bounds);
        let mut out = origin.worker.stock.take_head();
        session.start(&mut out);
        let (blocked, due) = (Bits::new(capacity), Bits::new(capacity));
        Self {
            client,
            input,
            is_held: false,
            line: Line { session, out, written: 0, blocked, due },
            slots: Vec::new(),
            ready: Ready::new(capacity),
            limits: Limits::new(timer),
            turn: 0,
            cookie: Vec::new(),
            stage: Stage::Open,
            is_at_rest: false,
            origin,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.ready.watch(cx.waker());
        let stock = &self.origin.worker.stock;
        if self.line.out.capacity() == 0 {
            self.line.out = stock.take_head();
        }
        self.line.session.set_now(self.origin.worker.clock.now_ms());
        let ended = self.go_round(cx);
        if self.line.waiting() == 0 {
            self.origin.worker.stock.put_head(core::mem::take(&mut self.line.out));
        }
        ended
    }

    fn go_round(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut is_first = true;
        for _ in 0..ROUNDS {
            // Octets that came with the first ones are there without a read.
            let came = if core::mem::take(&mut is_first) && self.limits.is_new() {
                self.take_input();
                Input::Came
            } else {
                self.poll_input(cx)
            };
            if came == Input::Lost {
                return Poll::Ready(());
            }
            self.drain_if_asked();
            self.poll_streams(cx);
            if self.poll_write(cx).is_err() {
                return Poll::Ready(());
            }
            let is_still = match came {
                Input::Came => false,
                Input::Blocked => self.line.is_full(),
                Input::Waits | Input::Lost => true,
            };
            if is_still && self.line.due.is_empty() {
                return self.judge_limits(cx);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads once, and takes in what came. While much waits to be written, nothing is read: a client that takes no
    /// answers gets to ask no more.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Input {
        if self.limits.has_ended() {
            return Input::Waits;
        }
        if self.line.is_full() {
            return Input::Blocked;
        }
        if core::mem::take(&mut self.is_held) {
            self.take_or_drop(0);
            return Input::Came;
        }
        let stock = &self.origin.worker.stock;
        self.input.reserve(stock, if self.input.is_empty() { SMALL } else { LARGE });
        if self.input.room() < LARGE / 2 && !self.input.is_empty() {
            self.input.compact();
        }
        let filled = self.input.poll_fill(cx, &mut self.client);
        let came = match filled {
            Poll::Pending => Input::Waits,
            Poll::Ready(Ok(0)) if matches!(self.stage, Stage::Closing(_)) => Input::Lost,
            Poll::Ready(Ok(0)) => {
                self.limits.end();
                Input::Came
            }
            Poll::Ready(Ok(count)) => {
                self.take_or_drop(count);
                Input::Came
            }
            Poll::Ready(Err(_)) => Input::Lost,
        };
        self.input.release(&self.origin.worker.stock);
        came
    }

    fn take_or_drop(&mut self, count: usize) {
        if let Stage::Closing(dropped) = &mut self.stage {
            *dropped += count;
            if *dropped > LINGER_OCTETS_MAX {
                self.limits.end();
            }
            self.input.consume(self.input.len());
        } else {
            self.take_input();
        }
    }

    /// Polls the streams that can go on, each once.
    fn poll_streams(&mut self, cx: &mut Context<'_>) {
        self.ready.take(&mut self.line.due);
        for _ in 0..self.line.due.count() {
            let Some(at) = self.line.due.next(self.turn) else { break };
            self.line.due.clear(at);
            self.turn = at + 1;
            self.poll_stream(at);
            if self.line.is_full() && self.poll_write(cx).is_err() {
                // The next write tells.
                break;
            }
        }
    }

    fn poll_stream(&mut self, at: usize) {
        let Some(slot) = self.slots.get_mut(at) else { return };
        let Some(exchange) = &mut slot.exchange else { return };
        let mut cx = Context::from_waker(&slot.waker);
        if exchange.poll(&mut cx, &mut self.line, &slot.timer).is_ready() {
            self.free(Key::of(at), |_| ());
        }
    }

    /// Writes what there is, as far as the socket takes it.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let was_full = self.line.is_full();
        while self.line.waiting() > 0 {
            match Pin::new(&mut self.client).poll_write(cx, &self.line.out[self.line.written..]) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    self.line.written += count;
                    self.limits.wrote();
                }
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        forget_front(&mut self.line.out, &mut self.line.written);
        if self.line.waiting() == 0 {
            // What is buffered below, as TLS does, has to go out too.
            if let Poll::Ready(Err(error)) = Pin::new(&mut self.client).poll_flush(cx) {
                return Err(error);
            }
        }
        if was_full && !self.line.is_full() {
            self.line.unblock();
        }
        Ok(())
    }
}
