//! Answers of the admin side, and their bodies on the way to the client.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use hyper::body::{Frame, SizeHint};
use portolan_table::Generation;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use super::crowd::Seat;

/// Octets handed over at once. The HTTP library takes what it is given: in one piece, the body would count as sent
/// while nearly all of it still waits for the client.
const PIECE: usize = 64 * 1024;

/// An answer, composed and not yet on its way.
pub(super) type Reply = Response<Bytes>;

/// True for the paths whose every answer is a JSON object with a `generation`.
pub(super) fn is_api(path: &str) -> bool {
    path.strip_prefix("/api/v1").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A plain-text answer.
pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    answer(status, "text/plain; charset=utf-8", body.into())
}

/// An answer with a body of any type.
pub(super) fn answer(status: StatusCode, kind: &'static str, body: Bytes) -> Reply {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A JSON answer of the API. The body has a `generation`.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Reply {
    match serde_json::to_vec(body) {
        Ok(mut body) => {
            body.push(b'\n');
            // It may wait for a slow client: what growing left over need not wait with it.
            body.shrink_to_fit();
            answer(status, "application/json", body.into())
        }
        Err(error) => {
            tracing::error!(%error, "an admin answer cannot be written");
            text(StatusCode::INTERNAL_SERVER_ERROR, "the answer cannot be written; see the log\n")
        }
    }
}

#[derive(Debug, Serialize)]
struct Refused<'a> {
    generation: Generation,
    error: &'a str,
}

#[derive(Debug, Serialize)]
struct Accepted<'a> {
    generation: Generation,
    accepted: &'a str,
}

/// Why the API does not do what it was asked.
pub(super) fn refused(status: StatusCode, generation: Generation, error: &str) -> Reply {
    json(status, &Refused { generation, error })
}

/// The API will do what it was asked.
pub(super) fn accepted(generation: Generation, what: &str) -> Reply {
    json(StatusCode::ACCEPTED, &Accepted { generation, accepted: what })
}

/// A body in memory, handed over piece by piece.
#[derive(Debug)]
pub(super) struct Body(Bytes);

impl Body {
    /// The body of an answer to the connection at `seat`, which rests when the last octet of it has left. The body
    /// keeps `room` as long as it keeps memory.
    pub(super) fn new(octets: Bytes, seat: Arc<Seat>, room: Option<OwnedSemaphorePermit>) -> Self {
        Self(Bytes::from_owner(Held { octets, seat, _room: room }))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let rest = &mut self.get_mut().0;
        let piece = rest.split_to(rest.len().min(PIECE));
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

/// What all pieces of a body keep alive.
#[derive(Debug)]
struct Held {
    octets: Bytes,
    seat: Arc<Seat>,
    _room: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.octets
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.seat.rest(Instant::now());
    }
}
