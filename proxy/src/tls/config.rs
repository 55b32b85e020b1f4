//! What the configuration says about TLS, as meant.

use core::time::Duration;
use std::path::PathBuf;
use std::sync::Arc;

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
