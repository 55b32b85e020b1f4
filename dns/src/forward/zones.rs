//! Which resolvers are asked about a name: those of the longest zone that holds it, else those for all names.

use core::net::SocketAddr;

use crate::config::{Config, ForwardZone};
use crate::wire::text_to_name;

/// The resolvers as configured.
#[derive(Debug, Default)]
pub(super) struct ForwardZones {
    others: Vec<SocketAddr>,
    /// Apex in wire form, lower case; longest first.
    zones: Vec<(Vec<u8>, Vec<SocketAddr>)>,
}

impl ForwardZones {
    pub(super) fn new(config: &Config) -> Self {
        let wire =
            |zone: &ForwardZone| Some((text_to_name(&zone.name.to_ascii_lowercase())?, zone.forward.clone()));
        let mut zones: Vec<_> = config.forward_zones.iter().filter_map(wire).collect();
        zones.sort_by_key(|(apex, _)| core::cmp::Reverse(apex.len()));
        Self { others: config.forward.clone(), zones }
    }

    /// True if the zones are the same: resolvers that come and go are noticed elsewhere.
    pub(super) fn asks_as(&self, other: &Self) -> bool {
        self.zones == other.zones
    }

    /// Every resolver, once.
    pub(super) fn all(&self) -> Vec<SocketAddr> {
        let mut all: Vec<SocketAddr> = Vec::new();
        for address in self.others.iter().chain(self.zones.iter().flat_map(|(_, resolvers)| resolvers)) {
            if !all.contains(address) {
                all.push(*address);
            }
        }
        all
    }

    /// The resolvers for a name in wire form, in any case.
    pub(super) fn of(&self, name: &[u8]) -> &[SocketAddr] {
        self.zones.iter().find(|(apex, _)| holds(apex, name)).map_or(&self.others, |(_, resolvers)| resolvers)
    }
}

fn holds(apex: &[u8], name: &[u8]) -> bool {
    let mut rest = name;
    loop {
        if rest.eq_ignore_ascii_case(apex) {
            return true;
        }
        match rest.split_first() {
            Some((&len, tail)) if len > 0 && tail.len() > usize::from(len) => {
                rest = &tail[usize::from(len)..]
            }
            _ => return false,
        }
    }
}
