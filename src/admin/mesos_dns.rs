//! Mesos-DNS's HTTP API, shape for shape: `/v1/version`, `/v1/config`, `/v1/hosts/…`, `/v1/services/…`,
//! `/v1/enumerate`, `/v1/axfr`.

use http::{HeaderMap, StatusCode, header};
use percent_encoding::percent_decode_str;
use portolan_dns::Zones;
use portolan_dns::mesos_dns::{Profile, Settings, Transfer};
use serde::Serialize;

use super::State;
use super::reply::{Reply, answer};

/// Where the program comes from, for clients that look.
const URL: &str = "https://github.com/mesosphere/mesos-dns";

/// True for the paths of this API.
pub(super) fn is_asked(path: &str) -> bool {
    path.strip_prefix("/v1").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// True if the client takes JSON, the one thing that there is.
pub(super) fn takes_json(headers: &HeaderMap) -> bool {
    let mut ranges =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    let fits = |range: &str| {
        let kind = range.split(';').next().unwrap_or_default().trim();
        matches!(kind, "*/*" | "application/*" | "application/json" | "")
    };
    ranges.peek().is_none() || ranges.any(|value| value.split(',').any(fits))
}

/// Answers a GET for the zone `name`. `/v1/axfr` and `/v1/enumerate` walk the whole table.
pub(super) fn read(state: &State, name: &str, path: &str, takes_json: bool) -> Reply {
    let snapshot = state.table.snapshot();
    let zones: &Zones = snapshot.view(state.zones);
    let Some(zone) = zones.zones().iter().find(|zone| zone.name() == name) else { return not_found() };
    let Some(settings) = zone.mesos_dns() else { return not_found() };
    let Some(asked) = Asked::of(path, settings) else { return not_found() };
    if !takes_json {
        return plain(StatusCode::NOT_ACCEPTABLE, "406: Not Acceptable");
    }
    match asked {
        Asked::Version => pretty(&Version::of(settings)),
        Asked::Config => config(state, name, zones.serial()),
        Asked::HostPorts => plain(StatusCode::NOT_IMPLEMENTED, "To be implemented..."),
        // The program does not listen before it knows the cluster.
        _ if !zone.is_complete() => plain(StatusCode::SERVICE_UNAVAILABLE, "503: Not Ready"),
        Asked::Host(host) => {
            let host = dotted(&host);
            let ips = zone.addresses_of(&host);
            let found = |ip: std::net::IpAddr| Host { host: host.clone(), ip: ip.to_string() };
            pretty(&or_empty(ips.into_iter().map(found).collect()))
        }
        Asked::Service(service) => {
            let reached = zone.reached_by(&dotted(&service)).into_iter();
            let found = |reached: portolan_dns::mesos_dns::Reached| Service {
                service: service.clone(),
                host: reached.host,
                ip: reached.ip.to_string(),
                port: reached.port.to_string(),
            };
            pretty(&or_empty(reached.map(found).collect()))
        }
        Asked::Enumerate => pretty(&zone.enumerate(&snapshot)),
        Asked::Transfer => pretty(&Axfr {
            ttl: settings.ttl,
            serial: zones.serial(),
            refresh_seconds: refresh(state, name),
            mname: format!("{}.", settings.soa_mname),
            rname: format!("{}.", settings.soa_rname),
            domain: name,
            records: zone.transfer(&snapshot).unwrap_or_default(),
        }),
    }
}

/// What a path asks for.
enum Asked {
    Version,
    Config,
    Host(String),
    HostPorts,
    Service(String),
    Enumerate,
    Transfer,
}

impl Asked {
    fn of(path: &str, settings: &Settings) -> Option<Self> {
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let parts: Vec<&str> = path.strip_prefix("/v1/")?.trim_end_matches('/').split('/').collect();
        Some(match parts[..] {
            ["version"] => Self::Version,
            ["config"] => Self::Config,
            ["hosts", host] if !host.is_empty() => Self::Host(decoded(host)),
            ["hosts", host, "ports"] if !host.is_empty() => Self::HostPorts,
            ["services", service] if !service.is_empty() => Self::Service(decoded(service)),
            ["enumerate"] if settings.enumeration => Self::Enumerate,
            ["axfr"] if settings.enumeration => Self::Transfer,
            _ => return None,
        })
    }
}

/// A name as it is looked up: lower case, without every `.*`, with a dot at the end.
fn dotted(name: &str) -> String {
    let name = name.replace(".*", "").to_lowercase();
    if name.ends_with('.') { name } else { format!("{name}.") }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    service: &'static str,
    #[serde(rename = "URL")]
    url: &'static str,
    version: String,
}

impl Version {
    fn of(settings: &Settings) -> Self {
        let line = if settings.profile == Profile::V0_7 { "v0.7.0" } else { "v0.8.0" };
        Self {
            service: "Mesos-DNS",
            url: URL,
            version: format!("{line}+portolan-{}", env!("CARGO_PKG_VERSION")),
        }
    }
}

#[derive(Default, Serialize)]
struct Host {
    host: String,
    ip: String,
}

#[derive(Default, Serialize)]
struct Service {
    service: String,
    host: String,
    ip: String,
    port: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Axfr<'a> {
    #[serde(rename = "TTL")]
    ttl: u32,
    serial: u32,
    refresh_seconds: u64,
    mname: String,
    rname: String,
    domain: &'a str,
    records: Transfer,
}

/// Nothing found is said by one object of empty texts.
fn or_empty<T: Default>(found: Vec<T>) -> Vec<T> {
    if found.is_empty() { vec![T::default()] } else { found }
}

fn config(state: &State, zone: &str, serial: u32) -> Reply {
    let settings = state.mesos_dns.load();
    match settings.iter().find(|(name, _)| **name == *zone) {
        Some((_, settings)) => answer(StatusCode::OK, "application/json", settings.shown(serial).into()),
        None => not_found(),
    }
}

fn refresh(state: &State, zone: &str) -> u64 {
    let settings = state.mesos_dns.load();
    settings.iter().find(|(name, _)| **name == *zone).map_or(60, |(_, settings)| settings.refresh_seconds())
}

/// JSON with one space of indent.
fn pretty(body: &impl Serialize) -> Reply {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
    let mut writer = serde_json::Serializer::with_formatter(&mut out, formatter);
    match body.serialize(&mut writer) {
        Ok(()) => {
            // It may wait for a slow client: what growing left over need not wait with it.
            out.shrink_to_fit();
            answer(StatusCode::OK, "application/json", out.into())
        }
        Err(error) => {
            tracing::error!(%error, "an answer of the Mesos-DNS API cannot be written");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "500: Internal Error")
        }
    }
}

fn not_found() -> Reply {
    plain(StatusCode::NOT_FOUND, "404: Page Not Found")
}

fn plain(status: StatusCode, body: &'static str) -> Reply {
    answer(status, "text/plain; charset=utf-8", body.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_takes_no_json_is_refused() {
        let takes = |accept: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in accept {
                headers.append(header::ACCEPT, value.parse().unwrap());
            }
            takes_json(&headers)
        };
        for good in
            [&[][..], &["*/*"], &["text/html, application/json;q=0.9"], &["text/plain", "application/*"]]
        {
            assert!(takes(good), "{good:?}");
        }
        assert!(!takes(&["text/plain"]) && !takes(&["text/html, image/png"]));
    }

    #[test]
    fn names_are_looked_up_as_the_program_does() {
        assert_eq!(dotted("Web.*.Marathon.mesos"), "web.marathon.mesos.");
        assert_eq!(dotted(".*"), ".");
    }
}
