//! A way to an endpoint.

use core::task::{Context, Poll};
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::stream::{Stream, dial};
use crate::upstream::{Attempts, Picked};
use crate::worker::Worker;

/// What a request goes out on.
#[derive(Debug)]
pub(crate) struct Link(Stream);

impl Link {
    /// One that is there already. `surely` as in [`Pool::take`](super::Pool::take).
    pub(super) fn take(worker: &Worker, picked: &Picked, attempts: &Attempts, surely: bool) -> Option<Self> {
        let is_tls = attempts.config().tls.is_for(picked.app_protocol);
        worker.pool.take((picked.address, picked.slot), is_tls, surely).map(Self)
    }

    /// One that is made now. Borrows nothing: it may outlive the attempt.
    pub(super) fn connect(
        worker: &Worker,
        picked: &Picked,
        attempts: &Attempts,
    ) -> impl Future<Output = io::Result<Self>> + 'static {
        worker.cells.connects.add(1);
        let dialling = dial(worker, picked, attempts.config());
        async move { dialling.await.map(Self) }
    }

    /// Keeps it for another request.
    pub(super) fn keep(self, worker: &Worker, picked: &Picked, attempts: &Attempts) {
        worker.pool.put(self.0, (picked.address, picked.slot), attempts.service(), attempts.config());
    }

    /// See [`Stream::is_underway`].
    pub(super) const fn is_underway(&self) -> bool {
        self.0.is_underway()
    }

    #[inline]
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read_ready(cx)
    }
}

impl AsyncRead for Link {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, target)
    }
}

impl AsyncWrite for Link {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, octets)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}
