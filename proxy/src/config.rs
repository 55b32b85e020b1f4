//! What the configuration says about the proxy, as meant (defaults applied, references resolved).

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::path::PathBuf;
use std::sync::Arc;

use portolan_table::{RouteSpec, ServiceName};

use crate::tls::{CertificateConfig, TlsConfig, UpstreamTlsConfig};

/// Everything the proxy is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The listeners.
    pub listeners: Vec<ListenerConfig>,
    /// The certificates of `https` listeners; the first that a listener may show is its default.
    pub certificates: Vec<CertificateConfig>,
    /// How `https` listeners speak.
    pub tls: TlsConfig,
    /// The routes of the file; their origin is [`portolan_table::RouteOrigin::File`].
    pub routes: Vec<RouteSpec>,
    /// How endpoints are chosen and guarded, for every service without settings of its own.
    pub upstream: UpstreamConfig,
    /// Settings for single services, which replace [`Config::upstream`] as a whole.
    pub services: Vec<(ServiceName, UpstreamConfig)>,
    /// Open requests get this long to end on stop, reload of a listener, or loss of their endpoint.
    pub drain: Duration,
    /// Networks whose X-Forwarded-* and Forwarded headers are believed and extended; others' are replaced.
    pub trusted_proxies: Vec<Network>,
    /// Add `Forwarded` (RFC 7239) beside X-Forwarded-*.
    pub forwarded: bool,
    /// Time-outs of the downstream side and of upstream connections.
    pub timeouts: Timeouts,
    /// Sizes and counts.
    pub limits: Limits,
    /// The access log; `None` for none.
    pub access_log: Option<AccessLogConfig>,
}

/// One `[[proxy.listener]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ListenerConfig {
    /// Its name; unique.
    pub name: Arc<str>,
    /// Where it is bound.
    pub bind: SocketAddr,
    /// What is spoken on it.
    pub protocol: ListenerProtocol,
    /// Clients may send data with their first packet (TCP Fast Open, RFC 7413). Not for UDP.
    pub tcp_fast_open: bool,
}

/// The listener protocols that are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerProtocol {
    /// HTTP/1.1, and HTTP/2 with prior knowledge.
    Http,
    /// The same over TLS.
    Https,
    /// TCP relay.
    Tcp,
    /// UDP relay.
    Udp,
}

/// Policy towards the endpoints of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamConfig {
    /// What is spoken to endpoints.
    pub protocol: UpstreamProtocol,
    /// How an endpoint is chosen.
    pub balance: Balance,
    /// Requests that may be in flight to one endpoint per worker; 0 for no limit.
    pub in_flight_max: u32,
    /// Connections kept per endpoint and worker though they were idle for a second; fewer than that is no excess.
    pub idle_connections_max: usize,
    /// An idle connection is closed after this long.
    pub idle_timeout: Duration,
    /// Attempts for one request, the first included.
    pub attempts_max: u32,
    /// Retries allowed as a share of requests (0.0 to 1.0) over the last ten seconds.
    pub retry_budget: f64,
    /// How TLS is spoken to the endpoints.
    pub tls: UpstreamTlsConfig,
    /// Passive ejection; `None` for none.
    pub ejection: Option<EjectionConfig>,
    /// Active checks; `None` (the default) believes the scheduler.
    pub check: Option<CheckConfig>,
}

/// What is spoken to the endpoints of a service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/2 where the scheduler says that the port speaks it or gRPC, else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: with prior knowledge, and over TLS where the handshake agrees on it.
    H2,
}

/// Balancing policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Balance {
    /// One after the other, by weight.
    RoundRobin,
    /// The one with fewer requests in flight of two chosen at random, by weight.
    LeastRequest,
    /// The one that should answer first of two chosen at random, by weight: mean latency, sensitive to peaks, times
    /// requests in flight.
    PeakEwma,
    /// Always the same endpoint for the same key while endpoints come and go.
    ConsistentHash(HashKey),
}

/// What consistent hashing hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address.
    ClientAddress,
    /// A request header, lower case.
    Header(Arc<str>),
    /// The path without the query.
    Path,
}

