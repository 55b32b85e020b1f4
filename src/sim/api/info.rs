//! Ping, info, leader, deployments, queue; and what a process says that does not lead.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use super::request::Call;
use super::{deployed, json_text, json_value, message, not_found, refused, wrong_method};
use crate::sim::fault::Leader;
use crate::sim::server::{Body, Reply};
use crate::sim::stats::Asked;
use crate::sim::world::World;

/// How long nobody leads after an abdication.
const ELECTION: core::time::Duration = core::time::Duration::from_millis(500);
/// Largest body passed on to the leader.
const PASSED_ON_MAX: usize = 16 << 20;

pub(super) fn ping(call: &Call) -> Response<Body> {
    let accept = call.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("*/*");
    let kind = accept.split([',', ';']).next().unwrap_or_default().trim();
    match kind {
        "application/json" => json_text(StatusCode::OK, "\"pong\""),
        "*/*" | "text/plain" | "text/*" | "" => {
            let mut response = Response::new(Full::new(Bytes::from_static(b"pong")).boxed_unsync());
            let plain = header::HeaderValue::from_static("text/plain");
            response.headers_mut().insert(header::CONTENT_TYPE, plain);
            response
        }
        _ => json_text(StatusCode::NO_CONTENT, Bytes::new()),
    }
}

pub(super) fn info(world: &World) -> Response<Body> {
    let framework = world.with(|cluster| cluster.framework().to_owned());
    let (host, port) = (world.address.ip().to_string(), world.address.port());
    json_value(
        StatusCode::OK,
        &json!({
            "name": "marathon", "version": world.version, "buildref": "simulated", "elected": true,
            "leader": world.address.to_string(), "frameworkId": framework,
            "marathon_config": {
                "master": "zk://10.0.0.5:2181/mesos", "ha": true, "hostname": host, "framework_name": "marathon",
                "local_port_min": 10000, "local_port_max": 20000, "checkpoint": true, "failover_timeout": 604_800,
                "features": ["vips", "task_killing", "external_volumes"],
            },
            "http_config": {"http_port": port, "https_port": 8443},
            "zookeeper_config": {"zk": "zk://10.0.0.5:2181/marathon"},
        }),
    )
}

pub(super) fn leader(world: &World, call: &Call) -> Response<Body> {
    match call.method {
        Method::GET => json_value(StatusCode::OK, &json!({"leader": world.address.to_string()})),
        Method::DELETE => {
            let until = tokio::time::Instant::now() + ELECTION;
            let status = StatusCode::BAD_GATEWAY.as_u16();
            world.lose_leader(Leader::Nobody { until, status }, true);
            message(StatusCode::OK, "Leadership abdicated")
        }
        _ => wrong_method(),
    }
}

/// Not the leader: streams are redirected, other requests passed on; without any leader both fail.
pub(super) async fn without_leadership(
    world: &World,
    request: Request<Incoming>,
    kind: Asked,
    leader: Leader,
) -> Reply {
    let asks_leader = request.uri().path() == "/v2/leader" && *request.method() == Method::GET;
    match leader {
        Leader::Us => not_found().into(),
        Leader::Nobody { .. } if asks_leader => message(StatusCode::NOT_FOUND, "There is no leader").into(),
        Leader::Nobody { status, .. } => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            message(status, "Could not determine the current leader").into()
        }
        Leader::Other(url) if kind == Asked::Events => {
            let target = request.uri().path_and_query().map_or("/v2/events", |path| path.as_str());
            let mut response = json_text(StatusCode::FOUND, Bytes::new());
            if let Ok(location) = header::HeaderValue::from_str(&format!("{url}{target}")) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            response.into()
        }
        Leader::Other(url) => pass_on(world, request, &url).await.into(),
    }
}

/// Asks the leader in the client's place.
async fn pass_on(world: &World, request: Request<Incoming>, url: &str) -> Response<Body> {
    let failed = |text: &str| message(StatusCode::BAD_GATEWAY, text);
    if request.headers().contains_key("x-marathon-via") {
        return failed("Detected proxying loop.");
    }
    let (mut head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, PASSED_ON_MAX).collect().await else {
        return failed("request cut short");
    };
    let target = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let Ok(uri) = format!("{url}{target}").parse() else { return failed("the leader's address is wrong") };
    head.uri = uri;
    head.headers.remove(header::HOST);
    if let Ok(via) = header::HeaderValue::from_str(&format!("1.1 {}", world.address)) {
        head.headers.insert("x-marathon-via", via);
    }
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let answer = client.request(Request::from_parts(head, Full::new(body.to_bytes()))).await;
    let Ok(answer) = answer else { return failed("Could not reach the current leader") };
    let (mut head, body) = answer.into_parts();
    let Ok(body) = body.collect().await else { return failed("The leader's answer was cut short") };
    head.headers.remove(header::TRANSFER_ENCODING);
    if let Ok(leader) = header::HeaderValue::from_str(url) {
        head.headers.insert("x-marathon-leader", leader);
    }
    Response::from_parts(head, Full::new(body.to_bytes()).boxed_unsync())
}

pub(super) fn deployments(world: &Arc<World>, call: &Call, rest: &[&str]) -> Response<Body> {
    match (&call.method, rest) {
        (&Method::GET, []) => {
            let list: Vec<Value> = world.with(|cluster| cluster.deployments().map(|d| d.to_json()).collect());
            json_value(StatusCode::OK, &list.into())
        }
        (&Method::DELETE, [id]) => match world.with(|cluster| cluster.cancel(id, call.flag("force"))) {
            Ok(Some(done)) => deployed(StatusCode::OK, &done),
            Ok(None) => json_text(StatusCode::ACCEPTED, Bytes::new()),
            Err(error) => refused(&error),
        },
        _ => wrong_method(),
    }
}

pub(super) fn queue(world: &Arc<World>, call: &Call, rest: &[&str]) -> Response<Body> {
    match (&call.method, rest) {
        (&Method::GET, []) => {
            let list: Vec<Value> = world.with(|cluster| cluster.queue().map(queue_item).collect());
            json_value(StatusCode::OK, &json!({ "queue": list }))
        }
        (&Method::DELETE, [app @ .., "delay"]) => {
            let id = format!("/{}", app.join("/"));
            match world.with(|cluster| cluster.reset_delay(&id)) {
                true => json_text(StatusCode::NO_CONTENT, Bytes::new()),
                false => {
                    message(StatusCode::NOT_FOUND, &format!("Application {id} not found in tasks queue."))
                }
            }
        }
        _ => wrong_method(),
    }
}

fn queue_item((image, count, wait): (crate::sim::cluster::Image, usize, u64)) -> Value {
    let app: Value = serde_json::from_str(&image.definition.to_json()).unwrap_or_default();
    let seconds = wait.div_ceil(1000);
    json!({
        "app": app, "count": count, "delay": {"timeLeftSeconds": seconds, "overdue": seconds == 0},
        "since": crate::sim::cluster::timestamp(image.definition.version),
    })
}
