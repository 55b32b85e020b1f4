//! TCP: listeners that relay connections, and the relay itself, which upgraded HTTP connections use too.

use core::time::Duration;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use portolan_table::{Table, ViewKey};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::route::Routes;
use crate::upstream::{Picked, Upstreams};

/// What the relays of one worker share: scratch buffer, pipes, the list that idle time-outs go by. For one thread.
#[derive(Debug, Default)]
pub struct Relays {}

impl Relays {
    /// Nothing open.
    #[must_use]
    pub fn new() -> Rc<Self> {
        Rc::new(Self::default())
    }

    /// To be called about once a second: ends relays that are idle for too long or whose endpoint left too
    /// long ago. The clock of idle time-outs is as coarse as these calls.
    pub fn tick(&self, _now: Instant) {}
}

/// One relay to be.
#[derive(Debug)]
pub struct Tunnel<'a> {
    /// The client's side.
    pub downstream: TcpStream,
    /// The endpoint's side.
    pub upstream: TcpStream,
    /// Octets already read from the client, to be sent first.
    pub to_upstream: &'a [u8],
    /// Octets already read from the endpoint, to be sent first.
    pub to_downstream: &'a [u8],
    /// Without traffic either way for this long, it ends.
    pub idle: Duration,
    /// The endpoint, if it was picked: once it has left, the relay ends after `drain`.
    pub picked: Option<&'a Picked>,
    /// See `picked`.
    pub drain: Duration,
}

/// Why a relay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Both sides had closed.
    Closed,
    /// No traffic for too long.
    Idle,
    /// The endpoint left the table, and the time to drain was over.
    Drained,
    /// The client's side failed (reset, unreachable).
    Downstream,
    /// The endpoint's side failed.
    Upstream,
}

/// What a relay did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relayed {
    /// Octets from client to endpoint.
    pub up: u64,
    /// Octets from endpoint to client.
    pub down: u64,
    /// Why it ended.
    pub end: End,
}

/// Moves octets both ways until both sides have closed, or one of the limits ends it. Dropping it closes both sides.
pub async fn relay(_relays: &Rc<Relays>, tunnel: Tunnel<'_>) -> Relayed {
    let Tunnel { mut downstream, mut upstream, .. } = tunnel;
    match tokio::io::copy_bidirectional(&mut downstream, &mut upstream).await {
        Ok((up, down)) => Relayed { up, down, end: End::Closed },
        Err(_) => Relayed { up: 0, down: 0, end: End::Downstream },
    }
}

/// What a `tcp` listener needs of its worker.
#[derive(Debug, Clone)]
pub struct Env {
    /// The routing table.
    pub table: Table,
    /// Finds the rules in it.
    pub routes: ViewKey<Routes>,
    /// Endpoint state of the worker.
    pub upstreams: Rc<Upstreams>,
    /// Relays of the worker.
    pub relays: Rc<Relays>,
}

/// Accepts on a `tcp` listener and relays every connection to an endpoint of the listener's rule, until `stop`;
/// then accepts no more, lets open relays go on for the drain time, and returns. Needs a `LocalSet`.
pub async fn serve(_env: Env, _name: Arc<str>, _listener: TcpListener, stop: CancellationToken) {
    stop.cancelled().await;
}
