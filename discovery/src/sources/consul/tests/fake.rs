//! A Consul made of a table: names, instances and indexes, with blocking queries.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::sources::fake::{Asked, Fake, Reply};

#[derive(Default)]
pub(super) struct State {
    /// Of the last change at all.
    pub(super) index: u64,
    /// Instances by service, with the index of the service's last change.
    pub(super) services: BTreeMap<String, (u64, Vec<Value>)>,
    catalog_index: u64,
    /// The one token that may read; the others see nothing.
    pub(super) token: Option<String>,
    /// The token may read services and not nodes.
    pub(super) without_nodes: bool,
    /// Status of every answer, in place of a good one.
    pub(super) status: Option<u16>,
    /// Datacenters asked for.
    pub(super) datacenters: Vec<Option<String>>,
    /// Questions that are open, and the most there ever were.
    pub(super) open: usize,
    pub(super) open_max: usize,
}

pub(super) struct Consul {
    pub(super) http: Fake,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

/// One instance as Consul writes it.
pub(super) fn entry(node: &str, id: &str, address: &str, port: u16, status: &str) -> Value {
    json!({
        "Node": {"ID": "", "Node": node, "Address": "192.0.2.1", "Datacenter": "dc1", "TaggedAddresses": null,
                 "Meta": null, "CreateIndex": 11, "ModifyIndex": 12},
        "Service": {"ID": id, "Service": "web", "Tags": [], "Address": address, "Meta": null, "Port": port,
                    "Weights": {"Passing": 1, "Warning": 1}, "EnableTagOverride": false,
                    "Proxy": {"Mode": "", "MeshGateway": {}, "Expose": {}}, "Connect": {},
                    "CreateIndex": 18, "ModifyIndex": 18},
        "Checks": [{"Node": node, "CheckID": format!("{id}-ttl"), "Name": "check", "Status": status, "Notes": "",
                    "Output": "", "ServiceID": id, "ServiceName": "web", "ServiceTags": [], "Type": "ttl",
                    "Interval": "", "Timeout": "", "ExposedPort": 0, "Definition": {},
                    "CreateIndex": 18, "ModifyIndex": 18}],
    })
}

impl Consul {
    pub(super) async fn start() -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        state.lock().unwrap().index = 10;
        let (changed, watched) = watch::channel(10);
        let shared = Arc::clone(&state);
        let http = Fake::start(move |asked| answer(asked, Arc::clone(&shared), watched.clone())).await;
        Self { http, state, changed }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn put(&self, service: &str, entries: Vec<Value>) {
        self.change(|state, index| {
            if state.services.insert(service.to_owned(), (index, entries)).is_none() {
                state.catalog_index = index;
            }
        });
    }

    pub(super) fn remove(&self, service: &str) {
        self.change(|state, index| {
            state.services.remove(service);
            state.catalog_index = index;
        });
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut State, u64)) {
        let index = {
            let mut state = self.state();
            state.index += 1;
            let index = state.index;
            change(&mut state, index);
            index
        };
        self.changed.send_replace(index);
    }

    /// All open questions are answered.
    pub(super) fn wake(&self) {
        self.changed.send_modify(|_| {});
    }
}

async fn answer(asked: Asked, state: Arc<Mutex<State>>, mut changed: watch::Receiver<u64>) -> Reply {
    let wait: u64 = asked.parameter("wait").map_or(0, |wait| wait.trim_end_matches("ms").parse().unwrap());
    let index: u64 = asked.parameter("index").map_or(0, |index| index.parse().unwrap());
    {
        let mut state = state.lock().unwrap();
        state.datacenters.push(asked.parameter("dc").map(str::to_owned));
        state.open += 1;
        state.open_max = state.open_max.max(state.open);
    }
    let end = tokio::time::Instant::now() + Duration::from_millis(wait);
    let reply = loop {
        changed.borrow_and_update();
        let (now, reply) = at_once(&asked, &state.lock().unwrap());
        if index == 0 || now > index || now == 0 {
            break reply;
        }
        match tokio::time::timeout_at(end, changed.changed()).await {
            Ok(Ok(())) => {}
            _ => break reply,
        }
    };
    state.lock().unwrap().open -= 1;
    reply
}

/// The answer as of now and its index; 0 for a refusal.
fn at_once(asked: &Asked, state: &State) -> (u64, Reply) {
    if let Some(status) = state.status {
        return (0, Reply::status(status));
    }
    let shown = asked.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let (denies, may_read) = match (&state.token, shown) {
        (None, _) => (false, true),
        (Some(_), None) => (true, false),
        (Some(token), Some(shown)) if token == shown => (true, true),
        (Some(_), Some(_)) => return (0, Reply::status(403)),
    };
    let (index, body) = match asked.path().strip_prefix("/v1/health/service/") {
        Some(name) => {
            let name = percent_encoding::percent_decode_str(name).decode_utf8().unwrap();
            let found = state.services.get(&*name).filter(|_| may_read && !state.without_nodes);
            let (index, entries) = found.cloned().unwrap_or((state.index, Vec::new()));
            (index, Value::Array(entries))
        }
        None => {
            assert_eq!(asked.path(), "/v1/catalog/services");
            let names = state.services.keys().filter(|_| may_read);
            (state.catalog_index.max(1), names.map(|name| (name.clone(), json!([]))).collect())
        }
    };
    let policy = if denies { "deny" } else { "allow" };
    let reply = Reply::json(body.to_string());
    (index, reply.with("X-Consul-Index", &index.to_string()).with("X-Consul-Default-Acl-Policy", policy))
}
