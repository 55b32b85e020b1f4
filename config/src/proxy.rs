//! `[proxy]` but for routes and upstreams.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use portolan_proxy::tls::TlsConfig;
use portolan_proxy::{
    AccessLogConfig, AccessLogPath, Config, Limits, ListenerConfig, ListenerProtocol, Network, Timeouts,
    UpstreamConfig,
};
use toml::de::DeValue;

use crate::certificate::{self, ReadCertificate};
use crate::keys::{
    PROXY_ACCESS_LOG, PROXY_LIMITS, PROXY_LISTENER, PROXY_ROUTE, PROXY_SERVICE, PROXY_TIMEOUTS,
    PROXY_UPSTREAM,
};
use crate::route::{self, ROUTES_MAX, ReadRoute};
use crate::section::{At, Section};
use crate::upstream;
use crate::value::{self, Parsed};

/// Listeners of one node.
const LISTENERS_MAX: usize = 1024;
/// Services with settings of their own.
const SERVICES_MAX: usize = 20_000;
/// Networks of one list.
const NETWORKS_MAX: usize = 1024;

/// [`Config`] with the places of what is compared.
pub(crate) struct ReadProxy {
    pub(crate) config: Config,
    pub(crate) listeners: Vec<ReadListener>,
    pub(crate) routes: Vec<ReadRoute>,
    pub(crate) certificates: Vec<ReadCertificate>,
}

/// A listener with the places of its name and address.
pub(crate) struct ReadListener {
    pub(crate) name: At<Arc<str>>,
    pub(crate) bind: At<SocketAddr>,
    pub(crate) protocol: ListenerProtocol,
    tcp_fast_open: bool,
    pub(crate) protocol_span: core::ops::Range<usize>,
}

impl ReadProxy {
    /// The proxy of an absent `[proxy]`: no listener.
    pub(crate) fn absent() -> Self {
        let config = Config {
            listeners: Vec::new(),
            certificates: Vec::new(),
            tls: TlsConfig::default(),
            routes: Vec::new(),
            upstream: UpstreamConfig::default(),
            services: Vec::new(),
            drain: Duration::from_secs(30),
            trusted_proxies: Vec::new(),
            forwarded: false,
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            access_log: None,
        };
        Self { config, listeners: Vec::new(), routes: Vec::new(), certificates: Vec::new() }
    }

    pub(crate) fn read(section: &Section<'_>) -> Self {
        let absent = Self::absent().config;
        let listeners: Vec<ReadListener> =
            section.sections("listener", &PROXY_LISTENER, LISTENERS_MAX).iter().map(listener).collect();
        let certificates = certificate::read(section);
        let routes = section.sections("route", &PROXY_ROUTE, ROUTES_MAX);
        let upstream = section.section("upstream", &PROXY_UPSTREAM).map_or_else(
            || absent.upstream.clone(),
            |table| upstream::read(&table, &absent.upstream, &upstream::OF_ALL),
        );
        let config = Config {
            listeners: listeners.iter().map(ReadListener::config).collect(),
            certificates: certificates.iter().map(|certificate| certificate.config.clone()).collect(),
            tls: certificate::tls(section),
            routes: Vec::new(),
            services: services(section, &upstream),
            upstream,
            drain: section.read("drain", drain).unwrap_or(absent.drain),
            trusted_proxies: section.values("trusted_proxies", NETWORKS_MAX, network),
            forwarded: section.read("forwarded", value::boolean).unwrap_or(absent.forwarded),
            timeouts: section
                .section("timeouts", &PROXY_TIMEOUTS)
                .map_or(absent.timeouts, |table| timeouts(&table)),
            limits: section.section("limits", &PROXY_LIMITS).map_or(absent.limits, |table| limits(&table)),
            access_log: section.section("access_log", &PROXY_ACCESS_LOG).map(|table| access_log(&table)),
        };
        let routes = routes.iter().enumerate().map(|(place, table)| route::read(table, place)).collect();
        Self { config, listeners, routes, certificates }
    }
}

impl ReadListener {
    fn config(&self) -> ListenerConfig {
        ListenerConfig {
            name: self.name.value.clone(),
            bind: self.bind.value,
            protocol: self.protocol,
            tcp_fast_open: self.tcp_fast_open,
        }
    }
}

fn drain(value: &DeValue<'_>) -> Parsed<Duration> {
    value::time_within(Duration::ZERO, Duration::from_secs(24 * 3600))(value)
}

fn network(value: &DeValue<'_>) -> Parsed<Network> {
    value::network(value).map(|(address, prefix)| Network { address, prefix })
}

const PROTOCOLS: &[(&str, ListenerProtocol)] = &[
    ("http", ListenerProtocol::Http),
    ("https", ListenerProtocol::Https),
    ("tcp", ListenerProtocol::Tcp),
    ("udp", ListenerProtocol::Udp),
];
const PROTOCOLS_LATER: &[&str] = &["tls-passthrough"];

