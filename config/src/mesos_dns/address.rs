//! Hosts and ports as the file writes them.

use core::net::{IpAddr, SocketAddr};

/// Splits `host:port`; an IPv6 host stands in brackets. The port is not looked at.
pub(crate) fn split(text: &str) -> Option<(&str, &str)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return Some((host, rest.strip_prefix(':')?));
    }
    let (host, port) = text.rsplit_once(':')?;
    (!host.contains(':')).then_some((host, port))
}

/// A port that can be connected to.
pub(crate) fn port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

/// `host:port` in the one spelling that two entries can be compared by.
pub(crate) fn master(text: &str) -> Option<String> {
    let (host, number) = split(text)?;
    let number = port(number)?;
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || "/@[]".contains(c)) {
        return None;
    }
    Some(match host.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, number).to_string(),
        Err(_) if host.contains(':') => return None,
        Err(_) => format!("{}:{number}", host.to_ascii_lowercase()),
    })
}

/// Hosts and path of `zk://[user:password@]host[:port],…/path`; the path without slashes at its ends.
pub(crate) fn ensemble(text: &str) -> Option<(&str, &str)> {
    let (hosts, path) = text.strip_prefix("zk://")?.split_once('/')?;
    let hosts = hosts.rsplit_once('@').map_or(hosts, |(_, hosts)| hosts);
    let path = path.trim_end_matches('/');
    let is_server = |host: &str| master(host).is_some() || master(&format!("{host}:2181")).is_some();
    let is_node = |node: &str| !matches!(node, "" | "." | "..");
    (hosts.split(',').all(is_server) && path.split('/').all(is_node)).then_some((hosts, path))
}

/// The master of `host:port` or `master@host:port`.
pub(crate) fn named_master(text: &str) -> Option<String> {
    let (name, address) = text.rsplit_once('@').unwrap_or(("", text));
    if name.contains('/') { None } else { master(address) }
}

/// A resolver: an address, with a port or the usual one.
pub(crate) fn resolver(text: &str) -> Option<SocketAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, 53));
    }
    let (host, number) = split(text)?;
    Some(SocketAddr::new(host.parse().ok()?, port(number)?))
}
