//! A master made of a listener and a script: it answers from lists in the operator API's form, in both dialects, keeps
//! count of what it was asked, and fails on demand.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::clock;
use crate::sources::fake::read;

/// What goes wrong, once, with the next request of the given name.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// This answer in place of the right one.
    Answer(u16, Vec<u8>),
    /// The right answer, cut off after so many octets of its body.
    Cut(usize),
    /// The connection is closed without an answer.
    Close,
    /// No answer at all.
    Hang,
}

#[derive(Default)]
pub(super) struct Script {
    pub(super) id: String,
    /// Seconds since its election.
    pub(super) leads_for: f64,
    pub(super) agents: Vec<Value>,
    pub(super) recovered: Vec<Value>,
    pub(super) frameworks: Vec<Value>,
    pub(super) tasks: Vec<Value>,
    /// Scheduler addresses, by the framework's id.
    pub(super) pids: Vec<(String, String)>,
    pub(super) heartbeat: Option<f64>,
    /// `Location` of every answer.
    pub(super) redirect: Option<String>,
    /// What `/state` names as the leader; itself by default.
    pub(super) leader: Option<String>,
    /// Subscriptions are refused with this.
    pub(super) refusal: Option<u16>,
    /// The one `Authorization` that is accepted.
    pub(super) authorization: Option<String>,
    /// Names of calls, and targets.
    pub(super) requests: Vec<String>,
    faults: Vec<(String, Fault)>,
    streams: Vec<mpsc::Sender<Vec<u8>>>,
}

pub(super) struct Fake {
    pub(super) address: SocketAddr,
    script: Arc<Mutex<Script>>,
    _server: JoinSet<()>,
}

impl Fake {
    /// A master that has led for an hour.
    pub(super) async fn start(id: &str) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), id)
    }

    fn on(listener: TcpListener, id: &str) -> Self {
        let address = listener.local_addr().unwrap();
        let script = Script {
            id: id.to_owned(),
            leads_for: 3600.0,
            heartbeat: Some(15.0),
            frameworks: vec![framework(0, "marathon")],
            ..Script::default()
        };
        let script = Arc::new(Mutex::new(script));
        let mut server = JoinSet::new();
        let shared = Arc::clone(&script);
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                connections.spawn(serve(connection, address, Arc::clone(&shared)));
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

    pub(super) fn fail(&self, request: &str, fault: Fault) {
        self.script().faults.push((request.to_owned(), fault));
    }

    /// Sends octets on all streams, in one chunk.
    pub(super) async fn send(&self, octets: impl Into<Vec<u8>>) {
        let octets = octets.into();
        let chunk = [format!("{:x}\r\n", octets.len()).as_bytes(), &octets, b"\r\n"].concat();
        let streams = self.script().streams.clone();
        for stream in streams {
            let _ = stream.send(chunk.clone()).await;
        }
    }

    pub(super) async fn event(&self, kind: &str, payload: Value) {
        self.send(record(&json!({"type": kind, kind.to_lowercase(): payload}))).await;
    }

    pub(super) async fn beat(&self) {
        self.send(record(&json!({"type": "HEARTBEAT"}))).await;
    }

    /// Tells of a new task, which is listed from now on.
    pub(super) async fn add(&self, task: Value) {
        self.script().tasks.push(task.clone());
        self.event("TASK_ADDED", json!({"task": task})).await;
    }

    /// Moves a task into `state`: what is listed, and what is told.
    pub(super) async fn move_to(&self, task_id: &str, state: &str, healthy: Option<bool>) {
        let mut status = status(task_id, state, clock::wall_ms() as f64 / 1000.0);
        if let Some(healthy) = healthy {
            status["healthy"] = json!(healthy);
        }
        {
            let mut script = self.script();
            let task = script.tasks.iter_mut().find(|task| task["task_id"]["value"] == task_id).unwrap();
            task["state"] = json!(state);
            task["statuses"].as_array_mut().unwrap().push(status.clone());
        }
        let framework = json!({"value": framework_id(0)});
        let update = json!({"framework_id": framework, "state": state, "status": status});
        self.event("TASK_UPDATED", update).await;
    }

    /// Cuts all streams off, as a death does.
    pub(super) fn cut_streams(&self) {
        self.script().streams.clear();
    }

    /// Waits until this has been asked for so often.
    pub(super) async fn asked(&self, request: &str, times: usize) {
        while self.count(request) < times {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) fn count(&self, request: &str) -> usize {
        self.script().requests.iter().filter(|asked| *asked == request).count()
    }
}

async fn serve(mut connection: TcpStream, address: SocketAddr, script: Arc<Mutex<Script>>) {
    let mut held = Vec::new();
    while let Some(asked) = read(&mut connection, &mut held).await {
        let target = &asked.target;
        // As a master does, to the letter.
        if asked.method == "POST" {
            assert_eq!(asked.header("content-type"), Some("application/json"));
        }
        let call: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
        let name = call["type"].as_str().unwrap_or(target).to_owned();
        let (fault, answer) = {
            let mut script = script.lock().unwrap();
            script.requests.push(name.clone());
            let at = script.faults.iter().position(|(of, _)| *of == name);
            let fault = at.map(|at| script.faults.remove(at).1);
            (fault, script.answer(&name, target, asked.header("authorization"), address))
        };
        let (status, more, body) = match &fault {
            Some(Fault::Answer(status, body)) => (*status, String::new(), body.clone()),
            Some(Fault::Close) => return,
            Some(Fault::Hang) => core::future::pending().await,
            _ => answer,
        };
        if name == "SUBSCRIBE" && status == 200 && fault.is_none() {
            return stream(connection, body, &script).await;
        }
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{more}\r\n", body.len());
        let cut = if let Some(Fault::Cut(at)) = fault { at } else { body.len() };
        if connection.write_all(&[head.as_bytes(), &body[..cut]].concat()).await.is_err() || cut < body.len()
        {
            return;
        }
    }
}

async fn stream(mut connection: TcpStream, first: Vec<u8>, script: &Mutex<Script>) {
    let (send, mut receive) = mpsc::channel::<Vec<u8>>(4096);
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
        first.len()
    );
    script.lock().unwrap().streams.push(send);
    if connection.write_all(&[head.as_bytes(), &first, b"\r\n"].concat()).await.is_err() {
        return;
    }
    while let Some(octets) = receive.recv().await {
        if connection.write_all(&octets).await.is_err() {
            return;
        }
    }
}

