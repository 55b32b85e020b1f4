//! `services`, `routes`, `endpoints`, `sources`.

use anyhow::{Context, Result, bail};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::table::Table;
use super::{ListArgs, client, is_coloured, print};

/// What to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listing {
    /// All services.
    Services,
    /// All routes.
    Routes,
    /// Endpoints, of one service if named.
    Endpoints(Option<String>),
    /// All sources.
    Sources,
}

impl Listing {
    fn path(&self) -> String {
        match self {
            Self::Services => "/api/v1/services".to_owned(),
            Self::Routes => "/api/v1/routes".to_owned(),
            Self::Sources => "/api/v1/sources".to_owned(),
            Self::Endpoints(None) => "/api/v1/endpoints".to_owned(),
            Self::Endpoints(Some(service)) => {
                format!("/api/v1/endpoints?service={}", utf8_percent_encode(service, NON_ALPHANUMERIC))
            }
        }
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Routes => "routes",
            Self::Endpoints(_) => "endpoints",
            Self::Sources => "sources",
        }
    }

    const fn head(&self) -> &'static [&'static str] {
        match self {
            Self::Services => &["SERVICE", "SOURCES", "PORTS", "LIVE", "INSTANCES"],
            Self::Routes => &["ROUTE", "LISTENER", "MATCH", "TARGETS", "ORIGIN", "SHADOWED BY"],
            Self::Endpoints(_) => &[
                "SERVICE", "PORT", "ADDRESS", "SOURCE", "NODE", "ZONE", "STATE", "HEALTH", "IN", "WEIGHT",
                "OPEN",
            ],
            Self::Sources => {
                &["SOURCE", "TYPE", "STANDING", "SINCE", "ALIVE", "SERVICES", "INSTANCES", "PROBLEM"]
            }
        }
    }

    fn row(&self, item: &Value) -> Vec<String> {
        match self {
            Self::Services => service(item),
            Self::Routes => route(item),
            Self::Endpoints(_) => endpoint(item),
            Self::Sources => source(item),
        }
    }
}

/// Prints a list.
///
/// # Errors
/// The daemon is not found, does not answer, or says what we don't understand.
pub async fn list(listing: &Listing, arguments: &ListArgs) -> Result<()> {
    let base = arguments.daemon.url()?;
    let body = client::get(&base, &listing.path()).await?;
    if arguments.json {
        let text = String::from_utf8_lossy(&body);
        return print(&format!("{}\n", text.trim_end()));
    }
    let answer: Value =
        serde_json::from_slice(&body).with_context(|| format!("the answer of {base} is no JSON"))?;
    if let Listing::Endpoints(Some(service)) = listing
        && is_empty(listing, &answer)
    {
        must_know(&base, service).await?;
    }
    print(&render(listing, &answer, is_coloured())?)
}

fn is_empty(listing: &Listing, answer: &Value) -> bool {
    answer.get(listing.name()).and_then(Value::as_array).is_some_and(Vec::is_empty)
}

/// A service without endpoints is shown as such; one that is not there at all was probably misspelt.
async fn must_know(base: &str, service: &str) -> Result<()> {
    let body = client::get(base, &Listing::Services.path()).await?;
    let answer: Value =
        serde_json::from_slice(&body).with_context(|| format!("the answer of {base} is no JSON"))?;
    let services = answer.get("services").and_then(Value::as_array);
    if services.into_iter().flatten().any(|known| known.get("name").and_then(Value::as_str) == Some(service))
    {
        return Ok(());
    }
    bail!("no service is named {service:?}; `portolan services` lists them")
}

/// The table of an answer.
pub(super) fn render(listing: &Listing, answer: &Value, coloured: bool) -> Result<String> {
    let items = answer.get(listing.name()).and_then(Value::as_array);
    let items = items.with_context(|| format!("the answer has no list of {}", listing.name()))?;
    let mut table = Table::new(listing.head());
    items.iter().for_each(|item| table.row(listing.row(item)));
    Ok(table.render(coloured))
}

