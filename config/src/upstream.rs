//! `[proxy.upstream]` and `[[proxy.service]]`: policy towards endpoints, inherited key by key.

use core::time::Duration;
use std::sync::Arc;

use portolan_proxy::{
    Balance, CheckConfig, CheckKind, EjectionConfig, HashKey, UpstreamConfig, UpstreamProtocol,
};
use toml::de::DeValue;

use crate::keys::{
    Keys, SERVICE_CHECK, SERVICE_EJECTION, SERVICE_TLS, UPSTREAM_CHECK, UPSTREAM_EJECTION, UPSTREAM_TLS,
};
use crate::section::Section;
use crate::upstream_tls;
use crate::value::{self, Parsed, quoted, wrong};

/// The sections below one of upstream keys.
#[derive(Debug)]
pub(crate) struct Below {
    ejection: &'static Keys,
    check: &'static Keys,
    tls: &'static Keys,
}

/// Those of `[proxy.upstream]`.
pub(crate) const OF_ALL: Below =
    Below { ejection: &UPSTREAM_EJECTION, check: &UPSTREAM_CHECK, tls: &UPSTREAM_TLS };
/// Those of `[[proxy.service]]`.
pub(crate) const OF_ONE: Below =
    Below { ejection: &SERVICE_EJECTION, check: &SERVICE_CHECK, tls: &SERVICE_TLS };

/// Reads the upstream keys of `section`; what is absent is as in `inherited`.
pub(crate) fn read(section: &Section<'_>, inherited: &UpstreamConfig, below: &Below) -> UpstreamConfig {
    let count = |key, min, max| section.read(key, value::count(min, max));
    let ejection = section.section("ejection", below.ejection);
    let check = section.section("check", below.check);
    let tls = section.section("tls", below.tls);
    UpstreamConfig {
        protocol: section.read("protocol", value::choice(PROTOCOLS, &[])).unwrap_or(inherited.protocol),
        balance: balance(section, &inherited.balance),
        in_flight_max: count("in_flight_max", 0, 1_000_000).unwrap_or(inherited.in_flight_max),
        idle_connections_max: count("idle_connections_max", 0, 100_000)
            .map_or(inherited.idle_connections_max, |n| n as usize),
        idle_timeout: section.read("idle_timeout", value::time).unwrap_or(inherited.idle_timeout),
        attempts_max: count("attempts", 1, 10).unwrap_or(inherited.attempts_max),
        retry_budget: section.read("retry_budget", value::share).unwrap_or(inherited.retry_budget),
        tls: tls.map_or_else(|| inherited.tls.clone(), |s| upstream_tls::read(&s, &inherited.tls)),
        ejection: ejection
            .map_or_else(|| inherited.ejection.clone(), |s| read_ejection(&s, inherited.ejection.as_ref())),
        check: check.map_or_else(|| inherited.check.clone(), |s| read_check(&s, inherited.check.as_ref())),
    }
}

const PROTOCOLS: &[(&str, UpstreamProtocol)] =
    &[("auto", UpstreamProtocol::Auto), ("http1", UpstreamProtocol::Http1), ("h2", UpstreamProtocol::H2)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    RoundRobin,
    LeastRequest,
    PeakEwma,
    ConsistentHash,
}

const POLICIES: &[(&str, Policy)] = &[
    ("round-robin", Policy::RoundRobin),
    ("least-request", Policy::LeastRequest),
    ("peak-ewma", Policy::PeakEwma),
    ("consistent-hash", Policy::ConsistentHash),
];

fn balance(section: &Section<'_>, inherited: &Balance) -> Balance {
    let policy = section.read("balance", value::choice(POLICIES, &[]));
    let key = section.at("hash_key", hash_key);
    let inherited_key = match inherited {
        Balance::ConsistentHash(key) => Some(key.clone()),
        _ => None,
    };
    let hashes = match policy {
        None => inherited_key.is_some(),
        Some(policy) => policy == Policy::ConsistentHash,
    };
    match (policy, key) {
        // The documented default may be spelt out beside any policy.
        (_, Some(key)) if !hashes && key.value != HashKey::ClientAddress => {
            section.reading.conflict(
                &key.span,
                "hash_key: nothing is hashed by this policy".to_owned(),
                "write balance = \"consistent-hash\" too",
            );
            inherited.clone()
        }
        (_, Some(key)) if hashes => Balance::ConsistentHash(key.value),
        (Some(Policy::ConsistentHash), _) => {
            Balance::ConsistentHash(inherited_key.unwrap_or(HashKey::ClientAddress))
        }
        (Some(Policy::RoundRobin), _) => Balance::RoundRobin,
        (Some(Policy::LeastRequest), _) => Balance::LeastRequest,
        (Some(Policy::PeakEwma), _) => Balance::PeakEwma,
        (None, _) => inherited.clone(),
    }
}

