//! What the configuration says about TLS, as meant.

use core::time::Duration;
use std::path::PathBuf;
use std::sync::Arc;

use portolan_table::AppProtocol;
use rustls_pki_types::ServerName;

/// `[proxy.tls]`: what holds for every `https` listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// The oldest version spoken.
    pub min_version: TlsVersion,
    /// How long one key encrypts session tickets. A ticket is accepted for one more such time.
    pub ticket_rotation: Duration,
}

/// Versions of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    V1_2,
    /// TLS 1.3 (RFC 8446).
    V1_3,
}

/// One `[[proxy.certificate]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateConfig {
    /// Where it lies.
    pub source: CertificateSource,
    /// Listeners that may show it; empty for every `https` listener.
    pub listeners: Vec<Arc<str>>,
}

/// Where a certificate lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateSource {
    /// A file in PEM with chain and key, or a directory of such files.
    Path(PathBuf),
    /// Chain and key in files of their own.
    Pair {
        /// The chain, the certificate itself first.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
    },
}

/// `[proxy.upstream.tls]`: how TLS is spoken to endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UpstreamTlsConfig {
    /// Whether it is; `None` goes by what the scheduler says of the port.
    pub enabled: Option<bool>,
    /// Authorities that are believed; the built-in ones if `None`.
    pub ca: Option<PathBuf>,
    /// Whether the endpoint's certificate is looked at.
    pub verify: bool,
    /// The name to ask for and to expect in the certificate; the endpoint's address if `None`.
    pub server_name: Option<ServerName<'static>>,
    /// Certificate and key by which an endpoint knows us.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl UpstreamTlsConfig {
    /// Whether TLS is spoken to a port.
    #[must_use]
    pub fn is_for(&self, port: AppProtocol) -> bool {
        self.enabled.unwrap_or(port == AppProtocol::Https)
    }
}

impl Default for UpstreamTlsConfig {
    fn default() -> Self {
        Self { enabled: None, ca: None, verify: true, server_name: None, identity: None }
    }
}

impl CertificateConfig {
    /// Whether the listener of this name may show it.
    #[must_use]
    pub fn is_for(&self, listener: &str) -> bool {
        self.listeners.is_empty() || self.listeners.iter().any(|name| **name == *listener)
    }
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self { min_version: TlsVersion::V1_2, ticket_rotation: Duration::from_secs(12 * 3600) }
    }
}
