//! The last-known-good table of each source, kept on disk so that a start with every scheduler down serves.
//!
//! ```text
//!   <state_dir>/last-known-good/<identity>.table
//!     {"format":"portolan last-known-good","version":2,"identity":"…","saved_ms":…}
//!     {"spec":{…},"instances":[…]}                                one line per service
//!     {"fact":{…}}                                                one line per fact of the cluster
//!     end <number of these lines> <CRC-32 of all bytes before this line>
//! ```
//!
//! One file per source, found by what the source is (type, URLs, groups), so that another source's table is
//! never loaded. Written beside and renamed, mode 0600, at most [`FILE_LEN_MAX`] octets. JSON, because the
//! model's types leave out what is empty, which only a self-describing format can read back. All functions
//! block: they run off the runtime's threads.

mod format;
#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::catalog::Saved;
use crate::config::{KubernetesAccess, KubernetesConfig, SourceConfig, SourceKind};
use format::Checked;

/// Octets one saved table may have; a larger one is neither written nor read.
pub(crate) const FILE_LEN_MAX: u64 = 1 << 30;
/// Tables kept of sources that are not in the configuration any more; the oldest go.
const FOREIGN_MAX: usize = 16;

/// What was loaded.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// What the source told.
    pub(crate) table: Saved,
    /// When it was saved, in milliseconds since the Unix epoch.
    pub(crate) saved_ms: u64,
}

/// Why a saved table is not used.
#[derive(Debug, Error)]
pub(crate) enum LoadError {
    /// It can't be read.
    #[error("cannot be read")]
    Io(#[from] io::Error),
    /// It was written by a version with another format.
    #[error("has format version {0}, this program reads up to version {version}", version = format::VERSION)]
    Version(u64),
    /// It is another source's.
    #[error("belongs to another source")]
    Foreign,
    /// It is larger than a table may be.
    #[error("is larger than {FILE_LEN_MAX} octets")]
    TooLarge,
    /// It is not whole.
    #[error("is damaged: {0}")]
    Damaged(String),
}

impl LoadError {
    /// The word for `portolan_state_loads_total{result=…}`.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Io(_) => "unreadable",
            Self::Version(_) => "version",
            Self::Foreign => "foreign",
            Self::TooLarge => "too-large",
            Self::Damaged(_) => "damaged",
        }
    }
}

/// The directory of saved tables.
#[derive(Debug)]
pub(crate) struct Store {
    directory: PathBuf,
}

impl Store {
    /// A store below `state_dir`. Nothing is touched before the first use.
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { directory: state_dir.join("last-known-good") }
    }

    /// Reads the table of `identity`; `None` if none was saved.
    pub(crate) fn load(&self, identity: &Identity) -> Result<Option<Loaded>, LoadError> {
        let file = match File::open(self.path(identity)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let len = file.metadata()?.len();
        if len > FILE_LEN_MAX {
            return Err(LoadError::TooLarge);
        }
        let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
        file.take(FILE_LEN_MAX).read_to_end(&mut bytes)?;
        format::parse(&bytes, &identity.0).map(Some)
    }

    /// Writes the table of `identity` in place of what was saved before; returns its length in octets. On an
    /// error what was saved before is still there.
    pub(crate) fn save(&self, identity: &Identity, table: &Saved, saved_ms: u64) -> io::Result<u64> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let path = self.path(identity);
        let beside = path.with_extension("new");
        let written = write_new(&beside, &identity.0, table, saved_ms).and_then(|len| {
            fs::rename(&beside, &path)?;
            File::open(&self.directory)?.sync_all()?;
            Ok(len)
        });
        if written.is_err() {
            // It may not exist; the error that matters is the one returned.
            let _ = fs::remove_file(&beside);
        }
        written
    }

    /// Deletes the oldest tables that none of `identities` can load, beyond a few that are kept in case a
    /// source comes back.
    pub(crate) fn prune(&self, identities: &[Identity]) -> io::Result<()> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let ours: Vec<PathBuf> = identities.iter().map(|identity| self.path(identity)).collect();
        let mut foreign = Vec::new();
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            if path.extension().is_some_and(|e| e == "table") && !ours.contains(&path) {
                foreign.push((entry.metadata()?.modified()?, path));
            }
        }
        foreign.sort_unstable();
        let surplus = foreign.len().saturating_sub(FOREIGN_MAX);
        foreign.into_iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path))
    }

    fn path(&self, identity: &Identity) -> PathBuf {
        self.directory.join(format!("{}.table", identity.0))
    }
}

fn write_new(path: &Path, identity: &str, table: &Saved, saved_ms: u64) -> io::Result<u64> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut out = Checked::new(BufWriter::with_capacity(1 << 16, file), FILE_LEN_MAX);
    format::write(&mut out, identity, table, saved_ms)?;
    let (mut out, len) = out.finish();
    out.flush()?;
    out.get_ref().sync_all()?;
    Ok(len)
}

fn kubernetes_parts(config: &KubernetesConfig) -> Vec<String> {
    let mut parts = match &config.access {
        KubernetesAccess::InCluster => vec!["in cluster".to_owned()],
        KubernetesAccess::Kubeconfig(path, context) => {
            vec![format!("kubeconfig {} {}", path.display(), context.as_deref().unwrap_or_default())]
        }
        KubernetesAccess::Api(api) => urls(&api.urls),
    };
    parts.extend(config.namespaces.iter().map(|namespace| format!("namespace {namespace}")));
    parts.extend(config.selector.iter().map(|selector| format!("selector {selector}")));
    parts
}

fn urls(urls: &[String]) -> Vec<String> {
    urls.iter().map(|url| format!("url {url}")).collect()
}

/// What a source is, as far as its content goes: a hash of its type, URLs or paths, and groups. Holds no
/// secret even if a URL does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity(String);

impl Identity {
    pub(crate) fn of(config: &SourceConfig) -> Self {
        let mut parts: Vec<String> = match &config.kind {
            SourceKind::Marathon(marathon) => {
                let urls = marathon.urls.iter().map(|url| format!("url {url}"));
                urls.chain(marathon.groups.iter().map(|group| format!("group {group}"))).collect()
            }
            SourceKind::Mesos(mesos) => urls(&mesos.urls),
            SourceKind::Consul(consul) => {
                let datacenter = consul.datacenter.iter().map(|name| format!("datacenter {name}"));
                urls(&consul.api.urls).into_iter().chain(datacenter).collect()
            }
            SourceKind::Etcd(etcd) => {
                let place = format!("keys {:?} {}", etcd.layout, etcd.prefix);
                urls(&etcd.api.urls).into_iter().chain([place]).collect()
            }
            SourceKind::Kubernetes(kubernetes) => kubernetes_parts(kubernetes),
            SourceKind::Docker(docker) => urls(&docker.api.urls),
            SourceKind::Swarm(swarm) => urls(&swarm.api.urls),
            SourceKind::Http(http) => {
                let label = http.service_label.iter().map(|label| format!("label {label}"));
                urls(&http.api.urls).into_iter().chain(label).collect()
            }
            SourceKind::File(file) => {
                let paths = file.paths.iter().map(|path| format!("path {}", path.display()));
                paths.chain(file.service_label.iter().map(|label| format!("label {label}"))).collect()
            }
        };
        parts.sort_unstable();
        let kind = config.kind.as_str();
        let hash = |salt: &str| {
            let all: Vec<&str> = [salt, kind].into_iter().chain(parts.iter().map(String::as_str)).collect();
            portolan_table::stable_hash(&all)
        };
        Self(format!("{kind}-{:016x}{:016x}", hash("identity"), hash("source")))
    }
}
