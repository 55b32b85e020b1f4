//! TLS to endpoints: whom we believe, who we say we are, and sessions to resume.

use core::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::certificate::{CertificateError, Pem, Role};
use super::sessions::{Sessions, SessionsOf};
use super::{UpstreamTlsConfig, provider};

/// What is to be spoken over a connection, as its handshake says (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alpn {
    /// HTTP/1.1, whether the endpoint takes part in the choice or not.
    Http1,
    /// HTTP/2, which an endpoint must agree to (RFC 9113 §3.2).
    H2,
}

impl Alpn {
    const fn name(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::H2 => b"h2",
        }
    }

    /// Whether what the endpoint chose will do.
    pub(crate) fn is_agreed(self, chosen: Option<&[u8]>) -> bool {
        self == Self::Http1 || chosen == Some(self.name())
    }
}

/// What a connection to an endpoint was made by, to be compared: who we said we were, and whom we believed. Different
/// for two clients as long as both are held; a connection holds its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Policy {
    /// No TLS.
    Plain,
    /// A [`Client`], by its place in memory.
    Tls(usize),
}

impl Policy {
    pub(crate) fn of(client: &Arc<Client>) -> Self {
        Self::Tls(Arc::as_ptr(client).addr())
    }
}

/// What connections to endpoints with the same settings share, over all workers.
#[derive(Debug)]
pub(crate) struct Client {
    config: ClientConfig,
    /// The certificates that were read: authorities, then the chain that is ours. A key belongs to its chain.
    read: Vec<CertificateDer<'static>>,
    /// The name to ask for and to expect; the endpoint's address if `None`.
    name: Option<ServerName<'static>>,
    sessions: Arc<Sessions>,
}

impl Client {
    /// Reads the files that `tls` names.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub(super) fn new(tls: &UpstreamTlsConfig) -> Result<Self, CertificateError> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| {
                CertificateError::new(Path::new(""), format!("TLS cannot be set up: {error}"))
            })?;
        let mut read = Vec::new();
        let builder = if tls.verify {
            builder.with_root_certificates(authorities(tls.ca.as_deref(), &mut read)?)
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
        };
        let config = match &tls.identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let own = Pem::read(key).map_err(|error| error.of(Role::Key))?.key;
                let own =
                    own.ok_or_else(|| CertificateError::new(key, "holds no private key").of(Role::Key))?;
                let chain = Pem::read(cert)?.chain;
                read.extend_from_slice(&chain);
                builder.with_client_auth_cert(chain, own).map_err(|error| {
                    CertificateError::new(cert, format!("cannot be used with its key: {error}"))
                })?
            }
        };
        Ok(Self { config, read, name: tls.server_name.clone(), sessions: Arc::default() })
    }

    /// Whether the files that `other`, of the same settings, was made from held the same.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.read == other.read
    }

    /// The client's side of a connection to this endpoint.
    pub(crate) fn begin(
        &self,
        endpoint: SocketAddr,
        alpn: Alpn,
    ) -> Result<UnbufferedClientConnection, rustls::Error> {
        let (config, name) = self.towards(endpoint, alpn);
        UnbufferedClientConnection::new(config, name)
    }

    /// What holds towards this endpoint, and the name that its certificate must have.
    pub(crate) fn towards(
        &self,
        endpoint: SocketAddr,
        alpn: Alpn,
    ) -> (Arc<ClientConfig>, ServerName<'static>) {
        let mut config = self.config.clone();
        config.alpn_protocols = vec![alpn.name().to_vec()];
        config.resumption = Resumption::store(Arc::new(SessionsOf::new(endpoint, &self.sessions)));
        let own = || ServerName::IpAddress(endpoint.ip().to_canonical().into());
        (Arc::new(config), self.name.clone().unwrap_or_else(own))
    }
}

/// The authorities that are believed; those of a file are added to `read`.
fn authorities(
    ca: Option<&Path>,
    read: &mut Vec<CertificateDer<'static>>,
) -> Result<RootCertStore, CertificateError> {
    let Some(path) = ca else {
        return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
    };
    let wrong = |why: String| CertificateError::new(path, why).of(Role::Authority);
    let mut store = RootCertStore::empty();
    for certificate in Pem::read(path).map_err(|error| error.of(Role::Authority))?.chain {
        read.push(certificate.clone());
        store
            .add(certificate)
            .map_err(|error| wrong(format!("holds no authority that can be used: {error}")))?;
    }
    if store.is_empty() { Err(wrong("holds no certificate".to_owned())) } else { Ok(store) }
}

/// `verify = false`: any certificate will do. Signatures are still checked, so that the other side at least
/// holds the key of the certificate it shows.
///
/// Discovery has one of its own: neither crate sees the other, the table that both see knows nothing of TLS, and a crate
/// for a type without a decision in it would build no wall.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
