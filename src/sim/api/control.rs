//! `/sim/…`: makes things happen and go wrong. Described in `docs/sim.md`.

use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::request::Call;
use super::{deployed, json_value, message, not_found, refused, wrong_method};
use crate::sim::cluster::{Event, Kind, Task, normal_id};
use crate::sim::fault::{Fault, Faults, Leader, Scope, Stream};
use crate::sim::scenario::Step;
use crate::sim::server::Body;
use crate::sim::world::World;

type Answer = Result<Response<Body>, Response<Body>>;

/// What can be done by `POST /sim/<what>`, and by a step of a scenario.
pub(in crate::sim) const ACTIONS: [&str; 13] = [
    "scale", "deploy", "delete", "kill", "crash", "health", "agent", "leader", "fault", "events", "emit",
    "clear", "rate",
];

pub(super) fn answer(world: &Arc<World>, call: &Call) -> Response<Body> {
    let segments = call.segments();
    match (&call.method, segments.as_slice()) {
        (&Method::GET, ["sim", "stats"]) => stats(world),
        (&Method::POST, ["sim", "stats", "reset"]) => {
            world.stats.reset();
            done()
        }
        (&Method::POST, ["sim", what]) => perform(world, what, call).unwrap_or_else(|error| error),
        (_, ["sim", "stats"]) => wrong_method(),
        _ => not_found(),
    }
}

/// Does a step of a scenario.
///
/// # Errors
/// The status of the refusal.
pub(in crate::sim) fn act(world: &Arc<World>, step: &Step) -> Result<(), u16> {
    let call = Call {
        method: Method::POST,
        path: format!("/sim/{}", step.what),
        query: step.parameters.clone(),
        headers: http::HeaderMap::new(),
        body: Bytes::new(),
        peer: world.address,
    };
    let status = perform(world, &step.what, &call).unwrap_or_else(|error| error).status();
    if status.is_success() { Ok(()) } else { Err(status.as_u16()) }
}

fn perform(world: &Arc<World>, what: &str, call: &Call) -> Answer {
    match what {
        "scale" => scale(world, call),
        "deploy" => deploy(world, call),
        "delete" => delete(world, call),
        "kill" => each(world, call, |world, task| {
            world.with(|c| c.kill(&[task.id.to_string()], false, false)).is_ok()
        }),
        "crash" => each(world, call, |world, task| world.with(|cluster| cluster.crash(&task.id))),
        "health" => health(world, call),
        "agent" => agent(world, call),
        "leader" => leader(world, call),
        "fault" => fault(world, call),
        "events" => events(world, call),
        "emit" => emit(world, call),
        "rate" => rate(world, call),
        "clear" => {
            world.faults(|faults| *faults = Faults::default());
            Ok(done())
        }
        _ => Err(not_found()),
    }
}

fn done() -> Response<Body> {
    json_value(StatusCode::OK, &json!({"done": true}))
}

fn bad(text: &str) -> Response<Body> {
    message(StatusCode::BAD_REQUEST, text)
}

fn app_of(call: &Call) -> Result<String, Response<Body>> {
    call.param("app").map(normal_id).ok_or_else(|| bad("parameter 'app' is missing"))
}

fn stats(world: &World) -> Response<Body> {
    let (apps, tasks) = world.with(|cluster| (cluster.images(Kind::App).count(), cluster.task_count()));
    let mut out = world.stats.to_json();
    out["apps"] = apps.into();
    out["tasks"] = tasks.into();
    out["subscribers"] = world.hub.len().into();
    out["changes"] = world.changes_made().into();
    json_value(StatusCode::OK, &out)
}

fn scale(world: &World, call: &Call) -> Answer {
    let app = app_of(call)?;
    let instances = call.number("instances")?.ok_or_else(|| bad("parameter 'instances' is missing"))?;
    let result = world.with(|cluster| cluster.scale(&app, instances, call.flag("force")));
    result.map(|done| deployed(StatusCode::OK, &done)).map_err(|error| refused(&error))
}

fn deploy(world: &World, call: &Call) -> Answer {
    let app = app_of(call)?;
    let result = world.with(|cluster| cluster.restart(&app, call.flag("force")));
    result.map(|done| deployed(StatusCode::OK, &done)).map_err(|error| refused(&error))
}

fn delete(world: &World, call: &Call) -> Answer {
    let app = app_of(call)?;
    let result = world.with(|cluster| cluster.delete(Kind::App, &[app], call.flag("force"), &call.caller()));
    result.map(|done| deployed(StatusCode::OK, &done)).map_err(|error| refused(&error))
}

/// The tasks a request names: by `task`, or by `app` with an optional `count`.
fn named(world: &World, call: &Call) -> Result<Vec<Arc<Task>>, Response<Body>> {
    if let Some(id) = call.param("task") {
        let task = world.with(|cluster| cluster.task(id));
        return task.map(|task| vec![task]).ok_or_else(|| message(StatusCode::NOT_FOUND, "no such task"));
    }
    let app = app_of(call)?;
    let image =
        world.with(|cluster| cluster.image(Kind::App, &app).or_else(|| cluster.image(Kind::Pod, &app)));
    let image = image.ok_or_else(|| message(StatusCode::NOT_FOUND, "no such app"))?;
    let count = call.number("count")?.unwrap_or(usize::MAX);
    let going = |task: &&Arc<Task>| task.state != crate::sim::cluster::State::Killing;
    Ok(image.tasks.iter().filter(going).take(count).cloned().collect())
}

