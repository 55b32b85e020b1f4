//! From fields to what is meant: defaults, types, and what the program refuses.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::collections::BTreeMap;

use serde_json::Value;

use super::json::{Fields, place};
use super::show::MASK;
use super::{Credentials, MesosDns, MesosDnsOptions, address};
use crate::mistake::{Mistakes, Positions};
use crate::section::Found;
use crate::value::quoted;

/// Elements of one list.
const LIST_MAX: usize = 1024;
/// What `zk` begins with if it names a file that holds it.
pub(super) const FILE: &str = "file://";
pub(super) const NO_LEADER: &str = "this is not where a leader can be found";
pub(super) const ZK_HINT: &str = "write zk://HOST:2181,HOST:2181/mesos";
/// What `IPSources` may hold.
const IP_SOURCES: [&str; 4] = ["netinfo", "mesos", "docker", "host"];

/// Reads every key; all mistakes are told at once.
pub(super) fn check(
    fields: &Fields,
    text: &str,
    file: &str,
    options: MesosDnsOptions,
) -> Result<MesosDns, Mistakes> {
    let mut reader = Reader { fields, text, found: Vec::new() };
    let settings = settings(&mut reader, file, options);
    let mut found = reader.found;
    if found.is_empty() {
        return Ok(settings);
    }
    found.sort_by_key(|found| found.span.start);
    Err(Positions::new(file, text).mistakes(found))
}

struct Reader<'a> {
    fields: &'a Fields,
    text: &'a str,
    found: Vec<Found>,
}

impl Reader<'_> {
    fn mistake(&mut self, key: &str, what: &str, hint: &str) {
        let span = place(self.text, key);
        self.found.push(Found {
            span,
            message: format!("{key}: {what}"),
            hint: Some(hint.to_owned()),
            whole: false,
        });
    }

    fn wrong_type<T>(&mut self, key: &str, value: &Value, wanted: &str) -> Option<T> {
        let is = match value {
            Value::Bool(_) => "a truth value",
            Value::Number(_) => "a number",
            Value::String(_) => "a text",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
            Value::Null => "null",
        };
        self.mistake(key, &format!("{is} stands where {wanted} is wanted"), "see the manual of Mesos-DNS");
        None
    }

    fn text(&mut self, key: &str, default: &str) -> String {
        match self.fields.value(key) {
            None => default.to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => self.wrong_type(key, other, "a text").unwrap_or_default(),
        }
    }

    fn truth(&mut self, key: &str, default: bool) -> bool {
        match self.fields.value(key) {
            None => default,
            Some(Value::Bool(truth)) => *truth,
            Some(other) => self.wrong_type(key, other, "true or false").unwrap_or(default),
        }
    }

    fn number(&mut self, key: &str, default: u32, min: u32, max: u32) -> u32 {
        let value = match self.fields.value(key) {
            None => return default,
            Some(value @ Value::Number(_)) => value,
            Some(other) => return self.wrong_type(key, other, "a whole number").unwrap_or(default),
        };
        match value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| (min..=max).contains(n)) {
            Some(number) => number,
            None => {
                self.mistake(
                    key,
                    &format!("{value} is not a whole number from {min} to {max}"),
                    "write it without fraction and exponent",
                );
                default
            }
        }
    }

    /// A list of texts; `None` if it is absent.
    fn list(&mut self, key: &str) -> Option<Vec<String>> {
        if self.fields.is_null(key) {
            return Some(Vec::new());
        }
        let value = self.fields.value(key)?;
        self.texts(key, value)
    }

    fn texts(&mut self, key: &str, value: &Value) -> Option<Vec<String>> {
        let Value::Array(elements) = value else { return self.wrong_type(key, value, "a list") };
        if elements.len() > LIST_MAX {
            self.mistake(key, "the list is too long", "1024 entries are the limit");
            return None;
        }
        let texts: Option<Vec<String>> =
            elements.iter().map(|element| element.as_str().map(str::to_owned)).collect();
        if texts.is_none() {
            self.mistake(key, "an element is not a text", "write every element in quotes");
        }
        texts
    }

    fn ip(&mut self, key: &str, default: IpAddr) -> IpAddr {
        let text = self.text(key, "");
        if text.is_empty() {
            return default;
        }
        text.parse().unwrap_or_else(|_| {
            self.mistake(
                key,
                &format!("{} is not an address", quoted(&text)),
                "write an IP address, as in \"0.0.0.0\"",
            );
            default
        })
    }
}

