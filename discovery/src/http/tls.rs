//! TLS towards an API: built-in or private authorities, our own certificate, or no verification at all.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::config::{Given, TlsConfig};
use crate::source::SourceError;

/// What `[source.tls]` asks for. Reads the files named there: a few kilobytes, once per session.
///
/// # Errors
/// [`SourceError::Setup`] naming the file and what is wrong with it.
pub(super) fn client_config(config: &TlsConfig) -> Result<Arc<ClientConfig>, SourceError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| setup(format!("TLS cannot be set up: {error}")))?;
    let builder = if config.verify {
        builder.with_root_certificates(authorities(config)?)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
    };
    let mut client = match (chain(config)?, key(config)?) {
        (None, None) => builder.with_no_client_auth(),
        (Some(chain), Some(key)) => {
            builder.with_client_auth_cert(chain, key).map_err(|error| match &config.cert {
                Some(path) => unusable(path, "client certificate", &error),
                None => given("client certificate", &error),
            })?
        }
        _ => {
            return Err(setup(
                "a client certificate and its key go together: `cert` and `key` in [source.tls]",
            ));
        }
    };
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(client))
}

fn authorities(config: &TlsConfig) -> Result<RootCertStore, SourceError> {
    let mut store = RootCertStore::empty();
    match (&config.ca, &config.given.ca) {
        (None, None) => return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }),
        (Some(path), _) => {
            for certificate in certificates(path)? {
                store.add(certificate).map_err(|error| unusable(path, "authority", &error))?;
            }
        }
        (None, Some(text)) => {
            for certificate in given_certificates(text)? {
                store.add(certificate).map_err(|error| given("authority", &error))?;
            }
        }
    }
    Ok(store)
}

/// The client certificate and its issuers. What is given and what lies in files may go together, as in a kubeconfig.
fn chain(config: &TlsConfig) -> Result<Option<Vec<CertificateDer<'static>>>, SourceError> {
    match (&config.cert, &config.given.cert) {
        (Some(path), _) => certificates(path).map(Some),
        (None, Some(text)) => given_certificates(text).map(Some),
        (None, None) => Ok(None),
    }
}

/// The key of the client certificate.
fn key(config: &TlsConfig) -> Result<Option<PrivateKeyDer<'static>>, SourceError> {
    let key = match (&config.key, &config.given.key) {
        (Some(path), _) => PrivateKeyDer::from_pem_file(path).map_err(|error| unusable(path, "key", &error)),
        (None, Some(text)) => {
            PrivateKeyDer::from_pem_slice(text.0.as_bytes()).map_err(|error| given("key", &error))
        }
        (None, None) => return Ok(None),
    };
    key.map(Some)
}

fn given_certificates(text: &Given) -> Result<Vec<CertificateDer<'static>>, SourceError> {
    CertificateDer::pem_slice_iter(text.0.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| given("certificate", &error))
}

fn given(what: &str, error: &dyn core::fmt::Display) -> SourceError {
    setup(format!("the {what} that is given cannot be used: {error}"))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SourceError> {
    let all: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(path, "certificate", &error))?;
    if all.is_empty() {
        return Err(setup(format!("{}: holds no certificate in PEM form", path.display())));
    }
    Ok(all)
}

fn unusable(path: &Path, what: &str, error: &dyn core::fmt::Display) -> SourceError {
    setup(format!("{}: {what} cannot be used: {error}", path.display()))
}

fn setup(message: impl Into<String>) -> SourceError {
    SourceError::Setup { message: message.into() }
}

/// `verify = false`: any certificate will do. Signatures are still checked, so that the other side at least
/// holds the key of the certificate it shows.
///
/// The proxy has one of its own: neither crate sees the other, the table that both see knows nothing of TLS, and a crate
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
