//! `/v2/groups`: the tree that the apps' ids make.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::{Method, Response, StatusCode};
use serde_json::{Map, Value, json};

use super::request::Call;
use super::{deployed, json_value, message, refused, version_of, wrong_method};
use crate::sim::cluster::{ChangeError, Image, Kind, Update, normal_id, timestamp};
use crate::sim::server::Body;
use crate::sim::world::World;

type Answer = Result<Response<Body>, Response<Body>>;

/// Deepest nesting of groups in a body.
const DEPTH_MAX: usize = 32;

pub(super) fn answer(world: &Arc<World>, call: &Call, rest: &[&str]) -> Response<Body> {
    let id = format!("/{}", rest.join("/"));
    let answer = match call.method {
        Method::GET => get(world, &id),
        Method::PUT | Method::POST => put(world, call, &id),
        Method::DELETE => delete(world, call, &id),
        _ => Err(wrong_method()),
    };
    answer.unwrap_or_else(|error| error)
}

fn no_such(id: &str) -> Response<Body> {
    message(StatusCode::NOT_FOUND, &format!("Group '{id}' does not exist"))
}

fn get(world: &World, id: &str) -> Answer {
    let apps: Vec<Image> = world.with(|cluster| cluster.images(Kind::App).collect());
    let pods: Vec<Image> = world.with(|cluster| cluster.images(Kind::Pod).collect());
    let below = |image: &Image| parent_of(&image.definition.id, id).is_some();
    if id != "/" && !apps.iter().chain(&pods).any(below) {
        return Err(no_such(id));
    }
    Ok(json_value(StatusCode::OK, &tree(id, &apps, &pods)))
}

/// The part of `app` below the group, if it is below.
fn parent_of<'a>(app: &'a str, group: &str) -> Option<&'a str> {
    app.strip_prefix(group.trim_end_matches('/'))?.strip_prefix('/')
}

fn tree(id: &str, apps: &[Image], pods: &[Image]) -> Value {
    let mut groups = BTreeSet::new();
    let mut here = |images: &[Image]| -> Vec<Value> {
        let mut own = Vec::new();
        for image in images {
            match parent_of(&image.definition.id, id).map(|rest| rest.split_once('/')) {
                Some(None) => own.push(serde_json::from_str(&image.definition.to_json()).unwrap_or_default()),
                Some(Some((group, _))) => {
                    groups.insert(format!("{}/{group}", id.trim_end_matches('/')));
                }
                None => {}
            }
        }
        own
    };
    let (own_apps, own_pods) = (here(apps), here(pods));
    let versions = apps.iter().chain(pods).map(|image| image.definition.version);
    let version = timestamp(versions.max().unwrap_or_default());
    let below: Vec<Value> = groups.iter().map(|group| tree(group, apps, pods)).collect();
    json!({"id": id, "apps": own_apps, "pods": own_pods, "groups": below, "dependencies": [], "version": version})
}

fn put(world: &World, call: &Call, id: &str) -> Answer {
    let body = call.object()?;
    let id = match body.get("id").and_then(Value::as_str) {
        Some(own) if id == "/" => normal_id(own),
        _ => id.to_owned(),
    };
    let updates = match body.get("scaleBy").and_then(Value::as_f64) {
        Some(factor) => scaled(world, &id, factor)?,
        None => {
            let mut updates = Vec::new();
            flatten(&id, &body, 0, &mut updates);
            updates
        }
    };
    let done = world.with(|cluster| cluster.update(updates, call.flag("force"), None));
    let done = done.map_err(|error| refused(&error))?;
    let status = if call.method == Method::POST { StatusCode::CREATED } else { StatusCode::OK };
    Ok(super::with_deployment(json_value(status, &version_of(&done)), &done))
}

fn scaled(world: &World, id: &str, factor: f64) -> Result<Vec<Update>, Response<Body>> {
    if !(0.0..=1000.0).contains(&factor) {
        return Err(message(StatusCode::BAD_REQUEST, "scaleBy must be between 0 and 1000"));
    }
    let apps: Vec<Image> = world.with(|cluster| cluster.images(Kind::App).collect());
    let below = apps.iter().filter(|image| parent_of(&image.definition.id, id).is_some());
    let update = |image: &Image| {
        let instances = (f64::from(image.definition.instances) * factor).ceil() as u32;
        let body = Map::from_iter([("instances".to_owned(), Value::from(instances))]);
        Update { kind: Kind::App, id: image.definition.id.to_string(), body, partial: true, restart: false }
    };
    let updates: Vec<Update> = below.map(update).collect();
    if updates.is_empty() { Err(no_such(id)) } else { Ok(updates) }
}

/// All apps of a group body; relative ids are below their group.
fn flatten(id: &str, body: &Map<String, Value>, depth: usize, updates: &mut Vec<Update>) {
    let absolute =
        |own: &str| if own.starts_with('/') { normal_id(own) } else { normal_id(&format!("{id}/{own}")) };
    let list = |name: &str| body.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    for app in list("apps") {
        let Value::Object(app) = app else { continue };
        let own = absolute(app.get("id").and_then(Value::as_str).unwrap_or_default());
        updates.push(Update { kind: Kind::App, id: own, body: app, partial: false, restart: false });
    }
    for group in list("groups") {
        let Value::Object(group) = group else { continue };
        if depth < DEPTH_MAX {
            let own = absolute(group.get("id").and_then(Value::as_str).unwrap_or_default());
            flatten(&own, &group, depth + 1, updates);
        }
    }
}

fn delete(world: &World, call: &Call, id: &str) -> Answer {
    let (force, caller) = (call.flag("force"), call.caller());
    let done = world.with(|cluster| {
        let ids = cluster.apps_below(id);
        if ids.is_empty() {
            return Err(ChangeError::NotFound(format!("Group '{id}' does not exist")));
        }
        cluster.delete(Kind::App, &ids, force, &caller)
    });
    done.map(|done| deployed(StatusCode::OK, &done)).map_err(|error| refused(&error))
}
