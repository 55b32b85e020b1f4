//! URLs: which listener, which route, which endpoints.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use http::Uri;
use portolan_proxy::route::{Query, Route, Step as RouteStep, Verdict};
use portolan_table::{Service, Snapshot};

use super::super::{ListenerInfo, State};
use super::{Explanation, Step, member_step, standing, step};

/// A listener and the route that its traffic takes.
type Chosen = (String, Arc<Route>);

/// Explains a URL.
///
/// # Errors
/// When the URL cannot be understood.
pub(in crate::admin) fn url(
    state: &State,
    snapshot: &Snapshot,
    question: &str,
) -> Result<Explanation, String> {
    let uri: Uri = question.parse().map_err(|error| format!("{question:?} is not a URL: {error}"))?;
    let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else {
        return Err(format!(
            "{question:?} has no scheme or no host; try http://HOST/PATH or tcp://ADDRESS:PORT"
        ));
    };
    let mut steps = Vec::new();
    let (chosen, without_route, refused) = match scheme {
        "http" => (by_request(state, snapshot, host, uri.path(), &mut steps), "404", "503"),
        "tcp" => (by_listener(state, snapshot, &uri, &mut steps), "closed", "closed"),
        other => return Err(format!("{other:?} is not served; try http://HOST/PATH or tcp://ADDRESS:PORT")),
    };
    let mut answers = Vec::new();
    for (listener, route) in chosen {
        for target in &route.spec.targets {
            let ends = match snapshot.service(target.service.as_str()) {
                None => Err("no such service"),
                Some(service) => {
                    of_service(snapshot, service, &mut steps);
                    endpoints(state, service, target.port.as_deref(), &mut steps)
                }
            };
            let ends = ends.unwrap_or_else(|why| format!("{why}: {refused}"));
            answers.push(format!("{listener}: {} (weight {}): {ends}", target.service, target.weight));
        }
    }
    if answers.is_empty() {
        answers.push(format!("no route: {without_route}"));
    }
    Ok(Explanation {
        generation: snapshot.generation(),
        question: question.to_owned(),
        steps,
        answer: answers.join("; "),
    })
}

/// What the `http` listeners make of a GET.
fn by_request(
    state: &State,
    snapshot: &Snapshot,
    host: &str,
    path: &str,
    steps: &mut Vec<Step>,
) -> Vec<Chosen> {
    let path = if path.is_empty() { "/" } else { path };
    let mut chosen = Vec::new();
    for listener in state.listeners.load().iter().filter(|listener| listener.protocol == "http") {
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
    chosen
}

/// A connection goes by the listener it comes in at: nothing in it is looked at.
fn by_listener(state: &State, snapshot: &Snapshot, uri: &Uri, steps: &mut Vec<Step>) -> Vec<Chosen> {
    let mut chosen = Vec::new();
    for listener in state.listeners.load().iter().filter(|listener| listener.protocol == "tcp") {
        let what = format!("listener {}", listener.name);
        if !is_at(listener, uri) {
            steps.push(step(what, "not", format!("is at {}", listener.address)));
            continue;
        }
        steps.push(step(what, "asked", listener.address.clone()));
        if let Some(route) = snapshot.view(state.routes).tcp(&listener.name) {
            let why = "the first that names the listener and asks for nothing else";
            steps.push(step(format!("route {}", route.spec.name), "chosen", why));
            chosen.push((listener.name.clone(), Arc::clone(route)));
        }
    }
    chosen
}

/// True if a connection to the URL's address may come in at the listener. A name may be of any address, and without
/// a port every listener is meant.
fn is_at(listener: &ListenerInfo, uri: &Uri) -> bool {
    let Ok(bound) = listener.address.parse::<SocketAddr>() else { return false };
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let same_ip = host.parse::<IpAddr>().map_or(true, |ip| {
        ip == bound.ip() || (bound.ip().is_unspecified() && ip.is_ipv4() == bound.is_ipv4())
    });
    same_ip && uri.port_u16().is_none_or(|port| port == bound.port())
}

fn of_service(snapshot: &Snapshot, service: &Service, steps: &mut Vec<Step>) {
    let names: Vec<&str> =
        service.specs.iter().filter_map(|(id, _)| Some(&*snapshot.source(*id)?.name)).collect();
    steps.push(step("service", "found", format!("{} from {}", service.name, names.join(", "))));
    steps.extend(
        service.members.iter().map(|member| member_step(member, member.admission.is_in(), &standing(member))),
    );
}

/// The endpoints that get what goes by the route. Every worker ejects for itself, so one may be left out by some
/// and used by others.
fn endpoints(
    state: &State,
    service: &Service,
    port: Option<&str>,
    steps: &mut Vec<Step>,
) -> Result<String, &'static str> {
    let port = service.port(port).ok_or("no such port")?;
    if port.live == 0 {
        return Err("no endpoint may get traffic");
    }
    let (now, board) = (Instant::now(), state.proxy.board());
    let mut list = Vec::new();
    for endpoint in port.live() {
        let condition = board.endpoint(endpoint.slot, now);
        if condition.ejected_by == 0 {
            list.push(endpoint.address.to_string());
            continue;
        }
        let seconds = condition.ejected_for.unwrap_or_default().as_secs();
        let why = format!("kept failing; by {} workers, for {seconds} s more at most", condition.ejected_by);
        steps.push(step(format!("endpoint {}", endpoint.address), "ejected", why));
        list.push(format!("{} (ejected)", endpoint.address));
    }
    Ok(list.join(", "))
}
