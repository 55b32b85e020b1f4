//! One request on a shared connection, in the clothes of a connection that speaks HTTP/1.1.

use core::cell::RefCell;
use core::task::{Context, Poll};
use core::time::Duration;
use std::io;
use std::pin::Pin;
use std::rc::Rc;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::clothes::{self, Head};
use super::mail::Fate;
use super::state::Core;
use crate::h2::Key;
use crate::l7::chunked::{ChunkScanner, keep_trailers};
use crate::l7::request::Framing;

/// One request and its response. Dropped before the response has ended, it is cancelled.
#[derive(Debug)]
pub(crate) struct SharedStream {
    core: Rc<RefCell<Core>>,
    /// `None` until the head is written.
    key: Option<Key>,
    rest: Rest,
    /// What was to be written is none that can be.
    is_unfit: bool,
}

/// What is still to be written of the request.
#[derive(Debug)]
enum Rest {
    Head,
    Length(u64),
    Chunked(ChunkScanner, Vec<u8>),
    Nothing,
}

impl SharedStream {
    pub(super) fn new(core: &Rc<RefCell<Core>>) -> Self {
        core.borrow_mut().take_place();
        Self { core: Rc::clone(core), key: None, rest: Rest::Head, is_unfit: false }
    }

    /// The endpoint did not begin with the request: sending it again is safe.
    pub(crate) fn was_refused(&self) -> bool {
        match self.key {
            Some(key) => self.core.borrow_mut().mail(key).fate == Some(Fate::Refused),
            None => self.core.borrow().is_closed(),
        }
    }

    /// The request cannot be said in HTTP/2: a write failed for that, and no endpoint did anything wrong.
    pub(crate) const fn is_unfit(&self) -> bool {
        self.is_unfit
    }

    /// Why the endpoint ended the stream early.
    pub(crate) fn reset_reason(&self) -> Option<u32> {
        match self.core.borrow_mut().mail(self.key?).fate? {
            Fate::Reset(reason) => Some(reason),
            Fate::Refused | Fate::Lost => None,
        }
    }

    /// The response, or what is next of it, did not come within `limit`.
    pub(crate) fn doubt(&self, now_ms: u64, limit: Duration) {
        self.core.borrow_mut().doubt(now_ms, limit);
    }

    /// Ready when a read brings something.
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut core = self.core.borrow_mut();
        let Some(key) = self.key else {
            // Whoever writes waits for the same.
            return if core.is_closed() { Poll::Ready(Ok(())) } else { Poll::Pending };
        };
        let mail = core.mail(key);
        if mail.is_ready() {
            return Poll::Ready(Ok(()));
        }
        mail.watch_reader(cx);
        Poll::Pending
    }

    fn poll_write_head(&mut self, cx: &Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let mut slots = clothes::slots();
        let Some(head) = Head::parse(octets, &mut slots) else {
            // Heads are written as a whole; what is none was not judged.
            self.is_unfit = true;
            return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
        };
        let opened = core::task::ready!(self.core.borrow_mut().poll_open(cx, &head));
        let Some(key) = opened else { return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())) };
        self.key = Some(key);
        self.rest = match head.framing {
            Framing::Length(length) => Rest::Length(length),
            Framing::Chunked => Rest::Chunked(ChunkScanner::new(), Vec::new()),
            Framing::None | Framing::UntilClose => Rest::Nothing,
        };
        Poll::Ready(Ok(head.length))
    }

    /// Writes content, of which the framing is taken off.
    fn poll_write_content(&mut self, cx: &Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let Some(key) = self.key else { return Poll::Ready(Ok(0)) };
        let core = &mut *self.core.borrow_mut();
        if !core.session.is_sending(key) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut written = 0;
        while written < octets.len() {
            match self.rest.write(core, key, &octets[written..]) {
                Ok(0) => break,
                Ok(count) => written += count,
                Err(error) => {
                    self.is_unfit = true;
                    return Poll::Ready(Err(error));
                }
            }
        }
        if written == 0 && !octets.is_empty() {
            core.mail(key).watch_writer(cx);
            return Poll::Pending;
        }
        core.wake_driver();
        Poll::Ready(Ok(written))
    }
}

impl Rest {
    /// Writes the next of `octets`, which are not empty: how many; 0 while there is no room.
    fn write(&mut self, core: &mut Core, key: Key, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::Length(left) => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX);
                let count = octets.len().min(core.room(key)).min(most);
                *left -= count as u64;
                let is_end = *left == 0;
                if count > 0 {
                    core.session.send_data(key, &octets[..count], is_end, &mut core.out.octets);
                }
                if is_end {
                    *self = Self::Nothing;
                }
                Ok(count)
            }
            Self::Chunked(scanner, trailers) => {
                // Framing goes nowhere, and needs no room.
                let most = if scanner.is_in_data() { octets.len().min(core.room(key)) } else { octets.len() };
                if most == 0 {
                    return Ok(0);
                }
                let run = scanner
                    .next_run(&octets[..most])
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                if run.is_data {
                    core.session.send_data(key, &octets[..run.length], false, &mut core.out.octets);
                } else if run.is_trailer {
                    keep_trailers(&octets[..run.length], trailers);
                }
                if scanner.is_done() {
                    end_chunks(core, key, trailers);
                    *self = Self::Nothing;
                }
                Ok(run.length)
            }
            Self::Head | Self::Nothing => Ok(0),
        }
    }
}

fn end_chunks(core: &mut Core, key: Key, trailers: &[u8]) {
    match clothes::push_trailers(trailers, &mut core.out.octets) {
        Some(start) => core.session.end_headers(key, start, true, &mut core.out.octets),
        None => {
            core.session.send_data(key, b"", true, &mut core.out.octets);
        }
    }
}

impl AsyncRead for SharedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        core::task::ready!(self.poll_read_ready(cx))?;
        let Some(key) = self.key else { return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())) };
        let mut core = self.core.borrow_mut();
        let mail = core.mail(key);
        if mail.unread().is_empty() {
            return Poll::Ready(if mail.is_ended {
                Ok(())
            } else {
                Err(io::ErrorKind::ConnectionReset.into())
            });
        }
        core.read(key, target.remaining(), |octets| target.put_slice(octets));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SharedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match this.rest {
            Rest::Head => this.poll_write_head(cx, octets),
            _ => this.poll_write_content(cx, octets),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for SharedStream {
    fn drop(&mut self) {
        self.core.borrow_mut().close(self.key);
    }
}
