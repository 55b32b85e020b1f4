//! Where requests come from: one client at one listener on one worker; and how a request becomes a plan.

use core::cell::Cell;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::refusal::{self, Refusal};
use super::request::{ClientFacts, RequestFacts, RequestHead};
use crate::access_log::Entry;
use crate::balance::hash_key;
use crate::config::{HashKey, Network};
use crate::metrics::ListenerCells;
use crate::route::Query;
use crate::tls::ListenerTls;
use crate::upstream::Attempts;
use crate::worker::Worker;

/// What the connections of one listener share on one worker.
#[derive(Debug)]
pub(crate) struct ListenerState {
    pub(crate) name: Arc<str>,
    pub(crate) port: u16,
    /// What handshakes go by, on an `https` listener.
    pub(crate) tls: Option<Arc<ListenerTls>>,
    /// No further requests: what is in progress ends, what is idle closes.
    pub(crate) draining: Cell<bool>,
    pub(crate) cells: Arc<ListenerCells>,
}

impl ListenerState {
    pub(crate) fn new(
        name: Arc<str>,
        port: u16,
        tls: Option<Arc<ListenerTls>>,
        cells: Arc<ListenerCells>,
    ) -> Self {
        Self { name, port, tls, draining: Cell::new(false), cells }
    }
}

/// A request that was read, routed and rewritten.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) facts: RequestFacts,
    /// The head for the upstream.
    pub(super) out: Vec<u8>,
    /// Endpoints to try; or the answer, if none is to be tried.
    pub(super) attempts: Result<Attempts, Refusal>,
    pub(super) started: Instant,
}

/// A client of a listener.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) worker: Rc<Worker>,
    pub(super) listener: Rc<ListenerState>,
    pub(super) peer: SocketAddr,
    /// The client's connection is encrypted.
    is_tls: bool,
    facts: ClientFacts,
}

/// How a request ended.
#[derive(Debug, Default)]
pub(super) struct Outcome<'a> {
    /// The head as the endpoint gets it; empty if the request was none.
    pub(super) head: &'a [u8],
    /// What the client got; 499 if it went away before.
    pub(super) status: u16,
    pub(super) took: Duration,
    /// Octets sent to the client.
    pub(super) octets: u64,
    pub(super) attempts: Option<&'a Attempts>,
    pub(super) endpoint: Option<SocketAddr>,
    /// Why the proxy answered itself.
    pub(super) refusal: Option<&'static str>,
}

impl Origin {
    /// Counts a request that has ended, and logs it if it is in the sample or a failure of ours.
    pub(super) fn ended(&self, outcome: &Outcome<'_>) {
        self.listener.cells.request(outcome.status, outcome.took);
        let Some(log) = self.worker.log.as_ref().filter(|log| log.wants(outcome.refusal.is_some())) else {
            return;
        };
        let written = log.write(&Entry {
            listener: &self.listener.name,
            client: self.peer,
            is_tls: self.is_tls,
            head: outcome.head,
            status: outcome.status,
            took: outcome.took,
            octets: outcome.octets,
            service: outcome.attempts.map(Attempts::service),
            endpoint: outcome.endpoint,
            attempts: outcome.attempts.map_or(0, Attempts::made),
            refusal: outcome.refusal,
        });
        if !written {
            self.worker.cells.log_dropped.add(1);
        }
    }

    pub(super) fn new(
        worker: &Rc<Worker>,
        listener: &Rc<ListenerState>,
        peer: SocketAddr,
        is_tls: bool,
    ) -> Self {
        let config = worker.config();
        let address = peer.ip().to_canonical();
        let is_trusted = config.trusted_proxies.iter().any(|network| contains(network, address));
        Self {
            facts: ClientFacts::new(address, listener.port, is_tls, is_trusted, config.forwarded),
            is_tls,
            worker: Rc::clone(worker),
            listener: Rc::clone(listener),
            peer,
        }
    }

    /// Finds the route of a request and writes the head that its endpoint gets. `own` as in
    /// [`RequestHead::rewrite`].
    pub(super) fn plan(&self, request: &RequestHead<'_, '_>, own: Option<SocketAddr>) -> Plan {
        let started = Instant::now();
        let mut out = self.worker.stock.take_head();
        request.rewrite(&self.facts, own, &mut out);
        let snapshot = self.worker.table.load();
        let routes = snapshot.view(self.worker.routes);
        let query = Query {
            listener: &self.listener.name,
            host: request.authority.map(str::as_bytes),
            path: request.path(),
            method: request.method,
            fields: request.headers,
        };
        let attempts = match routes.find(&query) {
            None => Err(refusal::NO_ROUTE),
            Some(route) => self
                .worker
                .upstreams
                .begin(route, |key| self.hash_key(key, request), started)
                .map_err(refusal::nobody),
        };
        Plan { facts: request.facts, out, attempts, started }
    }

    /// What consistent hashing goes by: the same on every worker and node.
    fn hash_key(&self, key: &HashKey, request: &RequestHead<'_, '_>) -> u64 {
        match key {
            HashKey::ClientAddress => match self.peer.ip().to_canonical() {
                IpAddr::V4(address) => hash_key(&address.octets()),
                IpAddr::V6(address) => hash_key(&address.octets()),
            },
            HashKey::Path => hash_key(request.path().as_bytes()),
            HashKey::Header(name) => {
                let field = request.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
                hash_key(field.map_or(b"", |field| field.value))
            }
        }
    }
}

/// True if `address` lies in `network`.
fn contains(network: &Network, address: IpAddr) -> bool {
    let (a, b, bits) = match (network.address, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(u32::from(a)), u128::from(u32::from(b)), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a), u128::from(b), 128),
        _ => return false,
    };
    let host_bits = bits - u32::from(network.prefix).min(bits);
    host_bits == 128 || a >> host_bits == b >> host_bits
}
