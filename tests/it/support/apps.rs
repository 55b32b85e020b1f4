//! Apps as Marathon lists them.

use serde_json::{Value, json};

/// A host-network app with a port named `http` and one running, healthy task per address.
pub(crate) fn app(id: &str, tasks: &[(&str, u16)]) -> Value {
    let listed: Vec<Value> =
        tasks.iter().enumerate().map(|(n, (host, port))| task(id, n, host, *port)).collect();
    json!({
        "id": id, "instances": tasks.len(), "labels": {}, "networks": [{"mode": "host"}],
        "portDefinitions": [{"port": 10_000, "protocol": "tcp", "name": "http", "labels": {}}],
        "healthChecks": [{"protocol": "HTTP", "path": "/", "portIndex": 0}],
        "version": "2021-03-01T10:00:00.000Z",
        "tasks": listed,
    })
}

/// The id of task `n` of an app.
pub(crate) fn task_id(app: &str, n: usize) -> String {
    let path = app.trim_start_matches('/').replace('/', "_");
    format!("{path}.instance-5d0f6c1e-7c9a-11eb-8b2e-0242ac11{n:04x}._app.1")
}

/// A running, healthy task.
pub(crate) fn task(app: &str, n: usize, host: &str, port: u16) -> Value {
    json!({
        "id": task_id(app, n), "appId": app, "host": host, "ports": [port], "servicePorts": [],
        "ipAddresses": [{"ipAddress": host, "protocol": "IPv4"}], "slaveId": "S0", "state": "TASK_RUNNING",
        "stagedAt": "2021-03-04T05:06:08.100Z", "startedAt": "2021-03-04T05:06:15.200Z",
        "version": "2021-03-01T10:00:00.000Z", "localVolumes": [],
        "healthCheckResults": [{"alive": true, "consecutiveFailures": 0,
            "instanceId": task_id(app, n).rsplit_once("._app").map(|(instance, _)| instance)}],
    })
}

/// The payload of a `status_update_event` for task `n`.
pub(crate) fn status(app: &str, n: usize, host: &str, port: u16, status: &str) -> Value {
    json!({
        "slaveId": "S0", "taskId": task_id(app, n), "taskStatus": status, "message": "", "appId": app, "host": host,
        "ipAddresses": [{"ipAddress": host, "protocol": "IPv4"}], "ports": [port],
        "version": "2021-03-01T10:00:00.000Z",
    })
}