fn listener(section: &Section<'_>) -> ReadListener {
    let bind = section.at("bind", value::address);
    let protocol = section.read("protocol", value::choice(PROTOCOLS, PROTOCOLS_LATER));
    let protocol = protocol.unwrap_or(ListenerProtocol::Http);
    let default_name = match protocol {
        ListenerProtocol::Http => "http",
        ListenerProtocol::Https => "https",
        ListenerProtocol::Tcp => "tcp",
        ListenerProtocol::Udp => "udp",
    };
    let tcp_fast_open = section.read("tcp_fast_open", value::boolean).unwrap_or(false);
    if tcp_fast_open && protocol == ListenerProtocol::Udp {
        let message = "tcp_fast_open: means nothing on a udp listener".to_owned();
        section.reading.conflict(&section.place_of("tcp_fast_open"), message, "take it out");
    }
    // A wrong address clashes with nothing: port 0.
    let port = if section.has("bind") { 0 } else { 8080 };
    ReadListener {
        name: section.name_or("name", default_name, value::label),
        protocol,
        protocol_span: section.place_of("protocol"),
        bind: bind
            .unwrap_or_else(|| At { value: ([127, 0, 0, 1], port).into(), span: section.place_of("bind") }),
        tcp_fast_open,
    }
}

fn services(
    section: &Section<'_>,
    upstream: &UpstreamConfig,
) -> Vec<(portolan_table::ServiceName, UpstreamConfig)> {
    let mut services: Vec<(portolan_table::ServiceName, UpstreamConfig)> = Vec::new();
    let mut names = std::collections::HashSet::new();
    for table in section.sections("service", &PROXY_SERVICE, SERVICES_MAX) {
        let own = upstream::read(&table, upstream, &upstream::OF_ONE);
        let Some(name) = table.required("name", "write name = \"web.shop.prod\"", value::service_name) else {
            continue;
        };
        if !names.insert(name.value.clone()) {
            let message = format!("name: the service {:?} is there twice", name.value.as_str());
            section.reading.conflict(&name.span, message, "put its settings into one [[proxy.service]]");
        }
        services.push((name.value, own));
    }
    services
}

fn timeouts(section: &Section<'_>) -> Timeouts {
    let default = Timeouts::default();
    let time = |key, default| section.read(key, value::time).unwrap_or(default);
    Timeouts {
        request_head: time("request_head", default.request_head),
        tls_handshake: time("tls_handshake", default.tls_handshake),
        request_body_idle: time("request_body_idle", default.request_body_idle),
        connect: time("connect", default.connect),
        response_head: time("response_head", default.response_head),
        response_body_idle: time("response_body_idle", default.response_body_idle),
        keep_alive: time("keep_alive", default.keep_alive),
        tunnel_idle: time("tunnel_idle", default.tunnel_idle),
        udp_idle: time("udp_idle", default.udp_idle),
        write_stall: time("write_stall", default.write_stall),
    }
}

fn limits(section: &Section<'_>) -> Limits {
    let default = Limits::default();
    let head = |key, default| {
        section
            .read(key, value::size(1 << 10, 1 << 20))
            .map_or(default, |n| usize::try_from(n).unwrap_or(default))
    };
    Limits {
        request_head_max: head("request_head_max", default.request_head_max),
        request_headers_max: section
            .read("request_headers_max", value::count(1, 1000))
            .map_or(default.request_headers_max, |n| n as usize),
        request_body_max: section.read("request_body_max", body_size).unwrap_or(default.request_body_max),
        response_head_max: head("response_head_max", default.response_head_max),
        connections_max: section
            .read("connections_max", value::count(1, 10_000_000))
            .map_or(default.connections_max, |n| n as usize),
        udp_flows_max: section
            .read("udp_flows_max", value::count(1, 1_000_000))
            .map_or(default.udp_flows_max, |n| n as usize),
        tls_handshakes_max: section
            .read("tls_handshakes_max", value::count(1, 1_000_000))
            .map_or(default.tls_handshakes_max, |n| n as usize),
        h2_streams_max: section
            .read("h2_streams_max", value::count(1, 10_000))
            .unwrap_or(default.h2_streams_max),
    }
}

fn body_size(value: &DeValue<'_>) -> Parsed<Option<u64>> {
    match value.as_str() {
        Some("unlimited") => Ok(None),
        _ => value::size(0, u64::MAX)(value).map(Some).map_err(|wrong| wrong.or("unlimited")),
    }
}

fn access_log(section: &Section<'_>) -> AccessLogConfig {
    let to_stdout = !section.has("path") || section.is_text("path", "stdout");
    AccessLogConfig {
        path: match section.path("path") {
            Some(path) if !to_stdout => AccessLogPath::File(path.value),
            _ => AccessLogPath::Stdout,
        },
        sample: section.read("sample", value::share).unwrap_or(1.0),
    }
}
