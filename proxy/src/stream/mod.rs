//! A connection to a client or an endpoint: TCP, or TLS over it.
//!
//! An enum, so that the path of plain TCP pays one branch that is always guessed right, and no more.

mod dial;
mod handshake;
mod session;
mod tls;

use core::task::{Context, Poll};
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::tls::Policy;

pub(crate) use dial::Dial;
pub(crate) use handshake::Handshakes;
pub(crate) use session::Session;
pub(crate) use tls::TlsStream;

/// A connection. For one thread.
#[derive(Debug)]
pub enum Stream {
    /// What is read and written goes over the wire as it is.
    Tcp(TcpStream),
    /// Encrypted, after a finished handshake.
    Tls(Box<TlsStream>),
}

impl Stream {
    /// The socket below, for its options. Nothing may be read from or written to it where it carries TLS.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Tcp(stream) => stream,
            Self::Tls(stream) => stream.socket(),
        }
    }

    /// Whether what goes over it is encrypted.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// What a connection to an endpoint was made by.
    pub(crate) fn policy(&self) -> Policy {
        match self {
            Self::Tcp(_) => Policy::Plain,
            Self::Tls(stream) => stream.policy().unwrap_or(Policy::Plain),
        }
    }

    /// Ready when a read may bring something: octets, the end, or an error. It may still be pending then, where a
    /// record has arrived in part.
    ///
    /// # Errors
    /// The reactor is gone.
    #[inline]
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Tls(stream) => stream.poll_read_ready(cx),
        }
    }

    /// Some of what a pending or failed write was given may have reached the other side, though nobody was told.
    pub(crate) const fn is_underway(&self) -> bool {
        match self {
            Self::Tcp(_) => false,
            Self::Tls(stream) => stream.is_underway(),
        }
    }

    /// Octets of a pending or failed write that will go out, or have gone: it has to go on with the same.
    pub(crate) const fn committed(&self) -> usize {
        match self {
            Self::Tcp(_) => 0,
            Self::Tls(stream) => stream.committed(),
        }
    }

    /// True if nothing has come that is not asked for: neither the end of the stream, nor content. Costs no system
    /// call while the reactor has seen no event. What had come is lost.
    pub(crate) fn is_quiet(&mut self) -> bool {
        match self {
            Self::Tcp(stream) => {
                let mut octet = [0];
                matches!(stream.try_read(&mut octet), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
            Self::Tls(stream) => stream.is_quiet(),
        }
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, target),
            Self::Tls(stream) => stream.poll_read(cx, target),
        }
    }
}

/// A write that is pending has to be tried again with the same octets, more behind them or not.
impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, octets),
            Self::Tls(stream) => stream.poll_write(cx, octets),
        }
    }

    /// With TLS a single copy is cheaper than a record for each piece.
    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Self::Tls(stream) => {
                let first = pieces.iter().find(|piece| !piece.is_empty());
                stream.poll_write(cx, first.map_or(&[], |piece| piece))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        !self.is_tls()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => stream.poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => stream.poll_shutdown(cx),
        }
    }
}
