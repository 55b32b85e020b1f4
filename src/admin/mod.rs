//! The admin side: metrics, health, and the read-only API over TCP; commands by Unix socket or with a token.
//!
//! ```text
//!  TCP  ─► Host header known? ─► GET: answer            POST: only with the token
//!  Unix ─► ─────────────────────► GET: answer            POST: allowed (the file's mode guards it)
//! ```
//! Every answer of `/api/v1/`, a refusal too, is a JSON object with the `generation` it was read from.

mod access;
mod api;
mod bind;
mod crowd;
mod explain;
mod mesos_dns;
mod reply;
mod routes;
mod server;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use portolan_config::mesos_dns::MesosDns;
use portolan_discovery::Handle;
use portolan_dns::Zones;
use portolan_proxy::{Proxy, Routes};
use portolan_table::{Table, ViewKey};
use serde::Serialize;
use tokio::sync::mpsc;

pub(crate) use access::Access;
pub(crate) use bind::{Bound, bind_tcp, bind_unix};
pub(crate) use server::{Endpoint, serve};

/// What the admin side can see.
#[derive(Debug)]
pub(crate) struct State {
    /// The routing table.
    pub(crate) table: Table,
    /// Where the zones are in a snapshot.
    pub(crate) zones: ViewKey<Zones>,
    /// Where the routes are in a snapshot.
    pub(crate) routes: ViewKey<Routes>,
    /// Sources and catalog.
    pub(crate) discovery: Handle,
    /// The proxy's run-time state.
    pub(crate) proxy: Arc<Proxy>,
    /// All metrics.
    pub(crate) registry: prometheus::Registry,
    /// Connections of the admin side that were cut, by reason.
    pub(crate) cuts: prometheus::IntCounterVec,
    /// What is bound now.
    pub(crate) listeners: ArcSwap<Vec<ListenerInfo>>,
    /// How the last (re)load of the configuration went.
    pub(crate) configuration: ArcSwap<ConfigurationInfo>,
    /// What `/v1/config` shows of each zone of the schema `mesos-dns`.
    pub(crate) mesos_dns: ArcSwap<Vec<(Arc<str>, MesosDns)>>,
    /// Who may ask.
    pub(crate) access: ArcSwap<Access>,
    /// Where commands go.
    pub(crate) commands: mpsc::Sender<Command>,
    /// The node is on its way out: it takes no new work.
    pub(crate) draining: AtomicBool,
}

/// One bound address, as `/api/v1/listeners` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ListenerInfo {
    /// The listener's name; `dns` and `admin` for those.
    pub(crate) name: String,
    /// `http`, `tcp`, `dns`, `admin`, `metrics`.
    pub(crate) protocol: &'static str,
    /// Where it is bound.
    pub(crate) address: String,
}

/// The configuration in force, as `/api/v1/table` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct ConfigurationInfo {
    /// The file, if there is one.
    pub(crate) file: Option<String>,
    /// Mistakes of the last reload, which was then refused; empty if it was taken.
    pub(crate) refused: Vec<String>,
}

/// What a caller may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// Read the configuration again.
    Reload,
    /// Drain and end.
    Stop,
}
