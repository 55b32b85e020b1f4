//! Why a name or a URL is answered as it is: every rule considered, from one snapshot.

use http::Uri;
use portolan_dns::answer::{Outcome, Terms, answer};
use portolan_dns::wire::Request;
use portolan_dns::zone::Zone;
use portolan_proxy::route::{Query, Step as RouteStep, Verdict};
use portolan_table::{Generation, Service, Snapshot};
use serde::Serialize;

use super::State;
use super::api::reason;

/// The answer of `/api/v1/explain`.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    generation: Generation,
    question: String,
    steps: Vec<Step>,
    answer: String,
}

/// One thing that was considered.
#[derive(Debug, Serialize)]
struct Step {
    what: String,
    result: &'static str,
    detail: String,
}

fn step(what: impl Into<String>, result: &'static str, detail: impl Into<String>) -> Step {
    Step { what: what.into(), result, detail: detail.into() }
}

/// Explains a DNS name.
pub(super) fn name(state: &State, snapshot: &Snapshot, question: &str) -> Explanation {
    let name = question.trim_end_matches('.').to_ascii_lowercase();
    let mut steps = Vec::new();
    let zones = snapshot.view(state.zones).zones();
    match zones.iter().map(Zone::name).find(|zone| below(&name, zone).is_some()) {
        None => steps.push(step(
            "zone",
            "none",
            "in none of our zones: forwarded if the client may, else REFUSED",
        )),
        Some(zone) => {
            steps.push(step("zone", "found", format!("{zone} (native)")));
            let rest = below(&name, zone).unwrap_or_default();
            match service_of(snapshot, rest) {
                Some(service) => explain_service(snapshot, service, &mut steps),
                None => steps.push(step("service", "none", service_hint(snapshot, rest))),
            }
        }
    }
    let answer =
        ["A", "AAAA", "SRV", "TXT"].map(|kind| format!("{kind}: {}", ask(state, snapshot, &name, kind)));
    Explanation {
        generation: snapshot.generation(),
        question: question.to_owned(),
        steps,
        answer: answer.join("; "),
    }
}

/// The part of `name` below `zone`; empty for the zone itself.
fn below<'a>(name: &'a str, zone: &str) -> Option<&'a str> {
    let rest = name.strip_suffix(zone)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_suffix('.') }
}

/// The service a native name leads to: what is left of it without record prefixes and reserved suffixes.
fn service_of<'a>(snapshot: &'a Snapshot, rest: &str) -> Option<&'a Service> {
    let mut labels: Vec<&str> = rest.split('.').collect();
    match labels[..] {
        [.., _, "src" | "zone"] => labels.truncate(labels.len() - 2),
        [.., "vip"] => labels.truncate(labels.len() - 1),
        _ => {}
    }
    let mut labels = &labels[..];
    if let [port, "_tcp" | "_udp", more @ ..] = labels
        && port.starts_with('_')
    {
        labels = more;
    }
    if let [_, "inst", more @ ..] = labels {
        labels = more;
    }
    let found = snapshot.service(&labels.join(".")).or_else(|| snapshot.service(rest));
    found.map(|service| &**service)
}

fn service_hint(snapshot: &Snapshot, rest: &str) -> String {
    if snapshot.is_complete() {
        return format!("no service named {rest:?}: NXDOMAIN, or no data if names lie below it");
    }
    let waiting: Vec<&str> =
        snapshot.sources().iter().filter(|s| s.required && !s.has_data).map(|s| &*s.name).collect();
    format!("not known yet: SERVFAIL until {} has given its first list", waiting.join(", "))
}

fn explain_service(snapshot: &Snapshot, service: &Service, steps: &mut Vec<Step>) {
    let names: Vec<&str> =
        service.specs.iter().filter_map(|(id, _)| Some(&*snapshot.source(*id)?.name)).collect();
    steps.push(step("service", "found", format!("{} from {}", service.name, names.join(", "))));
    for member in &service.members {
        let addresses: Vec<String> = member
            .instance
            .addresses
            .iter()
            .map(|address| format!("{} ({})", address.ip, address.provenance.as_str()))
            .collect();
        let because = reason(member.admission).map_or_else(
            || format!("{}, {}", member.instance.state.as_str(), member.instance.health.as_str()),
            str::to_owned,
        );
        steps.push(step(
            format!("instance {}", member.instance.id),
            if member.admission.is_in() { "in" } else { "out" },
            format!("{because}; {}", addresses.join(", ")),
        ));
    }
}