impl Script {
    fn answer(
        &self,
        name: &str,
        target: &str,
        authorization: Option<&str>,
        address: SocketAddr,
    ) -> (u16, String, Vec<u8>) {
        let json = |value: Value| {
            (200, "Content-Type: application/json\r\n".to_owned(), value.to_string().into_bytes())
        };
        if let Some(to) = &self.redirect {
            return (307, format!("Location: //{to}{target}\r\n"), Vec::new());
        }
        if self.authorization.is_some() && self.authorization.as_deref() != authorization {
            return (401, "WWW-Authenticate: Basic realm=\"mesos\"\r\n".to_owned(), Vec::new());
        }
        let elected = clock::wall_ms() as f64 / 1000.0 - self.leads_for;
        let ip = json!({"hostname": "master.invalid", "ip": address.ip(), "port": address.port()});
        match name {
            "SUBSCRIBE" => match self.refusal {
                Some(status) => (status, String::new(), b"refused".to_vec()),
                None => (200, String::new(), record(&self.subscribed())),
            },
            "GET_MASTER" => json(json!({"type": "GET_MASTER", "get_master": {
                "elected_time": elected, "master_info": {"id": self.id, "address": ip}}})),
            "/master/state" => json(self.state(address, elected)),
            "/master/state-summary" => json(json!({"frameworks": self.pids.iter()
                .map(|(id, pid)| json!({"id": id, "name": "marathon", "pid": pid})).collect::<Vec<_>>()})),
            _ => (404, String::new(), b"not found".to_vec()),
        }
    }

    /// The first record of a stream.
    pub(super) fn subscribed(&self) -> Value {
        json!({"type": "SUBSCRIBED", "subscribed": {
        "heartbeat_interval_seconds": self.heartbeat,
        "get_state": {
            "get_tasks": {"tasks": self.tasks},
            "get_executors": {},
            "get_frameworks": {"frameworks": self.frameworks},
            "get_agents": {"agents": self.agents, "recovered_agents": self.recovered},
        }}})
    }