fn settings(reader: &mut Reader<'_>, file: &str, options: MesosDnsOptions) -> MesosDns {
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let seconds = u32::MAX / 1000;
    let port = |reader: &mut Reader<'_>, key, default: u32| reader.number(key, default, 0, 65_535) as u16;
    let mut settings = MesosDns {
        file: file.to_owned(),
        options,
        zk: reader.text("zk", ""),
        zk_read: String::new(),
        masters: reader.list("masters").unwrap_or_default(),
        zk_detection_timeout: reader.number("zkDetectionTimeout", 30, 0, seconds),
        refresh_seconds: reader.number("refreshSeconds", 60, 1, seconds),
        state_timeout_seconds: reader.number("stateTimeoutSeconds", 300, 1, seconds),
        https: reader.truth("MesosHTTPSOn", false),
        ca_file: reader.text("CACertFile", ""),
        cert_file: reader.text("CertFile", ""),
        key_file: reader.text("KeyFile", ""),
        authentication: reader.text("MesosAuthentication", ""),
        credentials: credentials(reader),
        iam_file: reader.text("IAMConfigFile", ""),
        iam: None,
        domain: reader.text("domain", "mesos").to_lowercase(),
        ttl: reader.number("ttl", 60, 0, i32::MAX as u32),
        srv_weight: reader.number("SRVRecordDefaultWeight", 1, 0, 65_535) as u16,
        soa_mname: without_dot(&reader.text("SOAMname", "ns1.mesos")),
        soa_rname: without_dot(&reader.text("SOARname", "root.ns1.mesos").replace('@', ".")),
        soa_refresh: reader.number("SOARefresh", 60, 0, u32::MAX),
        soa_retry: reader.number("SOARetry", 600, 0, u32::MAX),
        soa_expire: reader.number("SOAExpire", 86_400, 0, u32::MAX),
        soa_minttl: reader.number("SOAMinttl", 60, 0, u32::MAX),
        ip_sources: reader
            .list("IPSources")
            .unwrap_or_else(|| ["netinfo", "mesos", "host"].map(str::to_owned).to_vec()),
        rfc952: reader.truth("EnforceRFC952", false),
        reverse: reader.truth("ReverseDnsOn", false),
        dns: reader.truth("DnsOn", true),
        http: reader.truth("HttpOn", true),
        listener: reader.ip("listener", any),
        port: port(reader, "port", 53),
        http_listener: reader.ip("HTTPListener", any),
        http_port: port(reader, "HttpPort", 8123),
        recurse: reader.truth("recurseOn", true),
        truncate_bit: reader.truth("SetTruncateBit", true),
        enumeration: reader.truth("EnumerationOn", true),
        subnet_first: reader.truth("ResolvSubnetFirst", false),
        external: reader.truth("externalOn", true),
        resolvers: reader.list("resolvers").unwrap_or_else(|| vec!["8.8.8.8".to_owned()]),
        forward: Vec::new(),
        zone_resolvers: zone_resolvers(reader),
        timeout: reader.number("timeout", 5, 0, seconds),
    };
    // Of these two the types count, the values do not.
    reader.number("SOASerial", 0, 0, u32::MAX);
    reader.text("File", "");
    if settings.timeout == 0 {
        settings.timeout = 5;
    }
    judge(reader, &mut settings);
    settings
}

