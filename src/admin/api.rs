//! `/metrics`, the probes, and `/api/v1/`: what is asked by path and query, answered from one snapshot.

use std::sync::atomic::Ordering;
use std::time::Instant;

use http::StatusCode;
use percent_encoding::percent_decode_str;
use portolan_table::{Admission, Endpoint, Generation, Member, Service, ServicePort, Snapshot};
use prometheus::{Encoder, TextEncoder};
use serde::Serialize;
use tokio::sync::mpsc::error::TrySendError;

use super::explain;
use super::reply::{Reply, accepted, answer, is_api, json, refused, text};
use super::routes::Routes;
use super::{Command, State};

/// Answers a GET or HEAD. May take long in a large table.
pub(super) fn read(state: &State, path: &str, query: &str) -> Reply {
    match path {
        "/metrics" => metrics(state),
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => readiness(state),
        _ if is_api(path) => api(state, path.trim_start_matches("/api/v1").trim_start_matches('/'), query),
        _ => text(
            StatusCode::NOT_FOUND,
            "try /metrics, /healthz, /readyz or /api/v1/{services,endpoints,routes,listeners,sources,table,explain}\n",
        ),
    }
}

/// Carries out a POST.
pub(super) fn command(state: &State, path: &str) -> Reply {
    let generation = state.table.load().generation();
    let refuse = |status, why| match is_api(path) {
        true => refused(status, generation, why),
        false => text(status, format!("{why}\n")),
    };
    let (command, what) = match path {
        "/api/v1/reload" => (Command::Reload, "reload"),
        "/api/v1/stop" => (Command::Stop, "stop"),
        _ => return refuse(StatusCode::NOT_FOUND, "POST /api/v1/reload or /api/v1/stop"),
    };
    match state.commands.try_send(command) {
        Ok(()) => accepted(generation, what),
        Err(TrySendError::Full(_)) => {
            refuse(StatusCode::SERVICE_UNAVAILABLE, "busy with the commands before; try again")
        }
        Err(TrySendError::Closed(_)) => refuse(StatusCode::SERVICE_UNAVAILABLE, "stopping"),
    }
}

fn metrics(state: &State) -> Reply {
    let mut body = Vec::with_capacity(64 * 1024);
    match TextEncoder::new().encode(&state.registry.gather(), &mut body) {
        Ok(()) => answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", body.into()),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written");
            text(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be written; see the log\n")
        }
    }
}

fn readiness(state: &State) -> Reply {
    if state.draining.load(Ordering::Relaxed) {
        return text(StatusCode::SERVICE_UNAVAILABLE, "not ready: draining\n");
    }
    if state.discovery.generations().has_changed().is_err() {
        let body = "not ready: the catalog has ended, the table changes no more; see the log\n";
        return text(StatusCode::SERVICE_UNAVAILABLE, body);
    }
    let snapshot = state.table.load();
    if snapshot.generation() > Generation(0) && snapshot.is_complete() {
        return text(StatusCode::OK, "ready\n");
    }
    let waiting: Vec<&str> =
        snapshot.sources().iter().filter(|s| s.required && !s.has_data).map(|s| &*s.name).collect();
    let body = format!("not ready: no list yet from {}\n", waiting.join(", "));
    text(StatusCode::SERVICE_UNAVAILABLE, body)
}

fn api(state: &State, what: &str, query: &str) -> Reply {
    let snapshot = state.table.snapshot();
    let generation = snapshot.generation();
    let parameter = |name| parameter(query, name);
    match what {
        "services" => found(&Services::of(&snapshot)),
        "endpoints" => found(&Endpoints::of(state, &snapshot, parameter("service").as_deref())),
        "routes" => found(&Routes::of(state, &snapshot)),
        "listeners" => found(&Listeners { generation, listeners: &state.listeners.load() }),
        "sources" => found(&Sources { generation, sources: state.discovery.sources() }),
        "table" => found(&TableInfo::of(state, &snapshot)),
        "explain" => match (parameter("name"), parameter("url")) {
            (Some(name), None) => found(&explain::name(state, &snapshot, &name)),
            (None, Some(url)) => match explain::url(state, &snapshot, &url) {
                Ok(explanation) => found(&explanation),
                Err(message) => refused(StatusCode::BAD_REQUEST, generation, &message),
            },
            _ => refused(StatusCode::BAD_REQUEST, generation, "explain wants ?name=NAME or ?url=URL"),
        },
        _ => refused(
            StatusCode::NOT_FOUND,
            generation,
            "known: services, endpoints, routes, listeners, sources, table, explain",
        ),
    }
}

fn found(body: &impl Serialize) -> Reply {
    json(StatusCode::OK, body)
}

fn parameter(query: &str, name: &str) -> Option<String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    Some(percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned())
}

#[derive(Debug, Serialize)]
struct Sources {
    generation: Generation,
    sources: Vec<portolan_discovery::SourceReport>,
}

#[derive(Debug, Serialize)]
struct Listeners<'a> {
    generation: Generation,
    listeners: &'a [super::ListenerInfo],
}

#[derive(Debug, Serialize)]
struct Services<'a> {
    generation: Generation,
    services: Vec<ServiceRow<'a>>,
}

