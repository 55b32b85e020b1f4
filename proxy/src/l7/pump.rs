//! Moves the content of one message from one connection to another, judging its framing on the way.

use core::task::{Context, Poll};
use std::io;
use std::pin::Pin;

use tokio::io::AsyncWrite;

use super::buffer::{Buffer, LARGE, Stock};
use super::chunked::{ChunkError, ChunkScanner};
use super::link::Source;
use super::request::Framing;

/// Content in relay.
///
/// Nothing is copied: octets are written from the buffer they were read into, as far as they have been judged
/// to belong to the message. Only a receiver that can't read chunks gets them decoded.
#[derive(Debug)]
pub(crate) struct Pump {
    rest: Rest,
    /// Octets at the front of the buffer that are judged and not written.
    judged: usize,
    /// Decoded content not written yet, for a receiver that can't read chunks.
    decoded: Option<Vec<u8>>,
    /// Octets written.
    moved: u64,
    /// More content than this is refused.
    most: u64,
}

#[derive(Debug)]
enum Rest {
    Length(u64),
    Chunked(ChunkScanner),
    UntilClose,
    /// A mistake was found: where the content ends is not known any more.
    Broken,
}

/// Why content ended early. Says on which side.
#[derive(Debug)]
pub(crate) enum PumpError {
    /// The sender closed before the end.
    Truncated,
    Read(#[expect(dead_code, reason = "for logs at debug level")] io::Error),
    Write(#[expect(dead_code, reason = "for logs at debug level")] io::Error),
    Malformed(#[expect(dead_code, reason = "for logs at debug level")] ChunkError),
    TooLarge,
}

/// What a pump that is not ready waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// For the sender.
    Read,
    /// For the receiver.
    Write,
}

impl Pump {
    pub(crate) fn new(framing: Framing, most: Option<u64>) -> Self {
        let rest = match framing {
            Framing::None => Rest::Length(0),
            Framing::Length(length) => Rest::Length(length),
            Framing::Chunked => Rest::Chunked(ChunkScanner::new()),
            Framing::UntilClose => Rest::UntilClose,
        };
        Self { rest, judged: 0, decoded: None, moved: 0, most: most.unwrap_or(u64::MAX) }
    }

    /// Chunks are to be decoded.
    pub(crate) fn decode(&mut self) {
        self.decoded = Some(Vec::new());
    }

    /// The first `length` octets of the buffer are to be written before the content: a head.
    pub(crate) fn lead(&mut self, length: usize) {
        self.judged = length;
    }

    /// Octets written so far, a head that led them included.
    pub(crate) fn moved(&self) -> u64 {
        self.moved
    }

    /// The last octet of the content has been judged; it may not have been written.
    pub(crate) fn is_complete(&self) -> bool {
        match &self.rest {
            Rest::Length(rest) => *rest == 0,
            Rest::Chunked(scanner) => scanner.is_done(),
            Rest::UntilClose | Rest::Broken => false,
        }
    }

    /// The last octet of the content has been written: what is in the buffer is not of this message.
    pub(crate) fn is_drained(&self) -> bool {
        self.is_complete() && self.judged == 0
    }

    /// Takes what is in `buffer` and belongs to the content to the end of `out`. For what arrived with the head.
    pub(crate) fn take_first(&mut self, buffer: &mut Buffer, out: &mut Vec<u8>) -> Result<(), PumpError> {
        self.judge(buffer)?;
        out.extend_from_slice(&buffer.filled()[..self.judged]);
        buffer.consume(core::mem::take(&mut self.judged));
        Ok(())
    }

    /// Judges the octets of `buffer` that have not been.
    fn judge(&mut self, buffer: &Buffer) -> Result<(), PumpError> {
        let fresh = &buffer.filled()[self.judged..];
        let judged = match &mut self.rest {
            Rest::Length(rest) => {
                let length = fresh.len().min(usize::try_from(*rest).unwrap_or(usize::MAX));
                *rest -= length as u64;
                Ok(length)
            }
            Rest::Chunked(scanner) => match scanner.scan(fresh) {
                Ok(_) if scanner.content() > self.most => Err(PumpError::TooLarge),
                scanned => scanned.map_err(PumpError::Malformed),
            },
            Rest::UntilClose => Ok(fresh.len()),
            Rest::Broken => Ok(0),
        };
        match judged {
            Ok(length) => self.judged += length,
            Err(error) => {
                self.rest = Rest::Broken;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Moves what can be moved. Ready when all of the content has been written; `waiting` says what for if not.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl Source,
        to: &mut (impl AsyncWrite + Unpin),
        (buffer, stock): (&mut Buffer, &Stock),
        waiting: &mut Waiting,
    ) -> Poll<Result<(), PumpError>> {
        loop {
            *waiting = Waiting::Write;
            if self.decoded.is_some() {
                core::task::ready!(self.poll_write_decoded(cx, to, buffer))?;
            } else {
                core::task::ready!(self.poll_write(cx, to, buffer))?;
            }
            if self.is_complete() {
                return Poll::Ready(Ok(()));
            }
            *waiting = Waiting::Read;
            match core::task::ready!(poll_read(cx, from, buffer, stock)) {
                Ok(0) if matches!(self.rest, Rest::UntilClose) => return Poll::Ready(Ok(())),
                Ok(0) => return Poll::Ready(Err(PumpError::Truncated)),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(PumpError::Read(error))),
            }
        }
    }

    /// Judges and writes until nothing judged is left in `buffer`.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut (impl AsyncWrite + Unpin),
        buffer: &mut Buffer,
    ) -> Poll<Result<(), PumpError>> {
        self.judge(buffer)?;
        while self.judged > 0 {
            let written = core::task::ready!(poll_write(cx, to, &buffer.filled()[..self.judged]))?;
            buffer.consume(written);
            self.judged -= written;
            self.moved += written as u64;
        }
        Poll::Ready(Ok(()))
    }

    /// As [`poll_write`](Self::poll_write), but only the content of chunks.
    fn poll_write_decoded(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut (impl AsyncWrite + Unpin),
        buffer: &mut Buffer,
    ) -> Poll<Result<(), PumpError>> {
        let decoded = self.decoded.get_or_insert_default();
        decoded.extend_from_slice(&buffer.filled()[..self.judged]);
        buffer.consume(core::mem::take(&mut self.judged));
        if let Rest::Chunked(scanner) = &mut self.rest {
            while !buffer.is_empty() && !scanner.is_done() {
                let run = scanner.next_run(buffer.filled()).map_err(PumpError::Malformed)?;
                if run.is_data {
                    decoded.extend_from_slice(&buffer.filled()[..run.length]);
                }
                buffer.consume(run.length);
            }
        }
        while !decoded.is_empty() {
            let written = core::task::ready!(poll_write(cx, to, decoded))?;
            decoded.drain(..written);
            self.moved += written as u64;
        }
        Poll::Ready(Ok(()))
    }
}

fn poll_write(
    cx: &mut Context<'_>,
    to: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
) -> Poll<Result<usize, PumpError>> {
    match core::task::ready!(Pin::new(to).poll_write(cx, bytes)) {
        Ok(0) => Poll::Ready(Err(PumpError::Write(io::ErrorKind::WriteZero.into()))),
        Ok(written) => Poll::Ready(Ok(written)),
        Err(error) => Poll::Ready(Err(PumpError::Write(error))),
    }
}

/// Reads more content, into storage that is taken only when there is something to read.
fn poll_read(
    cx: &mut Context<'_>,
    from: &mut impl Source,
    buffer: &mut Buffer,
    stock: &Stock,
) -> Poll<io::Result<usize>> {
    if buffer.is_empty() {
        core::task::ready!(from.poll_ready(cx))?;
        buffer.reserve(stock, LARGE);
    } else if buffer.room() == 0 {
        buffer.compact();
        buffer.reserve(stock, LARGE);
    }
    buffer.poll_fill(cx, from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(octets: &[u8]) -> Buffer {
        let mut buffer = Buffer::default();
        buffer.reserve(&Stock::default(), LARGE);
        buffer.append(octets);
        buffer
    }

    #[test]
    fn content_that_was_judged_and_not_written_is_not_drained() {
        let mut pump = Pump::new(Framing::Length(4), None);
        let mut buffer = buffer(b"bodyNEXT");
        pump.judge(&buffer).unwrap();
        assert!(pump.is_complete() && !pump.is_drained());
        buffer.consume(core::mem::take(&mut pump.judged));
        assert!(pump.is_drained());
        assert_eq!(buffer.filled(), b"NEXT");
    }

    #[test]
    fn content_in_which_a_mistake_was_found_is_never_drained() {
        for (body, most) in [("1\r\nab\r\n0\r\n\r\n", None), ("5\r\nhello\r\n0\r\n\r\n", Some(4))] {
            let mut pump = Pump::new(Framing::Chunked, most);
            let buffer = buffer(body.as_bytes());
            assert!(pump.judge(&buffer).is_err(), "{body:?}");
            assert!(!pump.is_complete() && !pump.is_drained(), "{body:?}");
        }
    }
}
