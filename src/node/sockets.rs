//! What is bound: opened at start, and on reload only as far as it changed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use portolan_config::Config;
use portolan_proxy::ListenerProtocol;
use socket2::{Domain, Protocol, Socket, Type};
use tokio_util::sync::CancellationToken;

use super::mesos_dns;
use crate::admin::{self, Endpoint, ListenerInfo};

/// Identity of a bound place: as configured, so that a reload finds what has not changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) protocol: &'static str,
    at: At,
    bound: Option<SocketAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum At {
    Address(SocketAddr),
    Path(PathBuf),
}

impl Place {
    /// The address for people.
    pub(super) fn shown(&self) -> String {
        match (&self.at, self.bound) {
            (_, Some(address)) => address.to_string(),
            (At::Address(address), None) => address.to_string(),
            (At::Path(path), None) => path.display().to_string(),
        }
    }

    /// Whether both cannot be bound without sharing.
    fn overlaps(&self, other: SocketAddr) -> bool {
        let At::Address(own) = self.at else { return false };
        let same_family = own.is_ipv4() == other.is_ipv4();
        let same_ip = own.ip() == other.ip() || own.ip().is_unspecified() || other.ip().is_unspecified();
        own.port() != 0 && own.port() == other.port() && same_family && same_ip
    }

    fn key(&self) -> (String, &'static str, At) {
        (self.name.clone(), self.protocol, self.at.clone())
    }
}

/// All bound places, each with the token that stops it.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    open: BTreeMap<(String, &'static str, At), (Place, CancellationToken)>,
}

/// Sockets that were just bound and wait for their threads: (worker, sockets, stop).
#[derive(Debug, Default)]
pub(super) struct New {
    pub(super) dns: Vec<(usize, portolan_dns::Sockets, CancellationToken)>,
    pub(super) proxy: Vec<(usize, portolan_proxy::Bound, CancellationToken)>,
    pub(super) admin: Vec<(admin::Bound, Endpoint, CancellationToken)>,
}

impl Sockets {
    /// Binds what `config` asks for and is not bound yet, then stops what it asks for no more. If anything
    /// cannot be bound, nothing changes.
    pub(super) fn bind(&mut self, config: &Config, workers: usize) -> Result<New> {
        let wanted = wanted(config);
        let mut new = New::default();
        let mut opened = Vec::new();
        let leaving = self.leaving(&wanted);
        for place in &wanted {
            if self.open.contains_key(&place.key()) {
                continue;
            }
            let stop = CancellationToken::new();
            let mut place = place.clone();
            let inherited = leaving.iter().any(|left| place.overlaps(*left));
            place.bound = open(&place, inherited, config, workers, &stop, &mut new)
                .with_context(|| format!("listener {:?} cannot be bound to {}", place.name, place.shown()))?;
            opened.push((place.key(), (place, stop)));
        }
        let keep: Vec<_> = wanted.iter().map(Place::key).collect();
        self.open.retain(|key, (place, stop)| {
            let keep = keep.contains(key);
            if !keep {
                tracing::info!(listener = place.name, address = place.shown(), "closing");
                stop.cancel();
            }
            keep
        });
        for (_, (place, _)) in &opened {
            tracing::info!(listener = place.name, address = place.shown(), "bound");
        }
        self.open.extend(opened);
        Ok(new)
    }

    /// Addresses of what is bound and wanted no more. It is closed only after everything new is bound, so a
    /// listener with a new name, or on all addresses instead of one, is bound beside its predecessor.
    fn leaving(&self, wanted: &[Place]) -> Vec<SocketAddr> {
        let gone = self.open.iter().filter(|(key, _)| wanted.iter().all(|place| place.key() != **key));
        gone.filter_map(|(_, (place, _))| place.bound).collect()
    }

    pub(super) fn list(&self) -> Vec<ListenerInfo> {
        self.open.values().map(|(place, _)| place.into()).collect()
    }

    pub(super) fn addresses(&self) -> Vec<(String, SocketAddr)> {
        self.open.values().filter_map(|(place, _)| Some((place.name.clone(), place.bound?))).collect()
    }

    /// Stops DNS and proxy; the admin side goes on.
    pub(super) fn stop_data(&self) {
        self.stop(|protocol| !matches!(protocol, "admin" | "metrics" | "mesos-dns"));
    }

    /// Stops the rest.
    pub(super) fn stop_admin(&self) {
        self.stop(|_| true);
    }

