//! The servers, each with one worker and otherwise its defaults, and the data they serve.

pub(crate) mod envoy;
pub(crate) mod haproxy;
pub(crate) mod names;
pub(crate) mod nginx;
pub(crate) mod portolan;
pub(crate) mod traefik;

use std::fs;
use std::path::{Path, PathBuf};

use crate::certificate::Certificate;

/// Groups of endpoints that virtual hosts share: what is measured is the choice of a route, not connections of many pools.
const GROUPS: usize = 10;

/// What clients speak.
#[derive(Debug, Clone)]
pub(crate) enum Front {
    /// HTTP/1.1.
    Plain,
    /// HTTP/2 without encryption and without negotiation.
    H2c,
    /// TLS; HTTP/2 or HTTP/1.1, as negotiated.
    Tls(Certificate),
}

/// What the proxies of one comparison are to do.
#[derive(Debug, Clone)]
pub(crate) struct Web {
    /// Where configurations go.
    pub(crate) directory: PathBuf,
    pub(crate) upstreams: Vec<u16>,
    pub(crate) front: Front,
    /// Virtual hosts; 0: all requests alike.
    pub(crate) hosts: usize,
}

impl Web {
    fn certificate(&self) -> Option<&Certificate> {
        match &self.front {
            Front::Tls(certificate) => Some(certificate),
            Front::Plain | Front::H2c => None,
        }
    }

    /// Groups of endpoints; all have the same ones.
    fn groups(&self) -> usize {
        if self.hosts == 0 { 1 } else { GROUPS }
    }

    /// Names of virtual hosts with the group of each.
    fn vhosts(&self) -> impl Iterator<Item = (String, usize)> {
        (0..self.hosts).map(|n| (host(n), n % GROUPS))
    }
}

/// Virtual host `n`.
pub(crate) fn host(n: usize) -> String {
    format!("host{n:04}.svc.cluster")
}

/// Writes a file of a configuration; its path.
fn file(directory: &Path, name: &str, text: &str) -> Result<String, String> {
    let path = directory.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|e| e.to_string())?;
    }
    fs::write(&path, text).map_err(|e| format!("{name}: {e}"))?;
    Ok(path.display().to_string())
}
