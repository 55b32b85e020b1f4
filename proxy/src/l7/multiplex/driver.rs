//! The task of a shared connection: reads what its endpoint sends, writes what all its streams say.

use core::cell::RefCell;
use core::task::{Context, Poll};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;

use tokio::io::AsyncWrite;

use super::Terms;
use super::state::Core;
use crate::l7::buffer::{Buffer, LARGE, Stock};
use crate::l7::clock::{Clock, Timer};
use crate::stream::Stream;

/// How often one poll goes round before other tasks of the worker get their turn.
const ROUNDS: usize = 8;

/// The task of one connection.
pub(super) struct Driver {
    core: Rc<RefCell<Core>>,
    stream: Stream,
    timer: Timer,
    clock: Rc<Clock>,
    terms: Terms,
    stock: Rc<Stock>,
    input: Buffer,
    waits: Waits,
}

/// What the limit that runs is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    Nothing,
    ForRequests,
    ForWrite,
}

impl Driver {
    pub(super) fn new(
        core: Rc<RefCell<Core>>,
        stream: Stream,
        (clock, stock): (&Rc<Clock>, &Rc<Stock>),
        terms: Terms,
    ) -> Self {
        Self {
            core,
            stream,
            timer: clock.timer(),
            clock: Rc::clone(clock),
            terms,
            stock: Rc::clone(stock),
            input: Buffer::default(),
            waits: Waits::Nothing,
        }
    }

    /// Carries the connection to its end.
    pub(super) async fn drive(mut self) {
        poll_fn(|cx| {
            core::task::ready!(self.poll(cx));
            // The closing message of TLS goes with what can be written at once.
            let _ = Pin::new(&mut self.stream).poll_shutdown(cx);
            Poll::Ready(())
        })
        .await;
        self.core.borrow_mut().lose();
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.watch(cx);
        {
            let mut core = self.core.borrow_mut();
            core.watch_driver(cx);
            core.session.set_now(self.clock.now_ms());
        }
        for _ in 0..ROUNDS {
            let read = self.poll_read(cx);
            if matches!(read, Poll::Ready(Err(_))) {
                // Whatever is written now nobody would answer; unwritten, it is known to be safe to send elsewhere.
                return Poll::Ready(());
            }
            let Ok(has_written) = self.poll_write(cx) else { return Poll::Ready(()) };
            if read.is_pending() {
                return self.judge_limits(has_written);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.reserve(&self.stock, LARGE);
        if self.input.room() < LARGE / 2 {
            self.input.compact();
        }
        let filled = self.input.poll_fill(cx, &mut self.stream);
        // A connection at rest holds no storage.
        self.input.release(&self.stock);
        let count = core::task::ready!(filled)?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        let core = &mut *self.core.borrow_mut();
        core.hear(self.clock.now_ms());
        if let Err(broken) = core.take_input(&mut self.input) {
            tracing::debug!(error = %broken, "HTTP/2 connection to an endpoint ends");
            core.session.abandon(broken.0, &mut core.out.octets);
            // What can't be written at once is not waited for; what was written in vain may have been seen.
            let _ = Pin::new(&mut self.stream).poll_write(cx, core.out.unwritten());
            core.out.wrote(core.out.pending());
            core.lose();
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let core = &mut *self.core.borrow_mut();
        let was_full = core.is_full();
        let mut has_written = false;
        while core.out.pending() > 0 {
            match Pin::new(&mut self.stream).poll_write(cx, core.out.unwritten()) {
                Poll::Pending => {
                    core.out.commit(self.stream.committed());
                    break;
                }
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    core.out.wrote(count);
                    has_written = true;
                }
                Poll::Ready(Err(error)) => {
                    core.out.commit(self.stream.committed());
                    return Err(error);
                }
            }
        }
        core.out.tidy();
        if core.out.pending() == 0 {
            core.rest_if_unused();
            if let Poll::Ready(Err(error)) = Pin::new(&mut self.stream).poll_flush(cx) {
                return Err(error);
            }
        }
        if was_full && !core.is_full() {
            core.wake_writers();
        }
        Ok(has_written)
    }

    fn judge_limits(&mut self, has_written: bool) -> Poll<()> {
        let core = self.core.borrow();
        let waits = match (core.out.pending() > 0, core.is_unused()) {
            (true, _) => Waits::ForWrite,
            (false, true) if core.is_leaving() => return Poll::Ready(()),
            (false, true) => Waits::ForRequests,
            (false, false) => Waits::Nothing,
        };
        if waits != self.waits || (has_written && waits == Waits::ForWrite) {
            self.waits = waits;
            match waits {
                Waits::ForWrite => self.timer.set(self.terms.stall),
                Waits::ForRequests => self.timer.set(self.terms.idle),
                Waits::Nothing => self.timer.stop(),
            }
        }
        if self.timer.is_expired() { Poll::Ready(()) } else { Poll::Pending }
    }
}