fn credentials(reader: &mut Reader<'_>) -> Credentials {
    let key = "MesosCredentials";
    let Some(value) = reader.fields.value(key) else { return Credentials::default() };
    let Value::Object(members) = value else {
        return reader.wrong_type(key, value, "an object").unwrap_or_default();
    };
    let mut text = |wanted: &str| {
        let member = members.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        match member.map(|(_, value)| value) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => reader.wrong_type(key, other, "a text").unwrap_or_default(),
        }
    };
    Credentials { principal: text("Principal"), secret: text("Secret") }
}

fn zone_resolvers(reader: &mut Reader<'_>) -> Vec<(String, Vec<String>)> {
    let key = "zoneResolvers";
    let Some(value) = reader.fields.value(key) else { return Vec::new() };
    let Value::Object(members) = value else {
        return reader.wrong_type(key, value, "an object").unwrap_or_default();
    };
    let mut zones = BTreeMap::new();
    for (zone, resolvers) in members {
        let resolvers = if resolvers.is_null() { Some(Vec::new()) } else { reader.texts(key, resolvers) };
        zones.insert(zone.to_lowercase(), resolvers.unwrap_or_default());
    }
    zones.into_iter().collect()
}

fn without_dot(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_owned()
}

/// What the program refuses, and what it only trips over later.
fn judge(reader: &mut Reader<'_>, settings: &mut MesosDns) {
    if !settings.dns && !settings.http {
        reader.mistake("DnsOn", "DnsOn and HttpOn are both false", "one of them must stay on");
    }
    masters(reader, settings);
    zk(reader, &settings.zk);
    if !settings.zk.starts_with(FILE) {
        settings.zk_read = without_credentials(&settings.zk, "");
        settings.zk = without_credentials(&settings.zk, &format!("{MASK}@"));
    }
    if !is_domain(&settings.domain) {
        let what = format!("{} is not a domain", quoted(&settings.domain));
        reader.mistake("domain", &what, "labels of letters, digits and '-', joined by dots");
    }
    for (key, name) in [("SOAMname", &settings.soa_mname), ("SOARname", &settings.soa_rname)] {
        if portolan_dns::wire::text_to_name(name).is_none_or(|wire| wire.len() < 2) {
            reader.mistake(
                key,
                &format!("{} is not a domain name", quoted(name)),
                "write it as in \"ns1.mesos\"",
            );
        }
    }
    ip_sources(reader, &settings.ip_sources);
    access(reader, settings);
    if settings.external {
        settings.forward = resolvers(reader, "resolvers", &settings.resolvers);
        ambiguities(reader, settings);
        for (zone, list) in &settings.zone_resolvers {
            if list.is_empty() {
                reader.mistake(
                    "zoneResolvers",
                    &format!("the zone {} has no resolver", quoted(zone)),
                    "name one",
                );
            }
            resolvers(reader, "zoneResolvers", list);
        }
    }
}

fn zk(reader: &mut Reader<'_>, given: &str) {
    // A file is looked into when everything else is known to be right.
    if !given.is_empty() && !given.starts_with(FILE) && !finds_leader(given) {
        reader.mistake("zk", NO_LEADER, ZK_HINT);
    }
}

/// `zk://USER:PASSWORD@…` with `instead` in the place of what stands before the hosts.
pub(super) fn without_credentials(zk: &str, instead: &str) -> String {
    match zk.strip_prefix("zk://").and_then(|rest| rest.rsplit_once('@')) {
        Some((_, hosts)) => format!("zk://{instead}{hosts}"),
        None => zk.to_owned(),
    }
}

/// True if a leader can be found there. The name of a master passes with the program, and means that one.
pub(super) fn finds_leader(zk: &str) -> bool {
    address::ensemble(zk).is_some() || address::named_master(zk).is_some()
}

