//! What a node knows of its zones of the schema `mesos-dns`, for the HTTP API.

use std::sync::Arc;

use portolan_config::Config;
use portolan_config::mesos_dns::MesosDns;
use portolan_dns::Schema;
use portolan_dns::mesos_dns::Settings;

/// The zones and their settings.
pub(super) fn zones(config: &Config) -> impl Iterator<Item = (&str, &Arc<Settings>)> {
    config.dns.iter().flat_map(|dns| &dns.zones).filter_map(|zone| match &zone.schema {
        Schema::MesosDns(settings) => Some((&*zone.name, settings)),
        Schema::Native => None,
    })
}

/// What `/v1/config` shows: the file that a zone was read from, or what such a file would say.
pub(super) fn shown(config: &Config) -> Vec<(Arc<str>, MesosDns)> {
    let of = |zone: &str, settings: &Settings| match &config.mesos_dns {
        Some(file) if file.domain() == zone => file.clone(),
        _ => MesosDns::of(config, zone, settings),
    };
    zones(config).map(|(zone, settings)| (zone.into(), of(zone, settings))).collect()
}
