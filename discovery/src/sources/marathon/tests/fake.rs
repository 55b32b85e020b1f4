//! A Marathon made of a listener and a script: it answers from a list of apps, keeps count of what it was asked, and fails
//! on demand.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::sources::fake::read;

/// What goes wrong, once, with the next request whose target begins with the given text.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// This answer in place of the right one: status, further header lines, body.
    Answer(u16, String, Vec<u8>),
    /// The right answer, cut off after so many octets, with the length of the whole.
    Cut(usize),
    /// The connection is closed without an answer.
    Close,
    /// No answer at all.
    Hang,
    /// The right answer after so long.
    Late(Duration),
}

#[derive(Default)]
pub(super) struct Script {
    pub(super) apps: Vec<Value>,
    /// `None`: this Marathon knows no pods.
    pub(super) pods: Option<Vec<Value>>,
    pub(super) versions: HashMap<String, Value>,
    pub(super) leader: Option<String>,
    /// The one `Authorization` that is accepted.
    pub(super) authorization: Option<String>,
    /// Answers of the login endpoint.
    pub(super) tokens: VecDeque<String>,
    pub(super) requests: Vec<String>,
    pub(super) seen_authorizations: Vec<Option<String>>,
    pub(super) logins: Vec<Value>,
    faults: Vec<(String, Fault)>,
    streams: Vec<mpsc::Sender<Vec<u8>>>,
}

pub(super) struct Fake {
    pub(super) address: SocketAddr,
    script: Arc<Mutex<Script>>,
    _server: JoinSet<()>,
}