    fn state(&self, address: SocketAddr, elected: f64) -> Value {
        let own = format!("master@{address}");
        let frameworks = self.frameworks.iter().map(|framework| {
            let info = &framework["framework_info"];
            let id = &info["id"]["value"];
            let tasks = self.tasks.iter().filter(|task| task["framework_id"]["value"] == *id);
            let pid = self.pids.iter().find(|(of, _)| *id == **of).map(|(_, pid)| pid);
            json!({"id": id, "name": info["name"], "active": true, "connected": true, "pid": pid,
                "tasks": tasks.map(state_task).collect::<Vec<_>>(), "unreachable_tasks": [], "completed_tasks": []})
        });
        let agent = |info: &Value, pid: &Value| json!({"id": info["id"]["value"], "hostname": info["hostname"], "pid": pid});
        let slaves = self.agents.iter().map(|known| agent(&known["agent_info"], &known["pid"]));
        let recovered = self.recovered.iter().map(|info| agent(info, &Value::Null));
        json!({"id": self.id, "pid": own, "leader": self.leader.as_ref().unwrap_or(&own), "elected_time": elected,
            "slaves": slaves.collect::<Vec<_>>(), "recovered_slaves": recovered.collect::<Vec<_>>(),
            "frameworks": frameworks.collect::<Vec<_>>(), "completed_frameworks": []})
    }
}

pub(super) fn record(value: &Value) -> Vec<u8> {
    let text = value.to_string();
    format!("{}\n{text}", text.len()).into_bytes()
}

pub(super) fn framework_id(n: u8) -> String {
    format!("F-000{n}")
}

pub(super) fn framework(n: u8, name: &str) -> Value {
    json!({"framework_info": {"id": {"value": framework_id(n)}, "name": name, "user": "root", "hostname": ""},
        "active": true, "connected": true})
}

/// An agent that listens on 10.0.0.n.
pub(super) fn agent(n: u8) -> Value {
    json!({"agent_info": agent_info(n), "active": true, "pid": format!("slave(1)@10.0.0.{n}:5051")})
}

pub(super) fn agent_info(n: u8) -> Value {
    json!({"id": {"value": format!("A-S{n}")}, "hostname": format!("node-{n}"), "port": 5051})
}

/// A task of framework 0 with one offered port on agent n, not running yet.
pub(super) fn staged(name: &str, n: u8) -> Value {
    json!({
        "name": name, "task_id": {"value": format!("{name}.{n}")}, "framework_id": {"value": framework_id(0)},
        "agent_id": {"value": format!("A-S{n}")}, "state": "TASK_STAGING", "statuses": [],
        "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
            {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 31000, "end": 31000}]}}],
        "discovery": {"visibility": "FRAMEWORK", "name": name,
            "ports": {"ports": [{"number": 31000, "name": "http", "protocol": "tcp"}]}},
    })
}

/// Such a task, running.
pub(super) fn task(name: &str, n: u8) -> Value {
    let mut task = staged(name, n);
    task["state"] = json!("TASK_RUNNING");
    task["statuses"] = json!([status(&format!("{name}.{n}"), "TASK_RUNNING", 1000.0)]);
    task
}

fn status(task_id: &str, state: &str, timestamp: f64) -> Value {
    json!({"task_id": {"value": task_id}, "state": state, "timestamp": timestamp})
}

/// A task in the words of `/state`.
pub(super) fn state_task(task: &Value) -> Value {
    let mut told = task.clone();
    told["id"] = task["task_id"]["value"].clone();
    told["framework_id"] = task["framework_id"]["value"].clone();
    told["slave_id"] = task["agent_id"]["value"].clone();
    if let Some(labels) = task["labels"].get("labels") {
        told["labels"] = labels.clone();
    }
    for status in told["statuses"].as_array_mut().into_iter().flatten() {
        if let Some(labels) = status["labels"].get("labels").cloned() {
            status["labels"] = labels;
        }
    }
    let ports = task["resources"].as_array().into_iter().flatten().find(|one| one["name"] == "ports");
    let ranges = ports.and_then(|ports| ports["ranges"]["range"].as_array()).into_iter().flatten();
    let ranges: Vec<String> = ranges.map(|range| format!("{}-{}", range["begin"], range["end"])).collect();
    told["resources"] = json!({"cpus": 0.1, "ports": format!("[{}]", ranges.join(", "))});
    for gone in ["task_id", "agent_id"] {
        told.as_object_mut().unwrap().remove(gone);
    }
    told
}
