//! Portolan's configuration file: as typed (with spans), then as meant.
//!
//! ```text
//!  TOML text ──► tree, every key and value with its span ──► sections, read key by key ──► Config
//!                       │ syntax errors                            │ unknown keys,             │ clashes of
//!                       ▼                                          ▼ wrong values              ▼ names, addresses
//!                    Mistakes: all of them at once, in the order of the file, FILE:LINE:COLUMN
//! ```
//!
//! The types of the result belong to the crates that use them (`portolan_discovery::Config` and so on); this crate
//! knows the names of the keys, their defaults and what may not stand together. It starts nothing, and only
//! [`Config::load`], [`Config::load_to_run`] and [`Config::check`] touch the file system. Every key is described in `docs/configuration.md`.
//!
//! ```
//! use portolan_config::{Config, Environment};
//!
//! let environment = Environment { host_name: "edge-1".into(), ..Environment::default() };
//! let mistakes = Config::parse("[dns]\nlisten = [\":53\"]\n", "portolan.toml", &environment).unwrap_err();
//! assert_eq!(
//!     mistakes.to_string(),
//!     "portolan.toml:2:11: listen: \":53\" is not an address; write \"0.0.0.0:53\" for all addresses"
//! );
//! ```

mod certificate;
mod clash;
mod config;
mod dns;
mod dns_guard;
mod environment;
mod keys;
pub mod mesos_dns;
mod mistake;
mod node;
mod proxy;
mod registry;
mod route;
mod section;
mod source;
mod suggest;
#[cfg(test)]
mod tests;
mod upstream;
mod upstream_tls;
mod value;
mod zone_mesos_dns;

pub use config::{Config, FILE_LEN_MAX};
pub use environment::Environment;
pub use keys::{KnownKey, known_keys};
pub use mistake::{MISTAKES_MAX, Mistake, Mistakes, render};
pub use node::{Admin, Log, LogFormat, Node};
