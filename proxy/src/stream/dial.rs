//! Connections to endpoints.

use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;

use super::Stream;
use crate::config::UpstreamConfig;
use crate::tls::metrics::Failure;
use crate::upstream::Picked;
use crate::worker::Worker;

/// Opens a connection to the endpoint, with TLS if its port or the configuration says so. Borrows nothing: it may
/// outlive the attempt it was begun for. The caller limits its time.
///
/// # Errors
/// The endpoint is not there, or ([`io::ErrorKind::InvalidData`]) TLS with it came to nothing, or
/// ([`io::ErrorKind::ResourceBusy`]) it is ourselves who cannot.
pub(crate) fn dial(
    worker: &Worker,
    picked: &Picked,
    config: &UpstreamConfig,
) -> impl Future<Output = io::Result<Stream>> + 'static {
    let address = picked.address;
    let encrypted = config.tls.is_for(picked.app_protocol).then(|| {
        let client = worker.tls().clients().with(&config.tls);
        (client, Rc::clone(&worker.handshakes), Arc::clone(&worker.cells))
    });
    async move {
        let stream = TcpStream::connect(address).await?;
        // A request is one write; waiting for more to send with it would only delay it.
        let _ = stream.set_nodelay(true);
        let Some((client, handshakes, cells)) = encrypted else { return Ok(Stream::Tcp(stream)) };
        // A policy whose files were not read yet: it is being put in force at this moment.
        let client = client.ok_or(io::ErrorKind::ResourceBusy)?;
        // Until it is known how it ends.
        let given_up = GivenUp(&cells);
        // In the heap, so that connections without TLS need no room for it.
        let connected = Box::pin(handshakes.connect(&client, stream, address)).await;
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
struct GivenUp<'c>(&'c crate::metrics::WorkerCells);

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        self.0.upstream_tls.failed(Failure::TimedOut);
    }
}
