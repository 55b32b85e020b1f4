//! A stream of JSON objects, one a line, as schedulers send their events.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};

use super::Body;
use crate::source::SourceError;

/// Cuts a body into its lines.
pub(crate) struct Lines {
    body: Body,
    held: BytesMut,
    /// Octets of `held` that hold no line feed.
    searched: usize,
    line_len_max: usize,
}

impl Lines {
    /// The lines of `body`, none longer than `line_len_max` octets.
    pub(crate) fn new(body: Body, line_len_max: usize) -> Self {
        Self { body, held: BytesMut::new(), searched: 0, line_len_max }
    }

    /// The next line that is not blank, without its end; `None` when the stream has ended. Cancel-safe: what has arrived
    /// is kept.
    ///
    /// # Errors
    /// [`SourceError::Idle`] if nothing comes within `idle`, [`SourceError::Malformed`] for a line that is too long, and
    /// those of a stream that breaks off.
    pub(crate) async fn next(&mut self, idle: Duration) -> Result<Option<Bytes>, SourceError> {
        loop {
            while let Some(line) = self.take() {
                if !line.trim_ascii().is_empty() {
                    return Ok(Some(line));
                }
            }
            if self.held.len() > self.line_len_max {
                let message = format!("a line is longer than the limit of {} octets", self.line_len_max);
                return Err(SourceError::Malformed { place: self.body.place().to_owned(), message });
            }
            match self.body.stream_chunk(idle).await? {
                Some(chunk) => self.held.extend_from_slice(&chunk),
                // A last line without an end may have been cut off.
                None => return Ok(None),
            }
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        let Some(at) = self.held[self.searched..].iter().position(|octet| *octet == b'\n') else {
            self.searched = self.held.len();
            return None;
        };
        let line = self.held.split_to(self.searched + at);
        self.held.advance(1);
        self.searched = 0;
        Some(line.freeze())
    }
}
