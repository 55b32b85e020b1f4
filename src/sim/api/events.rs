//! `/v2/events`: server-sent events in the form Marathon gives them (no length, no chunks, CRLF).

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{Method, Request, StatusCode, header};
use hyper::body::Incoming;
use serde_json::{Map, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::request::parse_query;
use super::{message, wrong_method};
use crate::sim::fault::Stream;
use crate::sim::hub::Subscription;
use crate::sim::server::Reply;
use crate::sim::world::World;

/// Most events written at once.
const BATCH: usize = 64;

/// Opens a stream, if the request is as it must be.
pub(super) fn open(world: &Arc<World>, request: &Request<Incoming>, peer: SocketAddr) -> Reply {
    let accept = request.headers().get(header::ACCEPT).map(header::HeaderValue::as_bytes);
    if *request.method() != Method::GET || accept != Some(b"text/event-stream") {
        return wrong_method().into();
    }
    let query = parse_query(request.uri().query().unwrap_or_default());
    let kinds: HashSet<String> =
        query.into_iter().filter(|(key, _)| key == "event_type").map(|(_, v)| v).collect();
    let world = Arc::clone(world);
    let Some(subscription) = world.hub.subscribe(kinds) else {
        return message(StatusCode::SERVICE_UNAVAILABLE, "too many event streams").into();
    };
    Reply::Raw(Box::new(move |stream| Box::pin(run(world, subscription, stream, peer))))
}

/// Tells all readers about this one.
fn tell(kind: &str, peer: SocketAddr, world: &World) {
    let payload = Map::from_iter([("remoteAddress".to_owned(), Value::from(peer.ip().to_string()))]);
    world.with(|cluster| cluster.emit_raw(kind.to_owned(), payload));
}

async fn run(
    world: Arc<World>,
    mut subscription: Subscription,
    mut stream: TcpStream,
    peer: SocketAddr,
) -> io::Result<()> {
    let head = concat!(
        "HTTP/1.1 200 OK\r\n",
        "Cache-Control: no-cache, no-store, must-revalidate\r\n",
        "Pragma: no-cache\r\n",
        "Expires: 0\r\n",
        "Content-Type: text/event-stream;charset=UTF-8\r\n",
        "Connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    // The reader is in the hub already, so it sees its own arrival as everybody else does.
    tell("event_stream_attached", peer, &world);
    let ended = follow(&world, &mut subscription, &mut stream).await;
    drop(subscription);
    tell("event_stream_detached", peer, &world);
    ended
}

/// Writes events and keep-alives until either side ends it.
async fn follow(world: &World, subscription: &mut Subscription, stream: &mut TcpStream) -> io::Result<()> {
    let mut heartbeat =
        tokio::time::interval_at(tokio::time::Instant::now() + world.heartbeat, world.heartbeat);
    let (mut read, mut write) = stream.split();
    let mut from_client = [0; 256];
    loop {
        let mut batch = Vec::with_capacity(BATCH);
        // Cancel-safe arms: `recv_many` keeps what it has not handed over, a read returns what it took at once.
        tokio::select! {
            biased;
            last = &mut subscription.cut => {
                if let Ok(last) = last {
                    write.write_all(&last).await?;
                }
                return write.shutdown().await;
            }
            _ = subscription.events.recv_many(&mut batch, BATCH) => {}
            _ = heartbeat.tick() => {}
            count = read.read(&mut from_client) => if count? == 0 { return Ok(()) } else { continue },
        }
        let state = world.faults(|faults| faults.stream);
        let bytes = match (state, batch.is_empty()) {
            (Stream::Hung, _) => continue,
            (_, true) => b"\r\n".to_vec(),
            (_, false) => batch.iter().flat_map(|event| event.frame.iter().copied()).collect(),
        };
        // A reader that does not take it is cut off when its queue overflows meanwhile.
        tokio::select! {
            written = write.write_all(&bytes) => written?,
            _ = &mut subscription.cut => return Ok(()),
        }
    }
}
