//! `[dns]`: who may ask and how often, and who may have zones.

use core::time::Duration;
use std::sync::Arc;

use portolan_dns::{Algorithm, Config, Cookies, Denied, Key, RateLimit, Transfer};
use toml::de::DeValue;

use crate::dns::{ADDRESSES_MAX, NETWORKS_MAX, network, resolver};
use crate::keys::{DNS_COOKIES, DNS_KEY, DNS_RATE_LIMIT, DNS_TRANSFER};
use crate::section::{At, Section};
use crate::value::{self, Parsed, quoted, wrong};

/// Keys of signatures.
const KEYS_MAX: usize = 64;
/// Changes are told of within this time at the latest.
const NOTIFY_DELAY_MAX: Duration = Duration::from_secs(3600);

const DENIED: &[(&str, Denied)] = &[("refuse", Denied::Refuse), ("drop", Denied::Drop)];
const ALGORITHMS: &[(&str, Algorithm)] =
    &[("hmac-sha256", Algorithm::HmacSha256), ("hmac-sha512", Algorithm::HmacSha512)];

/// A configuration with what these keys say, and nothing else.
pub(crate) fn guarded(section: &Section<'_>) -> Config {
    let keys = keys(section);
    section.refuse_empty_list("allow_query", "leave it out to let everybody ask");
    Config {
        allow_query: section.list("allow_query", NETWORKS_MAX, network).map(At::into_values),
        query_denied: section.read("query_denied", value::choice(DENIED, &[])).unwrap_or_default(),
        rate_limit: section.section("rate_limit", &DNS_RATE_LIMIT).map(rate_limit).unwrap_or_default(),
        cookies: section.section("cookies", &DNS_COOKIES).map(cookies).unwrap_or_default(),
        transfer: section
            .section("transfer", &DNS_TRANSFER)
            .map(|section| transfer(&section, &keys))
            .unwrap_or_default(),
        keys,
        ..Config::default()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "called on the section that was just read")]
fn rate_limit(section: Section<'_>) -> RateLimit {
    /// More than a link carries.
    const RATE_MAX: u32 = 1_000_000;
    let default = RateLimit::default();
    let rate = |key| section.read(key, value::count(0, RATE_MAX));
    let bits = |key, max, default: u8| {
        section.read(key, value::count(0, max)).map_or(default, |bits| u8::try_from(bits).unwrap_or(u8::MAX))
    };
    RateLimit {
        responses_per_second: rate("responses_per_second").unwrap_or(default.responses_per_second),
        nodata_per_second: rate("nodata_per_second"),
        nxdomains_per_second: rate("nxdomains_per_second"),
        errors_per_second: rate("errors_per_second"),
        all_per_second: rate("all_per_second").unwrap_or(default.all_per_second),
        slip: section.read("slip", value::count(0, 100)).unwrap_or(default.slip),
        ipv4_prefix: bits("ipv4_prefix", 32, default.ipv4_prefix),
        ipv6_prefix: bits("ipv6_prefix", 128, default.ipv6_prefix),
        exempt: section.values("exempt", NETWORKS_MAX, network),
        entries_max: section
            .read("entries_max", value::count(1024, 16 << 20))
            .map_or(default.entries_max, |entries| entries as usize),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "called on the section that was just read")]
fn cookies(section: Section<'_>) -> Cookies {
    let enabled = section.read("enabled", value::boolean).unwrap_or_default();
    let required = section.at("required", value::boolean);
    if let Some(required) = required.as_ref().filter(|required| required.value && !enabled) {
        section.reading.conflict(
            &required.span,
            "required: cookies are not enabled".to_owned(),
            "write enabled = true beside it",
        );
    }
    Cookies {
        enabled,
        required: required.is_some_and(|required| required.value),
        secret_file: section.existing_file("secret_file"),
    }
}

fn keys(section: &Section<'_>) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut names: Vec<At<Arc<str>>> = Vec::new();
    for key in section.sections("key", &DNS_KEY, KEYS_MAX) {
        let name = key.required("name", "write name = \"transfer.example\"", key_name);
        if !key.has("secret_file") {
            key.missing(
                "secret_file",
                "write secret_file = \"transfer.key\", a file with the secret in base64",
            );
        }
        let algorithm = key.read("algorithm", value::choice(ALGORITHMS, &[])).unwrap_or_default();
        let secret_file = key.existing_file("secret_file").unwrap_or_default();
        let Some(name) = name else { continue };
        if names.iter().any(|known| known.value == name.value) {
            section.reading.conflict(
                &name.span,
                format!("name: the key {:?} is there twice", &*name.value),
                "keep one of them",
            );
        }
        keys.push(Key { name: Arc::clone(&name.value), algorithm, secret_file });
        names.push(name);
    }
    keys
}

fn transfer(section: &Section<'_>, keys: &[Key]) -> Transfer {
    let default = Transfer::default();
    let wanted = section.list("keys", KEYS_MAX, key_name).map_or_else(Vec::new, |list| list.value);
    for name in wanted.iter().filter(|name| !keys.iter().any(|key| key.name == name.value)) {
        section.reading.conflict(
            &name.span,
            format!("keys: there is no key {:?}", &*name.value),
            format!("write [[dns.key]] with name = {:?}", &*name.value),
        );
    }
    let notify_delay = value::time_within(Duration::from_millis(1), NOTIFY_DELAY_MAX);
    Transfer {
        allow: section.values("allow", NETWORKS_MAX, network),
        keys: wanted.into_iter().map(|name| name.value).collect(),
        notify: section.values("notify", ADDRESSES_MAX, resolver),
        notify_delay: section.read("notify_delay", notify_delay).unwrap_or(default.notify_delay),
        journal_max: section
            .read("journal_max", value::size(0, 1 << 40))
            .map_or(default.journal_max, |octets| usize::try_from(octets).unwrap_or(usize::MAX)),
        transfers_max: section
            .read("transfers_max", value::count(1, 10_000))
            .map_or(default.transfers_max, |count| count as usize),
    }
}

/// The name of a key: a domain name, in lower case and without a dot at its end.
fn key_name(value: &DeValue<'_>) -> Parsed<Arc<str>> {
    let text = value::text(value)?.to_ascii_lowercase();
    let name = text.strip_suffix('.').unwrap_or(&text);
    let is_name = name.len() < 254
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet))
        });
    if !is_name {
        return wrong(
            format!("{} is not the name of a key", quoted(&text)),
            "labels of letters, digits, '-' and '_', joined by dots, the same at both ends",
        );
    }
    Ok(name.into())
}
