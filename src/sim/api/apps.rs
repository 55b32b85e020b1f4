//! `/v2/apps` and `/v2/tasks`.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Map, Value, json};

use super::filter::{Embed, Filter};
use super::list;
use super::request::Call;
use super::{deployed, json_text, json_value, message, not_found, refused, with_deployment, wrong_method};
use crate::sim::cluster::{ChangeError, Definition, Image, Kind, State, Update, parse_timestamp, timestamp};
use crate::sim::server::Body;
use crate::sim::world::World;

type Answer = Result<Response<Body>, Response<Body>>;

/// `/v2/apps` and below; the resources under an app are told by the last segments, as Marathon does.
pub(super) fn answer(world: &Arc<World>, call: &Call, rest: &[&str]) -> Response<Body> {
    let id = |segments: &[&str]| format!("/{}", segments.join("/"));
    let answer = match (&call.method, rest) {
        (&Method::GET, []) => all(world, call),
        (&Method::POST, []) => create(world, call),
        (&Method::PUT | &Method::PATCH, []) => update_many(world, call),
        (&Method::GET, [group @ .., "*"]) => below(world, call, &id(group)),
        (_, [app @ .., "restart"]) if !app.is_empty() => restart(world, call, &id(app)),
        (_, [app @ .., "tasks"]) if !app.is_empty() => tasks_of(world, call, &id(app)),
        (&Method::DELETE, [app @ .., "tasks", task]) if !app.is_empty() => {
            kill_one(world, call, &id(app), task)
        }
        (&Method::GET, [app @ .., "versions"]) if !app.is_empty() => versions(world, &id(app)),
        (&Method::GET, [app @ .., "versions", version]) if !app.is_empty() => {
            at_version(world, &id(app), version)
        }
        (&Method::GET, app) => one(world, &id(app)),
        (&Method::PUT | &Method::PATCH, app) => update(world, call, &id(app)),
        (&Method::DELETE, app) => delete(world, call, &id(app)),
        _ => Err(wrong_method()),
    };
    answer.unwrap_or_else(|error| error)
}

fn all(world: &World, call: &Call) -> Answer {
    let filter = Filter::of(call).map_err(|error| message(StatusCode::BAD_REQUEST, &error))?;
    let mut images: Vec<Image> = world.with(|cluster| cluster.images(Kind::App).collect());
    images.retain(|image| filter.admits(image));
    Ok(list::apps(images, Embed::of(call)))
}

fn below(world: &World, call: &Call, group: &str) -> Answer {
    let prefix = if group == "/" { "/".to_owned() } else { format!("{group}/") };
    let mut images: Vec<Image> = world.with(|cluster| cluster.images(Kind::App).collect());
    images.retain(|image| image.definition.id.starts_with(&prefix));
    Ok(list::apps(images, Embed::of(call)))
}

fn find(world: &World, id: &str) -> Result<Image, Response<Body>> {
    let image = world.with(|cluster| cluster.image(Kind::App, id));
    image.ok_or_else(|| refused(&ChangeError::no_such(Kind::App, id)))
}

fn one(world: &World, id: &str) -> Answer {
    let image = find(world, id)?;
    let mut text = b"{\"app\":".to_vec();
    text.extend_from_slice(&list::app(&image, Embed::SINGLE));
    text.push(b'}');
    Ok(json_text(StatusCode::OK, text))
}

