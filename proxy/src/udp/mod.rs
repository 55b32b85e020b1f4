//! UDP: listeners that relay datagrams, each client to one endpoint and back.
//!
//! ```text
//!  client ─► socket of the listener ─► flow of the client ─► connected socket ─► endpoint
//!            recvmmsg (≤ 32)           find, or pick           sendmmsg
//!  client ◄─ socket of the listener ◄─ flow of the socket ◄─ connected socket ◄─ endpoint
//!            sendmmsg (≤ 32)                                   recvmmsg, found by epoll
//! ```
//!
//! A flow begins with the first datagram of a client and keeps to the endpoint that was picked for it:
//!
//! ```text
//!            ┌────────┐   silent for `udp_idle`; room needed for a newer one (least recently used first);
//!  picked ──►│ pinned ├─► the endpoint refused, or has left the table: the next datagram is picked for anew
//!            └────────┘
//! ```
//!
//! A refusal (`ICMP` port unreachable, told by the connected socket) is a failure of the endpoint. An answer is its
//! success; so is a second without refusal in which datagrams went out, because many protocols never answer.
//!
//! Work per turn is bounded, and so is memory: a datagram that a full socket does not take is dropped and counted,
//! as a network would.

mod batch;
mod flows;
mod relay;
mod socket;
#[cfg(test)]
mod tests;

use core::cell::RefCell;
use core::time::Duration;
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;

use portolan_table::{Table, ViewKey};
use tokio_util::sync::CancellationToken;

use crate::route::Routes;
use crate::upstream::Upstreams;
use relay::Relay;
pub(crate) use socket::bind;

/// How often a listener that drains looks whether it is done.
const DRAIN_LOOK: Duration = Duration::from_millis(50);

/// What a `udp` listener needs of its worker.
#[derive(Debug, Clone)]
pub(crate) struct Env {
    pub(crate) table: Table,
    pub(crate) routes: ViewKey<Routes>,
    pub(crate) upstreams: Rc<Upstreams>,
    pub(crate) listeners: Rc<Listeners>,
}

/// The `udp` listeners of one worker, for its tick.
#[derive(Debug, Default)]
pub(crate) struct Listeners(RefCell<Vec<Weak<RefCell<Relay>>>>);

impl Listeners {
    /// To be called about once a second, after [`Upstreams::tick`]: ends flows that are idle for too long. The
    /// clock of idle time-outs is as coarse as these calls, which saves a look at the clock per datagram.
    pub(crate) fn tick(&self, now: Instant) {
        self.0.borrow_mut().retain(|relay| match relay.upgrade() {
            Some(relay) => {
                relay.borrow_mut().tick(now);
                true
            }
            None => false,
        });
    }
}

/// Relays the datagrams of one socket, until `stop`; then begins no more flows, lets those that are in use go on for
/// the drain time at most, and returns.
pub(crate) async fn serve(
    env: Env,
    name: Arc<str>,
    socket: std::net::UdpSocket,
    stop: CancellationToken,
) -> io::Result<()> {
    let socket = tokio::net::UdpSocket::from_std(socket)?;
    let listeners = Rc::clone(&env.listeners);
    let drain = {
        let (table, routes) = (env.table.clone(), env.routes);
        move || table.load().view(routes).config().drain
    };
    let relay = Relay::new(env, name, &socket)?;
    let replies = relay.replies()?;
    let relay = Rc::new(RefCell::new(relay));
    listeners.0.borrow_mut().push(Rc::downgrade(&relay));
    let turns = async {
        loop {
            // Cancel-safe: readiness stays until it is found to be none.
            tokio::select! {
                ready = socket.readable() => ready?,
                ready = replies.readable() => drop(ready?),
            }
            if relay.borrow_mut().turn(&socket, &replies) {
                // Others on this worker get their turn between full batches.
                tokio::task::yield_now().await;
            }
        }
    };
    let mut turns = core::pin::pin!(turns);
    tokio::select! {
        result = &mut turns => return result,
        () = stop.cancelled() => relay.borrow_mut().drain(),
    }
    let empty = async {
        while !relay.borrow().is_empty() {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    };
    tokio::select! {
        result = turns => result,
        _ = tokio::time::timeout(drain(), empty) => Ok(()),
    }
}
