//! Places for clients that wait for a resolver: so many in all, and no more than a share of them for one client.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::Forwarder;

/// One client may hold one in so many: names that time out, asked for by one, leave most places to the others.
/// Clients are told apart by address; who may use several of the allowed networks' has as many shares.
const CLIENT_SHARE: usize = 4;

/// Who holds the places.
#[derive(Debug, Default)]
pub(super) struct Seats {
    taken: usize,
    by_client: HashMap<IpAddr, usize>,
}

impl Seats {
    /// Takes a place of `max` for a client; `false` if all are taken, or the client has its share of them.
    pub(super) fn take(&mut self, client: IpAddr, max: usize) -> bool {
        let client = client.to_canonical();
        let own = self.by_client.get(&client).copied().unwrap_or(0);
        if self.taken >= max || own >= (max / CLIENT_SHARE).max(1) {
            return false;
        }
        self.taken += 1;
        self.by_client.insert(client, own + 1);
        true
    }

    fn leave(&mut self, client: IpAddr) {
        let client = client.to_canonical();
        self.taken -= 1;
        match self.by_client.get_mut(&client) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(self.by_client.remove(&client)),
        }
    }

    pub(super) fn taken(&self) -> usize {
        self.taken
    }
}

/// A taken place, left on drop; never dropped while the state is locked. It goes with the question if that is
/// sent, so that who asks and goes away still holds it until the question is answered or given up.
pub(super) struct Seat {
    pub(super) forwarder: Arc<Forwarder>,
    pub(super) client: IpAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.forwarder.lock();
        state.seats.leave(self.client);
        self.forwarder.metrics.in_flight.set(state.seats.taken() as i64);
    }
}