/// What a client would be answered right now, in short.
fn ask(state: &State, snapshot: &Snapshot, name: &str, kind: &str) -> String {
    let Some(query) = compose(name, kind) else { return "not a domain name".to_owned() };
    let mut out = vec![0; 65_535];
    let terms = Terms { size_max: 65_535, udp_size: 1232, recursion_available: false };
    let Request::Question(query) = Request::read(&query) else { return "not a domain name".to_owned() };
    match answer(snapshot.view(state.zones), &query, &terms, 0, &mut out) {
        Outcome::NotOurs => "not ours".to_owned(),
        Outcome::Reply(written) => {
            let records = u16::from_be_bytes([out[6], out[7]]);
            format!("{:?}, {records} records", written.rcode)
        }
    }
}

fn compose(name: &str, kind: &str) -> Option<Vec<u8>> {
    let number: u16 = match kind {
        "A" => 1,
        "TXT" => 16,
        "AAAA" => 28,
        _ => 33,
    };
    let mut query = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        query.push(u8::try_from(label.len()).ok().filter(|len| *len < 64)?);
        query.extend_from_slice(label.as_bytes());
    }
    query.push(0);
    query.extend_from_slice(&number.to_be_bytes());
    query.extend_from_slice(&[0, 1]);
    (query.len() <= 255 + 16).then_some(query)
}

/// Explains a URL: which listener, which route, which endpoints.
///
/// # Errors
/// When the URL cannot be understood.
pub(super) fn url(state: &State, snapshot: &Snapshot, question: &str) -> Result<Explanation, String> {
    let uri: Uri = question.parse().map_err(|error| format!("{question:?} is not a URL: {error}\n"))?;
    let Some(host) = uri.host() else {
        return Err(format!("{question:?} has no host; try http://HOST/PATH\n"));
    };
    let path = if uri.path().is_empty() { "/" } else { uri.path() };
    let mut steps = Vec::new();
    let mut chosen = Vec::new();
    let listeners = state.listeners.load();
    for listener in listeners.iter().filter(|listener| listener.protocol == "http") {
        steps.push(step(format!("listener {}", listener.name), "asked", listener.address.clone()));
        let query = Query {
            listener: &listener.name,
            host: Some(host.as_bytes()),
            path,
            method: "GET",
            fields: &http::HeaderMap::new(),
        };
        for RouteStep { route, verdict } in snapshot.view(state.routes).explain(&query) {
            let result = if verdict == Verdict::Chosen { "chosen" } else { "not" };
            steps.push(step(format!("route {}", route.spec.name), result, verdict.as_str()));
            if verdict == Verdict::Chosen {
                chosen.push((listener.name.clone(), route));
            }
        }
    }
    let mut answers = Vec::new();
    for (listener, route) in chosen {
        for target in &route.spec.targets {
            let service = snapshot.service(target.service.as_str());
            let ends = service
                .map_or_else(|| "no such service: 503".to_owned(), |s| endpoints(s, target.port.as_deref()));
            if let Some(service) = service {
                explain_service(snapshot, service, &mut steps);
            }
            answers.push(format!("{listener}: {} (weight {}): {ends}", target.service, target.weight));
        }
    }
    if answers.is_empty() {
        answers.push("no route: 404".to_owned());
    }
    Ok(Explanation {
        generation: snapshot.generation(),
        question: question.to_owned(),
        steps,
        answer: answers.join("; "),
    })
}

fn endpoints(service: &Service, port: Option<&str>) -> String {
    let Some(port) = service.port(port) else { return "no such port: 503".to_owned() };
    if port.live == 0 {
        return "no endpoint may get traffic: 503".to_owned();
    }
    let list: Vec<String> = port.live().iter().map(|endpoint| endpoint.address.to_string()).collect();
    list.join(", ")
}
