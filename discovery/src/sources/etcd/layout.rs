//! How services lie in keys: from a key and its value to an entry, and from a service's entries to the service. Pure.
//!
//! | layout | key below the prefix | value |
//! |---|---|---|
//! | `skydns` | `cluster/svc/web/a`: the name `a.web.svc.cluster`, reversed | `{"host": "10.0.0.1", "port": 80}` |
//! | `portolan` | `web.shop`, `web.shop/ID` | a definition; an endpoint, as in files |
//! | `tree` | `shop/web/ID`: an instance of `web.shop` | `10.0.0.1:80`, a URL, or an object with `host` and `port` |
//! | | `http/services/web/loadBalancer/servers/0/url` | as Traefik reads it |

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

use portolan_table::{
    Address, AppProtocol, Health, Instance, InstanceEndpoint, Labels, Network, PortSpec, Protocol,
    Provenance, ServiceName, ServiceSpec,
};
use serde::Deserialize;

use crate::config::EtcdLayout;
use crate::hosts::Hosts;
use crate::lenient::Number;
use crate::sources::file::{Defined, RawEndpoint, assemble};
use crate::sources::telling::Service;

/// Weight of SkyDNS' entries without one, beside others that have one.
const SKYDNS_WEIGHT: u16 = 100;
/// Addresses of one host that are used.
const ADDRESSES_MAX: usize = 16;

/// What one key means.
#[derive(Debug)]
pub(super) enum Entry {
    /// An instance of these services.
    Place { of: Vec<ServiceName>, place: Place },
    /// One value of an instance whose others have keys of their own: `id` and what it says.
    Piece { of: [ServiceName; 1], id: String, piece: Piece },
    /// The definition of a service.
    Definition { of: [ServiceName; 1], defined: Box<Defined> },
    /// An endpoint of a service with a definition of its own.
    Endpoint { of: [ServiceName; 1], id: String, endpoint: Box<RawEndpoint> },
    /// Not about services.
    Ignored,
    /// Cannot be used; why.
    Wrong(String),
}

/// Where an instance is.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    host: String,
    port: u16,
    weight: Option<u16>,
    app: AppProtocol,
    udp: bool,
    metadata: BTreeMap<String, String>,
}

#[derive(Debug)]
pub(super) enum Piece {
    Place(Place),
    Weight(u16),
}

impl Entry {
    /// The services it belongs to.
    pub(super) fn names(&self) -> &[ServiceName] {
        match self {
            Self::Place { of, .. } => of,
            Self::Piece { of, .. } | Self::Definition { of, .. } | Self::Endpoint { of, .. } => of,
            Self::Ignored | Self::Wrong(_) => &[],
        }
    }

    /// The host, if it is known by name.
    pub(super) fn host_name(&self) -> Option<&str> {
        let (Self::Place { place, .. } | Self::Piece { piece: Piece::Place(place), .. }) = self else {
            return None;
        };
        Some(&*place.host).filter(|host| host.parse::<IpAddr>().is_err())
    }
}

/// What the key `rest` (below the prefix) with this value means.
pub(super) fn read(layout: EtcdLayout, rest: &str, value: &[u8]) -> Entry {
    let segments: Vec<&str> = rest.split('/').filter(|segment| !segment.is_empty()).collect();
    let read = match layout {
        EtcdLayout::SkyDns => skydns(&segments, value),
        EtcdLayout::Portolan => portolan(rest, value),
        EtcdLayout::Tree => tree(&segments, value),
    };
    read.unwrap_or_else(Entry::Wrong)
}

#[derive(Deserialize)]
struct SkyDns {
    host: Option<String>,
    port: Option<Number>,
    weight: Option<Number>,
    text: Option<String>,
}

/// The leaf answers by its own name and by that of its parent, as SkyDNS answers.
fn skydns(segments: &[&str], value: &[u8]) -> Result<Entry, String> {
    if segments.first() == Some(&"arpa") {
        return Ok(Entry::Ignored);
    }
    let read: SkyDns =
        serde_json::from_slice(value).map_err(|error| format!("not an entry of SkyDNS: {error}"))?;
    let Some(host) = read.host.filter(|host| !host.is_empty()) else { return Ok(Entry::Ignored) };
    let reversed = |segments: &[&str]| {
        let labels = segments.iter().rev().flat_map(|segment| segment.split('.'));
        ServiceName::from_labels(labels).map_err(|error| error.to_string())
    };
    let mut of = vec![reversed(segments)?];
    if let [parents @ .., _] = segments
        && !parents.is_empty()
    {
        of.push(reversed(parents)?);
    }
    let number = |number: Option<Number>| number.and_then(|number| number.0).filter(|number| *number > 0);
    let text = read.text.filter(|text| !text.is_empty());
    let metadata = text.into_iter().map(|text| ("text".to_owned(), text)).collect();
    let (port, weight) = (number(read.port).unwrap_or(0), number(read.weight));
    Ok(Entry::Place { of, place: Place { host, port, weight, metadata, ..Place::default() } })
}

