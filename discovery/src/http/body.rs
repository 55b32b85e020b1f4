//! The body of an answer, read chunk by chunk.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout};

use super::transport::{Connection, Limits, Pool, broken};
use crate::source::SourceError;

/// A whole body may take this many times the request limit to arrive: a trickle is not a list.
const TIMES_REQUEST_MAX: u32 = 12;

/// A body that is still arriving. Dropping it before its end closes the connection.
pub(crate) struct Body {
    incoming: Incoming,
    connection: Option<Connection>,
    pool: Arc<Pool>,
    place: String,
    limits: Limits,
    received: usize,
    waited: Duration,
}

impl Body {
    pub(super) fn new(
        incoming: Incoming,
        connection: Connection,
        pool: &Arc<Pool>,
        place: String,
        limits: Limits,
    ) -> Self {
        Self {
            incoming,
            connection: Some(connection),
            pool: Arc::clone(pool),
            place,
            limits,
            received: 0,
            waited: Duration::ZERO,
        }
    }

    /// Where it comes from, for messages.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// The next chunk within `idle`, without a limit on size: for streams. `None` at the end. Cancel-safe:
    /// nothing is lost if dropped.
    ///
    /// # Errors
    /// [`SourceError::Idle`] and [`SourceError::Connect`] for a body that breaks off.
    pub(crate) async fn stream_chunk(&mut self, idle: Duration) -> Result<Option<Bytes>, SourceError> {
        loop {
            let frame = timeout(idle, self.incoming.frame())
                .await
                .map_err(|_| SourceError::Idle { place: self.place.clone(), seconds: idle.as_secs() })?;
            match frame {
                None => {
                    if let Some(connection) = self.connection.take() {
                        self.pool.give_back(connection);
                    }
                    return Ok(None);
                }
                Some(Err(error)) => return Err(broken(&self.place, error)),
                // Trailers say nothing a source wants to know.
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The next chunk within the limits of time and size. Only time spent waiting counts, so that a slow
    /// consumer is not taken for a slow API.
    ///
    /// # Errors
    /// As [`Body::stream_chunk`]; [`SourceError::Malformed`] when the body is too large.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, SourceError> {
        let left = (self.limits.request * TIMES_REQUEST_MAX).saturating_sub(self.waited);
        let begun = Instant::now();
        let chunk = self.stream_chunk(self.limits.request.min(left)).await?;
        self.waited += begun.elapsed();
        self.received += chunk.as_ref().map_or(0, Bytes::len);
        if self.received > self.limits.body {
            let message = format!("larger than the limit of {} octets", self.limits.body);
            return Err(SourceError::Malformed { place: self.place.clone(), message });
        }
        Ok(chunk)
    }

    /// The whole body, if it is no larger than `size_max`.
    ///
    /// # Errors
    /// As [`Body::chunk`].
    pub(crate) async fn all(mut self, size_max: usize) -> Result<Vec<u8>, SourceError> {
        self.limits.body = self.limits.body.min(size_max);
        let mut whole = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            whole.extend_from_slice(&chunk);
        }
        Ok(whole)
    }
}
