//! Sessions with endpoints, kept to be resumed.
//!
//! The library keeps sessions by the name asked for, which many endpoints have in common, while a ticket is of use to
//! the one that gave it. Here they are kept by the endpoint's address.

use core::net::SocketAddr;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

/// Endpoints whose sessions are kept; beyond that the one known longest is forgotten.
const ENDPOINTS_MAX: usize = 4096;
/// Tickets of one endpoint. Each is good for one connection, and servers give about two at a time.
const TICKETS_MAX: usize = 8;

/// The sessions of all endpoints towards which the same settings hold. Grows with what it holds.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    endpoints: HashMap<SocketAddr, Kept>,
    /// The endpoints from the one known longest.
    order: VecDeque<SocketAddr>,
}

/// What is known from connections before.
#[derive(Debug, Default)]
struct Kept {
    group: Option<NamedGroup>,
    session: Option<Tls12ClientSessionValue>,
    tickets: VecDeque<Tls13ClientSessionValue>,
}

/// The sessions of one endpoint.
#[derive(Debug)]
pub(super) struct SessionsOf {
    endpoint: SocketAddr,
    all: Arc<Sessions>,
}

impl SessionsOf {
    pub(super) fn new(endpoint: SocketAddr, all: &Arc<Sessions>) -> Self {
        Self { endpoint, all: Arc::clone(all) }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.all.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, change: impl FnOnce(&mut Kept)) {
        let mut known = self.known();
        let Known { endpoints, order } = &mut *known;
        if !endpoints.contains_key(&self.endpoint) {
            if order.len() >= ENDPOINTS_MAX
                && let Some(oldest) = order.pop_front()
            {
                endpoints.remove(&oldest);
            }
            order.push_back(self.endpoint);
        }
        change(endpoints.entry(self.endpoint).or_default());
    }
}

impl ClientSessionStore for SessionsOf {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.keep(|kept| kept.group = Some(group));
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.known().endpoints.get(&self.endpoint)?.group
    }

    fn set_tls12_session(&self, _: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.keep(|kept| kept.session = Some(session));
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.known().endpoints.get(&self.endpoint)?.session.clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        if let Some(kept) = self.known().endpoints.get_mut(&self.endpoint) {
            kept.session = None;
        }
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.keep(|kept| {
            if kept.tickets.len() >= TICKETS_MAX {
                kept.tickets.pop_front();
            }
            kept.tickets.push_back(ticket);
        });
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.known().endpoints.get_mut(&self.endpoint)?.tickets.pop_back()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_known_longest_is_forgotten() {
        let all = Arc::new(Sessions::default());
        let name = ServerName::try_from("app.example").unwrap();
        let of = |number: usize| {
            let [.., high, low] = number.to_be_bytes();
            SessionsOf::new(([10, 0, high, low], 443).into(), &all)
        };
        for number in 0..=ENDPOINTS_MAX {
            of(number).set_kx_hint(name.clone(), NamedGroup::X25519);
            of(number).set_kx_hint(name.clone(), NamedGroup::secp256r1);
        }
        assert_eq!(of(0).kx_hint(&name), None);
        assert_eq!(of(1).kx_hint(&name), Some(NamedGroup::secp256r1));
        assert_eq!(of(ENDPOINTS_MAX).kx_hint(&name), Some(NamedGroup::secp256r1));
        let known = of(0);
        let known = known.known();
        assert_eq!((known.endpoints.len(), known.order.len()), (ENDPOINTS_MAX, ENDPOINTS_MAX));
    }
}
