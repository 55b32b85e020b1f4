//! The content of a stream's request, framed for an endpoint that speaks HTTP/1.1.

use core::task::{Context, Poll};
use std::pin::Pin;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use tokio::io::AsyncWrite;

use super::head::{self, Upload as UploadKind};
use crate::l7::refusal::{self, Refusal};
use crate::l7::request::{Framing, RequestFacts};
use crate::stream::Stream;

/// The content of a request on its way to the endpoint.
pub(super) struct Upload {
    content: Incoming,
    kind: UploadKind,
    pub(super) head: Vec<u8>,
    /// Octets of `head` written in this attempt.
    pub(super) sent: usize,
    /// Content not written yet, framed.
    piece: Vec<u8>,
    written: usize,
    /// Octets that Content-Length still promises, or that may still come.
    left: u64,
    /// Content was asked for and came: it is not here any more.
    taken: bool,
    /// The client's end has been read.
    is_read: bool,
    /// The endpoint stopped reading.
    pub(super) is_rejected: bool,
    /// Grows with every octet that moves.
    pub(super) moved: u64,
}

/// What an upload waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UploadWaits {
    /// For nothing: it is over.
    Nothing,
    /// For the client.
    Read,
    /// For the endpoint.
    Write,
}

impl Upload {
    pub(super) fn new(
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
        Self {
            content,
            kind,
            head,
            sent: 0,
            piece: Vec::new(),
            written: 0,
            left,
            taken: false,
            is_read: kind == UploadKind::None,
            is_rejected: false,
            moved: 0,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_rejected || (self.is_read && self.sent == self.head.len() && self.written == self.piece.len())
    }

    pub(super) fn waits(&self) -> UploadWaits {
        if self.is_done() {
            UploadWaits::Nothing
        } else if self.sent < self.head.len() || self.written < self.piece.len() {
            UploadWaits::Write
        } else {
            UploadWaits::Read
        }
    }

    /// No content was taken from the client: the request can be sent again.
    pub(super) fn is_untouched(&self) -> bool {
        !self.taken
    }

    /// Begins anew, for another endpoint. Only while it is untouched.
    pub(super) fn rewind(&mut self) {
        debug_assert!(self.is_untouched(), "what was taken can't be sent twice");
        self.sent = 0;
        self.is_rejected = false;
    }

    /// Sends what there is. After an error nothing more is sent: there would be a gap.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, to: &mut Stream) -> Poll<Result<(), Refusal>> {
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
                self.take(frame).inspect_err(|_| self.is_rejected = true)?;
            }
            self.moved += 1;
        }
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, frame: Option<Result<Frame<Bytes>, hyper::Error>>) -> Result<(), Refusal> {
        const BROKEN: Refusal = Refusal::bad(400, "the request ended before its content did");
        self.taken = true;
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
