//! `[[proxy.route]]`.

use std::sync::Arc;

use portolan_table::{
    HeaderMatch, HostMatch, PathMatch, RouteMatch, RouteOrigin, RouteSpec, RouteTarget, ServiceName,
};
use regex::RegexBuilder;
use toml::de::DeValue;

use crate::keys::PROXY_TARGET;
use crate::section::{At, Section};
use crate::upstream::{header_name, is_token};
use crate::value::{self, Parsed, quoted, shown, wrong};

/// Routes of the file.
pub(crate) const ROUTES_MAX: usize = 20_000;
/// Targets, methods and headers of one route.
const PARTS_MAX: usize = 64;
/// Weight of one target.
const WEIGHT_MAX: u32 = 65_535;
/// An index of a port above this is a port number by mistake.
const PORT_INDEX_MAX: i64 = 255;

/// A route and the places of what is compared with other parts of the file.
pub(crate) struct ReadRoute {
    pub(crate) spec: RouteSpec,
    pub(crate) name: Option<At<Arc<str>>>,
    pub(crate) listener: Option<At<Arc<str>>>,
    /// Keys that only mean something to HTTP.
    pub(crate) http_keys: Vec<(&'static str, core::ops::Range<usize>)>,
    pub(crate) span: core::ops::Range<usize>,
}

const HTTP_KEYS: [&str; 5] = ["host", "path", "path_match", "methods", "headers"];

/// Reads the route at `place` (from 0) of the file.
pub(crate) fn read(section: &Section<'_>, place: usize) -> ReadRoute {
    let name = section.at("name", value::shared_text);
    let listener = section.at("listener", value::shared_text);
    let matches = RouteMatch {
        listener: listener.as_ref().map(|at| at.value.clone()),
        host: section.read("host", host).unwrap_or_default(),
        path: path(section),
        methods: section.values("methods", PARTS_MAX, method),
        headers: headers(section),
    };
    let spec = RouteSpec {
        name: name.as_ref().map_or_else(|| format!("route-{}", place + 1).into(), |at| at.value.clone()),
        origin: RouteOrigin::File(u32::try_from(place).unwrap_or(u32::MAX)),
        created_ms: 0,
        matches,
        targets: targets(section),
    };
    let http_keys = HTTP_KEYS.iter().filter_map(|key| Some((*key, section.key_span(key)?))).collect();
    ReadRoute { spec, name, listener, http_keys, span: section.span().clone() }
}

/// `shop.example.com`, `*.example.com` or `*`.
fn host(value: &DeValue<'_>) -> Parsed<HostMatch> {
    let text = value::text(value)?.to_ascii_lowercase();
    if text == "*" {
        return Ok(HostMatch::Any);
    }
    if text.contains("://") || text.contains('/') {
        return wrong(format!("{} is not a host", quoted(&text)), "leave scheme and path out");
    }
    let (name, below) = match text.strip_prefix("*.") {
        Some(rest) => (rest, true),
        None => (text.as_str(), false),
    };
    if name.contains('*') {
        return wrong(
            format!("{} holds a wildcard that is not its first label", quoted(&text)),
            "write \"*.example.com\"",
        );
    }
    let v6 = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if !below && v6.is_some_and(|v6| v6.parse::<core::net::Ipv6Addr>().is_ok()) {
        return Ok(HostMatch::Exact(name.into()));
    }
    if let Some((host, port)) = name.rsplit_once(':')
        && port.parse::<u16>().is_ok()
    {
        return wrong(
            format!("{} has a port", quoted(&text)),
            format!("the port does not matter; write {}", quoted(host)),
        );
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let fits = name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        });
    if !fits {
        return wrong(
            format!("{} is not a host", quoted(&text)),
            "labels of letters, digits, '-' and '_', joined by dots; names in other scripts as xn--…",
        );
    }
    Ok(if below { HostMatch::Below(name.into()) } else { HostMatch::Exact(name.into()) })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PathKind {
    Prefix,
    Exact,
    Regex,
}

const PATH_KINDS: &[(&str, PathKind)] =
    &[("prefix", PathKind::Prefix), ("exact", PathKind::Exact), ("regex", PathKind::Regex)];

fn path(section: &Section<'_>) -> PathMatch {
    let kind = section.read("path_match", value::choice(PATH_KINDS, &[])).unwrap_or(PathKind::Prefix);
    match kind {
        PathKind::Regex => match section.required("path", "write path = \"/…\"", regular_expression) {
            Some(path) => PathMatch::Regex(path.value),
            None => PathMatch::default(),
        },
        PathKind::Exact => match section.required("path", "write path = \"/…\"", literal_path) {
            Some(path) => PathMatch::Exact(path.value),
            None => PathMatch::default(),
        },
        PathKind::Prefix => match section.read("path", literal_path) {
            // Whole segments are compared, so a slash at the end adds nothing.
            Some(path) if path.len() > 1 => PathMatch::Prefix(path.trim_end_matches('/').into()),
            _ => PathMatch::default(),
        },
    }
}

fn literal_path(value: &DeValue<'_>) -> Parsed<Arc<str>> {
    let text = value::text(value)?;
    if !text.starts_with('/') {
        return wrong(format!("{} is not a path", quoted(&text)), "a path starts with \"/\"");
    }
    if text.contains(['?', '#']) {
        return wrong(
            format!("{} is more than a path", quoted(&text)),
            "leave out what follows \"?\" or \"#\"; only the path is compared",
        );
    }
    if text.contains('*') {
        return wrong(
            format!("{} holds a wildcard", quoted(&text)),
            "a prefix needs none; for anything else write path_match = \"regex\"",
        );
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) || text.contains("//") {
        return wrong(
            format!("{} cannot be the path of a request", quoted(&text)),
            "single slashes; spaces and other scripts as %XX",
        );
    }
    if text.split('/').any(|segment| matches!(segment, "." | "..")) {
        return wrong(format!("{} holds \".\" or \"..\"", quoted(&text)), "write the path that is meant");
    }
    Ok(text.into())
}

fn regular_expression(value: &DeValue<'_>) -> Parsed<Arc<str>> {
    /// Octets of a compiled expression; the same limit holds where it is used.
    const COMPILED_MAX: usize = 1 << 20;
    /// Octets of its text.
    const LEN_MAX: usize = 1024;
    let text = value::text(value)?;
    if text.len() > LEN_MAX {
        return wrong(format!("{} is too long", quoted(&text)), format!("at most {LEN_MAX} octets"));
    }
    match RegexBuilder::new(&text).size_limit(COMPILED_MAX).build() {
        Ok(_) => Ok(text.into()),
        Err(regex::Error::Syntax(report)) => {
            // The report is a picture of several lines; its last line says what is wrong.
            let reason = report.lines().last().unwrap_or("").trim_start_matches("error: ").to_owned();
            wrong(
                format!("{} is not a regular expression: {reason}", quoted(&text)),
                "write it as in path = '/v[0-9]+/.*'",
            )
        }
        Err(_) => {
            wrong(format!("{} is too large when compiled", quoted(&text)), "write it with fewer repetitions")
        }
    }
}

fn method(value: &DeValue<'_>) -> Parsed<Arc<str>> {
    let text = value::text(value)?;
    if !is_token(&text) || text.len() > 32 {
        return wrong(format!("{} is not a method", quoted(&text)), "write it as in \"GET\"");
    }
    if text.bytes().any(|b| b.is_ascii_lowercase()) {
        return wrong(
            format!("{} is in lower case", quoted(&text)),
            format!("methods are told apart by case (RFC 9110 §9.1); write {:?}", text.to_ascii_uppercase()),
        );
    }
    Ok(text.into())
}

fn headers(section: &Section<'_>) -> Vec<HeaderMatch> {
    let Some(table) = section.free_table("headers") else { return Vec::new() };
    let reading = section.reading;
    let mut headers: Vec<HeaderMatch> = Vec::new();
    // In the order of the file, so that the later one of two equal names is told.
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    if entries.len() > PARTS_MAX {
        let span = section.place_of("headers");
        reading.mistake(
            &span,
            format!("headers: {} are too many", entries.len()),
            format!("at most {PARTS_MAX}"),
        );
        entries.truncate(PARTS_MAX);
    }
    for (name, value) in entries {
        let Some(lower) = header_name(name.get_ref()) else {
            let message = format!("headers: {} is not a header name", quoted(name.get_ref()));
            reading.mistake(&name.span(), message, "write it as in \"X-Version\"");
            continue;
        };
        if lower.as_ref() == "host" {
            reading.mistake(
                &name.span(),
                "headers: \"host\" has a key of its own".to_owned(),
                "write host = \"…\"",
            );
        }
        if headers.iter().any(|earlier| earlier.name == lower) {
            let message = format!("headers: {} is there twice", quoted(name.get_ref()));
            reading.conflict(&name.span(), message, "case does not matter in header names");
        }
        match value.get_ref() {
            DeValue::Boolean(true) => headers.push(HeaderMatch { name: lower, value: None }),
            DeValue::String(text) if !text.chars().any(char::is_control) => {
                headers.push(HeaderMatch { name: lower, value: Some(text.as_ref().into()) });
            }
            other => {
                let message = format!("headers: {} is not a value to compare with", shown(other));
                reading.mistake(
                    &value.span(),
                    message,
                    "write the exact value in quotes, or true for any value",
                );
            }
        }
    }
    headers
}

fn targets(section: &Section<'_>) -> Vec<RouteTarget> {
    let service = section.at("service", value::service_name);
    let port = section.at("port", port);
    if !section.has("targets") {
        if !section.has("service") {
            section
                .missing("service", "write service = \"web.shop.prod\", or targets = [{ service = \"…\" }]");
        }
        let target = service.map(|service| target(service.value, port, 1));
        return target.into_iter().collect();
    }
    for key in ["service", "port"] {
        if let Some(span) = section.key_span(key) {
            let message = format!("{key:?} stands beside \"targets\"");
            section.reading.conflict(&span, message, "put it inside targets");
        }
    }
    section.refuse_empty_list("targets", "write targets = [{ service = \"web.shop.prod\", weight = 1 }]");
    let tables = section.sections("targets", &PROXY_TARGET, PARTS_MAX);
    let read = tables.iter().filter_map(|table| {
        let service = table.required("service", "write service = \"web.shop.prod\"", value::service_name);
        let port = table.at("port", self::port);
        let weight = table.read("weight", value::count(0, WEIGHT_MAX)).unwrap_or(1);
        Some(target(service?.value, port, weight))
    });
    read.collect()
}

fn target(service: ServiceName, port: Option<At<Arc<str>>>, weight: u32) -> RouteTarget {
    RouteTarget { service, port: port.map(|at| at.value), weight }
}

/// Name of a port, or its index from 0.
fn port(value: &DeValue<'_>) -> Parsed<Arc<str>> {
    let index = match value {
        DeValue::Integer(_) => value::number(i64::MIN, i64::MAX)(value)?,
        DeValue::String(_) => {
            let text = value::text(value)?;
            match text.parse() {
                Ok(index) => index,
                Err(_) => return Ok(text.into()),
            }
        }
        other => {
            let hint = "write its name in quotes, or its place in the service from 0";
            return wrong(format!("{} is not a port of a service", shown(other)), hint);
        }
    };
    if !(0..=PORT_INDEX_MAX).contains(&index) {
        return wrong(
            format!("{index} is not the index of a port"),
            "write the port's name, or its place in the service from 0; its number moves with the endpoint",
        );
    }
    Ok(index.to_string().into())
}
