//! `[dns]`.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::sync::Arc;

use portolan_dns::{Config, ForwardZone, Network, Schema, ZoneConfig};
use toml::de::DeValue;

use crate::dns_guard::guarded;
use crate::keys::{DNS_FORWARD_ZONE, DNS_ZONE};
use crate::section::{At, Reading, Section};
use crate::value::{self, Parsed, quoted, wrong};
use crate::zone_mesos_dns;

/// Addresses of the DNS side, and resolvers behind it.
pub(crate) const ADDRESSES_MAX: usize = 64;
/// Zones of one node.
const ZONES_MAX: usize = 256;
/// Networks of one list.
pub(crate) const NETWORKS_MAX: usize = 1024;
/// Sources of one zone, labels in TXT.
const NAMES_MAX: usize = 256;
/// A week: longer TTLs are no use to names that move.
const TTL_MAX: u32 = 7 * 24 * 3600;

/// [`Config`] with the places of what must not clash.
pub(crate) struct ReadDns {
    pub(crate) config: Config,
    pub(crate) addresses: Vec<At<SocketAddr>>,
    /// Where zones are shown over HTTP.
    pub(crate) http: Vec<At<SocketAddr>>,
    /// Names of sources that zones speak of.
    pub(crate) sources: Vec<At<Arc<str>>>,
}

/// Loopback, private and link-local networks: who may use the forwarder unless the file says otherwise.
const ALLOW_FORWARD: [Network; 8] = [
    v4(127, 0, 8),
    v4(10, 0, 8),
    v4(172, 16, 12),
    v4(192, 168, 16),
    v4(169, 254, 16),
    Network { address: IpAddr::V6(Ipv6Addr::LOCALHOST), prefix: 128 },
    v6(0xfc00, 7),
    v6(0xfe80, 10),
];

const fn v4(first: u8, second: u8, prefix: u8) -> Network {
    Network { address: IpAddr::V4(Ipv4Addr::new(first, second, 0, 0)), prefix }
}

const fn v6(first: u16, prefix: u8) -> Network {
    Network { address: IpAddr::V6(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0)), prefix }
}

pub(crate) fn read(section: &Section<'_>) -> ReadDns {
    // A zone may be shown over HTTP alone.
    if !section.has("zone") {
        section.refuse_empty_list("listen", "leave [dns] out if DNS is not wanted");
    }
    let listen = section.list("listen", ADDRESSES_MAX, value::address);
    let default = At { value: SocketAddr::from(([127, 0, 0, 1], 8053)), span: section.span().clone() };
    let addresses = listen.map_or_else(|| vec![default], |list| list.value);
    let (mut zones, sources, http) = zones(section);
    let listen: Vec<SocketAddr> = addresses.iter().map(|at| at.value).collect();
    zone_mesos_dns::place(&mut zones, &listen);
    let count =
        |key, min, max, default| section.read(key, value::count(min, max)).unwrap_or(default) as usize;
    let ttl = |key| section.read(key, value::whole_seconds(0, TTL_MAX)).unwrap_or(5);
    let config = Config {
        listen,
        zones,
        ttl: ttl("ttl"),
        negative_ttl: ttl("negative_ttl"),
        forward: section.values("forward", ADDRESSES_MAX, resolver),
        forward_zones: forward_zones(section),
        allow_forward: section
            .list("allow_forward", NETWORKS_MAX, network)
            .map_or_else(|| ALLOW_FORWARD.to_vec(), |list| list.into_values()),
        forward_timeout: section.read("forward_timeout", value::time).unwrap_or(Duration::from_secs(4)),
        forward_in_flight_max: count("forward_in_flight_max", 1, 100_000, 1000),
        forward_cache_entries: count("forward_cache_entries", 0, 10_000_000, 10_000),
        udp_size_max: section
            .read("udp_size_max", value::number(512, 65_535))
            .map_or(1232, |n| u16::try_from(n).unwrap_or(u16::MAX)),
        tcp_connections_max: count("tcp_connections_max", 1, 1_000_000, 1000),
        tcp_idle: section.read("tcp_idle", value::time).unwrap_or(Duration::from_secs(10)),
        txt_labels: section.values("txt_labels", NAMES_MAX, value::shared_text),
        ..guarded(section)
    };
    ReadDns { config, addresses, http, sources }
}

pub(crate) fn network(value: &DeValue<'_>) -> Parsed<Network> {
    value::network(value).map(|(address, prefix)| Network { address, prefix })
}

/// A resolver or secondary to which messages go: an address that can be sent to.
pub(crate) fn resolver(value: &DeValue<'_>) -> Parsed<SocketAddr> {
    let address = value::address(value)?;
    if address.ip().is_unspecified() || address.port() == 0 {
        return wrong(
            format!("{} cannot be sent to", quoted(&address.to_string())),
            "write an address and a port, as in \"192.0.2.53:53\"",
        );
    }
    Ok(address)
}

/// The zone schemas, as words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SchemaWord {
    Native,
    MesosDns,
}

const SCHEMAS: &[(&str, SchemaWord)] = &[("native", SchemaWord::Native), ("mesos-dns", SchemaWord::MesosDns)];
const SCHEMAS_LATER: &[&str] = &["dcos", "consul", "kubernetes", "skydns"];

/// The zones, the sources that they name, and where they are shown over HTTP.
type ReadZones = (Vec<ZoneConfig>, Vec<At<Arc<str>>>, Vec<At<SocketAddr>>);

