//! TLS: certificates and who is shown which, session tickets, and the threads that do the arithmetic of handshakes.
//!
//! ```text
//!  files ─► Certificates (control side, looked at once a second) ─► Chooser of each listener, swapped as a whole
//!                                                                        │
//!  worker: ClientHello ─► bounded queue ─► handshake thread ─────────────┤ sign, key exchange
//!  worker: ◄───────────── session, flight to send ◄──────────────────────┘
//! ```
//!
//! A handshake costs a hundred times what a DNS query does. So a worker only moves the octets of a handshake; the
//! costly steps run on threads of their own, at a lower priority, and what waits for them is bounded.

mod certificate;
mod choice;
mod client;
mod config;
mod files;
pub(crate) mod metrics;
mod server;
mod sessions;
mod threads;
mod tickets;
mod watch;
mod x509;

pub use certificate::{Certificate, CertificateError, Role, read as read_certificates};
pub(crate) use client::{Alpn, Client, Policy};
pub use config::{CertificateConfig, CertificateSource, TlsConfig, TlsVersion, UpstreamTlsConfig};
pub use files::Certificates;
pub use server::Clients;
pub(crate) use server::{ListenerTls, Tls};
pub(crate) use threads::Work;
pub use watch::watch;

use std::sync::Arc;

pub use rustls_pki_types::ServerName;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// Reads the files that TLS to endpoints takes, for those who want to know whether they are fit.
///
/// # Errors
/// The first that cannot be used.
pub fn try_upstream(tls: &UpstreamTlsConfig) -> Result<(), CertificateError> {
    Client::new(tls).map(drop)
}

/// The cryptography of every TLS connection of the proxy.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
