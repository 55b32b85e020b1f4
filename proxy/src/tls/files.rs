//! Everything that the configuration names by path, read as of one moment.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::certificate::{self, Certificate, CertificateError};
use super::choice::CertificateSet;
use super::client::Client;
use super::{CertificateConfig, CertificateSource, UpstreamTlsConfig, provider};
use crate::Config;

/// Time of the last change, length, and inode: a file moved over another may have the first two in common.
type Look = Option<(SystemTime, u64, u64)>;

/// What can be seen of files without reading them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Looks(BTreeMap<PathBuf, Look>);

/// What connections to endpoints go by, by settings. Looked into for every request.
pub(super) type ClientMap = HashMap<UpstreamTlsConfig, Arc<Client>, foldhash::fast::RandomState>;

/// The certificates that a configuration names, for listeners and towards endpoints.
#[derive(Debug, Default)]
pub struct Certificates {
    entries: Vec<(CertificateConfig, Vec<Certificate>)>,
    clients: ClientMap,
    looks: Looks,
}

impl Certificates {
    /// Reads the certificates of `config`, and tells in the log of those whose term is over or has not begun. Blocks
    /// on the file system.
    ///
    /// # Errors
    /// The first file that cannot be used.
    pub fn read(config: &Config) -> Result<Self, CertificateError> {
        let provider = provider();
        // Before the files are read, so that what changes meanwhile is seen as a change.
        let looks = Looks::at(config);
        let mut entries = Vec::with_capacity(config.certificates.len());
        for entry in &config.certificates {
            entries.push((entry.clone(), certificate::read(&entry.source, &provider)?));
        }
        let mut clients = ClientMap::default();
        for tls in upstreams(config) {
            if !clients.contains_key(tls) {
                clients.insert(tls.clone(), Arc::new(Client::new(tls)?));
            }
        }
        let read = Self { entries, clients, looks };
        read.tell_terms();
        Ok(read)
    }

    /// Whether the files of `config` are others than those that were read.
    pub(super) fn differ(&self, config: &Config) -> bool {
        self.looks != Looks::at(config)
    }

    /// Takes files as seen, though they could not be used. To be looked at before they are read: what changes while they
    /// are read has not been seen.
    pub(super) fn note(&mut self, looks: Looks) {
        self.looks = looks;
    }

    /// Those that a listener may show.
    pub(super) fn of_listener(&self, listener: &str) -> CertificateSet {
        let entries = self.entries.iter().filter(|(entry, _)| entry.is_for(listener));
        CertificateSet::new(entries.flat_map(|(_, certificates)| certificates))
    }

    /// What connections to endpoints go by.
    pub(super) fn clients(&self) -> &ClientMap {
        &self.clients
    }

    /// Last second of the certificate that ends first, Unix time.
    pub(super) fn first_end(&self) -> Option<i64> {
        self.entries.iter().flat_map(|(_, certificates)| certificates).map(|one| one.not_after).min()
    }

    /// A certificate out of its term still serves: some clients do not care, and the others see why.
    fn tell_terms(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        for certificate in self.entries.iter().flat_map(|(_, certificates)| certificates) {
            let file = certificate.file.display();
            if certificate.not_after < now {
                tracing::warn!(%file, "the certificate has expired; clients will refuse it");
            } else if certificate.not_before > now {
                tracing::warn!(%file, "the certificate is not valid yet; clients will refuse it");
            }
        }
    }
}

/// How TLS is spoken to endpoints, service by service.
fn upstreams(config: &Config) -> impl Iterator<Item = &UpstreamTlsConfig> {
    core::iter::once(&config.upstream).chain(config.services.iter().map(|(_, own)| own)).map(|own| &own.tls)
}

impl Looks {
    /// At the files of `config`.
    pub(super) fn at(config: &Config) -> Self {
        let mut looks = Self::default();
        for tls in upstreams(config) {
            let identity = tls.identity.iter().flat_map(|(cert, key)| [cert, key]);
            tls.ca.iter().chain(identity).for_each(|file| looks.add(file));
        }
        for entry in &config.certificates {
            match &entry.source {
                CertificateSource::Pair { cert, key } => {
                    looks.add(cert);
                    looks.add(key);
                }
                CertificateSource::Path(path) => {
                    looks.add(path);
                    let inside = std::fs::read_dir(path).into_iter().flatten().flatten();
                    inside.for_each(|inside| looks.add(&inside.path()));
                }
            }
        }
        looks
    }

    fn add(&mut self, path: &Path) {
        let look =
            std::fs::metadata(path).ok().and_then(|is| Some((is.modified().ok()?, is.len(), is.ino())));
        self.0.insert(path.to_owned(), look);
    }
}
