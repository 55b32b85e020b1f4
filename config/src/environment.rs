//! What the configuration takes from the process and the machine, handed in so that tests need no globals.

use core::fmt;
use core::net::IpAddr;
use std::collections::BTreeMap;

/// The surroundings of a configuration.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// The machine's name.
    pub host_name: String,
    /// Environment variables. Their values may be secrets and are never shown.
    pub variables: BTreeMap<String, String>,
    /// Addresses of the machine's interfaces, loopback included.
    pub addresses: Vec<IpAddr>,
}

impl Environment {
    /// The surroundings of this process. What cannot be learned is left empty.
    #[must_use]
    pub fn of_process() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { host_name, variables, addresses: interface_addresses() }
    }

    /// A variable that is set and not empty.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Addresses by which others reach this machine: no loopback and no link-local ones, unless loopback is
    /// all there is. Sorted, without repetition.
    pub(crate) fn reachable_addresses(&self) -> Vec<IpAddr> {
        let mut all: Vec<IpAddr> =
            self.addresses.iter().copied().filter(|a| !a.is_loopback() && !is_link_local(*a)).collect();
        if all.is_empty() {
            all = self.addresses.iter().copied().filter(IpAddr::is_loopback).collect();
        }
        all.sort_unstable();
        all.dedup();
        all
    }
}

const fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

pub(crate) fn interface_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .collect()
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("host_name", &self.host_name)
            .field("variables", &self.variables.keys())
            .field("addresses", &self.addresses)
            .finish()
    }
}
