//! One direction of a relay.
//!
//! ```text
//!            small                       a read fills the scratch buffer
//!   ┌──────────────────────┐  ──────────────────────────────────────────►  ┌────────────────────────┐
//!   │ copy: recv into the  │                                               │ splice: socket → pipe  │
//!   │ shared buffer, send  │  ◄──────────────────────────────────────────  │ → socket, in the kernel│
//!   └──────────────────────┘     several pieces in a row are small         └────────────────────────┘
//! ```
//!
//! What could not be sent is held: in a buffer of its own, or in the pipe. While something is held nothing is
//! read, so a slow receiver slows the sender down and memory stays bounded. A pipe is held only as long as
//! there is something in it.

use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::io;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use super::Relays;
use super::pipe::Pipe;
use crate::stream::Stream;

/// Pieces moved before the other tasks of the worker get their turn.
const ROUNDS: u32 = 16;
/// A piece below this is small, in octets: copying it costs no more than passing it through a pipe.
const SMALL: usize = 8 * 1024;
/// So many small pieces in a row, and the direction is no longer spliced.
const SMALL_MAX: u8 = 8;

/// One direction.
#[derive(Debug)]
pub(super) struct Flow {
    held: Held,
    spliced: bool,
    /// Neither side is encrypted.
    may_splice: bool,
    small: u8,
    ended: bool,
    /// The receiver is gone, and how.
    refused: Option<Refused>,
    /// Octets sent on.
    pub(super) moved: u64,
}

#[derive(Debug)]
enum Held {
    Nothing,
    /// Octets, and how many of them were sent.
    Buffer(Vec<u8>, usize),
    /// A pipe with so many octets in it.
    Pipe(Pipe, usize),
}

/// Which end of a direction failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    /// The one that is read.
    From,
    /// The one that is written to.
    To(Refused),
}

/// How a receiver that takes no more had ended its own direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// In order, before it stopped reading.
    Finished,
    /// It did not: what it sent last may be cut off.
    Broken,
}

impl Refused {
    /// A write to a socket that was reset says which: "broken pipe" if the end of the other side had come before.
    fn of(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Finished } else { Self::Broken }
    }
}

impl Flow {
    /// A direction that begins with these octets. It may be spliced if neither side is encrypted.
    pub(super) fn new(first: &[u8], may_splice: bool) -> Self {
        let held = if first.is_empty() { Held::Nothing } else { Held::Buffer(first.to_vec(), 0) };
        Self { held, spliced: false, may_splice, small: 0, ended: false, refused: None, moved: 0 }
    }