fn create(world: &World, call: &Call) -> Answer {
    let body = call.object()?;
    let done = world.with(|cluster| {
        let id = crate::sim::cluster::normal_id(body.get("id").and_then(Value::as_str).unwrap_or_default());
        let done = cluster.create(Kind::App, body, &call.caller())?;
        Ok((done, cluster.image(Kind::App, &id)))
    });
    let (done, image) = done.map_err(|error| refused(&error))?;
    let Some(image) = image else { return Err(not_found()) };
    let mut response = json_text(StatusCode::CREATED, list::app(&image, Embed::SINGLE));
    if let Ok(location) = header::HeaderValue::from_str(&format!("/v2/apps{}", image.definition.id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(with_deployment(response, &done))
}

fn is_partial(call: &Call) -> bool {
    call.method == Method::PATCH
        || !call.param("partialUpdate").is_some_and(|v| v.eq_ignore_ascii_case("false"))
}

fn update(world: &World, call: &Call, id: &str) -> Answer {
    let body = call.object()?;
    let update =
        Update { kind: Kind::App, id: id.to_owned(), body, partial: is_partial(call), restart: false };
    let done = world.with(|cluster| {
        let known = cluster.image(Kind::App, id).is_some();
        if !known && call.method == Method::PATCH {
            return Err(ChangeError::no_such(Kind::App, id));
        }
        let done = cluster.update(vec![update], call.flag("force"), Some(&call.caller()))?;
        Ok((done, known))
    });
    let (done, known) = done.map_err(|error| refused(&error))?;
    Ok(deployed(if known { StatusCode::OK } else { StatusCode::CREATED }, &done))
}

/// Several apps at once; these make no `api_post_event`.
fn update_many(world: &World, call: &Call) -> Answer {
    let Value::Array(bodies) = call.json()? else {
        return Err(message(StatusCode::BAD_REQUEST, "Invalid JSON: an array is expected"));
    };
    let mut updates = Vec::with_capacity(bodies.len());
    for body in bodies {
        let Value::Object(body) = body else {
            return Err(message(StatusCode::BAD_REQUEST, "Invalid JSON: an array of objects is expected"));
        };
        let id = body.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        updates.push(Update { kind: Kind::App, id, body, partial: is_partial(call), restart: false });
    }
    let done = world.with(|cluster| cluster.update(updates, call.flag("force"), None));
    done.map(|done| deployed(StatusCode::OK, &done)).map_err(|error| refused(&error))
}

fn delete(world: &World, call: &Call, id: &str) -> Answer {
    let (force, caller) = (call.flag("force"), call.caller());
    let done = world.with(|cluster| cluster.delete(Kind::App, &[id.to_owned()], force, &caller));
    done.map(|done| deployed(StatusCode::OK, &done)).map_err(|error| refused(&error))
}

fn restart(world: &World, call: &Call, id: &str) -> Answer {
    if call.method != Method::POST {
        return Err(wrong_method());
    }
    find(world, id)?;
    let done = world.with(|cluster| cluster.restart(id, call.flag("force")));
    done.map(|done| deployed(StatusCode::OK, &done)).map_err(|error| refused(&error))
}

fn versions(world: &World, id: &str) -> Answer {
    let kept = world.with(|cluster| cluster.versions(Kind::App, id));
    let kept = kept.ok_or_else(|| refused(&ChangeError::no_such(Kind::App, id)))?;
    let newest_first: Vec<String> = kept.iter().rev().map(|kept| timestamp(kept.version)).collect();
    Ok(json_value(StatusCode::OK, &json!({ "versions": newest_first })))
}

fn at_version(world: &World, id: &str, version: &str) -> Answer {
    let kept = world.with(|cluster| cluster.versions(Kind::App, id));
    let kept = kept.ok_or_else(|| refused(&ChangeError::no_such(Kind::App, id)))?;
    let wanted = parse_timestamp(version);
    let found = kept.iter().find(|kept| Some(kept.version) == wanted);
    let missing =
        || message(StatusCode::NOT_FOUND, &format!("App '{id}' in version '{version}' does not exist"));
    Ok(json_text(StatusCode::OK, found.ok_or_else(missing)?.to_json()))
}

fn tasks_of(world: &World, call: &Call, id: &str) -> Answer {
    match call.method {
        Method::GET => Ok(list::tasks(vec![find(world, id)?], |_| true)),
        Method::DELETE => {
            let image = find(world, id)?;
            let host = call.param("host");
            let here = image.tasks.iter().filter(|task| host.is_none_or(|host| task.agent.host == host));
            kill(world, call, &here.map(|task| task.id.to_string()).collect::<Vec<_>>(), false)
        }
        _ => Err(wrong_method()),
    }
}

fn kill_one(world: &World, call: &Call, id: &str, task: &str) -> Answer {
    let image = find(world, id)?;
    if !image.tasks.iter().any(|known| &*known.id == task || &*known.instance == task) {
        return Err(message(StatusCode::NOT_FOUND, &format!("Task '{task}' does not exist")));
    }
    kill(world, call, &[task.to_owned()], true)
}

/// Kills these tasks; `single` answers with one task rather than a list.
fn kill(world: &World, call: &Call, ids: &[String], single: bool) -> Answer {
    let scale = call.flag("scale");
    if scale && call.flag("wipe") {
        return Err(message(StatusCode::BAD_REQUEST, "You cannot use scale and wipe at the same time."));
    }
    let force = call.flag("force");
    let killed = world.with(|cluster| {
        let (tasks, done) = cluster.kill(ids, scale, force)?;
        let pairs = tasks.into_iter().filter_map(|task| Some((cluster.image(Kind::App, &task.app)?, task)));
        Ok((pairs.collect::<Vec<_>>(), done))
    });
    let (pairs, done) = killed.map_err(|error: ChangeError| refused(&error))?;
    if let Some(done) = done {
        return Ok(deployed(StatusCode::OK, &done));
    }
    let mut tasks: Vec<Value> =
        pairs.iter().map(|(app, task)| list::task_value(&app.definition, task)).collect();
    let body = match tasks.pop_if(|_| single) {
        Some(task) => json!({ "task": task }),
        None => json!({ "tasks": tasks }),
    };
    Ok(json_value(StatusCode::OK, &body))
}

/// `/v2/tasks` and `/v2/tasks/delete`.
pub(super) fn tasks(world: &Arc<World>, call: &Call, rest: &[&str]) -> Response<Body> {
    match (&call.method, rest) {
        (&Method::GET, []) => all_tasks(world, call),
        (&Method::POST, ["delete"]) => kill_many(world, call).unwrap_or_else(|error| error),
        _ => wrong_method(),
    }
}

fn all_tasks(world: &World, call: &Call) -> Response<Body> {
    let images: Vec<Image> = world.with(|cluster| cluster.images(Kind::App).collect());
    let accept = call.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.starts_with("text/plain") {
        return plain_tasks(&images);
    }
    let running = call.params("status").any(|status| status == "running");
    let staging = call.params("status").any(|status| status == "staging");
    let wanted: fn(State) -> bool = match (running, staging) {
        (true, false) => |state| state == State::Running,
        (false, true) => |state| matches!(state, State::Staging | State::Starting),
        _ => |_| true,
    };
    list::tasks(images, wanted)
}

/// The deprecated text form: `app service_port host:port …`, with tabs.
fn plain_tasks(images: &[Image]) -> Response<Body> {
    let mut text = String::new();
    for image in images {
        let definition: &Definition = &image.definition;
        let name = definition.id.trim_start_matches('/').replace('/', "_");
        for (index, port) in definition.ports.iter().enumerate() {
            text += &format!("{name}\t{}\t", port.service_port);
            let running = image.tasks.iter().filter(|task| task.state == State::Running);
            let places =
                running.filter_map(|task| Some(format!("{}:{}\t", task.agent.host, task.ports.get(index)?)));
            text.extend(places);
            text.push('\n');
        }
    }
    let mut response = Response::new(Full::new(Bytes::from(text)).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
    response
}

fn kill_many(world: &World, call: &Call) -> Answer {
    let body: Map<String, Value> = call.object()?;
    let ids: Option<Vec<String>> = body.get("ids").and_then(|ids| serde_json::from_value(ids.clone()).ok());
    let ids = ids
        .ok_or_else(|| message(StatusCode::BAD_REQUEST, "Invalid JSON: 'ids' must be a list of task ids"))?;
    kill(world, call, &ids, false)
}