fn masters(reader: &mut Reader<'_>, settings: &MesosDns) {
    if settings.zk.is_empty() && settings.masters.is_empty() {
        let what = "neither \"zk\" nor \"masters\" is given";
        reader.mistake(
            "masters",
            what,
            "write \"zk\": \"zk://HOST:2181/mesos\" or \"masters\": [\"HOST:5050\"]",
        );
    }
    let mut seen = Vec::new();
    for given in &settings.masters {
        match address::master(given) {
            None => {
                let what = format!("{} is not HOST:PORT", quoted(given));
                reader.mistake(
                    "masters",
                    &what,
                    "write an address and a port from 1 to 65535, as in \"10.0.0.1:5050\"",
                );
            }
            Some(master) if seen.contains(&master) => {
                reader.mistake("masters", &format!("{} is there twice", quoted(given)), "keep one of them");
            }
            Some(master) => seen.push(master),
        }
    }
}

fn ip_sources(reader: &mut Reader<'_>, sources: &[String]) {
    let hint = "choose from netinfo, mesos, docker and host";
    if sources.is_empty() {
        reader.mistake("IPSources", "the list is empty", hint);
    }
    for (at, source) in sources.iter().enumerate() {
        if !IP_SOURCES.contains(&&**source) {
            reader.mistake("IPSources", &format!("{} is not known", quoted(source)), hint);
        } else if sources[..at].contains(source) {
            reader.mistake("IPSources", &format!("{source:?} is there twice"), "keep one of them");
        }
    }
}

fn access(reader: &mut Reader<'_>, settings: &MesosDns) {
    if settings.cert_file.is_empty() != settings.key_file.is_empty() {
        reader.mistake("CertFile", "CertFile and KeyFile belong together", "give both or neither");
    }
    match &*settings.authentication {
        "" => {}
        "basic" if settings.credentials.principal.is_empty() => {
            reader.mistake("MesosCredentials", "there is no Principal", "basic authentication takes one");
        }
        "iam" if settings.iam_file.is_empty() => {
            reader.mistake("IAMConfigFile", "there is none", "the authentication \"iam\" takes one");
        }
        "basic" | "iam" => {}
        other => {
            let what = format!("{} is not known", quoted(other));
            reader.mistake("MesosAuthentication", &what, "write \"basic\", \"iam\" or nothing");
        }
    }
}

fn resolvers(reader: &mut Reader<'_>, key: &str, given: &[String]) -> Vec<SocketAddr> {
    let mut all = Vec::new();
    for text in given {
        match address::resolver(text) {
            None => {
                let what = format!("{} is not an address", quoted(text));
                reader.mistake(key, &what, "write IP or IP:PORT");
            }
            Some(resolver) if all.contains(&resolver) => {
                reader.mistake(key, &format!("{} is there twice", quoted(text)), "keep one of them");
            }
            Some(resolver) => all.push(resolver),
        }
    }
    all
}

/// A name must not belong to two of the zones, nor to one of them and the own one.
fn ambiguities(reader: &mut Reader<'_>, settings: &MesosDns) {
    let key = "zoneResolvers";
    let below = |inner: &str, outer: &str| inner.strip_suffix(outer).is_some_and(|rest| rest.ends_with('.'));
    for (at, (zone, _)) in settings.zone_resolvers.iter().enumerate() {
        if !is_domain(zone) {
            let what = format!("{} is not a domain", quoted(zone));
            reader.mistake(key, &what, "labels of letters, digits and '-', joined by dots");
        } else if *zone == settings.domain {
            reader.mistake(key, &format!("{zone:?} is the own domain"), "it is answered here; take it out");
        }
        let others = settings.zone_resolvers[..at].iter().map(|(other, _)| other);
        for other in others.chain([&settings.domain]) {
            if below(zone, other) || below(other, zone) {
                reader.mistake(
                    key,
                    &format!("{zone:?} and {other:?} are ambiguous"),
                    "neither may lie below the other",
                );
            }
        }
    }
}

fn is_domain(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}