#[derive(Debug, Serialize)]
struct ServiceRow<'a> {
    name: &'a str,
    sources: Vec<&'a str>,
    ports: Vec<PortRow<'a>>,
    instances: usize,
    live: usize,
    labels: std::collections::BTreeMap<&'a str, &'a str>,
}

#[derive(Debug, Serialize)]
struct PortRow<'a> {
    index: usize,
    number: u16,
    name: Option<&'a str>,
    protocol: &'static str,
}

impl<'a> Services<'a> {
    fn of(snapshot: &'a Snapshot) -> Self {
        let mut services: Vec<_> =
            snapshot.services().map(|service| ServiceRow::of(snapshot, service)).collect();
        services.sort_unstable_by_key(|row| row.name);
        Self { generation: snapshot.generation(), services }
    }
}

impl<'a> ServiceRow<'a> {
    fn of(snapshot: &'a Snapshot, service: &'a Service) -> Self {
        let port = |(index, port): (usize, &'a ServicePort)| PortRow {
            index,
            number: port.number,
            name: port.name.as_deref(),
            protocol: port.protocol.as_str(),
        };
        Self {
            name: service.name.as_str(),
            sources: service.specs.iter().filter_map(|(id, _)| Some(&*snapshot.source(*id)?.name)).collect(),
            ports: service.ports.iter().enumerate().map(port).collect(),
            instances: service.members.len(),
            live: service.live_members().count(),
            labels: service.labels().map(|labels| labels.iter().collect()).unwrap_or_default(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Endpoints<'a> {
    generation: Generation,
    endpoints: Vec<EndpointRow<'a>>,
}

#[derive(Debug, Serialize)]
struct EndpointRow<'a> {
    service: &'a str,
    port: String,
    address: std::net::SocketAddr,
    protocol: &'static str,
    source: &'a str,
    instance: &'a str,
    node: Option<&'a str>,
    zone: Option<&'a str>,
    state: &'static str,
    health: &'static str,
    admitted: bool,
    reason: Option<&'static str>,
    weight: u16,
    provenance: &'static str,
    in_flight: u32,
    ejected: bool,
}

impl<'a> Endpoints<'a> {
    fn of(state: &State, snapshot: &'a Snapshot, wanted: Option<&str>) -> Self {
        let services: Vec<&'a Service> = match wanted {
            Some(name) => snapshot.service(name).map(|service| &**service).into_iter().collect(),
            None => snapshot.services().map(|service| &**service).collect(),
        };
        let mut endpoints = Vec::new();
        for service in services {
            for (index, port) in service.ports.iter().enumerate() {
                endpoints.extend(
                    port.endpoints.iter().map(|e| EndpointRow::of(state, snapshot, service, index, e)),
                );
            }
        }
        endpoints
            .sort_unstable_by(|a, b| (a.service, &a.port, a.address).cmp(&(b.service, &b.port, b.address)));
        Self { generation: snapshot.generation(), endpoints }
    }
}

impl<'a> EndpointRow<'a> {
    fn of(
        state: &State,
        snapshot: &'a Snapshot,
        service: &'a Service,
        port: usize,
        endpoint: &Endpoint,
    ) -> Self {
        let Member { source, instance, admission } = &service.members[endpoint.member as usize];
        let condition = state.proxy.board().endpoint(endpoint.slot, Instant::now());
        Self {
            service: service.name.as_str(),
            port: service.ports[port].name.as_deref().map_or_else(|| port.to_string(), str::to_owned),
            address: endpoint.address,
            protocol: service.ports[port].protocol.as_str(),
            source: snapshot.source(*source).map_or("", |source| &source.name),
            instance: &instance.id,
            node: instance.node.as_deref(),
            zone: instance.zone.as_deref(),
            state: instance.state.as_str(),
            health: instance.health.as_str(),
            admitted: admission.is_in(),
            reason: reason(*admission),
            weight: endpoint.weight,
            provenance: endpoint.provenance.as_str(),
            in_flight: condition.in_flight,
            ejected: condition.ejected_by > 0,
        }
    }
}

/// Why a member is out, or in against the rule.
pub(super) fn reason(admission: Admission) -> Option<&'static str> {
    match admission {
        Admission::In => None,
        Admission::Panic => Some("unhealthy, but every running instance is"),
        Admission::Out(outside) => Some(outside.as_str()),
    }
}

#[derive(Debug, Serialize)]
struct TableInfo {
    generation: Generation,
    services: usize,
    instances: usize,
    endpoints: usize,
    live_endpoints: usize,
    nodes: usize,
    complete: bool,
    configuration: super::ConfigurationInfo,
}

impl TableInfo {
    fn of(state: &State, snapshot: &Snapshot) -> Self {
        let ports = || snapshot.services().flat_map(|service| service.ports.iter());
        Self {
            generation: snapshot.generation(),
            services: snapshot.service_count(),
            instances: snapshot.services().map(|service| service.members.len()).sum(),
            endpoints: ports().map(|port| port.endpoints.len()).sum(),
            live_endpoints: ports().map(|port| port.live as usize).sum(),
            nodes: snapshot.nodes().count(),
            complete: snapshot.is_complete(),
            configuration: (**state.configuration.load()).clone(),
        }
    }
}
