//! A client that speaks HTTP/2, and contents that come as a test wants them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinSet;

use crate::harness::*;

pub(crate) type Content = http_body_util::combinators::BoxBody<Bytes, Infallible>;

/// Runs a client; gives what it makes of a connection.
pub(crate) fn with_client<T>(node: &Node, act: impl AsyncFnOnce(SendRequest<Content>) -> T) -> T {
    with_client_at(node.address, 1 << 20, act)
}

/// The same with so many octets that a stream may be sent ahead.
pub(crate) fn with_client_at<T>(
    address: SocketAddr,
    window: u32,
    act: impl AsyncFnOnce(SendRequest<Content>) -> T,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(window)
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let mut driving = JoinSet::new();
        driving.spawn(connection);
        tokio::time::timeout(PATIENCE, act(sender)).await.expect("it takes too long")
    })
}

pub(crate) fn empty() -> Content {
    Empty::new().boxed()
}

pub(crate) fn full(octets: impl Into<Bytes>) -> Content {
    Full::new(octets.into()).boxed()
}

pub(crate) async fn whole(response: Response<Incoming>) -> (u16, HeaderMap, Bytes, Option<HeaderMap>) {
    let (parts, body) = response.into_parts();
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned();
    (parts.status.as_u16(), parts.headers, collected.to_bytes(), trailers)
}

pub(crate) fn to(path: &str) -> http::request::Builder {
    Request::builder().uri(format!("http://app.example{path}"))
}

/// Frames that are all there.
pub(crate) struct Frames(pub(crate) std::collections::VecDeque<Frame<Bytes>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::task::Poll::Ready(self.get_mut().0.pop_front().map(Ok))
    }
}

/// Frames behind which nothing ever comes.
#[derive(Default)]
pub(crate) struct Unfinished(pub(crate) std::collections::VecDeque<Frame<Bytes>>);

impl Body for Unfinished {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut().0.pop_front() {
            Some(frame) => std::task::Poll::Ready(Some(Ok(frame))),
            None => std::task::Poll::Pending,
        }
    }
}

/// Content that comes an octet at a time.
pub(crate) struct Dripping {
    left: u32,
    pause: Duration,
    next: std::pin::Pin<Box<tokio::time::Sleep>>,
}

impl Dripping {
    pub(crate) fn new(octets: u32, pause: Duration) -> Self {
        Self { left: octets, pause, next: Box::pin(tokio::time::sleep(pause)) }
    }
}

impl Body for Dripping {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return std::task::Poll::Ready(None);
        }
        std::task::ready!(self.next.as_mut().poll(cx));
        self.left -= 1;
        self.next = Box::pin(tokio::time::sleep(self.pause));
        std::task::Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
    }
}
