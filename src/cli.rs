//! The command line: what can be typed, with its help. What it means is elsewhere.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};

use crate::ask::{DiffArgs, EndpointsArgs, ExplainArgs, ListArgs, ResolveArgs};

/// Service discovery and load balancing: one routing table for DNS and proxy.
#[derive(Debug, Parser)]
#[command(
    name = "portolan",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Examples:\n  portolan demo\n  portolan run --config /etc/portolan.toml\n  portolan explain http://shop.example.com/cart"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the data plane in the foreground.
    #[command(
        after_help = "Examples:\n  portolan run --config /etc/portolan.toml\n  portolan run            # documented defaults, unprivileged ports\n  portolan run --mesos-dns-config /etc/mesos-dns/config.json"
    )]
    Run(RunArgs),
    /// Print the configuration that another program's amounts to.
    #[command(
        after_help = "Examples:\n  portolan import mesos-dns /etc/mesos-dns/config.json > /etc/portolan.toml"
    )]
    Import(ImportArgs),
    /// Check a configuration file; exit 0 if it can be used, 1 if not.
    #[command(after_help = "Examples:\n  portolan check /etc/portolan.toml")]
    Check(CheckArgs),
    /// Run a simulated cluster, real small backends and a Portolan in front of them, and print what to try.
    #[command(
        after_help = "Examples:\n  portolan demo\n  portolan demo --dns 127.0.0.1:5353 --proxy 127.0.0.1:8000"
    )]
    Demo(DemoArgs),
    /// Run a simulated Marathon API.
    Sim(crate::sim::command::Args),
    /// Show the services the running daemon knows.
    #[command(after_help = "Examples:\n  portolan services\n  portolan services --json | jq .generation")]
    Services(ListArgs),
    /// Show the running daemon's routes, those that lose to others included.
    #[command(after_help = "Examples:\n  portolan routes --admin http://127.0.0.1:9090")]
    Routes(ListArgs),
    /// Show the running daemon's endpoints, and why one gets no traffic.
    #[command(after_help = "Examples:\n  portolan endpoints\n  portolan endpoints web.shop")]
    Endpoints(EndpointsArgs),
    /// Show where the running daemon's sources stand.
    #[command(after_help = "Examples:\n  portolan sources --config /etc/portolan.toml")]
    Sources(ListArgs),
    /// Say why a name or a URL is answered as it is.
    Explain(ExplainArgs),
    /// Ask the running daemon's DNS.
    Resolve(ResolveArgs),
    /// Ask an incumbent and the running daemon for every name, and show where they differ.
    Diff(DiffArgs),
    /// Print a completion script for a shell.
    #[command(after_help = "Examples:\n  portolan completions bash > /etc/bash_completion.d/portolan")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Configuration file (TOML). Without it the documented defaults are used.
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Mesos-DNS's config.json, taken as it is; alone, it says everything.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub mesos_dns_config: Option<PathBuf>,
    /// How that file is taken.
    #[command(flatten)]
    pub mesos_dns: MesosDnsArgs,
}

/// What Mesos-DNS's config.json does not say.
#[derive(Debug, Clone, Args)]
pub struct MesosDnsArgs {
    /// Where Mesos-DNS departs from the RFCs, follow these or the program.
    #[arg(long, value_name = "WHOM", value_parser = ["rfc", "strict"], default_value = "rfc")]
    pub compat: String,
    /// The line of Mesos-DNS whose names are served.
    #[arg(long, value_name = "LINE", value_parser = ["0.7", "0.8"], default_value = "0.8")]
    pub mesos_dns_profile: String,
}

/// Arguments of `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Whose configuration.
    #[command(subcommand)]
    pub from: Import,
}

/// The programs whose configuration is understood.
#[derive(Debug, Subcommand)]
pub enum Import {
    /// Mesos-DNS's config.json.
    MesosDns {
        /// The file.
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// How it is taken.
        #[command(flatten)]
        options: MesosDnsArgs,
    },
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Configuration file (TOML).
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where the DNS server listens; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8053")]
    pub dns: SocketAddr,
    /// Where the HTTP proxy listens; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub proxy: SocketAddr,
    /// Where the TCP proxy listens; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    pub tcp: SocketAddr,
    /// Where the admin API listens; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    pub admin: SocketAddr,
    /// End after this many seconds instead of on Ctrl-C.
    #[arg(long, value_name = "SECONDS")]
    pub seconds: Option<u64>,
}
