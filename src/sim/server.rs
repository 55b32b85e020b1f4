//! Connections: hyper for requests and answers, the bare socket for what hyper would not write.
//!
//! The event stream has neither a length nor chunks, and faults break HTTP on purpose. For those the service asks for the connection
//! by failing the request before anything is written; hyper then gives the socket back.

use core::convert::Infallible;
use core::future::poll_fn;
use core::pin::Pin;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::api;
use super::world::World;

/// Most connections at once; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 4096;

/// Bodies of answers.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What the service does with a request.
pub(crate) enum Reply {
    /// An answer for hyper to write.
    Answer(Response<Body>),
    /// Something for the bare socket.
    Raw(Raw),
}

/// Work on the bare socket; the connection ends with it.
pub(crate) type Raw =
    Box<dyn FnOnce(TcpStream) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send>> + Send>;

/// The request is taken over: hyper shall write nothing.
#[derive(Debug, thiserror::Error)]
#[error("connection taken over")]
struct TakenOver;

/// Accepts until told to stop.
pub(crate) async fn serve(
    world: Arc<World>,
    listener: TcpListener,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        // Accepting is cancel-safe: a connection not returned stays in the kernel's queue.
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of descriptors, most likely: give the others time to close some.
            tokio::time::sleep(core::time::Duration::from_millis(50)).await;
            continue;
        };
        let (world, stop) = (Arc::clone(&world), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = connection(world, stream, peer) => {}
            }
            drop(place);
        });
    }
}

async fn connection(world: Arc<World>, stream: TcpStream, peer: SocketAddr) {
    // Small answers and events go out at once; a failure here only costs time.
    let _ = stream.set_nodelay(true);
    let taken: Arc<Mutex<Option<Raw>>> = Arc::default();
    let slot = Arc::clone(&taken);
    let service = service_fn(move |request: Request<Incoming>| {
        let (world, slot) = (Arc::clone(&world), Arc::clone(&slot));
        let future = async move {
            match api::answer(&world, request, peer).await {
                Reply::Answer(response) => Ok(response),
                Reply::Raw(raw) => {
                    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(raw);
                    Err(TakenOver)
                }
            }
        };
        Box::pin(future) as Pin<Box<dyn Future<Output = Result<_, _>> + Send>>
    });
    let mut connection =
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    let ended = poll_fn(|context| connection.poll_without_shutdown(context)).await;
    let raw = taken.lock().unwrap_or_else(PoisonError::into_inner).take();
    let mut stream = connection.into_parts().io.into_inner();
    if let Some(raw) = raw {
        // The client may leave at any moment; that is no failure of ours.
        let _ = raw(stream).await;
    } else {
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "connection failed");
        }
        let _ = stream.shutdown().await;
    }
}