fn portolan(rest: &str, value: &[u8]) -> Result<Entry, String> {
    let (name, id) = match rest.split_once('/') {
        Some((name, id)) if !id.is_empty() => (name, Some(id.to_owned())),
        _ => (rest.trim_end_matches('/'), None),
    };
    let of = [ServiceName::parse(name).map_err(|error| error.to_string())?];
    let Some(id) = id else {
        let defined = serde_json::from_slice(value).map_err(|error| format!("not a definition: {error}"))?;
        return Ok(Entry::Definition { of, defined: Box::new(defined) });
    };
    let text = core::str::from_utf8(value).unwrap_or_default().trim();
    let endpoint = match text.starts_with(['{', '"']) {
        true => serde_json::from_str(text).map_err(|error| format!("not an endpoint: {error}"))?,
        false => RawEndpoint::parse(text)?,
    };
    Ok(Entry::Endpoint { of, id, endpoint: Box::new(endpoint) })
}

fn tree(segments: &[&str], value: &[u8]) -> Result<Entry, String> {
    if let [
        kind @ ("http" | "tcp" | "udp"),
        "services" | "routers" | "middlewares" | "serversTransports",
        ..,
    ] = segments
    {
        return traefik(kind, &segments[1..], value);
    }
    let (path, last) = match segments {
        [] => return Ok(Entry::Ignored),
        [one] => (&segments[..1], *one),
        [path @ .., last] => (path, *last),
    };
    let labels = path.iter().rev().flat_map(|segment| segment.split('.'));
    let name = ServiceName::from_labels(labels).map_err(|error| format!("{last}: {error}"))?;
    Ok(Entry::Place { of: vec![name], place: place(value)? })
}

/// `services/NAME/loadBalancer/servers/N/url|address|weight`; what else there is steers Traefik's own proxy.
fn traefik(kind: &str, segments: &[&str], value: &[u8]) -> Result<Entry, String> {
    let ["services", name, balancer, "servers", number, what] = segments else { return Ok(Entry::Ignored) };
    if !balancer.eq_ignore_ascii_case("loadbalancer") {
        return Ok(Entry::Ignored);
    }
    let name = ServiceName::from_labels(name.split('.')).map_err(|error| error.to_string())?;
    let piece = match what.to_ascii_lowercase().as_str() {
        "url" | "address" => Piece::Place(Place { udp: kind == "udp", ..place(value)? }),
        "weight" => {
            let text = core::str::from_utf8(value).unwrap_or_default().trim();
            Piece::Weight(text.parse().map_err(|_| format!("{text:?} is not a weight"))?)
        }
        _ => return Ok(Entry::Ignored),
    };
    Ok(Entry::Piece { of: [name], id: (*number).to_owned(), piece })
}

#[derive(Deserialize)]
struct Object {
    #[serde(alias = "address", alias = "ip", alias = "Host", alias = "Address", alias = "IP")]
    host: Option<String>,
    #[serde(alias = "Port")]
    port: Option<Number>,
    #[serde(alias = "Weight")]
    weight: Option<Number>,
}

/// `HOST:PORT`, a URL, or an object with `host` (or `address`, `ip`) and `port`.
fn place(value: &[u8]) -> Result<Place, String> {
    let text = core::str::from_utf8(value).map_err(|_| "the value is not text".to_owned())?.trim();
    if text.starts_with('{') {
        let object: Object = serde_json::from_str(text).map_err(|error| format!("not a place: {error}"))?;
        let Some(host) = object.host.filter(|host| !host.is_empty()) else {
            return Err("the object has no `host`, `address` or `ip`".to_owned());
        };
        let weight = object.weight.and_then(|weight| weight.0);
        let mut place = parse(&host)?;
        if let Some(port) = object.port.and_then(|port| port.0) {
            place.port = port;
        }
        return Ok(Place { weight, ..place });
    }
    let place = parse(text.trim_matches('"'))?;
    match place.port {
        0 => Err(format!("{text:?} has no port; write HOST:PORT or a URL")),
        _ => Ok(place),
    }
}

