//! The UDP loop of one worker, and where it hands over what it does not answer itself.
//!
//! ```text
//!  readable ─► recvmmsg (≤ 32) ─► one table load ─► answer, answer, … ─► sendmmsg ─► counters
//!                                                     └ not ours ─► SlowPath::take, or REFUSED
//! ```
//!
//! Nothing is allocated, locked or timed per query; who may ask, and how often, the [`Gate`] knows. A reply that the kernel does not take is dropped and
//! counted: the client asks again.

mod batch;
mod family;
mod socket;
#[cfg(test)]
mod tests;

use core::cell::RefCell;
use core::net::{IpAddr, SocketAddr};
use std::io;

use portolan_table::{Table, ViewKey};
use tokio::io::Interest;
use tokio_util::sync::CancellationToken;

use crate::Zones;
use crate::gate::Gate;
use crate::metrics::{Cells, Tally, Transport};
use crate::wire::Query;
use batch::Batch;
use family::Family;
pub use socket::{UdpPort, bind_udp};

/// Where a query came from and where it was sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The client.
    pub client: SocketAddr,
    /// The address of ours that it asked, known on sockets bound to the unspecified address; the reply must
    /// come from it.
    pub asked: Option<IpAddr>,
    /// It has shown a cookie of ours: its address is no lie.
    pub known: bool,
}

/// Takes the queries whose names are in none of our zones. Implemented by the server; called on the worker
/// within a batch, so it must only queue, within a limit of its own, and return.
pub trait SlowPath {
    /// Largest reply over UDP in octets, and the size stated in our OPT record. Asked once per batch.
    fn udp_size_max(&self) -> u16;

    /// True if there is a forwarder at all. Asked once per batch.
    fn forwards(&self) -> bool;

    /// True if this client may use the forwarder: the RA bit of all its replies. Asked only if it [forwards](Self::forwards).
    fn offers_recursion(&self, client: IpAddr) -> bool;

    /// Takes over a query for a name that is not ours, asked only if it [forwards](Self::forwards). `false`: the loop
    /// answers REFUSED at once.
    fn take(&self, query: &Query<'_>, peer: Peer) -> bool;

    /// Takes over a query that wants more care than the loop has: a signed one, or for a transfer. `false`: the loop
    /// answers as if it were plain.
    fn take_special(&self, query: &Query<'_>, peer: Peer) -> bool {
        let _ = (query, peer);
        false
    }
}

/// Answers on `port` until `stop`. Cancel-safe: dropped between batches it loses nothing it has read.
///
/// # Errors
/// When the socket fails for good; single packets never end the loop.
pub async fn run(
    port: &UdpPort,
    table: &Table,
    key: ViewKey<Zones>,
    slow: &impl SlowPath,
    (gate, cells): (&RefCell<Gate>, &Cells),
    stop: CancellationToken,
) -> io::Result<()> {
    let source = Source { table, key, slow, gate, cells };
    if port.is_ipv4() {
        turn_batches::<nix::sys::socket::SockaddrIn, _>(port, &source, stop).await
    } else {
        turn_batches::<nix::sys::socket::SockaddrIn6, _>(port, &source, stop).await
    }
}

/// What a batch is answered from.
struct Source<'a, S> {
    table: &'a Table,
    key: ViewKey<Zones>,
    slow: &'a S,
    gate: &'a RefCell<Gate>,
    cells: &'a Cells,
}

async fn turn_batches<F: Family, S: SlowPath>(
    port: &UdpPort,
    source: &Source<'_, S>,
    stop: CancellationToken,
) -> io::Result<()> {
    let mut batch = Batch::<F>::new(port.knows_asked(), fastrand::u32(..));
    let mut stopped = core::pin::pin!(stop.cancelled());
    loop {
        tokio::select! {
            biased;
            () = &mut stopped => return Ok(()),
            ready = port.socket().readable() => ready?,
        }
        let mut full = false;
        let turned = port.socket().try_io(Interest::READABLE, || {
            full = turn(&mut batch, port, source)?;
            // Fewer than asked for: the socket is drained, the next packet makes it readable again.
            if full { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
        });
        match turned {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                tracing::debug!(%error, "receiving failed");
            }
            _ => {}
        }
        if full {
            // Others on this worker get their turn between full batches.
            tokio::task::yield_now().await;
        }
    }
}

/// Receives, answers and sends one batch. True if it was full: there may be more.
fn turn<F: Family, S: SlowPath>(
    batch: &mut Batch<F>,
    port: &UdpPort,
    source: &Source<'_, S>,
) -> io::Result<bool> {
    let received = batch.receive(port.socket())?;
    let mut tally = Tally::default();
    {
        let snapshot = source.table.load();
        let mut gate = source.gate.borrow_mut();
        gate.refresh();
        batch.answer(port.socket(), snapshot.view(source.key), (source.slow, &mut gate), &mut tally);
    }
    source.cells.add(Transport::Udp, &tally);
    Ok(received == batch::LEN)
}
