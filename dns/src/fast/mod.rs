//! The UDP loop of one worker, and where it hands over what it does not answer itself.

use core::net::{IpAddr, SocketAddr};

use crate::wire::Query;

/// Where a query came from and where it was sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The client.
    pub client: SocketAddr,
    /// The address of ours that it asked, known on sockets bound to the unspecified address; the reply must
    /// come from it.
    pub asked: Option<IpAddr>,
}

/// Takes the queries whose names are in none of our zones. Implemented by the server; called on the worker
/// between batches, so it must only queue, within a limit of its own, and return.
pub trait SlowPath {
    /// True if this client may use the forwarder: the RA bit of all its replies.
    fn offers_recursion(&self, client: IpAddr) -> bool;

    /// Takes the query over. `false`: the loop answers REFUSED at once.
    fn take(&self, query: &Query<'_>, peer: Peer) -> bool;
}
