//! One zone of the schema over one `/state` document, and where shared cases lie.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hickory_proto::op::Message;
use portolan_dns::answer::{Outcome, Terms, answer};
use portolan_dns::mesos_dns::{Compat, IpSource, IpSources, Profile, Settings};
use portolan_dns::wire::Request;
use portolan_dns::{Config, NodeConfig, Schema, ZoneBuilder, ZoneConfig, ZoneMetrics, Zones};
use portolan_table::{ChangeSet, Publisher, SourceId, SourceStatus, Standing, ViewKey};
use prometheus::Registry;
use serde_json::Value;

pub(crate) struct Site {
    pub(crate) publisher: Publisher,
    pub(crate) key: ViewKey<Zones>,
}

impl Site {
    pub(crate) fn new(domain: &str, settings: Settings) -> Self {
        let zone = ZoneConfig {
            name: domain.into(),
            schema: Schema::MesosDns(Arc::new(settings)),
            sources: Vec::new(),
        };
        let node = NodeConfig { name: "edge".into(), ..NodeConfig::default() };
        let config = Config { zones: vec![zone], node, ..Config::default() };
        let metrics = ZoneMetrics::register(&Registry::new()).unwrap();
        let mut publisher = Publisher::new();
        publisher.apply(sources(true));
        let key = publisher.add_view(ZoneBuilder::with_clock(&config, metrics, || 1_700_000_000));
        Self { publisher, key }
    }

    pub(crate) fn zones<R>(&self, look: impl FnOnce(&Zones) -> R) -> R {
        look(self.publisher.table().load().view(self.key))
    }

    /// The reply to a packet; `None` if none is sent, or the name is not ours.
    pub(crate) fn reply(&self, packet: &[u8], stream: bool) -> Option<Message> {
        let Request::Question(query) = Request::read(packet) else { panic!("the query is malformed") };
        let udp = Terms::udp(query.udp_limit(1232), 1232);
        let terms = if stream { Terms::tcp(1232) } else { udp };
        let mut out = vec![0; 65_535];
        match self.zones(|zones| answer(zones, &query, &terms, 7, &mut out)) {
            Outcome::Reply(written) => Some(Message::from_vec(&out[..written.len]).unwrap()),
            Outcome::NotOurs | Outcome::Silence => None,
        }
    }
}

pub(crate) fn sources(has_data: bool) -> ChangeSet {
    let mut change = ChangeSet::default();
    let standing = if has_data { Standing::Synced } else { Standing::Unsynced };
    change.set_sources(vec![SourceStatus {
        id: SourceId(0),
        name: "mesos".into(),
        kind: "mesos",
        standing,
        required: true,
        has_data,
    }]);
    change
}

/// What a case's `config` means.
pub(crate) fn settings(config: &Value, profile: Profile, compat: Compat) -> (String, Settings) {
    let value = |key: &str| {
        let members = config.as_object().unwrap();
        members.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value)
    };
    let domain = value("domain").and_then(Value::as_str).unwrap_or("mesos").to_owned();
    let mut settings = Settings::of(&domain);
    settings.profile = profile;
    settings.compat = compat;
    settings.soa_mname = value("SOAMname").and_then(Value::as_str).unwrap_or("ns1.mesos").into();
    settings.addresses =
        vec![value("listener").and_then(Value::as_str).unwrap_or("127.0.0.1").parse().unwrap()];
    let truth = |key, default| value(key).and_then(Value::as_bool).unwrap_or(default);
    settings.rfc952 = truth("EnforceRFC952", false);
    settings.recursion_bit = truth("recurseOn", true);
    settings.truncate_bit = truth("SetTruncateBit", true);
    settings.reverse = truth("ReverseDnsOn", false);
    if let Some(Value::Array(sources)) = value("IPSources") {
        let of = |source: &Value| match source.as_str().unwrap() {
            "netinfo" => IpSource::Netinfo,
            "mesos" => IpSource::Mesos,
            "docker" => IpSource::Docker,
            _ => IpSource::Host,
        };
        settings.ip_sources = IpSources::Listed(sources.iter().map(of).collect());
    }
    (domain, settings)
}

/// The folder of shared cases, if it is there.
pub(crate) fn shared(folder: &str) -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("PORTOLAN_SHARED").map_or_else(beside, PathBuf::from);
    Some(shared.join("fixtures/mesos-dns").join(folder)).filter(|path| path.is_dir())
}

/// The cases of a folder, by file name.
pub(crate) fn cases(folder: &str) -> Vec<(PathBuf, Value)> {
    let Some(folder) = shared(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let case = read(&path);
            (path, case)
        })
        .collect()
}

pub(crate) fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The state that a case refers to.
pub(crate) fn state_of(path: &Path, case: &Value) -> Value {
    read(&path.parent().unwrap().join(case["state"].as_str().unwrap()))
}
