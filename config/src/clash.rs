//! What is right by itself and wrong together: names used twice, addresses used twice, references to nothing.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::ops::Range;
use std::collections::HashMap;
use std::sync::Arc;

use portolan_proxy::ListenerProtocol;

use crate::proxy::ReadListener;
use crate::route::ReadRoute;
use crate::section::{At, Reading};
use crate::suggest::suggestion;

/// What an address is bound for. TCP and UDP have ports of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Udp,
    /// DNS.
    Both,
}

impl Transport {
    fn meets(self, other: Self) -> bool {
        self == other || self == Self::Both || other == Self::Both
    }
}

/// An address that will be bound, and by whom.
pub(crate) struct Bound<'r> {
    /// The key that says so.
    pub(crate) key: &'static str,
    /// Whose address it is, for the message.
    pub(crate) owner: String,
    pub(crate) transport: Transport,
    pub(crate) address: &'r At<SocketAddr>,
}

/// No two may bind one port of one address; `0.0.0.0` and `[::]` hold every address of their family.
pub(crate) fn addresses(reading: &Reading<'_>, mut bound: Vec<Bound<'_>>) {
    bound.sort_by_key(|one| one.address.span.start);
    let mut by_port: HashMap<u16, Vec<&Bound<'_>>> = HashMap::new();
    for later in &bound {
        let (address, port) = (later.address.value, later.address.value.port());
        // Port 0 lets the kernel choose: never the same twice.
        if port == 0 {
            continue;
        }
        let earlier = by_port.entry(port).or_default();
        let clashes = |first: &&&Bound<'_>| {
            first.transport.meets(later.transport) && overlap(first.address.value.ip(), address.ip())
        };
        if let Some(first) = earlier.iter().find(clashes) {
            let (key, owner) = (later.key, &first.owner);
            let message = match first.address.value == address {
                true => format!("{key}: \"{address}\" is the address of {owner} too"),
                false => {
                    format!("{key}: \"{address}\" clashes with \"{}\" of {owner}", first.address.value)
                }
            };
            reading.conflict(&later.address.span, message, "give one of them another port or address");
        }
        earlier.push(later);
    }
}

fn overlap(a: IpAddr, b: IpAddr) -> bool {
    a == b || a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified())
}

/// A name may be there once.
pub(crate) fn names<'n>(reading: &Reading<'_>, what: &str, names: impl Iterator<Item = &'n At<Arc<str>>>) {
    let mut seen: HashMap<&str, ()> = HashMap::new();
    for name in names {
        if seen.insert(&name.value, ()).is_some() {
            reading.conflict(
                &name.span,
                format!("the name {:?} belongs to another {what} too", name.value),
                "give each a name = \"…\" of its own",
            );
        }
    }
}

/// Each of `references` names one of `known`.
pub(crate) fn references<'n>(
    reading: &Reading<'_>,
    what: &str,
    references: impl Iterator<Item = &'n At<Arc<str>>>,
    known: &[&str],
) {
    for reference in references.filter(|reference| !known.contains(&&*reference.value)) {
        let hint = match suggestion(&reference.value, known.iter().copied()) {
            Some(near) => format!("did you mean {near:?}?"),
            None if known.is_empty() => format!("there is no {what} in the file"),
            None => format!("known: {}", known.iter().take(8).copied().collect::<Vec<_>>().join(", ")),
        };
        reading.conflict(&reference.span, format!("no {what} has the name {:?}", reference.value), hint);
    }
}

/// Routes and the protocols of their listeners.
pub(crate) fn routes(reading: &Reading<'_>, routes: &[ReadRoute], listeners: &[ReadListener]) {
    let by_name: HashMap<&str, &ReadListener> =
        listeners.iter().map(|listener| (&*listener.name.value, listener)).collect();
    let serves_http = listeners
        .iter()
        .any(|listener| matches!(listener.protocol, ListenerProtocol::Http | ListenerProtocol::Https));
    let mut taken: HashMap<&str, ()> = HashMap::new();
    for route in routes {
        let Some(name) = &route.listener else {
            if !serves_http {
                without_listener(reading, &route.span, listeners);
            }
            continue;
        };
        let (protocol, seen) = match by_name.get(&*name.value).map(|listener| listener.protocol) {
            Some(ListenerProtocol::Tcp) => ("tcp", "the connection"),
            Some(ListenerProtocol::Udp) => ("udp", "the client's address"),
            Some(ListenerProtocol::Http | ListenerProtocol::Https) | None => continue,
        };
        for (key, span) in &route.http_keys {
            let message = format!("{key:?} means nothing on the {protocol} listener {:?}", name.value);
            reading.conflict(span, message, format!("take it out: only {seen} is seen there"));
        }
        if taken.insert(&name.value, ()).is_some() {
            let message = format!("listener: the {protocol} listener {:?} has a route already", name.value);
            reading.conflict(&name.span, message, "put several services into targets = […] of one route");
        }
    }
}

fn without_listener(reading: &Reading<'_>, span: &Range<usize>, listeners: &[ReadListener]) {
    let hint = match listeners.is_empty() {
        true => "write a [[proxy.listener]]".to_owned(),
        false => {
            "name a tcp or udp listener with listener = \"…\", or add one with protocol = \"http\"".to_owned()
        }
    };
    reading.conflict(span, "the route has no http listener to be on".to_owned(), hint);
}

/// The addresses under which `bound` ones are reached: wildcards stand for those of the machine.
pub(crate) fn reachable(bound: &[SocketAddr], machine: &[IpAddr]) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = bound.iter().flat_map(|address| expand(address.ip(), machine)).collect();
    all.sort_unstable();
    all.dedup();
    // Loopback says nothing to others while there is anything else.
    if all.iter().any(|address| !address.is_loopback()) {
        all.retain(|address| !address.is_loopback());
    }
    all
}

fn expand(ip: IpAddr, machine: &[IpAddr]) -> Vec<IpAddr> {
    if !ip.is_unspecified() {
        return vec![ip];
    }
    let own: Vec<IpAddr> = machine.iter().copied().filter(|own| own.is_ipv4() == ip.is_ipv4()).collect();
    match (own.is_empty(), ip) {
        (false, _) => own,
        (true, IpAddr::V4(_)) => vec![Ipv4Addr::LOCALHOST.into()],
        (true, IpAddr::V6(_)) => vec![Ipv6Addr::LOCALHOST.into()],
    }
}