/// When an endpoint that fails is left alone for a while.
#[derive(Debug, Clone, PartialEq)]
pub struct EjectionConfig {
    /// Failures in a row (refused, reset, timed out, 502/503/504) before ejection.
    pub failures: u32,
    /// First time out of rotation; doubles with every ejection that follows.
    pub base: Duration,
    /// Longest time out of rotation.
    pub max: Duration,
    /// Ejections are ignored when less than this share (0.0 to 1.0) of a service's endpoints would be left.
    pub panic_threshold: f64,
}

/// An active check.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckConfig {
    /// What is tried.
    pub kind: CheckKind,
    /// Time between two tries, jittered.
    pub interval: Duration,
    /// Limit of one try.
    pub timeout: Duration,
    /// Good tries in a row before healthy.
    pub rise: u32,
    /// Bad tries in a row before unhealthy.
    pub fall: u32,
}

/// What an active check tries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckKind {
    /// A connection can be made.
    Tcp,
    /// A GET of `path` with `host` is answered 200–399.
    Http {
        /// Path and query.
        path: Arc<str>,
        /// Host header; the endpoint's address if `None`.
        host: Option<Arc<str>>,
    },
}

/// Limits in time. Every phase has one.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeouts {
    /// From accept, or from the first byte of a request, to the end of its head.
    pub request_head: Duration,
    /// From accept to the end of a TLS handshake.
    pub tls_handshake: Duration,
    /// Between two pieces of a request body.
    pub request_body_idle: Duration,
    /// To open an upstream connection.
    pub connect: Duration,
    /// From the end of the request to the head of the response.
    pub response_head: Duration,
    /// Between two pieces of a response body.
    pub response_body_idle: Duration,
    /// Between two requests on a downstream connection.
    pub keep_alive: Duration,
    /// Without traffic either way, on upgraded connections and TCP relays.
    pub tunnel_idle: Duration,
    /// Without datagrams either way, on flows of UDP relays.
    pub udp_idle: Duration,
    /// A write that makes no progress.
    pub write_stall: Duration,
}

/// Limits in size and number.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Octets of a request head.
    pub request_head_max: usize,
    /// Header fields of a request.
    pub request_headers_max: usize,
    /// Octets of a request body; `None` for no limit.
    pub request_body_max: Option<u64>,
    /// Octets of a response head.
    pub response_head_max: usize,
    /// Downstream connections per listener and worker.
    pub connections_max: usize,
    /// Flows of a `udp` listener per worker; each takes a descriptor.
    pub udp_flows_max: usize,
    /// TLS handshakes in progress per worker.
    pub tls_handshakes_max: usize,
    /// Streams of one HTTP/2 connection.
    pub h2_streams_max: u32,
}

/// `[proxy.access_log]`.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessLogConfig {
    /// Where lines go.
    pub path: AccessLogPath,
    /// Share of requests logged (0.0 to 1.0); failures of our own are always logged.
    pub sample: f64,
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogPath {
    /// Standard output.
    Stdout,
    /// A file, opened for appending.
    File(PathBuf),
}

/// A network in prefix notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Its first address.
    pub address: IpAddr,
    /// Length of the prefix in bits.
    pub prefix: u8,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            protocol: UpstreamProtocol::Auto,
            balance: Balance::RoundRobin,
            in_flight_max: 0,
            idle_connections_max: 64,
            idle_timeout: Duration::from_secs(60),
            attempts_max: 3,
            retry_budget: 0.2,
            tls: UpstreamTlsConfig::default(),
            ejection: Some(EjectionConfig::default()),
            check: None,
        }
    }
}

impl Default for EjectionConfig {
    fn default() -> Self {
        Self {
            failures: 5,
            base: Duration::from_secs(5),
            max: Duration::from_secs(300),
            panic_threshold: 0.5,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            request_head: Duration::from_secs(10),
            tls_handshake: Duration::from_secs(10),
            request_body_idle: Duration::from_secs(30),
            connect: Duration::from_secs(3),
            response_head: Duration::from_secs(60),
            response_body_idle: Duration::from_secs(60),
            keep_alive: Duration::from_secs(60),
            tunnel_idle: Duration::from_secs(3600),
            udp_idle: Duration::from_secs(30),
            write_stall: Duration::from_secs(30),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_head_max: 32 * 1024,
            request_headers_max: 100,
            request_body_max: None,
            response_head_max: 64 * 1024,
            connections_max: 50_000,
            udp_flows_max: 10_000,
            tls_handshakes_max: 1000,
            h2_streams_max: 128,
        }
    }
}
