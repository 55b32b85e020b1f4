//! What the configuration says about DNS, as meant (defaults applied, references resolved).

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::path::PathBuf;
use std::sync::Arc;

use crate::zone::mesos_dns;

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
    /// Zones that other resolvers are asked about; of several that hold a name the longest one counts.
    pub forward_zones: Vec<ForwardZone>,
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
    /// Networks that may ask at all; `None`: everybody.
    pub allow_query: Option<Vec<Network>>,
    /// What becomes of the queries of others.
    pub query_denied: Denied,
    /// How often a network is answered.
    pub rate_limit: RateLimit,
    /// DNS cookies (RFC 7873).
    pub cookies: Cookies,
    /// Keys of transaction signatures (RFC 8945).
    pub keys: Vec<Key>,
    /// Who may have zones whole, and who is told of changes.
    pub transfer: Transfer,
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

/// One `[[dns.forward_zone]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardZone {
    /// Its apex, lower case, no dot at the end.
    pub name: Arc<str>,
    /// The resolvers for names in it.
    pub forward: Vec<SocketAddr>,
}

/// The zone schemas that are built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schema {
    /// Portolan's own names.
    Native,
    /// Mesos-DNS's.
    MesosDns(Arc<mesos_dns::Settings>),
}

/// What becomes of a query that is not allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Denied {
    /// It is answered REFUSED.
    #[default]
    Refuse,
    /// It is not answered.
    Drop,
}

/// Replies a second to one network over UDP. Rates of 0 are no limit; those that are `None` are as `responses_per_second`.
#[derive(Debug, Clone, PartialEq)]
pub struct RateLimit {
    /// Replies with records, for each name and type.
    pub responses_per_second: u32,
    /// Replies that the name has nothing of the type.
    pub nodata_per_second: Option<u32>,
    /// Replies that there is no such name.
    pub nxdomains_per_second: Option<u32>,
    /// Replies with other response codes.
    pub errors_per_second: Option<u32>,
    /// Replies of all kinds together.
    pub all_per_second: u32,
    /// Of so many limited replies one is sent, empty and with TC; 0: none.
    pub slip: u32,
    /// Bits that make an IPv4 network.
    pub ipv4_prefix: u8,
    /// Bits that make an IPv6 network.
    pub ipv6_prefix: u8,
    /// Networks that are not limited.
    pub exempt: Vec<Network>,
    /// Networks and names kept in mind, per worker and listener.
    pub entries_max: usize,
}

impl Default for RateLimit {
    /// No limit.
    fn default() -> Self {
        Self {
            responses_per_second: 0,
            nodata_per_second: None,
            nxdomains_per_second: None,
            errors_per_second: None,
            all_per_second: 0,
            slip: 2,
            ipv4_prefix: 24,
            ipv6_prefix: 56,
            exempt: Vec::new(),
            entries_max: 65_536,
        }
    }
}

/// DNS cookies.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cookies {
    /// Cookies are given and looked at.
    pub enabled: bool,
    /// Queries over UDP whose cookie is not ours get BADCOOKIE and no answer.
    pub required: bool,
    /// Where the secrets are, so that edges share them; `None`: secrets of our own, another each day.
    pub secret_file: Option<PathBuf>,
}

/// A key of transaction signatures.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// Its name, which both sides must have alike.
    pub name: Arc<str>,
    /// How messages are signed with it.
    pub algorithm: Algorithm,
    /// The secret in base64, and nothing else.
    pub secret_file: PathBuf,
}

/// Algorithms of transaction signatures (RFC 8945 §6).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256, the one that all implement.
    #[default]
    HmacSha256,
    /// HMAC with SHA-512.
    HmacSha512,
}

/// Zone transfers (RFC 5936, RFC 1995) and notifications (RFC 1996).
#[derive(Debug, Clone, PartialEq)]
pub struct Transfer {
    /// Networks of those who may have zones. Empty with `keys`: wherever the key is known. Empty without: nobody.
    pub allow: Vec<Network>,
    /// Names of keys, one of which must have signed the request; empty: none need have.
    pub keys: Vec<Arc<str>>,
    /// Secondaries that are told of changes; signed with the first of `keys`.
    pub notify: Vec<SocketAddr>,
    /// Changes are gathered for this time before secondaries are told again.
    pub notify_delay: Duration,
    /// Octets of differences kept for each zone.
    pub journal_max: usize,
    /// Transfers at once.
    pub transfers_max: usize,
}

impl Default for Transfer {
    /// Nobody may, nobody is told.
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            keys: Vec::new(),
            notify: Vec::new(),
            notify_delay: Duration::from_secs(1),
            journal_max: 16 << 20,
            transfers_max: 8,
        }
    }
}

impl Transfer {
    /// True if somebody may have a zone, or is told of changes.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        !(self.allow.is_empty() && self.keys.is_empty() && self.notify.is_empty())
    }
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
            forward_zones: Vec::new(),
            allow_forward: Vec::new(),
            forward_timeout: Duration::from_secs(4),
            forward_in_flight_max: 1024,
            forward_cache_entries: 10_000,
            udp_size_max: 1232,
            tcp_connections_max: 1024,
            tcp_idle: Duration::from_secs(10),
            allow_query: None,
            query_denied: Denied::default(),
            rate_limit: RateLimit::default(),
            cookies: Cookies::default(),
            keys: Vec::new(),
            transfer: Transfer::default(),
            txt_labels: Vec::new(),
            node: NodeConfig::default(),
            state_dir: None,
        }
    }
}
