//! `/v2/pods`.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use serde_json::{Map, Value, json};

use super::request::Call;
use super::{json_text, json_value, message, refused, with_deployment, wrong_method};
use crate::sim::cluster::{
    ChangeError, Definition, Image, Kind, Network, Task, Update, normal_id, parse_timestamp, timestamp,
};
use crate::sim::server::Body;
use crate::sim::world::World;

type Answer = Result<Response<Body>, Response<Body>>;

/// `/v2/pods` and below. Resources under a pod follow its id after `::`.
pub(super) fn answer(world: &Arc<World>, call: &Call, rest: &[&str]) -> Response<Body> {
    let path = rest.join("/");
    let (id, resource) = path.split_once("::").map_or((path.as_str(), None), |(id, rest)| (id, Some(rest)));
    let id = normal_id(id);
    let answer = match (&call.method, id.as_str(), resource) {
        (&Method::HEAD, "", None) => Ok(json_text(StatusCode::OK, Bytes::new())),
        (&Method::GET, "", None) => Ok(all(world, |image| spec(&image.definition))),
        (&Method::GET, "", Some("status")) => Ok(all(world, status)),
        (&Method::POST, "", None) => create(world, call),
        (&Method::GET, id, None) => find(world, id).map(|image| ok(&spec(&image.definition))),
        (&Method::PUT, id, None) => update(world, call, id),
        (&Method::DELETE, id, None) => delete(world, call, id),
        (&Method::GET, id, Some("status")) => find(world, id).map(|image| ok(&status(&image))),
        (&Method::GET, id, Some("versions")) => versions(world, id),
        (&Method::GET, id, Some(other)) => match other.strip_prefix("versions/") {
            Some(version) => at_version(world, id, version),
            None => Err(wrong_method()),
        },
        (&Method::DELETE, id, Some("instances")) => kill(world, call, id),
        _ => Err(wrong_method()),
    };
    answer.unwrap_or_else(|error| error)
}

fn ok(value: &Value) -> Response<Body> {
    json_value(StatusCode::OK, value)
}

fn all(world: &World, form: fn(&Image) -> Value) -> Response<Body> {
    let images: Vec<Image> = world.with(|cluster| cluster.images(Kind::Pod).collect());
    ok(&images.iter().map(form).collect())
}

fn find(world: &World, id: &str) -> Result<Image, Response<Body>> {
    let image = world.with(|cluster| cluster.image(Kind::Pod, id));
    image.ok_or_else(|| refused(&ChangeError::no_such(Kind::Pod, id)))
}

fn spec(definition: &Definition) -> Value {
    serde_json::from_str(&definition.to_json()).unwrap_or_default()
}

fn create(world: &World, call: &Call) -> Answer {
    let body = call.object()?;
    let id = normal_id(body.get("id").and_then(Value::as_str).unwrap_or_default());
    let done = world.with(|cluster| cluster.create(Kind::Pod, body, &call.caller()));
    let done = done.map_err(|error| refused(&error))?;
    let image = find(world, &id)?;
    Ok(with_deployment(json_value(StatusCode::CREATED, &spec(&image.definition)), &done))
}

fn update(world: &World, call: &Call, id: &str) -> Answer {
    let body = call.object()?;
    find(world, id)?;
    let update = Update { kind: Kind::Pod, id: id.to_owned(), body, partial: false, restart: false };
    let done = world.with(|cluster| cluster.update(vec![update], call.flag("force"), Some(&call.caller())));
    let done = done.map_err(|error| refused(&error))?;
    Ok(with_deployment(ok(&spec(&find(world, id)?.definition)), &done))
}

fn delete(world: &World, call: &Call, id: &str) -> Answer {
    let (force, caller) = (call.flag("force"), call.caller());
    let done = world.with(|cluster| cluster.delete(Kind::Pod, &[id.to_owned()], force, &caller));
    let done = done.map_err(|error| refused(&error))?;
    Ok(with_deployment(json_text(StatusCode::ACCEPTED, Bytes::new()), &done))
}

fn kill(world: &World, call: &Call, id: &str) -> Answer {
    let image = find(world, id)?;
    let ids: Option<Vec<String>> = serde_json::from_slice(&call.body).ok();
    let ids = ids.ok_or_else(|| {
        message(StatusCode::BAD_REQUEST, "Invalid JSON: a list of instance ids is expected")
    })?;
    let own = |task: &&Arc<Task>| ids.iter().any(|id| **id == *task.instance);
    let killed: Vec<Arc<Task>> = image.tasks.iter().filter(own).cloned().collect();
    let names: Vec<String> = killed.iter().map(|task| task.instance.to_string()).collect();
    world.with(|cluster| cluster.kill(&names, false, false)).map_err(|error| refused(&error))?;
    Ok(ok(&killed.iter().map(|task| instance(&image.definition, task)).collect()))
}

