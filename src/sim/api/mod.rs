//! The HTTP interface: who may ask, what is wrong at present, then which resource.

#![expect(
    clippy::result_large_err,
    reason = "an answer is as large when it refuses, and neither path is hot"
)]

mod apps;
mod control;
mod events;
mod faulty;
mod filter;
mod groups;
mod info;
mod list;
mod pods;
mod request;

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::cluster::{ChangeError, Deployed, timestamp};
use super::fault::{Fault, Leader};
use super::server::{Body, Reply};
use super::stats::Asked;
use super::world::World;
pub(super) use control::{ACTIONS, act, half_an_event};
use request::Call;

/// Answers one request.
pub(crate) async fn answer(world: &Arc<World>, request: Request<Incoming>, peer: SocketAddr) -> Reply {
    if request.uri().path().starts_with("/sim") {
        let call = match Call::read(request, peer).await {
            Ok(call) => call,
            Err(reply) => return reply.into(),
        };
        return control::answer(world, &call).into();
    }
    if !is_allowed(world, &request) {
        let mut reply = message(StatusCode::UNAUTHORIZED, "Invalid username or password.");
        let challenge = header::HeaderValue::from_static("Basic realm=\"Mesosphere\"");
        reply.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        return reply.into();
    }
    let kind = kind_of(request.method(), request.uri().path());
    world.stats.count(kind);
    let now = tokio::time::Instant::now();
    let fault = world.faults(|f| f.for_request(kind == Asked::Apps, kind == Asked::Events, now));
    match fault {
        Some(Fault::Slow(delay)) => tokio::time::sleep(delay).await,
        Some(fault) => return faulty::reply(world, &fault),
        None => {}
    }
    let leader = world.leader();
    if leader != Leader::Us {
        return info::without_leadership(world, request, kind, leader).await;
    }
    if kind == Asked::Events {
        return events::open(world, &request, peer);
    }
    match Call::read(request, peer).await {
        Ok(call) => route(world, &call).into(),
        Err(reply) => reply.into(),
    }
}

/// The resource a request is for.
fn route(world: &Arc<World>, call: &Call) -> Response<Body> {
    let segments: Vec<&str> = call.segments();
    match (&call.method, segments.as_slice()) {
        (&Method::GET, ["ping"]) => info::ping(call),
        (&Method::GET, ["v2", "info"]) => info::info(world),
        (_, ["v2", "leader"]) => info::leader(world, call),
        (_, ["v2", "apps", rest @ ..]) => apps::answer(world, call, rest),
        (_, ["v2", "tasks", rest @ ..]) => apps::tasks(world, call, rest),
        (_, ["v2", "groups", rest @ ..]) => groups::answer(world, call, rest),
        (_, ["v2", "deployments", rest @ ..]) => info::deployments(world, call, rest),
        (_, ["v2", "pods", rest @ ..]) => pods::answer(world, call, rest),
        (_, ["v2", "queue", rest @ ..]) => info::queue(world, call, rest),
        _ => not_found(),
    }
}

fn kind_of(method: &Method, path: &str) -> Asked {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let version = segments.next() == Some("v2");
    let (kind, more) = (segments.next(), segments.next_back());
    match (version, kind, more) {
        (true, Some("events"), None) => Asked::Events,
        (true, Some("apps" | "tasks" | "pods" | "groups"), _)
            if *method != Method::GET && *method != Method::HEAD =>
        {
            Asked::Changes
        }
        (true, Some("apps"), None | Some("*")) => Asked::Apps,
        (true, Some("apps"), Some(_)) => Asked::App,
        (true, Some("tasks"), _) => Asked::Tasks,
        (true, Some("pods"), _) => Asked::Pods,
        (true, Some("groups"), _) => Asked::Groups,
        _ => Asked::Other,
    }
}

/// Basic authentication (RFC 7617), if any is asked for.
fn is_allowed(world: &World, request: &Request<Incoming>) -> bool {
    let Some(expected) = &world.authorization else { return true };
    request.headers().get(header::AUTHORIZATION).is_some_and(|value| value.as_bytes() == expected.as_bytes())
}

impl From<Response<Body>> for Reply {
    fn from(response: Response<Body>) -> Self {
        Self::Answer(response)
    }
}

/// A whole JSON answer.
fn json_text(status: StatusCode, text: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(text.into()).boxed_unsync());
    *response.status_mut() = status;
    mark_json(&mut response);
    response
}

fn mark_json(response: &mut Response<Body>) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    headers.insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-cache, no-store, must-revalidate"),
    );
    headers.insert(header::PRAGMA, header::HeaderValue::from_static("no-cache"));
}

fn json_value(status: StatusCode, value: &Value) -> Response<Body> {
    json_text(status, value.to_string())
}

/// `{"message": …}` with a status.
fn message(status: StatusCode, text: &str) -> Response<Body> {
    json_value(status, &json!({ "message": text }))
}

fn not_found() -> Response<Body> {
    message(StatusCode::NOT_FOUND, "HTTP 404 Not Found")
}

fn wrong_method() -> Response<Body> {
    message(StatusCode::METHOD_NOT_ALLOWED, "HTTP 405 Method Not Allowed")
}

/// The answer to a change: the version and the deployment.
fn deployed(status: StatusCode, done: &Deployed) -> Response<Body> {
    with_deployment(json_value(status, &done.to_json()), done)
}

fn with_deployment(mut response: Response<Body>, done: &Deployed) -> Response<Body> {
    if let Ok(id) = header::HeaderValue::from_str(&done.deployment) {
        response.headers_mut().insert("marathon-deployment-id", id);
    }
    response
}

/// The answer to a refused change.
fn refused(error: &ChangeError) -> Response<Body> {
    let text = error.to_string();
    match error {
        ChangeError::NotFound(_) => message(StatusCode::NOT_FOUND, &text),
        ChangeError::Exists(_) => message(StatusCode::CONFLICT, &text),
        ChangeError::Bad(_) => message(StatusCode::BAD_REQUEST, &text),
        ChangeError::Locked(ids) => {
            let ids: Vec<Value> = ids.iter().map(|id| json!({"id": &**id})).collect();
            json_value(StatusCode::CONFLICT, &json!({"message": text, "deployments": ids}))
        }
        ChangeError::Invalid(problems) => {
            let details: Vec<Value> =
                problems.iter().map(|p| json!({"path": p.path, "errors": [p.error]})).collect();
            json_value(StatusCode::UNPROCESSABLE_ENTITY, &json!({"message": text, "details": details}))
        }
    }
}

/// `{"version": …}` as answers to group changes carry.
fn version_of(done: &Deployed) -> Value {
    json!({"version": timestamp(done.version), "deploymentId": &*done.deployment})
}
