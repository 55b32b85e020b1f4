//! A zone that TOML speaks of, in the words of `config.json`: for `/v1/config`.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use portolan_discovery::SourceKind;
use portolan_dns::mesos_dns::{IpSource, IpSources, Settings};

use super::{Credentials, MesosDns, MesosDnsOptions};
use crate::config::Config;

const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// As far as it can be told; secrets are not.
pub(super) fn zone(config: &Config, zone: &str, settings: &Settings) -> MesosDns {
    let dns = config.dns.clone().unwrap_or_default();
    let seconds = |time: core::time::Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    let mesos = config.discovery.sources.iter().find_map(|source| match &source.kind {
        SourceKind::Mesos(mesos) => Some((source, mesos)),
        _ => None,
    });
    let urls = mesos.map_or(&[][..], |(_, mesos)| &mesos.urls);
    let (zk, masters): (Vec<&String>, Vec<&String>) = urls.iter().partition(|url| url.starts_with("zk://"));
    let without_scheme = |url: &&String| url.split("://").last().unwrap_or_default().to_owned();
    let path = |path: Option<&std::path::PathBuf>| path.map_or_else(String::new, |p| p.display().to_string());
    let tls = mesos.map(|(_, mesos)| &mesos.tls);
    let listen = dns.listen.first().copied().unwrap_or(SocketAddr::new(ANY, 53));
    let http = settings.http.first().copied().unwrap_or(SocketAddr::new(ANY, 8123));
    let [soa_refresh, soa_retry, soa_expire] = settings.soa_times;
    let texts = |list: &[SocketAddr]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    MesosDns {
        file: String::new(),
        options: MesosDnsOptions { compat: settings.compat, profile: settings.profile },
        zk: zk.first().map_or_else(String::new, |url| (*url).clone()),
        zk_read: String::new(),
        masters: masters.iter().map(without_scheme).collect(),
        zk_detection_timeout: 0,
        refresh_seconds: mesos.map_or(60, |(source, _)| seconds(source.refresh)),
        state_timeout_seconds: mesos.map_or(300, |(source, _)| seconds(source.timeout)),
        https: mesos.is_some_and(|(_, mesos)| mesos.https)
            || masters.iter().any(|url| url.starts_with("https://")),
        ca_file: path(tls.and_then(|tls| tls.ca.as_ref())),
        cert_file: path(tls.and_then(|tls| tls.cert.as_ref())),
        key_file: path(tls.and_then(|tls| tls.key.as_ref())),
        authentication: String::new(),
        credentials: Credentials::default(),
        iam_file: String::new(),
        iam: None,
        domain: zone.to_owned(),
        ttl: settings.ttl,
        srv_weight: settings.srv_weight,
        soa_mname: settings.soa_mname.to_string(),
        soa_rname: settings.soa_rname.to_string(),
        soa_refresh,
        soa_retry,
        soa_expire,
        soa_minttl: settings.ttl,
        ip_sources: ip_sources(&settings.ip_sources),
        rfc952: settings.rfc952,
        reverse: settings.reverse,
        dns: !dns.listen.is_empty(),
        http: true,
        listener: listen.ip(),
        port: listen.port(),
        http_listener: http.ip(),
        http_port: http.port(),
        recurse: settings.recursion_bit,
        truncate_bit: settings.truncate_bit,
        enumeration: settings.enumeration,
        subnet_first: settings.subnet_first,
        external: !dns.forward.is_empty(),
        resolvers: texts(&dns.forward),
        forward: dns.forward.clone(),
        zone_resolvers: dns
            .forward_zones
            .iter()
            .map(|zone| (zone.name.to_string(), texts(&zone.forward)))
            .collect(),
        timeout: seconds(dns.forward_timeout),
    }
}

fn ip_sources(sources: &IpSources) -> Vec<String> {
    let word = |source: &IpSource| match source {
        IpSource::Netinfo => "netinfo",
        IpSource::Mesos => "mesos",
        IpSource::Docker => "docker",
        IpSource::Host => "host",
    };
    match sources {
        IpSources::Auto => vec!["auto".to_owned()],
        IpSources::Listed(sources) => sources.iter().map(|source| word(source).to_owned()).collect(),
    }
}