fn parse(text: &str) -> Result<Place, String> {
    let wrong =
        || format!("{text:?} is not a place; write HOST:PORT, a URL, or an object with host and port");
    let (scheme, rest) = text.split_once("://").map_or((None, text), |(scheme, rest)| (Some(scheme), rest));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (app, default) = match scheme {
        Some("http") => (AppProtocol::Http, 80),
        Some("https") => (AppProtocol::Https, 443),
        Some("h2c") => (AppProtocol::H2c, 80),
        Some("grpc") => (AppProtocol::Grpc, 80),
        _ => (AppProtocol::Unknown, 0),
    };
    let bare = authority.parse::<IpAddr>().is_ok();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !bare => (host, port.parse::<u16>().map_err(|_| wrong())?),
        _ => (authority, default),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let fits = host.parse::<IpAddr>().is_ok()
        || (!host.is_empty()
            && host.len() <= 253
            && host.bytes().any(|b| b.is_ascii_alphabetic())
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')));
    if !fits {
        return Err(wrong());
    }
    Ok(Place { host: host.to_owned(), port, app, ..Place::default() })
}

/// The service `name` of its entries, each with its key below the prefix; and what is odd about them.
pub(super) fn service<'e>(
    layout: EtcdLayout,
    name: &ServiceName,
    entries: impl Iterator<Item = (String, &'e Entry)>,
    hosts: &dyn Hosts,
) -> (Service, Vec<String>) {
    let (mut defined, mut endpoints) = (Defined::default(), Vec::new());
    let mut places: BTreeMap<String, Place> = BTreeMap::new();
    let mut weights: BTreeMap<String, u16> = BTreeMap::new();
    for (key, entry) in entries {
        match entry {
            Entry::Definition { defined: read, .. } => defined = (**read).clone(),
            Entry::Endpoint { id, endpoint, .. } => endpoints.push((id.clone(), (**endpoint).clone())),
            Entry::Place { place, .. } => drop(places.insert(key, place.clone())),
            Entry::Piece { id, piece: Piece::Place(place), .. } => {
                drop(places.insert(id.clone(), place.clone()))
            }
            Entry::Piece { id, piece: Piece::Weight(weight), .. } => {
                let _ = weights.insert(id.clone(), *weight);
            }
            Entry::Ignored | Entry::Wrong(_) => {}
        }
    }
    if layout == EtcdLayout::Portolan {
        return assemble(name.clone(), defined, endpoints);
    }
    for (id, weight) in weights {
        if let Some(place) = places.get_mut(&id) {
            place.weight = Some(weight);
        }
    }
    let weighted = layout == EtcdLayout::SkyDns && places.values().any(|place| place.weight.is_some());
    placed(name, places, if weighted { SKYDNS_WEIGHT } else { 1 }, hosts)
}

fn placed(
    name: &ServiceName,
    places: BTreeMap<String, Place>,
    weight: u16,
    hosts: &dyn Hosts,
) -> (Service, Vec<String>) {
    let mut problems = Vec::new();
    let known = |place: &Place| place.app != AppProtocol::Unknown;
    let app_protocol =
        places.values().find(|place| known(place)).map_or(AppProtocol::Unknown, |place| place.app);
    let udp = places.values().any(|place| place.udp);
    let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
    let has_port = places.values().any(|place| place.port > 0);
    let port = PortSpec { app_protocol, protocol, ..PortSpec::default() };
    let instances = places.into_iter().map(|(id, place)| {
        let mut instance = Instance::running(id);
        instance.weight = place.weight.unwrap_or(weight);
        // What is registered is meant to be used: a verdict that is taken out of the value must not linger.
        instance.health = Health::Healthy;
        match place.host.parse::<IpAddr>() {
            Ok(ip) => instance.addresses.push(Address::new(ip, Network::Host, Provenance::Registered)),
            Err(_) => {
                let found = hosts.addresses(&place.host);
                if found.is_empty() {
                    problems.push(format!("no address is known for {:?} at present", place.host));
                }
                let named = |ip| Address::new(ip, Network::Host, Provenance::NodeNameResolved);
                instance.addresses.extend(found.into_iter().take(ADDRESSES_MAX).map(named));
                instance.node = Some((&*place.host).into());
            }
        }
        if place.port > 0 {
            let reached = (0..).zip(&instance.addresses);
            let endpoint =
                |address_index| InstanceEndpoint { port_index: 0, address_index, number: place.port };
            instance.endpoints.extend(reached.map(|(index, _)| endpoint(index)));
        }
        if !place.metadata.is_empty() {
            instance.metadata = Some(Arc::new(place.metadata.into_iter().collect()));
        }
        Arc::new(instance)
    });
    let instances = instances.collect();
    let spec = ServiceSpec {
        key: name.as_str().into(),
        name: name.clone(),
        ports: if has_port { Box::new([port]) } else { Box::default() },
        labels: Labels::default(),
        checks_defined: false,
        version: None,
        merge: None,
        routes: Vec::new(),
        virtual_addresses: Vec::new(),
    };
    ((Arc::new(spec), instances), problems)
}