    /// Moves what can be moved. Ready when everything up to the end of `from` was passed on; the end itself is the
    /// caller's to pass on. After a failure of `to` it may be polled on, and says the same each time.
    pub(super) fn poll(
        &mut self,
        relays: &Relays,
        from: &mut Stream,
        to: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failed>> {
        if self.refused.is_none() && !self.ended {
            match ready!(self.poll_move(relays, from, to, cx)) {
                Err(Failed::To(refused)) => {
                    self.release(relays);
                    self.refused = Some(refused);
                }
                moved => return Poll::Ready(moved),
            }
        }
        let Some(refused) = self.refused else { return Poll::Ready(Ok(())) };
        self.drop_what_comes(relays, from, cx).map_err(|_| Failed::From)?;
        Poll::Ready(Err(Failed::To(refused)))
    }

    fn poll_move(
        &mut self,
        relays: &Relays,
        from: &mut Stream,
        to: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failed>> {
        for _ in 0..ROUNDS {
            ready!(self.poll_send_held(relays, to, cx)).map_err(|error| Failed::To(Refused::of(&error)))?;
            let more = if self.spliced {
                ready!(self.poll_fill(relays, from, cx))?
            } else {
                ready!(self.poll_copy(relays, from, to, cx))?
            };
            if !more {
                self.ended = true;
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads on without a receiver, so that the sender is not stuck and what it is sent last can reach it: a socket
    /// closed with unread octets is reset.
    fn drop_what_comes(
        &mut self,
        relays: &Relays,
        from: &mut Stream,
        cx: &mut Context<'_>,
    ) -> io::Result<()> {
        let scratch = &mut *relays.scratch.borrow_mut();
        for _ in 0..ROUNDS {
            let mut read = ReadBuf::new(scratch);
            match Pin::new(&mut *from).poll_read(cx, &mut read) {
                Poll::Ready(result) => result?,
                Poll::Pending => return Ok(()),
            }
            if read.filled().is_empty() {
                self.ended = true;
                return Ok(());
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// The end of `from` was seen.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// The receiver broke.
    pub(super) fn broke(&self) -> bool {
        self.refused == Some(Refused::Broken)
    }

    /// Gives the pipe back, if one is held. To be called before the flow is dropped.
    pub(super) fn release(&mut self, relays: &Relays) {
        if let Held::Pipe(..) = core::mem::replace(&mut self.held, Held::Nothing) {
            relays.pipes.forget();
        }
    }

    fn poll_send_held(
        &mut self,
        relays: &Relays,
        to: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let sent = match &mut self.held {
                Held::Nothing => return Poll::Ready(Ok(())),
                Held::Buffer(octets, sent) => {
                    let n = ready!(Pin::new(&mut *to).poll_write(cx, &octets[*sent..]))?;
                    *sent += n;
                    if *sent == octets.len() {
                        self.held = Held::Nothing;
                    }
                    n
                }
                Held::Pipe(pipe, len) => {
                    let to = to.socket();
                    ready!(to.poll_write_ready(cx))?;
                    let n = match to.try_io(Interest::WRITABLE, || pipe.empty(to, *len)) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                        result => result?,
                    };
                    *len -= n;
                    if *len == 0
                        && let Held::Pipe(pipe, _) = core::mem::replace(&mut self.held, Held::Nothing)
                    {
                        relays.pipes.give(pipe);
                    }
                    n
                }
            };
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.moved += sent as u64;
        }
    }

    /// Reads into the scratch buffer and sends it on; keeps what could not be sent. False at the end of `from`.
    fn poll_copy(
        &mut self,
        relays: &Relays,
        from: &mut Stream,
        to: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool, Failed>> {
        let scratch = &mut *relays.scratch.borrow_mut();
        let size = scratch.len();
        let mut read = ReadBuf::new(scratch);
        ready!(Pin::new(from).poll_read(cx, &mut read)).map_err(|_| Failed::From)?;
        let octets = read.filled();
        if octets.is_empty() {
            return Poll::Ready(Ok(false));
        }
        let sent = match Pin::new(to).poll_write(cx, octets) {
            Poll::Ready(result) => result.map_err(|error| Failed::To(Refused::of(&error)))?,
            Poll::Pending => 0,
        };
        self.moved += sent as u64;
        if sent < octets.len() {
            self.held = Held::Buffer(octets[sent..].to_vec(), 0);
        }
        if octets.len() == size && self.may_splice {
            self.spliced = true;
            self.small = 0;
        }
        Poll::Ready(Ok(true))
    }

    /// Moves octets from the socket into a pipe. False at the end of `from`.
    fn poll_fill(
        &mut self,
        relays: &Relays,
        from: &Stream,
        cx: &mut Context<'_>,
    ) -> Poll<Result<bool, Failed>> {
        let from = from.socket();
        loop {
            ready!(from.poll_read_ready(cx)).map_err(|_| Failed::From)?;
            let Some(pipe) = relays.pipes.take() else {
                self.spliced = false;
                return Poll::Ready(Ok(true));
            };
            match from.try_io(Interest::READABLE, || pipe.fill(from)) {
                Ok(0) => {
                    relays.pipes.give(pipe);
                    return Poll::Ready(Ok(false));
                }
                Ok(len) => {
                    self.held = Held::Pipe(pipe, len);
                    self.small = if len < SMALL { self.small + 1 } else { 0 };
                    self.spliced = self.small < SMALL_MAX;
                    return Poll::Ready(Ok(true));
                }
                Err(error) => {
                    relays.pipes.give(pipe);
                    if error.kind() != io::ErrorKind::WouldBlock {
                        return Poll::Ready(Err(Failed::From));
                    }
                }
            }
        }
    }
}