fn hash_key(value: &DeValue<'_>) -> Parsed<HashKey> {
    let text = value::text(value)?;
    match text.as_str() {
        "client-address" => Ok(HashKey::ClientAddress),
        "path" => Ok(HashKey::Path),
        other => match other.strip_prefix("header:").and_then(header_name) {
            Some(name) => Ok(HashKey::Header(name)),
            None => wrong(
                format!("{} is not known here", quoted(other)),
                "allowed: \"client-address\", \"path\", \"header:NAME\"",
            ),
        },
    }
}

/// A field name (RFC 9110 §5.1), lower case.
pub(crate) fn header_name(text: &str) -> Option<Arc<str>> {
    (is_token(text) && text.len() <= 256).then(|| text.to_ascii_lowercase().into())
}

/// A token (RFC 9110 §5.6.2).
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn read_ejection(section: &Section<'_>, inherited: Option<&EjectionConfig>) -> Option<EjectionConfig> {
    let default = inherited.cloned().unwrap_or_default();
    let enabled = section.read("enabled", value::boolean).unwrap_or(true);
    let ejection = EjectionConfig {
        failures: section.read("failures", value::count(1, 10_000)).unwrap_or(default.failures),
        base: section.read("base", value::time).unwrap_or(default.base),
        max: section.read("max", value::time).unwrap_or(default.max),
        panic_threshold: section.read("panic_threshold", value::share).unwrap_or(default.panic_threshold),
    };
    if ejection.max < ejection.base {
        section.reading.conflict(
            &section.place_of(if section.has("max") { "max" } else { "base" }),
            format!(
                "\"max\" ({}) is shorter than \"base\" ({})",
                value::show_time(ejection.max),
                value::show_time(ejection.base)
            ),
            "the time out of rotation grows from base to max",
        );
    }
    enabled.then_some(ejection)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CheckType {
    None,
    Tcp,
    Http,
}

const CHECK_TYPES: &[(&str, CheckType)] =
    &[("none", CheckType::None), ("tcp", CheckType::Tcp), ("http", CheckType::Http)];

fn read_check(section: &Section<'_>, inherited: Option<&CheckConfig>) -> Option<CheckConfig> {
    let inherited_kind = inherited.map(|check| &check.kind);
    let (inherited_path, inherited_host) = match inherited_kind {
        Some(CheckKind::Http { path, host }) => (path.clone(), host.clone()),
        _ => ("/".into(), None),
    };
    let written = section.read("type", value::choice(CHECK_TYPES, &[]));
    if !section.has("type") && inherited.is_none() {
        section.missing("type", "write type = \"http\" or type = \"tcp\"");
    }
    let kind = written.unwrap_or(match inherited_kind {
        None => CheckType::None,
        Some(CheckKind::Tcp) => CheckType::Tcp,
        Some(CheckKind::Http { .. }) => CheckType::Http,
    });
    let path = section.at("path", check_path);
    let host = section.at("host", value::shared_text);
    if kind == CheckType::Tcp {
        for key in ["path", "host"] {
            if let Some(span) = section.key_span(key) {
                let message = format!("{key:?} means nothing to a check of type \"tcp\"");
                section.reading.conflict(&span, message, "write type = \"http\", or take it out");
            }
        }
    }
    let time = |key| section.read(key, value::time);
    let tries = |key| section.read(key, value::count(1, 100));
    let check = CheckConfig {
        kind: match kind {
            CheckType::Http => CheckKind::Http {
                path: path.map_or(inherited_path, |at| at.value),
                host: host.map(|at| at.value).or(inherited_host),
            },
            _ => CheckKind::Tcp,
        },
        interval: time("interval").or(inherited.map(|c| c.interval)).unwrap_or(Duration::from_secs(5)),
        timeout: time("timeout").or(inherited.map(|c| c.timeout)).unwrap_or(Duration::from_secs(2)),
        rise: tries("rise").or(inherited.map(|c| c.rise)).unwrap_or(2),
        fall: tries("fall").or(inherited.map(|c| c.fall)).unwrap_or(3),
    };
    if check.timeout > check.interval {
        section.reading.conflict(
            &section.place_of(if section.has("timeout") { "timeout" } else { "interval" }),
            format!(
                "\"timeout\" ({}) is longer than \"interval\" ({})",
                value::show_time(check.timeout),
                value::show_time(check.interval)
            ),
            "one try has to end before the next begins",
        );
    }
    (kind != CheckType::None).then_some(check)
}

fn check_path(value: &DeValue<'_>) -> Parsed<Arc<str>> {
    let text = value::text(value)?;
    if !text.starts_with('/') || !text.bytes().all(|b| b.is_ascii_graphic()) || text.contains('#') {
        return wrong(
            format!("{} is not a path", quoted(&text)),
            "it starts with \"/\", and spaces are written as %20",
        );
    }
    Ok(text.into())
}