/// The zones; the native zone when there is none.
fn zones(section: &Section<'_>) -> ReadZones {
    if !section.has("zone") {
        let native = ZoneConfig { name: "svc.cluster".into(), schema: Schema::Native, sources: Vec::new() };
        return (vec![native], Vec::new(), Vec::new());
    }
    let (mut zones, mut names, mut sources, mut http) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for zone in section.sections("zone", &DNS_ZONE, ZONES_MAX) {
        let schema = zone.read("schema", value::choice(SCHEMAS, SCHEMAS_LATER));
        let shown = zone.list("sources", NAMES_MAX, value::label).map_or_else(Vec::new, |list| list.value);
        let name = zone.required("name", "write name = \"svc.cluster\"", zone_name);
        // Looked at whatever the schema is, so that mistakes are told.
        let (settings, bound) = zone_mesos_dns::read(&zone, name.as_ref().map_or("", |name| &name.value));
        if let Some(name) = name {
            zones.push(ZoneConfig {
                name: name.value.clone(),
                schema: match schema.unwrap_or(SchemaWord::Native) {
                    SchemaWord::Native => Schema::Native,
                    SchemaWord::MesosDns => {
                        http.extend(bound);
                        Schema::MesosDns(Arc::new(settings))
                    }
                },
                sources: shown.iter().map(|at| at.value.clone()).collect(),
            });
            names.push(name);
        }
        sources.extend(shown);
    }
    refuse_overlaps(section.reading, &names);
    (zones, sources, http)
}

/// Zones that other resolvers are asked about.
fn forward_zones(section: &Section<'_>) -> Vec<ForwardZone> {
    let mut zones = Vec::new();
    for zone in section.sections("forward_zone", &DNS_FORWARD_ZONE, ZONES_MAX) {
        let name = zone.required("name", "write name = \"example.com\"", forward_zone_name);
        let hint = "write forward = [\"192.0.2.53:53\"]";
        let forward = zone.required_list("forward", hint, ADDRESSES_MAX, resolver);
        if let Some(name) = name {
            zones.push(ForwardZone { name: name.value, forward });
        }
    }
    zones
}

/// A domain name that others serve: lower case, no dot at the end.
fn forward_zone_name(value: &DeValue<'_>) -> Parsed<Arc<str>> {
    let text = value::text(value)?.to_ascii_lowercase();
    let name = text.strip_suffix('.').unwrap_or(&text);
    match portolan_dns::wire::text_to_name(name) {
        Some(wire) if wire.len() > 1 => Ok(name.into()),
        _ => wrong(format!("{} is not a domain name", quoted(name)), "write it as in \"example.com\""),
    }
}

/// One name belongs to one zone: of two zones, neither may be or lie below the other.
fn refuse_overlaps(reading: &Reading<'_>, names: &[At<Arc<str>>]) {
    for (place, later) in names.iter().enumerate() {
        for earlier in &names[..place] {
            let (a, b) = (&*later.value, &*earlier.value);
            if a == b {
                reading.conflict(
                    &later.span,
                    format!("name: the zone {a:?} is there twice"),
                    "keep one of them",
                );
            } else if below(a, b) || below(b, a) {
                let (inner, outer) = if below(a, b) { (a, b) } else { (b, a) };
                reading.conflict(
                    &later.span,
                    format!("name: the zone {inner:?} lies below the zone {outer:?}"),
                    "a name belongs to one zone; rename one of them",
                );
            }
        }
    }
}

fn below(inner: &str, outer: &str) -> bool {
    inner.strip_suffix(outer).is_some_and(|rest| rest.ends_with('.'))
}

/// A domain name that we may be authoritative for: lower case, no dot at the end.
fn zone_name(value: &DeValue<'_>) -> Parsed<Arc<str>> {
    /// Longest zone name; leaves room for a service name in the 255 octets of RFC 1035 §2.3.4.
    const ZONE_LEN_MAX: usize = 64;
    let text = value::text(value)?.to_ascii_lowercase();
    let name = text.strip_suffix('.').unwrap_or(&text);
    if name.is_empty() {
        return wrong("\".\" is the root".to_owned(), "write a zone such as \"svc.cluster\"");
    }
    let labels_fit = name.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    });
    if !labels_fit {
        return wrong(
            format!("{} is not a zone name", quoted(name)),
            "labels of letters, digits, '-' and '_', joined by dots",
        );
    }
    if name.len() > ZONE_LEN_MAX {
        return wrong(format!("{} is too long", quoted(name)), format!("at most {ZONE_LEN_MAX} octets"));
    }
    if let Some(why) = reserved(name) {
        return wrong(format!("{} is reserved {why}", quoted(name)), "write a zone such as \"svc.cluster\"");
    }
    Ok(name.into())
}

/// Why nobody may be authoritative for `name`.
fn reserved(name: &str) -> Option<&'static str> {
    let is_or_below = |zone: &str| name == zone || below(name, zone);
    if name == "arpa" || is_or_below("in-addr.arpa") || is_or_below("ip6.arpa") {
        return Some("for reverse names, which are answered by themselves");
    }
    if is_or_below("localhost") || is_or_below("invalid") {
        return Some("(RFC 6761)");
    }
    // Below it, `cluster.local` is what Kubernetes uses.
    if name == "local" {
        return Some("for multicast DNS (RFC 6762)");
    }
    is_or_below("onion").then_some("(RFC 7686)")
}
