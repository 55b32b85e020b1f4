//! Keys, and the files that their secrets stand in.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::config::{self, Algorithm};
use crate::wire::text_to_name;

/// Secrets are a few dozen octets.
const FILE_LEN_MAX: usize = 4096;

/// A key that both sides know.
#[derive(Debug)]
pub struct Key {
    name: Arc<str>,
    wire: Vec<u8>,
    algorithm: Algorithm,
    hmac: hmac::Key,
}

/// Why a key cannot be used. Never repeats what its file holds.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("{}: the secret of a key cannot be read", .0.display())]
    Unreadable(PathBuf, #[source] io::Error),
    /// The file holds something else than a secret in base64.
    #[error("{}: not a secret in base64 and nothing else", .0.display())]
    NotBase64(PathBuf),
    /// The name is no domain name; the configuration has checked it.
    #[error("{0:?} is not the name of a key")]
    Name(Arc<str>),
}

impl Key {
    /// A key from its secret.
    ///
    /// # Errors
    /// When the name is no domain name.
    pub fn new(name: &Arc<str>, algorithm: Algorithm, secret: &[u8]) -> Result<Self, KeyError> {
        let wire =
            text_to_name(&name.to_ascii_lowercase()).ok_or_else(|| KeyError::Name(Arc::clone(name)))?;
        let digest = match algorithm {
            Algorithm::HmacSha256 => hmac::HMAC_SHA256,
            Algorithm::HmacSha512 => hmac::HMAC_SHA512,
        };
        Ok(Self { name: Arc::clone(name), wire, algorithm, hmac: hmac::Key::new(digest, secret) })
    }

    /// Reads the secret.
    fn read(config: &config::Key) -> Result<Self, KeyError> {
        Self::new(&config.name, config.algorithm, &read_secret(&config.secret_file)?)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn wire(&self) -> &[u8] {
        &self.wire
    }

    pub(super) fn hmac(&self) -> &hmac::Key {
        &self.hmac
    }

    pub(super) fn mac_len(&self) -> usize {
        match self.algorithm {
            Algorithm::HmacSha256 => 32,
            Algorithm::HmacSha512 => 64,
        }
    }

    pub(super) fn algorithm_name(&self) -> &'static [u8] {
        match self.algorithm {
            Algorithm::HmacSha256 => b"\x0bhmac-sha256\0",
            Algorithm::HmacSha512 => b"\x0bhmac-sha512\0",
        }
    }

    /// Octets of a record with a signature, and of the time that tells of a clock that is off.
    pub(super) fn record_len(&self) -> usize {
        self.wire.len() + 10 + self.algorithm_name().len() + 16 + self.mac_len() + 6
    }

    /// True for the key of this name and algorithm, in any case.
    pub(super) fn is(&self, name: &[u8], algorithm: &[u8]) -> bool {
        self.wire.eq_ignore_ascii_case(name) && self.algorithm_name().eq_ignore_ascii_case(algorithm)
    }
}

fn read_secret(path: &Path) -> Result<Vec<u8>, KeyError> {
    let text = std::fs::read_to_string(path).map_err(|error| KeyError::Unreadable(path.to_owned(), error))?;
    let text = text.trim();
    let secret = STANDARD.decode(text).ok().filter(|secret| !secret.is_empty() && text.len() <= FILE_LEN_MAX);
    secret.ok_or_else(|| KeyError::NotBase64(path.to_owned()))
}

/// All keys.
#[derive(Debug, Clone, Default)]
pub struct Keys(Vec<Arc<Key>>);

impl Keys {
    /// Reads the secrets of all.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn read(keys: &[config::Key]) -> Result<Self, KeyError> {
        keys.iter().map(|key| Key::read(key).map(Arc::new)).collect::<Result<_, _>>().map(Self)
    }

    /// The key of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Arc<Key>> {
        self.0.iter().find(|key| *key.name == *name)
    }

    pub(super) fn find(&self, name: &[u8], algorithm: &[u8]) -> Option<Arc<Key>> {
        self.0.iter().find(|key| key.is(name, algorithm)).cloned()
    }
}

impl FromIterator<Key> for Keys {
    fn from_iter<T: IntoIterator<Item = Key>>(keys: T) -> Self {
        Self(keys.into_iter().map(Arc::new).collect())
    }
}
