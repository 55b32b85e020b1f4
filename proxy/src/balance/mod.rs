//! Balancing policies, one file each. Every pick is O(1) and allocates nothing: two draws, a place in a walk, or
//! 21 probes of a ring with a guide, whatever the number of endpoints.
//!
//! What a policy needs beyond the list of live endpoints is computed when the table changes, for the services
//! that need it: sums of weights where weights differ, a ring of points under consistent hashing. Equal weights
//! under the other policies need nothing. What moves from pick to pick (cursors) belongs to a worker
//! and starts at a random place, so that workers and edges do not walk in step.

mod consistent_hash;
mod least_request;
mod peak_ewma;
mod round_robin;
pub(crate) mod steps;
mod weights;

use portolan_table::{Endpoint, Service, ServicePort};

pub use consistent_hash::hash_key;
pub(crate) use consistent_hash::{Ring, hash_address};
pub(crate) use least_request::lighter;
pub(crate) use peak_ewma::{Candidate, Estimate, Usual, sooner};
pub(crate) use round_robin::Cursor;
pub(crate) use weights::Weights;

use crate::Balance;

/// Tables over the endpoints of one version of a service.
#[derive(Debug)]
pub(crate) struct ServiceTables {
    ports: Box<[Option<PortTable>]>,
}

/// The table over the live endpoints of one port.
#[derive(Debug)]
pub(crate) enum PortTable {
    /// Weights differ.
    Weights(Weights),
    /// Consistent hashing.
    Ring(Ring),
}

impl ServiceTables {
    /// The tables that `service` needs under `balance`; `None` if it needs none.
    pub(crate) fn build(service: &Service, balance: &Balance) -> Option<Self> {
        let ports: Box<[_]> = service.ports.iter().map(|port| table(port, balance)).collect();
        ports.iter().any(Option::is_some).then_some(Self { ports })
    }

    /// The table of the port at this index, if it is over as many endpoints as there are now.
    pub(crate) fn port(&self, index: usize, live: &[Endpoint]) -> Option<&PortTable> {
        self.ports.get(index)?.as_ref().filter(|table| {
            live.len()
                == match table {
                    PortTable::Weights(weights) => weights.len(),
                    PortTable::Ring(ring) => ring.len(),
                }
        })
    }
}

fn table(port: &ServicePort, balance: &Balance) -> Option<PortTable> {
    let live = port.live();
    match balance {
        _ if live.len() < 2 => None,
        Balance::ConsistentHash(_) => Some(PortTable::Ring(Ring::new(live))),
        Balance::RoundRobin | Balance::LeastRequest | Balance::PeakEwma => {
            port.weighted.then(|| PortTable::Weights(Weights::new(live.iter().map(|e| e.weight))))
        }
    }
}

/// A number below `n`, evenly, out of 64 random bits.
#[inline]
pub(crate) fn below(random: u64, n: usize) -> usize {
    ((u128::from(random) * n as u128) >> 64) as usize
}
