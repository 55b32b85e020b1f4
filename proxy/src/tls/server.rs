//! What the handshakes of `https` listeners go by.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};

use super::choice::Chooser;
use super::client::{Client, Policy};
use super::files::{Certificates, ClientMap};
use super::threads::Threads;
use super::tickets::Tickets;
use super::{TlsConfig, TlsVersion, UpstreamTlsConfig, provider};
use crate::config::{Config, ListenerProtocol};

/// What the listeners share.
#[derive(Debug)]
pub(crate) struct Tls {
    provider: Arc<CryptoProvider>,
    tickets: Arc<Tickets>,
    listeners: Mutex<HashMap<Arc<str>, Arc<ListenerTls>>>,
    clients: Clients,
    threads: OnceLock<Threads>,
    /// The end of the first certificate to end, in Unix time; 0 for none.
    first_end: core::sync::atomic::AtomicI64,
}

/// What TLS connections to endpoints go by, as of the last time certificates were put in force. Clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Clients(Arc<ArcSwap<Known>>);

#[derive(Debug, Default)]
struct Known {
    now: Arc<ClientMap>,
    /// Those before, for workers that have not seen the configuration of the present ones.
    before: Arc<ClientMap>,
}

impl Known {
    fn with(&self, tls: &UpstreamTlsConfig) -> Option<&Arc<Client>> {
        self.now.get(tls).or_else(|| self.before.get(tls))
    }
}

impl Clients {
    /// The one with these settings; `None` if no certificates with them were put in force.
    pub(crate) fn with(&self, tls: &UpstreamTlsConfig) -> Option<Arc<Client>> {
        self.0.load().with(tls).map(Arc::clone)
    }

    /// What a connection has to be made by to be of use with these settings. No lock, and nothing that the workers
    /// share is written: it is asked for every request.
    pub(crate) fn policy(&self, tls: &UpstreamTlsConfig) -> Option<Policy> {
        self.0.load().with(tls).map(Policy::of)
    }

    /// Those whose files hold what they held stay: connections that were made by them, and their sessions, are as good
    /// as before.
    fn replace(&self, certificates: &Certificates) {
        let before = Arc::clone(&self.0.load().now);
        let mut now = ClientMap::clone(certificates.clients());
        for (tls, client) in &mut now {
            if let Some(known) = before.get(tls).filter(|known| known.is_like(client)) {
                *client = Arc::clone(known);
            }
        }
        self.0.store(Arc::new(Known { now: Arc::new(now), before }));
    }
}

/// TLS of one listener.
#[derive(Debug)]
pub(crate) struct ListenerTls {
    config: ArcSwap<ServerConfig>,
    chooser: Arc<Chooser>,
}

impl ListenerTls {
    /// What a handshake that begins now goes by.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }
}

impl Tls {
    pub(crate) fn new(config: &TlsConfig) -> Self {
        Self {
            provider: provider(),
            tickets: Tickets::new(config.ticket_rotation, Instant::now()),
            listeners: Mutex::default(),
            clients: Clients::default(),
            threads: OnceLock::new(),
            first_end: core::sync::atomic::AtomicI64::new(0),
        }
    }

    /// Puts certificates, and what `config` says besides, in force. Handshakes in progress end as they began.
    pub(crate) fn replace(&self, config: &Config, certificates: &Certificates) {
        self.tickets.set_rotation(config.tls.ticket_rotation);
        self.first_end.store(certificates.first_end().unwrap_or(0), Ordering::Relaxed);
        self.clients.replace(certificates);
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = config.listeners.iter().filter(|one| one.protocol == ListenerProtocol::Https);
        for listener in wanted {
            let known = listeners.get(&listener.name);
            let chooser = known.map_or_else(Arc::default, |known| Arc::clone(&known.chooser));
            chooser.replace(certificates.of_listener(&listener.name));
            let Some(server) = self.server(&config.tls, &chooser) else { continue };
            match known {
                Some(known) => known.config.store(server),
                None => {
                    let config = ArcSwap::new(server);
                    listeners.insert(Arc::clone(&listener.name), Arc::new(ListenerTls { config, chooser }));
                }
            }
        }
    }

    fn server(&self, tls: &TlsConfig, chooser: &Arc<Chooser>) -> Option<Arc<ServerConfig>> {
        let versions: &[_] = match tls.min_version {
            TlsVersion::V1_2 => &[&TLS13, &TLS12],
            TlsVersion::V1_3 => &[&TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(versions)
            .inspect_err(|error| tracing::error!(%error, "TLS cannot be set up"))
            .ok()?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::clone(chooser) as Arc<_>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = Arc::clone(&self.tickets) as Arc<_>;
        // Tickets are enough to resume by, and a shared table of sessions would be a lock for all workers.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Some(Arc::new(config))
    }

    /// TLS of a listener; `None` if no configuration with it was put in force.
    pub(crate) fn listener(&self, name: &str) -> Option<Arc<ListenerTls>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).get(name).map(Arc::clone)
    }

    /// What connections to endpoints go by.
    pub(crate) fn clients(&self) -> &Clients {
        &self.clients
    }

    /// The threads for handshakes, started when they are asked for first.
    pub(crate) fn threads(&self) -> &Threads {
        self.threads.get_or_init(Threads::start)
    }

    pub(super) fn rotate_tickets(&self, now: Instant) {
        self.tickets.rotate(now);
    }

    /// Handshakes that asked for a name no certificate has, by listener.
    pub(crate) fn strangers(&self) -> Vec<(Arc<str>, u64)> {
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |tls: &ListenerTls| tls.chooser.strangers.load(Ordering::Relaxed);
        let mut all: Vec<_> = listeners.iter().map(|(name, tls)| (Arc::clone(name), count(tls))).collect();
        all.sort();
        all
    }

    /// See [`Certificates::first_end`].
    pub(crate) fn first_end(&self) -> Option<i64> {
        Some(self.first_end.load(Ordering::Relaxed)).filter(|end| *end != 0)
    }
}