impl Fake {
    pub(super) async fn start(apps: Vec<Value>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::new(Mutex::new(Script { apps, ..Script::default() }));
        let mut server = JoinSet::new();
        let shared = Arc::clone(&script);
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                connections.spawn(serve(connection, Arc::clone(&shared)));
            }
        });
        Self { address, script, _server: server }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    pub(super) fn fail(&self, target: &str, fault: Fault) {
        self.script().faults.push((target.to_owned(), fault));
    }

    pub(super) async fn send(&self, octets: impl Into<Vec<u8>>) {
        let streams = self.script().streams.clone();
        let octets = octets.into();
        for stream in streams {
            let _ = stream.send(octets.clone()).await;
        }
    }

    pub(super) async fn event(&self, kind: &str, mut payload: Value) {
        payload["eventType"] = json!(kind);
        self.send(format!("event: {kind}\r\ndata: {payload}\r\n\r\n")).await;
    }

    /// Ends all streams in an orderly way.
    pub(super) fn end_streams(&self) {
        self.script().streams.clear();
    }

    /// Waits until something beginning with `target` has been asked for so often.
    pub(super) async fn asked(&self, target: &str, times: usize) {
        while self.count(target) < times {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How often something beginning with `target` was asked for.
    pub(super) fn count(&self, target: &str) -> usize {
        self.script().requests.iter().filter(|request| request.starts_with(target)).count()
    }
}

async fn serve(mut connection: TcpStream, script: Arc<Mutex<Script>>) {
    let mut held = Vec::new();
    while let Some(asked) = read(&mut connection, &mut held).await {
        let authorization = asked.header("authorization").map(str::to_owned);
        let target = asked.target;
        let fault = {
            let mut script = script.lock().unwrap();
            script.requests.push(target.clone());
            script.seen_authorizations.push(authorization.clone());
            let at = script.faults.iter().position(|(prefix, _)| target.starts_with(prefix));
            at.map(|at| script.faults.remove(at).1)
        };
        let (status, more, body) = match &fault {
            Some(Fault::Answer(status, more, body)) => (*status, more.clone(), body.clone()),
            Some(Fault::Close) => return,
            Some(Fault::Hang) => core::future::pending().await,
            _ => answer(&script, &target, authorization.as_deref(), &asked.body),
        };
        if let Some(Fault::Late(time)) = fault {
            tokio::time::sleep(time).await;
        }
        if target.starts_with("/v2/events") && status == 200 && fault.is_none() {
            return stream(connection, &script).await;
        }
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{more}\r\n", body.len());
        let cut = if let Some(Fault::Cut(at)) = fault { at } else { body.len() };
        if connection.write_all(&[head.as_bytes(), &body[..cut]].concat()).await.is_err() || cut < body.len()
        {
            return;
        }
    }
}

async fn stream(mut connection: TcpStream, script: &Mutex<Script>) {
    let (send, mut receive) = mpsc::channel::<Vec<u8>>(4096);
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream;charset=UTF-8\r\nConnection: close\r\n\r\n";
    let first = "event: event_stream_attached\r\ndata: {\"eventType\":\"event_stream_attached\"}\r\n\r\n";
    if connection.write_all(format!("{head}{first}").as_bytes()).await.is_err() {
        return;
    }
    script.lock().unwrap().streams.push(send);
    while let Some(octets) = receive.recv().await {
        if connection.write_all(&octets).await.is_err() {
            return;
        }
    }
}

fn answer(
    script: &Mutex<Script>,
    target: &str,
    authorization: Option<&str>,
    body: &[u8],
) -> (u16, String, Vec<u8>) {
    let mut script = script.lock().unwrap();
    let json = |status, value: Value| {
        (status, "Content-Type: application/json\r\n".to_owned(), value.to_string().into_bytes())
    };
    let absent = |what: &str| json(404, json!({"message": format!("{what} does not exist")}));
    let path = target.split('?').next().unwrap();
    if path == "/acs/api/v1/auth/login" {
        script.logins.push(serde_json::from_slice(body).unwrap());
        let token = script.tokens.pop_front().unwrap_or_default();
        script.authorization = Some(format!("token={token}"));
        return json(200, json!({"token": token}));
    }
    if script.authorization.is_some() && script.authorization.as_deref() != authorization {
        return json(401, json!({"message": "Invalid username or password."}));
    }
    match path {
        "/v2/events" => json(200, Value::Null),
        "/v2/apps" => json(200, json!({"apps": script.apps})),
        "/v2/leader" => match &script.leader {
            Some(leader) => json(200, json!({"leader": leader})),
            None => absent("leader"),
        },
        "/v2/pods/::status" => match &script.pods {
            Some(pods) => json(200, json!(pods)),
            None => (404, String::new(), b"<html>".to_vec()),
        },
        _ => {
            if let Some(group) = path.strip_prefix("/v2/apps//").and_then(|rest| rest.strip_suffix("/*")) {
                let prefix = format!("/{group}/");
                let of_group = |app: &&Value| app["id"].as_str().unwrap().starts_with(&prefix);
                return json(200, json!({"apps": script.apps.iter().filter(of_group).collect::<Vec<_>>()}));
            }
            if let Some(id) = path.strip_prefix("/v2/apps") {
                let app = script.apps.iter().find(|app| app["id"] == id);
                return app.map_or_else(|| absent(id), |app| json(200, json!({"app": app})));
            }
            if let Some(id) = path.strip_prefix("/v2/pods").and_then(|id| id.strip_suffix("::status")) {
                let pod = script.pods.iter().flatten().find(|pod| pod["id"] == id);
                return pod.map_or_else(|| absent(id), |pod| json(200, pod.clone()));
            }
            match script.versions.get(path) {
                Some(spec) => json(200, spec.clone()),
                None => absent(path),
            }
        }
    }
}

pub(super) const VERSION: &str = "2026-01-01T00:00:00.000Z";

/// A host-network app with tasks of the given numbers on 10.0.0.n, port 31000.
pub(super) fn app(id: &str, tasks: &[u8]) -> Value {
    json!({
        "id": id, "version": VERSION, "labels": {}, "networks": [{"mode": "host"}], "healthChecks": [],
        "portDefinitions": [{"port": 10000, "protocol": "tcp", "name": "http", "labels": {}}],
        "deployments": [],
        "tasks": tasks.iter().map(|n| task(id, *n)).collect::<Vec<_>>(),
    })
}

pub(super) fn task_id(app: &str, n: u8) -> String {
    format!("{}.instance-0000-{n}._app.1", app.trim_start_matches('/').replace('/', "_"))
}

pub(super) fn instance_id(app: &str, n: u8) -> String {
    format!("{}.instance-0000-{n}", app.trim_start_matches('/').replace('/', "_"))
}

pub(super) fn task(app: &str, n: u8) -> Value {
    json!({
        "id": task_id(app, n), "appId": app, "host": format!("10.0.0.{n}"), "ports": [31000], "ipAddresses": [],
        "state": "TASK_RUNNING", "stagedAt": VERSION, "startedAt": VERSION, "version": VERSION,
        "healthCheckResults": [],
    })
}

/// The payload of a status update for such a task.
pub(super) fn update(app: &str, n: u8, status: &str) -> Value {
    json!({
        "slaveId": "S1", "taskId": task_id(app, n), "taskStatus": status, "message": "", "appId": app,
        "host": format!("10.0.0.{n}"), "ports": [31000], "version": VERSION, "timestamp": VERSION,
        "ipAddresses": [{"ipAddress": format!("10.0.0.{n}"), "protocol": "IPv4"}],
    })
}
