//! Names as the HTTP API asks for them.

use core::net::IpAddr;

use crate::wire::{name_to_text, text_to_name};
use crate::zone::{ListedStanding, Sets, Zone};

/// What one SRV record leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// The target, with a dot at the end.
    pub host: String,
    /// One of its addresses.
    pub ip: IpAddr,
    /// The port.
    pub port: u16,
}

impl Zone {
    /// The addresses of a name in this zone, IPv4 first; nothing for names that are not there.
    #[must_use]
    pub fn addresses_of(&self, name: &str) -> Vec<IpAddr> {
        let Some(sets) = self.asked(name) else { return Vec::new() };
        let v4 = sets.v4().iter().map(|octets| IpAddr::from(*octets));
        v4.chain(sets.v6().iter().map(|octets| IpAddr::from(*octets))).collect()
    }

    /// What the SRV records of a name lead to: for each, one address of either family, if its target has one.
    #[must_use]
    pub fn reached_by(&self, name: &str) -> Vec<Reached> {
        let mut reached = Vec::new();
        for srv in self.asked(name).map_or(&[][..], Sets::srv) {
            let Some(target) = &srv.target else { continue };
            let Some(ListedStanding::Records(sets)) = self.listed().get(target) else { continue };
            let host = name_to_text(&[target, &self.fixed().apex[..]].concat());
            let v4 = any(sets.v4()).map(|octets| IpAddr::from(*octets));
            let v6 = any(sets.v6()).map(|octets| IpAddr::from(*octets));
            reached.extend(v4.into_iter().chain(v6).map(|ip| Reached {
                host: host.clone(),
                ip,
                port: srv.port,
            }));
        }
        reached
    }

    fn asked(&self, name: &str) -> Option<&Sets> {
        let wire = text_to_name(&name.to_ascii_lowercase())?;
        match self.listed().get(wire.strip_suffix(&*self.fixed().apex)?)? {
            ListedStanding::Records(sets) => Some(sets),
            ListedStanding::Empty => None,
        }
    }
}

fn any<T>(items: &[T]) -> Option<&T> {
    (!items.is_empty()).then(|| &items[fastrand::usize(..items.len())])
}
