//! Mesos-DNS's `config.json`, taken as it is: read, checked, and written down as the TOML that it amounts to.
//!
//! ```text
//!  config.json ──► fields, keys in any case ──► Settings, checked ──► TOML text ──► Config   (the one way to mean something)
//!                        │ wrong types               │ what the program refuses      └─► `portolan import mesos-dns`
//!                        ▼                           ▼
//!                     Mistakes: all of them at once, FILE:LINE:COLUMN
//! ```
//!
//! `portolan run --mesos-dns-config` and `portolan import mesos-dns` go the same way, so that what is printed is what
//! runs. Only secrets that stand in `config.json` itself go past the text: TOML never holds one.

mod address;
mod check;
mod json;
mod of;
mod read;
mod show;
#[cfg(test)]
mod tests;
mod toml;

use core::net::{IpAddr, SocketAddr};
use std::path::Path;

use portolan_discovery::{Auth, Given, Secret};
use portolan_dns::mesos_dns::{Compat, Profile, Settings};

use crate::config::{Config, read_text};
use crate::environment::Environment;
use crate::mistake::{Mistake, Mistakes};

/// What `config.json` does not say and the command line does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MesosDnsOptions {
    /// Whether to follow the RFCs or the program where they differ.
    pub compat: Compat,
    /// Which line of the program is followed.
    pub profile: Profile,
}

impl Default for MesosDnsOptions {
    fn default() -> Self {
        Self { compat: Compat::Rfc, profile: Profile::V0_8 }
    }
}

/// A checked `config.json`: every key with its value in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MesosDns {
    /// The file, as it was named.
    pub file: String,
    /// The command line's part.
    pub options: MesosDnsOptions,
    /// As in the file, with any credentials masked.
    pub(crate) zk: String,
    /// Where the leader is found, without credentials: the same, or what the file holds that it names.
    pub(crate) zk_read: String,
    pub(crate) masters: Vec<String>,
    pub(crate) zk_detection_timeout: u32,
    pub(crate) refresh_seconds: u32,
    pub(crate) state_timeout_seconds: u32,
    pub(crate) https: bool,
    pub(crate) ca_file: String,
    pub(crate) cert_file: String,
    pub(crate) key_file: String,
    pub(crate) authentication: String,
    pub(crate) credentials: Credentials,
    pub(crate) iam_file: String,
    /// What [`MesosDns::iam_file`] holds.
    pub(crate) iam: Option<Iam>,
    pub(crate) domain: String,
    pub(crate) ttl: u32,
    pub(crate) srv_weight: u16,
    /// Without the dot at the end.
    pub(crate) soa_mname: String,
    pub(crate) soa_rname: String,
    pub(crate) soa_refresh: u32,
    pub(crate) soa_retry: u32,
    pub(crate) soa_expire: u32,
    pub(crate) soa_minttl: u32,
    pub(crate) ip_sources: Vec<String>,
    pub(crate) rfc952: bool,
    pub(crate) reverse: bool,
    pub(crate) dns: bool,
    pub(crate) http: bool,
    pub(crate) listener: IpAddr,
    pub(crate) port: u16,
    pub(crate) http_listener: IpAddr,
    pub(crate) http_port: u16,
    pub(crate) recurse: bool,
    pub(crate) truncate_bit: bool,
    pub(crate) enumeration: bool,
    pub(crate) subnet_first: bool,
    pub(crate) external: bool,
    /// As in the file; an empty list is the machine's own resolvers.
    pub(crate) resolvers: Vec<String>,
    /// Where names outside the domain are asked.
    pub(crate) forward: Vec<SocketAddr>,
    /// The same for some zones; sorted by zone.
    pub(crate) zone_resolvers: Vec<(String, Vec<String>)>,
    pub(crate) timeout: u32,
}

/// `MesosCredentials`.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) principal: String,
    pub(crate) secret: String,
}

impl core::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Credentials").field("principal", &self.principal).finish_non_exhaustive()
    }
}

/// The file of a service account.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Iam {
    pub(crate) uid: String,
    pub(crate) private_key: String,
    pub(crate) login_endpoint: String,
}

impl core::fmt::Debug for Iam {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Iam").field("uid", &self.uid).finish_non_exhaustive()
    }
}

impl MesosDns {
    /// Reads and checks the file at `path`, and what it refers to.
    ///
    /// # Errors
    /// All mistakes, in the order of their places.
    pub fn load(path: &Path, options: MesosDnsOptions) -> Result<Self, Mistakes> {
        let file = path.to_string_lossy();
        let mut settings = Self::parse(&read_text(path, &file)?, &file, options)?;
        if let Some(named) = settings.zk.strip_prefix(check::FILE) {
            settings.zk_read = read::zk(named).map_err(|why| {
                Mistake::of_file(&file, format!("zk: {why}"), Some(check::ZK_HINT.to_owned()))
            })?;
        }
        if settings.authentication == "iam" {
            settings.iam = Some(read::iam(&settings.iam_file).map_err(|why| {
                Mistake::of_file(
                    &file,
                    format!("IAMConfigFile: {why}"),
                    Some("it holds {\"uid\", \"private_key\", \"login_endpoint\"}".to_owned()),
                )
            })?);
        }
        for (key, path) in [
            ("CACertFile", &settings.ca_file),
            ("CertFile", &settings.cert_file),
            ("KeyFile", &settings.key_file),
        ] {
            if !path.is_empty()
                && let Err(error) = std::fs::File::open(path)
            {
                let message = format!("{key}: {path:?} cannot be opened: {error}");
                return Err(Mistake::of_file(&file, message, None).into());
            }
        }
        if settings.external && settings.resolvers.is_empty() {
            settings.forward = read::system_resolvers();
        }
        Ok(settings)
    }

    /// Checks the text of a `config.json`. Does no I/O.
    ///
    /// # Errors
    /// All mistakes, in the order of their places.
    pub fn parse(text: &str, file: &str, options: MesosDnsOptions) -> Result<Self, Mistakes> {
        check::check(&json::Fields::read(text, file)?, text, file, options)
    }

    /// What such a file would say of a zone that was configured otherwise, as far as it can be told.
    #[must_use]
    pub fn of(config: &Config, zone: &str, settings: &Settings) -> Self {
        of::zone(config, zone, settings)
    }

    /// The zone's name.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The period between lists.
    #[must_use]
    pub fn refresh_seconds(&self) -> u64 {
        self.refresh_seconds.into()
    }

    /// The TOML that this amounts to.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::text(self)
    }

    /// What runs: the TOML, and the secrets that it cannot hold.
    ///
    /// # Errors
    /// Mistakes of that TOML: keys that this file cannot avoid, such as a zone that nobody may serve.
    pub fn to_config(&self, environment: &Environment) -> Result<Config, Mistakes> {
        let mut config = Config::parse(&self.to_toml(), &self.file, environment)?;
        for source in &mut config.discovery.sources {
            if let Some(auth) = source.kind.auth_mut() {
                self.fill_secret(auth);
            }
        }
        config.mesos_dns = Some(self.clone());
        Ok(config)
    }

    fn fill_secret(&self, auth: &mut Auth) {
        match auth {
            Auth::Basic { password, .. } => *password = Secret::Given(Given(self.credentials.secret.clone())),
            Auth::Dcos { private_key, .. } => {
                if let Some(iam) = &self.iam {
                    *private_key = Secret::Given(Given(iam.private_key.clone()));
                }
            }
            _ => {}
        }
    }

    /// The body of `/v1/config`: every key as the program shows it, secrets masked.
    #[must_use]
    pub fn shown(&self, serial: u32) -> String {
        show::config(self, serial)
    }
}
