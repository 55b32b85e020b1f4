//! What `config.json` refers to on this machine.

use core::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::Iam;
use super::check::{NO_LEADER, finds_leader, without_credentials};
use super::json::Fields;

/// Longest service account file, in octets.
const IAM_LEN_MAX: u64 = 1 << 20;

/// Longest file that `zk` names, in octets.
const ZK_LEN_MAX: u64 = 64 << 10;

/// Reads the file that holds where the leader is found. Its content is not repeated: it may hold a password.
pub(super) fn zk(path: &str) -> Result<String, String> {
    let text = within(path, ZK_LEN_MAX)?;
    let text = text.trim();
    if finds_leader(text) { Ok(without_credentials(text, "")) } else { Err(format!("{path:?}: {NO_LEADER}")) }
}

fn within(path: &str, len_max: u64) -> Result<String, String> {
    let failed = |error| format!("{path:?} cannot be read: {error}");
    if std::fs::metadata(path).map_err(failed)?.len() > len_max {
        return Err(format!("{path:?} is too large"));
    }
    std::fs::read_to_string(path).map_err(failed)
}

/// Reads a service account.
pub(super) fn iam(path: &str) -> Result<Iam, String> {
    let text = within(path, IAM_LEN_MAX)?;
    let fields = Fields::read(&text, path).map_err(|_| format!("{path:?} is not a JSON object"))?;
    let text = |key: &str| {
        let value = fields.value(key).and_then(|value| value.as_str()).filter(|text| !text.is_empty());
        value.map(str::to_owned).ok_or_else(|| format!("{path:?} has no text {key:?}"))
    };
    Ok(Iam { uid: text("uid")?, private_key: text("private_key")?, login_endpoint: text("login_endpoint")? })
}

/// The machine's resolvers, without those that are this machine itself.
pub(super) fn system_resolvers() -> Vec<SocketAddr> {
    let text = std::fs::read_to_string(Path::new("/etc/resolv.conf")).unwrap_or_default();
    let own = local_addresses();
    nameservers(&text)
        .into_iter()
        .filter(|ip| !ip.is_loopback() && !own.contains(ip))
        .map(|ip| (ip, 53).into())
        .collect()
}

/// The `nameserver` lines of a `resolv.conf`.
pub(super) fn nameservers(text: &str) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() == Some("nameserver")
            && let Some(ip) = words.next().and_then(|word| word.parse().ok())
            && !all.contains(&ip)
        {
            all.push(ip);
        }
    }
    all
}

fn local_addresses() -> Vec<IpAddr> {
    crate::environment::interface_addresses()
}
