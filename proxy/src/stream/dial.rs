//! Connections to endpoints.

use core::net::SocketAddr;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;

use super::{Handshakes, Stream};
use crate::config::UpstreamConfig;
use crate::metrics::WorkerCells;
use crate::tls::metrics::Failure;
use crate::tls::{Alpn, Client, Policy};
use crate::upstream::Picked;
use crate::worker::Worker;

/// How a connection to an endpoint is opened: with TLS if its port or the configuration says so. Borrows nothing: it may
/// outlive the attempt it was made for.
pub(crate) struct Dial {
    address: SocketAddr,
    encrypted: Option<Encrypted>,
}

struct Encrypted {
    /// `None` for a policy whose files were not read yet: it is being put in force at this moment.
    client: Option<Arc<Client>>,
    alpn: Alpn,
    handshakes: Rc<Handshakes>,
    cells: Arc<WorkerCells>,
}

impl Dial {
    pub(crate) fn new(worker: &Worker, picked: &Picked, config: &UpstreamConfig, alpn: Alpn) -> Self {
        let encrypted = config.tls.is_for(picked.app_protocol).then(|| Encrypted {
            client: worker.tls().clients().with(&config.tls),
            alpn,
            handshakes: Rc::clone(&worker.handshakes),
            cells: Arc::clone(&worker.cells),
        });
        Self { address: picked.address, encrypted }
    }

    /// What the connection will have been made by; `None` if none can be made now.
    pub(crate) fn policy(&self) -> Option<Policy> {
        match &self.encrypted {
            None => Some(Policy::Plain),
            Some(encrypted) => encrypted.client.as_ref().map(Policy::of),
        }
    }

    /// Opens a connection. The caller limits its time.
    ///
    /// # Errors
    /// The endpoint is not there, or ([`io::ErrorKind::InvalidData`]) TLS with it came to nothing, or
    /// ([`io::ErrorKind::ResourceBusy`]) it is ourselves who cannot.
    pub(crate) async fn open(&self) -> io::Result<Stream> {
        let stream = TcpStream::connect(self.address).await?;
        // A request, or what many streams have to say, is one write; waiting for more would only delay it.
        let _ = stream.set_nodelay(true);
        match &self.encrypted {
            None => Ok(Stream::Tcp(stream)),
            Some(encrypted) => encrypted.shake(stream, self.address).await,
        }
    }
}

impl Encrypted {
    async fn shake(&self, stream: TcpStream, address: SocketAddr) -> io::Result<Stream> {
        let Self { client, alpn, handshakes, cells } = self;
        let client = client.as_ref().ok_or(io::ErrorKind::ResourceBusy)?;
        // Until it is known how it ends.
        let given_up = GivenUp(cells);
        // In the heap, so that connections without TLS need no room for it.
        let connected = Box::pin(handshakes.connect(client, *alpn, stream, address)).await;
        core::mem::forget(given_up);
        match connected {
            Ok(stream) => {
                let session = stream.session();
                cells.upstream_tls.succeeded(session.protocol_version(), session.handshake_kind());
                Ok(Stream::Tls(Box::new(stream)))
            }
            Err((why, error)) => {
                cells.upstream_tls.failed(why);
                tracing::debug!(endpoint = %address, %error, "TLS with an endpoint failed");
                Err(error)
            }
        }
    }
}

/// Counts a handshake that nobody waits for any more.
struct GivenUp<'c>(&'c WorkerCells);

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        self.0.upstream_tls.failed(Failure::TimedOut);
    }
}
