//! A way to an endpoint: a connection of the request's own, or a stream on one that is shared.

use core::task::{Context, Poll};
use core::time::Duration;
use std::io;
use std::pin::Pin;
use std::rc::Rc;

use portolan_table::AppProtocol;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::multiplex::{SharedStream, Terms};
use super::pool::Towards;
use crate::config::UpstreamProtocol;
use crate::stream::{Dial, Stream};
use crate::tls::{Alpn, Policy};
use crate::upstream::{Attempts, Picked};
use crate::worker::Worker;

/// What a request goes out on. Both look like a connection to an endpoint that speaks HTTP/1.1.
#[derive(Debug)]
pub(crate) enum Link {
    /// HTTP/1.1.
    Own(Stream),
    /// HTTP/2.
    Shared(SharedStream),
}

/// Whether HTTP/2 is spoken to an endpoint: by configuration, or else by what the scheduler says of the port.
fn is_shared(picked: &Picked, protocol: UpstreamProtocol) -> bool {
    match protocol {
        UpstreamProtocol::Auto => matches!(picked.app_protocol, AppProtocol::H2c | AppProtocol::Grpc),
        UpstreamProtocol::Http1 => false,
        UpstreamProtocol::H2 => true,
    }
}

impl Link {
    /// One that is there already. `surely` as in [`Pool::take`](super::Pool::take).
    pub(super) fn take(worker: &Worker, picked: &Picked, attempts: &Attempts, surely: bool) -> Option<Self> {
        let config = attempts.config();
        let policy = if config.tls.is_for(picked.app_protocol) {
            worker.tls().clients().policy(&config.tls)?
        } else {
            Policy::Plain
        };
        let towards = Towards::new(picked, policy);
        if is_shared(picked, config.protocol) {
            return worker.multiplex.take(towards).map(Self::Shared);
        }
        worker.pool.take(towards, surely).map(Self::Own)
    }

    /// One that is made now. Borrows nothing: it may outlive the attempt.
    pub(super) fn connect(
        worker: &Worker,
        picked: &Picked,
        attempts: &Attempts,
    ) -> impl Future<Output = io::Result<Self>> + 'static {
        let policy = attempts.config();
        let is_shared = is_shared(picked, policy.protocol);
        let dial = Dial::new(worker, picked, policy, if is_shared { Alpn::H2 } else { Alpn::Http1 });
        let shared = is_shared.then(|| {
            let config = worker.config();
            let terms = Terms {
                idle: policy.idle_timeout,
                stall: config.timeouts.write_stall,
                head_max: config.limits.response_head_max,
            };
            (
                Rc::clone(&worker.multiplex),
                dial.policy().map(|policy| Towards::new(picked, policy)),
                attempts.service().into(),
                terms,
            )
        });
        if !is_shared {
            worker.cells.connects.add(1);
        }
        async move {
            match shared {
                Some((multiplex, towards, service, terms)) => {
                    let towards = towards.ok_or(io::ErrorKind::ResourceBusy)?;
                    multiplex.connect(towards, &dial, service, terms).await.map(Self::Shared)
                }
                None => dial.open().await.map(Self::Own),
            }
        }
    }

    /// Keeps it for another request. A shared connection keeps itself.
    pub(super) fn keep(self, worker: &Worker, picked: &Picked, attempts: &Attempts) {
        if let Self::Own(stream) = self {
            worker.pool.put(stream, picked, attempts.service(), attempts.config());
        }
    }

    /// The endpoint said that it did not begin with the request: sending it again is safe.
    pub(super) fn was_refused(&self) -> bool {
        matches!(self, Self::Shared(stream) if stream.was_refused())
    }

    /// See [`SharedStream::is_unfit`].
    pub(super) const fn is_unfit(&self) -> bool {
        matches!(self, Self::Shared(stream) if stream.is_unfit())
    }

    /// Why the endpoint ended its stream early, where it can say so.
    pub(super) fn reset_reason(&self) -> Option<u32> {
        match self {
            Self::Own(_) => None,
            Self::Shared(stream) => stream.reset_reason(),
        }
    }

    /// The endpoint did nothing for as long as `limit`. A shared connection on which nothing comes gets no more requests.
    pub(super) fn doubt(&self, worker: &Worker, limit: Duration) {
        if let Self::Shared(stream) = self {
            stream.doubt(worker.clock.now_ms(), limit);
        }
    }

    /// See [`Stream::is_underway`].
    pub(super) const fn is_underway(&self) -> bool {
        match self {
            Self::Own(stream) => stream.is_underway(),
            Self::Shared(_) => false,
        }
    }

    #[inline]
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Own(stream) => stream.poll_read_ready(cx),
            Self::Shared(stream) => stream.poll_read_ready(cx),
        }
    }
}

impl AsyncRead for Link {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Own(stream) => Pin::new(stream).poll_read(cx, target),
            Self::Shared(stream) => Pin::new(stream).poll_read(cx, target),
        }
    }
}

impl AsyncWrite for Link {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Own(stream) => Pin::new(stream).poll_write(cx, octets),
            Self::Shared(stream) => Pin::new(stream).poll_write(cx, octets),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Own(stream) => Pin::new(stream).poll_flush(cx),
            Self::Shared(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Own(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Shared(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// One end of a relay: what a [`Pump`](super::pump::Pump) reads from.
pub(crate) trait Source: AsyncRead + Unpin {
    /// Ready when a read may bring something.
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl Source for Stream {
    #[inline]
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }
}

impl Source for Link {
    #[inline]
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }
}
