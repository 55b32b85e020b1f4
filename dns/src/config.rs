//! What the configuration says about DNS, as meant (defaults applied, references resolved).

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::path::PathBuf;
use std::sync::Arc;

/// Everything the DNS side is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// UDP and TCP on each.
    pub listen: Vec<SocketAddr>,
    /// The zones served.
    pub zones: Vec<ZoneConfig>,
    /// TTL of positive answers, in whole seconds.
    pub ttl: u32,
    /// TTL of negative answers (SOA minimum, RFC 2308 §4), in whole seconds.
    pub negative_ttl: u32,
    /// Resolvers for names outside our zones; empty: refused.
    pub forward: Vec<SocketAddr>,
    /// Networks that may use the forwarder.
    pub allow_forward: Vec<Network>,
    /// Total time for one forwarded query, all resolvers tried together.
    pub forward_timeout: Duration,
    /// Forwarded queries in flight at once, a quarter of them at most for one client; more are answered SERVFAIL.
    pub forward_in_flight_max: usize,
    /// Answers kept by the forwarder.
    pub forward_cache_entries: usize,
    /// Largest UDP answer sent, whatever the client offers (RFC 6891 §6.2.5). Default 1232.
    pub udp_size_max: u16,
    /// TCP connections open at once.
    pub tcp_connections_max: usize,
    /// A TCP connection without a query for this long is closed (RFC 7766 §6.2.3).
    pub tcp_idle: Duration,
    /// Labels of a service shown in its TXT records.
    pub txt_labels: Vec<Arc<str>>,
    /// This node.
    pub node: NodeConfig,
    /// Where the SOA serial's high-water mark is kept; `None` keeps none.
    pub state_dir: Option<PathBuf>,
}

/// One `[[dns.zone]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ZoneConfig {
    /// Apex, lower case, no dot at the end (`svc.cluster`).
    pub name: Arc<str>,
    /// How names are made.
    pub schema: Schema,
    /// Names of the sources shown; empty for all.
    pub sources: Vec<Arc<str>>,
}

/// The zone schemas that are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// Portolan's own names.
    Native,
}

/// What DNS answers about this node itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeConfig {
    /// Its name (`[node] name`): `<name>.node.<zone>`, and the SOA's and NS's target.
    pub name: Arc<str>,
    /// Its addresses, for its own name.
    pub addresses: Vec<IpAddr>,
    /// The addresses of the proxy's listeners, for `*.vip.<zone>`.
    pub proxy_addresses: Vec<IpAddr>,
}

/// A network in prefix notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Its first address.
    pub address: IpAddr,
    /// Length of the prefix in bits.
    pub prefix: u8,
}

impl Default for Config {
    /// No listener, no zone, no forwarding; limits as documented.
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            zones: Vec::new(),
            ttl: 5,
            negative_ttl: 5,
            forward: Vec::new(),
            allow_forward: Vec::new(),
            forward_timeout: Duration::from_secs(4),
            forward_in_flight_max: 1024,
            forward_cache_entries: 10_000,
            udp_size_max: 1232,
            tcp_connections_max: 1024,
            tcp_idle: Duration::from_secs(10),
            txt_labels: Vec::new(),
            node: NodeConfig::default(),
            state_dir: None,
        }
    }
}
