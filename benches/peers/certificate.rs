//! The certificate of a run (ECDSA P-256, self-signed), and both sides of TLS 1.3 with the one suite and the one group
//! that all servers know: what is agreed on must not differ between them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// The name in it.
pub(crate) const HOST: &str = "host.svc.cluster";

/// Its files.
#[derive(Debug, Clone)]
pub(crate) struct Certificate {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
    /// Both in one file, as haproxy wants them.
    pub(crate) both: PathBuf,
    /// For the load generators that use OpenSSL.
    pub(crate) openssl: PathBuf,
}

impl Certificate {
    /// Makes one.
    pub(crate) fn make(directory: &Path) -> Result<Self, String> {
        let [chain, key, both, openssl] =
            ["chain.pem", "key.pem", "both.pem", "openssl.cnf"].map(|name| directory.join(name));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-days", "30", "-subj", &format!("/CN={HOST}")])
            .args(["-addext", &format!("subjectAltName=DNS:{HOST},IP:127.0.0.1")])
            .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&chain)
            .output()
            .map_err(|e| format!("openssl cannot be started: {e}"))?;
        if !made.status.success() {
            return Err(format!("no certificate: {}", String::from_utf8_lossy(&made.stderr)));
        }
        let read = |path: &Path| std::fs::read_to_string(path).map_err(|e| e.to_string());
        std::fs::write(&both, read(&chain)? + &read(&key)?).map_err(|e| e.to_string())?;
        let settings = "openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = tls\n[tls]\n\
             MinProtocol = TLSv1.3\nCiphersuites = TLS_AES_128_GCM_SHA256\nGroups = X25519\n";
        std::fs::write(&openssl, settings).map_err(|e| e.to_string())?;
        Ok(Self { chain, key, both, openssl })
    }

    /// A client that trusts this one certificate and never resumes.
    pub(crate) fn client(&self) -> Result<Arc<ClientConfig>, String> {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.chain).map_err(|e| text(&e))?).map_err(|e| text(&e))?;
        let provider = Arc::new(provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|e| text(&e))?;
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| text(&e))?
            .with_webpki_verifier(verifier)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// The bare forwarder's side.
pub(crate) fn server(chain: &str, key: &str) -> Result<Arc<ServerConfig>, String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let chain = CertificateDer::pem_file_iter(chain)
        .map_err(|e| text(&e))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| text(&e))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|e| text(&e))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|e| text(&e))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| text(&e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    }
}
