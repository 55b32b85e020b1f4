//! An authority of certificates that lives as long as a test, and clients that believe it.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use portolan_proxy::tls::{CertificateConfig, CertificateSource};
use portolan_proxy::{Config, ListenerProtocol};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_RSA_SHA256, RsaKeySize,
};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    SupportedProtocolVersion,
};
use tempfile::TempDir;

use crate::harness::{self, Backend, Client, PATIENCE};

/// TLS 1.2 alone.
pub(crate) static OLD: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
/// TLS 1.3 alone.
pub(crate) static NEW: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

pub(crate) type TlsClient = Client<StreamOwned<ClientConnection, TcpStream>>;

/// A kind of key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ecdsa,
    Rsa,
}

/// An authority and the directory of what it issued.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub(crate) directory: TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer, directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Chain and key for these names, in PEM.
    pub(crate) fn issue(&self, names: &[&str], kind: Kind) -> (String, String) {
        let key = match kind {
            Kind::Ecdsa => KeyPair::generate(),
            Kind::Rsa => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
        };
        let key = key.unwrap();
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        (certificate.pem() + &self.pem(), key.serialize_pem())
    }

    pub(crate) fn write(&self, file: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A file with chain and key for these names.
    pub(crate) fn file(&self, file: &str, names: &[&str], kind: Kind) -> PathBuf {
        let (chain, key) = self.issue(names, kind);
        self.write(file, &(chain + &key))
    }

    /// The tests' configuration with an `https` listener that has these certificates.
    pub(crate) fn config(&self, paths: &[PathBuf]) -> Config {
        let mut config = harness::config();
        config.listeners[0].protocol = ListenerProtocol::Https;
        let entry = |path: &PathBuf| CertificateConfig {
            source: CertificateSource::Path(path.clone()),
            listeners: Vec::new(),
        };
        config.certificates = paths.iter().map(entry).collect();
        config
    }

    /// A configuration with one certificate, for `app.example`.
    pub(crate) fn app(&self) -> Config {
        self.config(&[self.file("app.pem", &["app.example"], Kind::Ecdsa)])
    }

    /// What an endpoint with a certificate for these names goes by. With `knows_clients` it asks for certificates of
    /// this authority.
    pub(crate) fn server(&self, names: &[&str], knows_clients: bool) -> ServerConfig {
        let (chain, key) = self.issue(names, Kind::Ecdsa);
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(rustls::ALL_VERSIONS).unwrap();
        let builder = if knows_clients {
            let roots = Arc::new(self.believer().roots);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        builder.with_single_cert(chain, key).unwrap()
    }

    /// A certificate for these names with its key, for one who chooses among several.
    pub(crate) fn certified(&self, names: &[&str]) -> CertifiedKey {
        let (chain, key) = self.issue(names, Kind::Ecdsa);
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).unwrap()
    }

    pub(crate) fn believer(&self) -> Believer {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        Believer { roots, provider: aws_lc_rs::default_provider(), versions: rustls::ALL_VERSIONS, alpn: &[] }
    }
}

/// A client to be, which believes one authority.
pub(crate) struct Believer {
    pub(crate) roots: RootCertStore,
    pub(crate) provider: CryptoProvider,
    pub(crate) versions: &'static [&'static SupportedProtocolVersion],
    pub(crate) alpn: &'static [&'static str],
}

impl Believer {
    pub(crate) fn config(self) -> Arc<ClientConfig> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(self.provider))
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_root_certificates(self.roots)
            .with_no_client_auth();
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// Connects with a finished handshake.
pub(crate) fn connect(
    address: SocketAddr,
    name: &str,
    config: &Arc<ClientConfig>,
) -> std::io::Result<TlsClient> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    Ok(Client { stream: StreamOwned::new(connection, socket), read: Vec::new() })
}

/// What an endpoint over TLS has of one of its clients.
pub(crate) type TlsServer = Client<StreamOwned<ServerConnection, TcpStream>>;

/// An endpoint that speaks TLS as `config` says. Connections whose handshake fails are dropped.
pub(crate) fn secure(
    config: Arc<ServerConfig>,
    handle: impl Fn(TlsServer) + Send + Sync + 'static,
) -> Backend {
    Backend::start(move |client| {
        let mut socket = client.stream;
        let mut connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        while connection.is_handshaking() {
            if connection.complete_io(&mut socket).is_err() {
                return;
            }
        }
        handle(Client { stream: StreamOwned::new(connection, socket), read: Vec::new() });
    })
}

/// The certificate that the server showed.
pub(crate) fn shown(client: &TlsClient) -> CertificateDer<'static> {
    client.stream.conn.peer_certificates().unwrap()[0].clone()
}
