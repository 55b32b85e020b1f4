//! Which certificate a client is shown: by the name it asks for, and by the signatures it can check.
//!
//! ```text
//!  name asked for ─► the certificate with this name ─► one with *.rest-of-it ─► the default: the first one
//!                                └── of those with one name: ECDSA before RSA, if the client can check it
//! ```

use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::SignatureAlgorithm;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use smallvec::SmallVec;

use super::certificate::Certificate;

/// Certificates for the same name, each with another kind of key; the cheapest to sign with first.
#[derive(Debug, Clone, Default)]
struct Alike(SmallVec<[Arc<CertifiedKey>; 2]>);

impl Alike {
    fn add(&mut self, key: &Arc<CertifiedKey>) {
        let algorithm = key.key.algorithm();
        // Of two of one kind the first stays, as in HAProxy.
        if self.0.iter().all(|known| known.key.algorithm() != algorithm) {
            self.0.push(Arc::clone(key));
            self.0.sort_by_key(|key| cost(key.key.algorithm()));
        }
    }

    fn choose(&self, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        let fitting = self.0.iter().find(|key| key.key.choose_scheme(schemes).is_some());
        fitting.or(self.0.first()).map(Arc::clone)
    }
}

const fn cost(algorithm: SignatureAlgorithm) -> u8 {
    match algorithm {
        SignatureAlgorithm::ECDSA => 0,
        SignatureAlgorithm::ED25519 => 1,
        SignatureAlgorithm::RSA => 2,
        _ => 3,
    }
}

/// The certificates of one listener.
#[derive(Debug, Default)]
pub(super) struct CertificateSet {
    exact: HashMap<Box<str>, Alike>,
    /// By what follows `*.`.
    below: HashMap<Box<str>, Alike>,
    default: Alike,
}

impl CertificateSet {
    /// In the order of the configuration: the first is the default.
    pub(super) fn new<'c>(certificates: impl Iterator<Item = &'c Certificate>) -> Self {
        let mut set = Self::default();
        let mut first: Option<&Certificate> = None;
        for certificate in certificates {
            first.get_or_insert(certificate);
            for name in &certificate.names {
                let alike = match name.strip_prefix("*.") {
                    Some(rest) => set.below.entry(rest.into()),
                    None => set.exact.entry(name.clone()),
                };
                alike.or_default().add(&certificate.key);
            }
        }
        if let Some(first) = first {
            // With the others of its name, so that the default fits as many clients as they do.
            let alike =
                first.names.first().and_then(|name| set.find(name.strip_prefix("*.").unwrap_or(name)));
            set.default = alike.cloned().unwrap_or_default();
            set.default.add(&first.key);
        }
        set
    }

    /// The certificates for a name, without the default.
    fn find(&self, name: &str) -> Option<&Alike> {
        self.exact.get(name).or_else(|| {
            let (_, rest) = name.split_once('.')?;
            self.below.get(rest)
        })
    }
}

/// Chooses for one listener. What it chooses from can be replaced while handshakes go on.
#[derive(Debug, Default)]
pub(super) struct Chooser {
    set: ArcSwap<CertificateSet>,
    /// Handshakes that asked for a name no certificate has.
    pub(super) strangers: AtomicU64,
}

impl Chooser {
    pub(super) fn replace(&self, set: CertificateSet) {
        self.set.store(Arc::new(set));
    }
}

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let set = self.set.load();
        let alike = match hello.server_name() {
            // The library has it in lower case already where that is cheap; names are short.
            Some(name) => set.find(&name.to_ascii_lowercase()).unwrap_or_else(|| {
                self.strangers.fetch_add(1, Ordering::Relaxed);
                &set.default
            }),
            None => &set.default,
        };
        alike.choose(&hello)
    }
}