    fn stop(&self, which: impl Fn(&str) -> bool) {
        self.open.values().filter(|(place, _)| which(place.protocol)).for_each(|(_, stop)| stop.cancel());
    }
}

fn wanted(config: &Config) -> Vec<Place> {
    let place = |name: &str, protocol, at| Place { name: name.to_owned(), protocol, at, bound: None };
    let mut wanted = Vec::new();
    for address in config.dns.iter().flat_map(|dns| &dns.listen) {
        wanted.push(place("dns", "dns", At::Address(*address)));
    }
    for (zone, settings) in mesos_dns::zones(config) {
        for address in &settings.http {
            wanted.push(place(zone, "mesos-dns", At::Address(*address)));
        }
    }
    for listener in &config.proxy.listeners {
        let protocol = match listener.protocol {
            ListenerProtocol::Http => "http",
            ListenerProtocol::Https => "https",
            ListenerProtocol::Tcp => "tcp",
            ListenerProtocol::Udp => "udp",
        };
        wanted.push(place(&listener.name, protocol, At::Address(listener.bind)));
    }
    for address in &config.admin.listen {
        wanted.push(place("admin", "admin", At::Address(*address)));
    }
    if let Some(address) = config.admin.metrics_listen {
        wanted.push(place("metrics", "metrics", At::Address(address)));
    }
    if let Some(path) = &config.admin.socket {
        wanted.push(place("admin", "admin", At::Path(path.clone())));
    }
    wanted
}

/// Binds one place. `inherited`: this process holds the address and is about to let it go.
fn open(
    place: &Place,
    inherited: bool,
    config: &Config,
    workers: usize,
    stop: &CancellationToken,
    new: &mut New,
) -> Result<Option<SocketAddr>> {
    let address = match &place.at {
        At::Path(path) => {
            new.admin.push((admin::bind_unix(path)?, Endpoint::All, stop.clone()));
            return Ok(None);
        }
        At::Address(address) => *address,
    };
    let bound = match place.protocol {
        "dns" => {
            refuse_shared(address, inherited, &[Type::DGRAM, Type::STREAM])?;
            let sockets = portolan_dns::bind(address, workers)?;
            let bound = sockets.first().map(|first| first.local_addr()).transpose()?;
            new.dns.extend(sockets.into_iter().enumerate().map(|(worker, s)| (worker, s, stop.clone())));
            bound
        }
        "admin" | "metrics" | "mesos-dns" => {
            let endpoint = match place.protocol {
                "metrics" => Endpoint::Metrics,
                "mesos-dns" => Endpoint::MesosDns(place.name.as_str().into()),
                _ => Endpoint::All,
            };
            refuse_shared(address, inherited, &[Type::STREAM])?;
            let (listener, bound) = admin::bind_tcp(address)?;
            new.admin.push((listener, endpoint, stop.clone()));
            Some(bound)
        }
        proxied => {
            let kind = if proxied == "udp" { Type::DGRAM } else { Type::STREAM };
            refuse_shared(address, inherited, &[kind])?;
            let Some(listener) = config.proxy.listeners.iter().find(|l| *l.name == *place.name) else {
                bail!("listener {:?} is not in the configuration", place.name);
            };
            let sockets = portolan_proxy::bind(listener, workers)?;
            let bound = sockets.first().map(portolan_proxy::Bound::address);
            new.proxy.extend(sockets.into_iter().enumerate().map(|(worker, s)| (worker, s, stop.clone())));
            bound
        }
    };
    Ok(bound)
}

/// `SO_REUSEPORT` would share the port with another process of this user and take half of its traffic
/// unnoticed. So the address is first bound without it, which fails if anybody has it.
fn refuse_shared(address: SocketAddr, inherited: bool, types: &[Type]) -> Result<()> {
    if address.port() == 0 || inherited {
        return Ok(());
    }
    for kind in types {
        let protocol = if *kind == Type::DGRAM { Protocol::UDP } else { Protocol::TCP };
        let probe = Socket::new(Domain::for_address(address), *kind, Some(protocol))?;
        if *kind == Type::STREAM {
            // Connections in TIME_WAIT are no obstacle; a listening socket still is.
            probe.set_reuse_address(true)?;
        }
        if address.is_ipv6() {
            probe.set_only_v6(true)?;
        }
        probe.bind(&address.into())?;
        if *kind == Type::STREAM {
            probe.listen(1)?;
        }
    }
    Ok(())
}
