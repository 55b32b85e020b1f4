//! What a server trusts by: keys of signatures and secrets of cookies, read from files, and the rules made of them.

use core::time::Duration;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::cookie::{Secrets, read_secrets};
use crate::gate::Rules;
use crate::tsig::{KeyError, Keys};

/// How often a file of secrets is read again: a rotation takes as long on each edge.
const FILE_PERIOD: Duration = Duration::from_secs(10);
/// How often secrets of our own change.
const ROTATION: Duration = Duration::from_secs(24 * 3600);

/// The secrets that a configuration names.
#[derive(Debug)]
pub struct Trust {
    keys: Keys,
    /// `None` for secrets of our own.
    cookies: Option<Secrets>,
}

/// Why a configuration's secrets cannot be used. Never repeats what a file holds.
#[derive(Debug, Error)]
pub enum TrustError {
    /// A key of signatures.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The file of cookie secrets.
    #[error("{}: the secrets of cookies cannot be used", .0.display())]
    Cookies(PathBuf, #[source] io::Error),
}

impl Trust {
    /// Reads the files. Blocks for as long as they take.
    ///
    /// # Errors
    /// When one of them cannot be read, or does not hold what it should.
    pub fn read(config: &Config) -> Result<Self, TrustError> {
        let read =
            |path: &Path| read_secrets(path).map_err(|error| TrustError::Cookies(path.to_owned(), error));
        let file = config.cookies.secret_file.as_deref().filter(|_| config.cookies.enabled);
        Ok(Self { keys: Keys::read(&config.keys)?, cookies: file.map(read).transpose()? })
    }
}

/// What is in force.
#[derive(Debug)]
pub(super) struct Held {
    keys: Arc<ArcSwap<Keys>>,
    rules: Arc<ArcSwap<Rules>>,
    /// Locked by reload and rotation alone.
    cookies: Mutex<Cookies>,
}

#[derive(Debug)]
struct Cookies {
    config: Config,
    secrets: Arc<Secrets>,
}

impl Held {
    pub(super) fn new(config: &Config, trust: Trust) -> Self {
        let secrets = Arc::new(trust.cookies.unwrap_or_else(Secrets::random));
        let rules = Rules::new(config, &secrets);
        Self {
            keys: Arc::new(ArcSwap::from_pointee(trust.keys)),
            rules: Arc::new(ArcSwap::from_pointee(rules)),
            cookies: Mutex::new(Cookies { config: config.clone(), secrets }),
        }
    }

    pub(super) fn keys(&self) -> Arc<ArcSwap<Keys>> {
        Arc::clone(&self.keys)
    }

    pub(super) fn rules(&self) -> Arc<ArcSwap<Rules>> {
        Arc::clone(&self.rules)
    }

    /// Takes over another configuration. Secrets of our own stay: the cookies out there are good still.
    pub(super) fn replace(&self, config: &Config, trust: Trust) {
        self.keys.store(Arc::new(trust.keys));
        self.change(|cookies| {
            cookies.config = config.clone();
            trust.cookies
        });
    }

    /// Changes secrets, or the configuration beside them, and makes rules of them. `None` leaves the secrets.
    fn change(&self, next: impl FnOnce(&mut Cookies) -> Option<Secrets>) {
        let mut cookies = self.cookies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(secrets) = next(&mut cookies) {
            cookies.secrets = Arc::new(secrets);
        }
        self.rules.store(Arc::new(Rules::new(&cookies.config, &cookies.secrets)));
    }

    /// The file that is followed; `None` if there are no cookies, or secrets of our own.
    fn file(&self) -> Option<PathBuf> {
        let cookies = self.cookies.lock().unwrap_or_else(PoisonError::into_inner);
        cookies.config.cookies.secret_file.clone().filter(|_| cookies.config.cookies.enabled)
    }

    fn is_in_force(&self, secrets: &Secrets) -> bool {
        *self.cookies.lock().unwrap_or_else(PoisonError::into_inner).secrets == *secrets
    }
}

/// Follows the file of cookie secrets, or changes our own each day, until `stop`.
pub(super) async fn tend(held: &Held, stop: CancellationToken) {
    let mut rotation = tokio::time::interval(ROTATION);
    let mut reading = tokio::time::interval(FILE_PERIOD);
    rotation.reset();
    let mut last_error = None;
    loop {
        // All arms are cancel-safe: a token and timers.
        tokio::select! {
            () = stop.cancelled() => return,
            _ = rotation.tick() => if held.file().is_none() {
                held.change(|cookies| Some(cookies.secrets.rotated()));
            },
            _ = reading.tick() => if let Some(path) = held.file() {
                last_error = read_again(held, path, last_error).await;
            },
        }
    }
}

/// Takes over what the file holds now; what is wrong with it is told once, and the secrets before stay.
async fn read_again(held: &Held, path: PathBuf, told: Option<String>) -> Option<String> {
    let shown = path.display().to_string();
    let read = tokio::task::spawn_blocking(move || read_secrets(&path)).await.ok()?;
    match read {
        Ok(secrets) if held.is_in_force(&secrets) => None,
        Ok(secrets) => {
            tracing::info!(file = shown, "secrets of cookies taken over");
            held.change(|_| Some(secrets));
            None
        }
        Err(error) => {
            let error = error.to_string();
            if told.as_ref() != Some(&error) {
                tracing::warn!(file = shown, error, "secrets of cookies cannot be read; those before stay");
            }
            Some(error)
        }
    }
}