fn each(world: &World, call: &Call, act: fn(&World, &Task) -> bool) -> Answer {
    let tasks = named(world, call)?;
    let ids: Vec<&str> = tasks.iter().filter(|task| act(world, task)).map(|task| &*task.id).collect();
    Ok(json_value(StatusCode::OK, &json!({ "tasks": ids })))
}

fn health(world: &World, call: &Call) -> Answer {
    match call.param("alive") {
        Some("true") => each(world, call, |world, task| world.with(|c| c.set_health(&task.id, true, false))),
        Some("false") if call.flag("kill") => {
            each(world, call, |world, task| world.with(|c| c.set_health(&task.id, false, true)))
        }
        Some("false") => {
            each(world, call, |world, task| world.with(|c| c.set_health(&task.id, false, false)))
        }
        Some("none") => each(world, call, |world, task| world.with(|c| c.forget_health(&task.id))),
        _ => Err(bad("parameter 'alive' must be true, false or none")),
    }
}

fn agent(world: &World, call: &Call) -> Answer {
    let host = call.param("host").ok_or_else(|| bad("parameter 'host' is missing"))?;
    let reachable = call.flag("reachable");
    let moved = world.with(|cluster| cluster.set_agent(host, reachable));
    Ok(json_value(StatusCode::OK, &json!({ "tasks": moved })))
}

fn leader(world: &World, call: &Call) -> Answer {
    let next = match call.param("to") {
        Some("us") => Leader::Us,
        Some(url) => Leader::Other(url.trim_end_matches('/').to_owned()),
        None => {
            let seconds = call.number("seconds")?.unwrap_or(3.0_f64);
            let time =
                Duration::try_from_secs_f64(seconds).map_err(|_| bad("'seconds' is not a proper time"))?;
            Leader::Nobody { until: Instant::now() + time, status: call.number("status")?.unwrap_or(503) }
        }
    };
    world.lose_leader(next, !call.flag("keep_health"));
    Ok(done())
}

fn fault(world: &World, call: &Call) -> Answer {
    let milliseconds = |name: &str| Ok(Duration::from_millis(call.number(name)?.unwrap_or(1000)));
    let fault = match call.param("kind") {
        Some("hang") => Fault::Hang,
        Some("status") => Fault::Status(call.number("code")?.unwrap_or(500)),
        Some("truncate") => Fault::Truncate,
        Some("cut") => Fault::Cut,
        Some("empty") => Fault::Empty,
        Some("garbage") => Fault::Garbage(call.number("bytes")?.unwrap_or(10 << 20)),
        Some("close") => Fault::Close,
        Some("no-apps") => Fault::NoApps,
        Some("slow") => Fault::Slow(milliseconds("ms")?),
        _ => {
            return Err(bad(
                "'kind' must be hang, status, truncate, cut, empty, garbage, close, no-apps or slow",
            ));
        }
    };
    let scope = match call.param("on") {
        None | Some("all") => Scope::All,
        Some("reads") => Scope::Reads,
        Some("list") => Scope::List,
        Some("events") => Scope::Events,
        _ => return Err(bad("'on' must be all, reads, list or events")),
    };
    let seconds = call.number::<f64>("seconds")?.map(Duration::try_from_secs_f64).transpose();
    let until = seconds.map_err(|_| bad("'seconds' is not a proper time"))?.map(|time| Instant::now() + time);
    world.faults(|faults| (faults.api, faults.until) = (Some((fault, scope)), until));
    Ok(done())
}

fn events(world: &World, call: &Call) -> Answer {
    match call.param("do") {
        Some("close") => world.hub.cut_all(),
        Some("tear") => world.hub.tear_all(&half_an_event(world)),
        Some("hang") => world.faults(|faults| faults.stream = Stream::Hung),
        Some("deafen") => world.faults(|faults| faults.stream = Stream::Deaf),
        Some("resume") => world.faults(|faults| faults.stream = Stream::Live),
        _ => return Err(bad("'do' must be close, tear, hang, deafen or resume")),
    }
    Ok(done())
}

/// The beginning of an event that would take away a living task, if a reader completed it.
pub(in crate::sim) fn half_an_event(world: &World) -> Bytes {
    let task = world.with(|cluster| cluster.any_task());
    let (app, id) = task.map_or_else(Default::default, |task| (task.app.to_string(), task.id.to_string()));
    let payload =
        json!({"appId": app, "taskId": id, "taskStatus": "TASK_KILLED", "version": "", "zone": "cut here"});
    let Value::Object(payload) = payload else { return Bytes::new() };
    let frame = Event::new("status_update_event", payload, 0).frame;
    let end = frame.len() - 12;
    frame.slice(..end)
}

fn emit(world: &World, call: &Call) -> Answer {
    let kind = call.param("type").filter(|kind| !kind.is_empty() && !kind.contains(['\r', '\n']));
    let kind = kind.ok_or_else(|| bad("parameter 'type' is missing"))?.to_owned();
    let payload = if call.body.is_empty() { Map::new() } else { call.object()? };
    world.with(|cluster| cluster.emit_raw(kind, payload));
    Ok(done())
}

fn rate(world: &World, call: &Call) -> Answer {
    let rate: f64 = call.number("per_second")?.ok_or_else(|| bad("parameter 'per_second' is missing"))?;
    if !(0.0..=100_000.0).contains(&rate) {
        return Err(bad("'per_second' must be between 0 and 100000"));
    }
    world.set_rate(rate);
    Ok(done())
}
