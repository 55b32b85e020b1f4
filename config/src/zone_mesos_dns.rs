//! `[dns.zone.mesos_dns]`: what a zone of the schema `mesos-dns` is told.

use core::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use portolan_dns::mesos_dns::{Compat, IpSource, IpSources, Profile, Settings};
use portolan_dns::{Schema, ZoneConfig};
use toml::de::DeValue;

use crate::dns::ADDRESSES_MAX;
use crate::keys::DNS_ZONE_MESOS_DNS;
use crate::section::{At, Section};
use crate::value::{self, Parsed, quoted, wrong};

const PROFILES: &[(&str, Profile)] = &[("0.7", Profile::V0_7), ("0.8", Profile::V0_8)];
const COMPATS: &[(&str, Compat)] = &[("rfc", Compat::Rfc), ("strict", Compat::Strict)];
const IP_SOURCES: &[(&str, IpSource)] = &[
    ("netinfo", IpSource::Netinfo),
    ("mesos", IpSource::Mesos),
    ("docker", IpSource::Docker),
    ("host", IpSource::Host),
];

/// The settings of the zone `name`, and where it is shown over HTTP.
pub(crate) fn read(zone: &Section<'_>, name: &str) -> (Settings, Vec<At<SocketAddr>>) {
    let defaults = Settings::of(name);
    let Some(section) = zone.section("mesos_dns", &DNS_ZONE_MESOS_DNS) else { return (defaults, Vec::new()) };
    let http = section.list("http", ADDRESSES_MAX, value::address).map_or_else(Vec::new, |list| list.value);
    let compat = section.read("compat", value::choice(COMPATS, &[])).unwrap_or_default();
    let truth = |key, default| section.read(key, value::boolean).unwrap_or(default);
    let seconds = |key, default| section.read(key, value::count(0, u32::MAX)).unwrap_or(default);
    let weight = section.read("srv_weight", value::count(0, 65_535)).unwrap_or(1);
    let [refresh, retry, expire] = defaults.soa_times;
    let settings = Settings {
        profile: section.read("profile", value::choice(PROFILES, &[])).unwrap_or_default(),
        compat,
        ip_sources: ip_sources(&section).unwrap_or(defaults.ip_sources),
        rfc952: truth("rfc952", false),
        ignore_health: truth("ignore_health", compat == Compat::Strict),
        ttl: section.read("ttl", value::whole_seconds(0, i32::MAX as u32)).unwrap_or(defaults.ttl),
        srv_weight: u16::try_from(weight).unwrap_or(1),
        soa_mname: section.read("soa_mname", domain_name).unwrap_or(defaults.soa_mname),
        soa_rname: section.read("soa_rname", domain_name).unwrap_or(defaults.soa_rname),
        soa_times: [
            seconds("soa_refresh", refresh),
            seconds("soa_retry", retry),
            seconds("soa_expire", expire),
        ],
        addresses: section.values("addresses", ADDRESSES_MAX, ip),
        reverse: truth("reverse", false),
        recursion_bit: truth("recursion_bit", true),
        truncate_bit: truth("truncate_bit", true),
        subnet_first: truth("subnet_first", false),
        http: http.iter().map(|at| at.value).collect(),
        enumeration: truth("enumeration", true),
    };
    (settings, http)
}

/// Zones that are not told the server's addresses publish those where it listens.
pub(crate) fn place(zones: &mut [ZoneConfig], listen: &[SocketAddr]) {
    for zone in zones {
        if let Schema::MesosDns(settings) = &mut zone.schema
            && settings.addresses.is_empty()
        {
            Arc::make_mut(settings).addresses = listen.iter().map(SocketAddr::ip).collect();
        }
    }
}

/// A list in order of preference, or `"auto"`.
fn ip_sources(section: &Section<'_>) -> Option<IpSources> {
    const KEY: &str = "ip_sources";
    if section.is_text(KEY, "auto") {
        return Some(IpSources::Auto);
    }
    let read = section.list(KEY, IP_SOURCES.len(), value::choice(IP_SOURCES, &[]))?;
    for (at, source) in read.value.iter().enumerate() {
        if read.value[..at].iter().any(|earlier| earlier.value == source.value) {
            let message = format!("{KEY}: the same is there twice");
            section.reading.mistake(&source.span, message, "keep one of them");
        }
    }
    if read.value.is_empty() {
        let hint = "choose from netinfo, mesos, docker and host, or write \"auto\"";
        section.reading.mistake(&read.span, format!("{KEY}: the list is empty"), hint);
    }
    Some(IpSources::Listed(read.into_values()))
}

fn ip(value: &DeValue<'_>) -> Parsed<IpAddr> {
    let text = value::text(value)?;
    match text.parse() {
        Ok(ip) => Ok(ip),
        Err(_) => wrong(format!("{} is not an address", quoted(&text)), "write it as in \"10.0.0.1\""),
    }
}

/// A full domain name; a dot at its end makes no difference.
fn domain_name(value: &DeValue<'_>) -> Parsed<Arc<str>> {
    let text = value::text(value)?;
    let name = text.strip_suffix('.').unwrap_or(&text);
    match portolan_dns::wire::text_to_name(name) {
        Some(wire) if wire.len() > 1 => Ok(name.into()),
        _ => wrong(format!("{} is not a domain name", quoted(name)), "write it as in \"ns1.mesos\""),
    }
}