fn versions(world: &World, id: &str) -> Answer {
    let kept = world.with(|cluster| cluster.versions(Kind::Pod, id));
    let kept = kept.ok_or_else(|| refused(&ChangeError::no_such(Kind::Pod, id)))?;
    Ok(ok(&kept.iter().map(|kept| Value::from(timestamp(kept.version))).collect()))
}

fn at_version(world: &World, id: &str, version: &str) -> Answer {
    let kept = world.with(|cluster| cluster.versions(Kind::Pod, id)).unwrap_or_default();
    let wanted = parse_timestamp(version);
    let found = kept.iter().find(|kept| Some(kept.version) == wanted);
    let missing =
        || message(StatusCode::NOT_FOUND, &format!("Pod '{id}' in version '{version}' does not exist"));
    Ok(ok(&spec(found.ok_or_else(missing)?)))
}

/// A pod's status object.
fn status(image: &Image) -> Value {
    let definition = &image.definition;
    let whole =
        image.tasks.len() == definition.instances as usize && image.tasks.iter().all(|t| t.is_serving());
    let changed = image.tasks.iter().map(|task| task.since).max().unwrap_or(definition.version);
    let instances: Vec<Value> = image.tasks.iter().map(|task| instance(definition, task)).collect();
    json!({
        "id": &*definition.id, "spec": spec(definition), "status": if whole { "STABLE" } else { "DEGRADED" },
        "statusSince": timestamp(changed), "instances": instances, "terminationHistory": [],
        "lastUpdated": timestamp(changed), "lastChanged": timestamp(changed),
    })
}

fn instance(definition: &Definition, task: &Task) -> Value {
    let since = timestamp(task.since);
    let stable = match (task.state.status(), task.is_serving()) {
        (_, true) => "STABLE",
        ("TASK_STAGING" | "TASK_STARTING", _) => "STAGING",
        _ => "DEGRADED",
    };
    let address: Vec<String> = task.address.iter().map(ToString::to_string).collect();
    let networks: Vec<Value> = match &definition.network {
        Network::Host => Vec::new(),
        Network::Bridge => vec![json!({"addresses": address})],
        Network::Container(names) => {
            names.iter().map(|name| json!({"name": name, "addresses": address})).collect()
        }
    };
    let mut ports = task.ports.iter().copied();
    let specs =
        definition.body.get("containers").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let containers: Vec<Value> =
        specs.iter().map(|spec| container(definition, spec, task, &mut ports)).collect();
    json!({
        "id": &*task.instance, "status": stable, "statusSince": since, "agentHostname": task.agent.host,
        "agentId": task.agent.id, "agentRegion": task.agent.region, "agentZone": task.agent.zone,
        "networks": networks, "containers": containers, "role": "*", "localVolumes": [],
        "specReference": format!("/v2/pods{}::versions/{}", definition.id, timestamp(task.version)),
        "lastUpdated": since, "lastChanged": since,
    })
}

fn container(
    definition: &Definition,
    spec: &Value,
    task: &Task,
    ports: &mut impl Iterator<Item = u16>,
) -> Value {
    let (name, since) = (spec.get("name").and_then(Value::as_str).unwrap_or_default(), timestamp(task.since));
    let check = spec.get("healthCheck");
    let checked =
        check.and_then(|check| check.get("http").or_else(|| check.get("tcp"))?.get("endpoint")?.as_str());
    let alive = task.verdict.as_ref().map(|verdict| verdict.alive);
    let mut endpoints = Vec::new();
    for endpoint in spec.get("endpoints").and_then(Value::as_array).into_iter().flatten() {
        let own = endpoint.get("name").and_then(Value::as_str).unwrap_or_default();
        let mut out = Map::from_iter([("name".to_owned(), Value::from(own))]);
        if definition.network == Network::Host || endpoint.get("hostPort").is_some_and(|port| !port.is_null())
        {
            out.insert("allocatedHostPort".to_owned(), ports.next().into());
        }
        if let (true, Some(alive)) = (checked == Some(own), alive) {
            out.insert("healthy".to_owned(), alive.into());
        }
        endpoints.push(Value::Object(out));
    }
    let conditions = check.map(|_| {
        let reason = if alive.is_some() { "health-reported-by-mesos" } else { "health-unreported-by-mesos" };
        let value = alive.unwrap_or(false).to_string();
        json!({"name": "healthy", "value": value, "reason": reason, "lastChanged": since, "lastUpdated": since})
    });
    json!({
        "name": name, "status": task.state.status(), "statusSince": since,
        "containerId": format!("{}.{name}", task.instance), "endpoints": endpoints,
        "conditions": conditions.into_iter().collect::<Vec<_>>(), "lastUpdated": since, "lastChanged": since,
    })
}
