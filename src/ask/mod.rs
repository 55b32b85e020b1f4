//! Commands that ask the running daemon: tables of what it knows, why it answers as it does, and what its DNS says.
//!
//! Data goes to standard output, talk to standard error. The daemon is found by `--admin URL`, else by `[admin]` of
//! `--config FILE` (its first address, or else its socket), else at the default address.

mod client;
mod diff;
mod explain;
mod listing;
mod resolve;
mod table;

#[cfg(test)]
mod tests;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use portolan_config::{Config, Environment, render};

pub use diff::{DiffArgs, Incumbent, diff};
pub use explain::explain;
pub use listing::{Listing, list};
pub use resolve::resolve;

/// Where the daemon's admin API is without being told.
const ADMIN_DEFAULT: &str = "http://127.0.0.1:9090";

/// Which daemon to ask.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Daemon {
    /// The daemon's admin API: http://HOST:PORT, or unix:// and the path of its socket
    #[arg(long, value_name = "URL", value_hint = clap::ValueHint::Url)]
    pub admin: Option<String>,
    /// The daemon's configuration file, to find it by
    #[arg(long, short, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub config: Option<PathBuf>,
}

/// Arguments of `services`, `routes` and `sources`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ListArgs {
    /// Which daemon.
    #[command(flatten)]
    pub daemon: Daemon,
    /// Print the API's JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `endpoints`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct EndpointsArgs {
    /// Only those of this service, by its full name: web.shop.prod
    pub service: Option<String>,
    /// What all lists have.
    #[command(flatten)]
    pub list: ListArgs,
}

/// Arguments of `explain`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  portolan explain web.shop.svc.cluster\n  portolan explain http://shop.example.com/cart"
)]
pub struct ExplainArgs {
    /// A DNS name, or a URL with its scheme
    #[arg(value_name = "NAME|URL")]
    pub question: String,
    /// What all lists have.
    #[command(flatten)]
    pub list: ListArgs,
}

/// Arguments of `resolve`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  portolan resolve web.shop.svc.cluster\n  portolan resolve _http._tcp.web.shop.svc.cluster SRV\n  portolan resolve web.shop.svc.cluster AAAA --dns 127.0.0.1:8053"
)]
pub struct ResolveArgs {
    /// The name to ask for
    pub name: String,
    /// The record type
    #[arg(value_name = "TYPE", default_value = "A")]
    pub kind: String,
    /// The DNS server to ask; default: the daemon's
    #[arg(long, value_name = "ADDRESS")]
    pub dns: Option<SocketAddr>,
    /// Which daemon.
    #[command(flatten)]
    pub daemon: Daemon,
}

impl Daemon {
    /// Base URL of the admin API.
    fn url(&self) -> Result<String> {
        if let Some(url) = &self.admin {
            let url = url.trim_end_matches('/');
            return Ok(if url.contains("://") { url.to_owned() } else { format!("http://{url}") });
        }
        let Some(config) = self.load()? else { return Ok(ADMIN_DEFAULT.to_owned()) };
        match (config.admin.listen.first(), &config.admin.socket) {
            (Some(address), _) => Ok(format!("http://{}", reachable(*address))),
            (None, Some(socket)) => Ok(format!("unix://{}", socket.display())),
            (None, None) => {
                bail!("the configuration has no [admin] listener; name the daemon with --admin URL")
            }
        }
    }

    fn load(&self) -> Result<Option<Config>> {
        let Some(path) = &self.config else { return Ok(None) };
        let config = Config::load(path, &Environment::of_process());
        let mistakes = |mistakes: portolan_config::Mistakes| {
            anyhow::anyhow!("{}", render(mistakes.list(), false).trim_end().to_owned())
        };
        config.map(Some).map_err(mistakes)
    }
}

/// Where to reach a listener of this address: one on all addresses is reached on loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let loopback: std::net::IpAddr = match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        address.set_ip(loopback);
    }
    address
}

/// Whether standard output takes colours: a terminal, and `NO_COLOR` unset or empty.
fn is_coloured() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && std::io::stdout().is_terminal()
}

/// Writes talk to standard error, where data is none of it.
fn say(text: &str) -> Result<()> {
    match writeln!(std::io::stderr(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("standard error"),
        _ => Ok(()),
    }
}

/// Writes data to standard output. A reader that has gone (`| head`) is no failure.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("standard output"),
        _ => Ok(()),
    }
}
