//! A certificate with its key, read from PEM files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{PemObject, SectionKind};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use thiserror::Error;

use super::CertificateSource;
use super::x509;

/// Longest file, in octets: a chain with its key is a few thousand.
const FILE_LEN_MAX: u64 = 1 << 20;
/// Files of one directory.
const FILES_MAX: usize = 10_000;
/// Endings that HAProxy keeps beside a certificate's file: they are no certificates themselves.
const BESIDE: [&str; 5] = ["key", "ocsp", "issuer", "sctl", "csr"];

/// A certificate that can be shown.
#[derive(Debug, Clone)]
pub struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) names: Vec<Box<str>>,
    pub(super) not_before: i64,
    /// Last second of its term, Unix time.
    pub(super) not_after: i64,
    pub(super) file: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Debug, Error)]
#[error("{file:?} {why}")]
pub struct CertificateError {
    /// The file, or directory.
    pub file: PathBuf,
    /// What is wrong with it, as the end of a sentence that begins with the file.
    pub why: String,
    /// What the file is for.
    pub role: Role,
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A certificate, perhaps with its key.
    Certificate,
    /// The key of a certificate.
    Key,
    /// The authorities that are believed.
    Authority,
}

impl CertificateError {
    pub(super) fn new(file: &Path, why: impl Into<String>) -> Self {
        Self { file: file.to_owned(), why: why.into(), role: Role::Certificate }
    }

    pub(super) fn of(self, role: Role) -> Self {
        Self { role, ..self }
    }
}

/// Reads what lies at `source`. Blocks on the file system.
///
/// # Errors
/// The first file that cannot be used, and why.
pub fn read(
    source: &CertificateSource,
    provider: &CryptoProvider,
) -> Result<Vec<Certificate>, CertificateError> {
    match source {
        CertificateSource::Pair { cert, key } => {
            let chain = Pem::read(cert)?;
            let keys = Pem::read(key).map_err(|error| error.of(Role::Key))?;
            let own = keys.key.ok_or_else(|| without_key(key).of(Role::Key))?;
            Ok(vec![join(cert, chain.chain, key, own, provider)?])
        }
        CertificateSource::Path(path) if path.is_dir() => {
            files(path)?.iter().map(|file| read_file(file, provider)).collect()
        }
        CertificateSource::Path(path) => Ok(vec![read_file(path, provider)?]),
    }
}

/// Certificate files of a directory, in the order of their names, as HAProxy takes them.
fn files(directory: &Path) -> Result<Vec<PathBuf>, CertificateError> {
    let unreadable = |error: io::Error| CertificateError::new(directory, format!("cannot be read: {error}"));
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let is_beside = path.extension().is_some_and(|ending| BESIDE.iter().any(|beside| ending == *beside));
        if !is_hidden && !is_beside && path.is_file() {
            files.push(path);
        }
    }
    files.sort_unstable();
    match files.len() {
        0 => Err(CertificateError::new(directory, "holds no certificate")),
        1..=FILES_MAX => Ok(files),
        count => Err(CertificateError::new(directory, format!("holds {count} files; at most {FILES_MAX}"))),
    }
}

/// A file with chain and key, or with its key in `FILE.key` or in a file of the same name that ends in `.key`.
fn read_file(file: &Path, provider: &CryptoProvider) -> Result<Certificate, CertificateError> {
    let pem = Pem::read(file)?;
    if let Some(key) = pem.key {
        return join(file, pem.chain, file, key, provider);
    }
    let mut appended = file.as_os_str().to_owned();
    appended.push(".key");
    let candidates = [PathBuf::from(appended), file.with_extension("key")];
    let Some(beside) = candidates.iter().find(|candidate| candidate.is_file() && *candidate != file) else {
        return Err(CertificateError::new(
            file,
            "holds no private key, and there is none in a .key file beside it",
        ));
    };
    let key = Pem::read(beside)?.key.ok_or_else(|| without_key(beside))?;
    join(file, pem.chain, beside, key, provider)
}

fn without_key(file: &Path) -> CertificateError {
    CertificateError::new(file, "holds no private key")
}

fn join(
    cert: &Path,
    chain: Vec<CertificateDer<'static>>,
    key_file: &Path,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<Certificate, CertificateError> {
    let Some(leaf) = chain.first() else {
        return Err(CertificateError::new(cert, "holds no certificate"));
    };
    let facts = x509::read(leaf)
        .ok_or_else(|| CertificateError::new(cert, "holds a certificate that cannot be read"))?;
    let signer = provider.key_provider.load_private_key(key).map_err(|error| {
        CertificateError::new(key_file, format!("holds a key that cannot be used: {error}")).of(Role::Key)
    })?;
    let key = CertifiedKey::new(chain, signer);
    key.keys_match().map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            let why = match cert == key_file {
                true => "holds a key that does not belong to its certificate".to_owned(),
                false => format!("does not belong to the certificate in {}", cert.display()),
            };
            CertificateError::new(key_file, why).of(Role::Key)
        }
        error => CertificateError::new(cert, format!("holds a certificate that cannot be used: {error}")),
    })?;
    Ok(Certificate {
        key: Arc::new(key),
        names: facts.names,
        not_before: facts.not_before,
        not_after: facts.not_after,
        file: cert.to_owned(),
    })
}

/// What a PEM file holds, of what is of use here.
#[derive(Default)]
pub(super) struct Pem {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: Option<PrivateKeyDer<'static>>,
}

impl Pem {
    pub(super) fn read(file: &Path) -> Result<Self, CertificateError> {
        let unreadable = |error: io::Error| {
            CertificateError::new(
                file,
                match error.kind() {
                    io::ErrorKind::NotFound => "does not exist".to_owned(),
                    io::ErrorKind::PermissionDenied => "may not be read by this user".to_owned(),
                    _ => format!("cannot be read: {error}"),
                },
            )
        };
        let metadata = fs::metadata(file).map_err(unreadable)?;
        // Anything but a plain file could be read for ever.
        if !metadata.is_file() || metadata.len() > FILE_LEN_MAX {
            return Err(CertificateError::new(
                file,
                format!("is not a file of at most {FILE_LEN_MAX} octets"),
            ));
        }
        Self::parse(&fs::read(file).map_err(unreadable)?)
            .map_err(|error| CertificateError::new(file, format!("is not valid PEM: {error}")))
    }

    fn parse(text: &[u8]) -> Result<Self, rustls_pki_types::pem::Error> {
        let mut pem = Self::default();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
            let (kind, der) = section?;
            let key = match kind {
                SectionKind::Certificate => {
                    pem.chain.push(der.into());
                    continue;
                }
                SectionKind::PrivateKey => PrivatePkcs8KeyDer::from(der).into(),
                SectionKind::RsaPrivateKey => PrivatePkcs1KeyDer::from(der).into(),
                SectionKind::EcPrivateKey => PrivateSec1KeyDer::from(der).into(),
                // Parameters of Diffie-Hellman and others that older set-ups keep in the file.
                _ => continue,
            };
            pem.key.get_or_insert(key);
        }
        Ok(pem)
    }
}