fn service(item: &Value) -> Vec<String> {
    let ports = list_of(item, "ports", |port| {
        let named = text(port, "name");
        let label = if named.is_empty() { text(port, "index") } else { named };
        format!("{label}:{}/{}", text(port, "number"), text(port, "protocol"))
    });
    vec![
        text(item, "name"),
        list_of(item, "sources", plain),
        ports,
        text(item, "live"),
        text(item, "instances"),
    ]
}

fn route(item: &Value) -> Vec<String> {
    let mut matched = text(item, "host");
    if matched.is_empty() {
        matched.push('*');
    }
    let path = text(item, "path");
    match text(item, "path_match").as_str() {
        "regex" => matched += &format!(" ~{path}"),
        "exact" => matched += &format!("={path}"),
        _ => matched += &path,
    }
    for (name, before) in [("methods", " "), ("headers", " if ")] {
        let list = list_of(item, name, plain);
        if !list.is_empty() {
            matched += &format!("{before}{list}");
        }
    }
    let several = item.get("targets").and_then(Value::as_array).is_some_and(|list| list.len() > 1);
    let targets = list_of(item, "targets", |target| {
        let port = text(target, "port");
        let place =
            if port.is_empty() { text(target, "service") } else { text(target, "service") + ":" + &port };
        if several { format!("{place} ({})", text(target, "weight")) } else { place }
    });
    vec![
        text(item, "name"),
        text(item, "listener"),
        matched,
        targets,
        text(item, "origin"),
        text(item, "shadowed_by"),
    ]
}

fn endpoint(item: &Value) -> Vec<String> {
    let admitted =
        match (item.get("admitted").and_then(Value::as_bool), item.get("ejected").and_then(Value::as_bool)) {
            (Some(true), Some(true)) => "ejected".to_owned(),
            (Some(true), _) => "yes".to_owned(),
            _ => match text(item, "reason") {
                reason if reason.is_empty() => "no".to_owned(),
                reason => format!("no: {reason}"),
            },
        };
    let mut cells: Vec<String> = ["service", "port", "address", "source", "node", "zone", "state", "health"]
        .map(|name| text(item, name))
        .into();
    cells[2] += &format!("/{}", text(item, "protocol"));
    cells.extend([admitted, text(item, "weight"), text(item, "in_flight")]);
    cells
}

fn source(item: &Value) -> Vec<String> {
    let problems = item.get("problems").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let all = problems.len();
    let error = item.get("error").filter(|error| !error.is_null());
    let (problem, more) = match error {
        Some(error) => (format!("{} ({} ago)", text(error, "message"), age(error, "age_seconds", "")), all),
        None => (problems.first().map(told).unwrap_or_default(), all.saturating_sub(1)),
    };
    let problem = if more > 0 { format!("{problem} (and {more} more; see --json)") } else { problem };
    vec![
        text(item, "name"),
        text(item, "type"),
        text(item, "standing"),
        age(item, "standing_seconds", ""),
        age(item, "age_seconds", " ago"),
        text(item, "services"),
        text(item, "instances"),
        problem,
    ]
}

/// One problem of a source.
fn told(problem: &Value) -> String {
    match (text(problem, "place"), text(problem, "message")) {
        (place, message) if place.is_empty() => message,
        (place, message) => format!("{place}: {message}"),
    }
}

/// A time in the unit that reads best.
fn age(item: &Value, name: &str, after: &str) -> String {
    let Some(seconds) = item.get(name).and_then(Value::as_f64) else { return String::new() };
    let whole = seconds as u64;
    let text = match whole {
        0..60 => format!("{whole}s"),
        60..3600 => format!("{}m{}s", whole / 60, whole % 60),
        3600..86_400 => format!("{}h{}m", whole / 3600, whole % 3600 / 60),
        _ => format!("{}d{}h", whole / 86_400, whole % 86_400 / 3600),
    };
    text + after
}

fn text(item: &Value, name: &str) -> String {
    item.get(name).map(plain).unwrap_or_default()
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn list_of(item: &Value, name: &str, form: impl Fn(&Value) -> String) -> String {
    let list = item.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().map(form).collect::<Vec<_>>().join(", ")
}
