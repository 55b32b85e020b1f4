//! An API server made of a table with versions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::sources::fake::{Asked, Fake, Reply};

#[derive(Default)]
pub(super) struct State {
    version: u64,
    /// By plural, then by key.
    objects: BTreeMap<String, BTreeMap<String, Value>>,
    /// Version, plural, event.
    history: Vec<(u64, String, Value)>,
    /// Watches from before this are too old.
    oldest: u64,
    watchers: Vec<(String, Option<String>, mpsc::Sender<Vec<u8>>)>,
    /// Plurals that may not be read.
    pub(super) forbidden: BTreeSet<String>,
    pub(super) token: Option<String>,
    /// The next page that is asked for by its continue token is gone.
    pub(super) page_is_gone: bool,
    /// Watches are opened and stay silent.
    pub(super) mute: bool,
}

pub(super) struct Server {
    pub(super) http: Fake,
    state: Arc<Mutex<State>>,
}

pub(super) fn service(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({"metadata": {"name": name, "namespace": namespace, "labels": {"app": name}}, "spec": spec})
}

pub(super) fn web_ports() -> Value {
    json!({"type": "ClusterIP", "clusterIP": "10.96.0.9", "ports": [
        {"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080, "nodePort": 30080, "appProtocol": "http"},
    ]})
}

/// A slice with one endpoint for each pair of pod and address.
pub(super) fn slice(namespace: &str, name: &str, of: &str, pods: &[(&str, &str, bool)]) -> Value {
    let endpoint = |(pod, ip, ready): &(&str, &str, bool)| {
        json!({"addresses": [ip], "conditions": {"ready": ready, "serving": ready, "terminating": false},
               "nodeName": "n1", "zone": "z1",
               "targetRef": {"kind": "Pod", "namespace": namespace, "name": pod, "uid": format!("uid-{pod}")}})
    };
    let endpoints: Vec<Value> = pods.iter().map(endpoint).collect();
    json!({"metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": of}},
           "addressType": if pods.iter().any(|(_, ip, _)| ip.contains(':')) { "IPv6" } else { "IPv4" },
           "endpoints": endpoints, "ports": [{"name": "http", "protocol": "TCP", "port": 8080}]})
}

pub(super) fn node(name: &str, ip: &str, region: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": "z1",
                                                 "topology.kubernetes.io/region": region}},
           "status": {"addresses": [{"type": "InternalIP", "address": ip}, {"type": "Hostname", "address": name}]}})
}

fn key(object: &Value) -> String {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text("namespace"), text("name"))
}

impl Server {
    pub(super) async fn start() -> Self {
        let state: Arc<Mutex<State>> = Arc::new(Mutex::new(State { version: 100, ..State::default() }));
        let shared = Arc::clone(&state);
        let http = Fake::start(move |asked| {
            let reply = answer(&asked, &mut shared.lock().unwrap());
            async move { reply }
        });
        Self { http: http.await, state }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn put(&self, plural: &str, mut object: Value) {
        let mut state = self.state();
        state.version += 1;
        let version = state.version;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let of = state.objects.entry(plural.to_owned()).or_default();
        let kind = if of.insert(key(&object), object.clone()).is_some() { "MODIFIED" } else { "ADDED" };
        state.happened(plural, json!({"type": kind, "object": object}));
    }

    pub(super) fn delete(&self, plural: &str, namespace: &str, name: &str) {
        let mut state = self.state();
        state.version += 1;
        let version = state.version;
        let of = state.objects.entry(plural.to_owned()).or_default();
        let mut object = of.remove(&format!("{namespace}/{name}")).unwrap();
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        state.happened(plural, json!({"type": "DELETED", "object": object}));
    }

    /// Every watch gets a bookmark.
    pub(super) fn bookmark(&self) {
        let state = self.state();
        let bookmark = json!({"type": "BOOKMARK", "object": {"kind": "Service", "apiVersion": "v1",
            "metadata": {"resourceVersion": state.version.to_string()}}});
        for (_, _, watcher) in &state.watchers {
            let _ = watcher.try_send(format!("{bookmark}\n").into_bytes());
        }
    }

    /// All watches end in order.
    pub(super) fn end_watches(&self) {
        self.state().watchers.clear();
    }

    /// History is forgotten, and watches end.
    pub(super) fn compact(&self) {
        let mut state = self.state();
        state.version += 1;
        state.oldest = state.version;
        state.history.clear();
    }

    /// How often a list of this plural was begun.
    pub(super) fn lists(&self, plural: &str) -> usize {
        let is_list = |asked: &&Asked| {
            asked.path().ends_with(plural)
                && asked.parameter("watch").is_none()
                && asked.parameter("continue").is_none()
        };
        self.http.asked().iter().filter(is_list).count()
    }
}

impl State {
    fn happened(&mut self, plural: &str, event: Value) {
        let line = format!("{event}\n").into_bytes();
        let namespace = event["object"]["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        if !self.mute {
            self.watchers.retain(|(of, wanted, watcher)| {
                let fits = of == plural && wanted.as_ref().is_none_or(|wanted| *wanted == namespace);
                !fits || watcher.try_send(line.clone()).is_ok()
            });
        }
        self.history.push((self.version, plural.to_owned(), event));
    }
}

pub(super) fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
           "reason": reason, "code": code})
}

fn answer(asked: &Asked, state: &mut State) -> Reply {
    let refusal = |code: u16, reason: &str, message: &str| {
        let body = status(code, reason, message).to_string();
        Reply::Whole(
            code,
            vec![("Content-Type".to_owned(), "application/json".to_owned())],
            body.into_bytes(),
        )
    };
    if asked.path() == "/version" {
        return Reply::json("{}");
    }
    if let Some(token) = &state.token
        && asked.header("authorization") != Some(&format!("Bearer {token}"))
    {
        return refusal(401, "Unauthorized", "Unauthorized");
    }
    let parts: Vec<&str> = asked.path().split('/').collect();
    let plural = parts.last().copied().unwrap_or_default().to_owned();
    let namespace = parts.iter().position(|part| *part == "namespaces").map(|at| parts[at + 1].to_owned());
    if state.forbidden.contains(&plural) {
        let message = format!("{plural} is forbidden: User \"portolan\" cannot list resource \"{plural}\"");
        return refusal(403, "Forbidden", &message);
    }
    let fits = |object: &Value| {
        namespace.as_ref().is_none_or(|namespace| object["metadata"]["namespace"] == json!(namespace))
    };
    if asked.parameter("watch").is_some() {
        return watch(asked, state, &plural, namespace.clone(), &fits);
    }
    let from: usize = match asked.parameter("continue") {
        Some(_) if std::mem::take(&mut state.page_is_gone) => {
            return refusal(410, "Expired", "The provided continue parameter is too old");
        }
        Some(from) => from.parse().unwrap(),
        None => 0,
    };
    let limit: usize = asked.parameter("limit").map_or(usize::MAX, |limit| limit.parse().unwrap());
    let all: Vec<Value> = state
        .objects
        .get(&plural)
        .into_iter()
        .flat_map(BTreeMap::values)
        .filter(|o| fits(o))
        .cloned()
        .collect();
    let items: Vec<Value> = all.iter().skip(from).take(limit).cloned().collect();
    let mut metadata = json!({"resourceVersion": state.version.to_string()});
    if from + items.len() < all.len() {
        metadata["continue"] = json!((from + items.len()).to_string());
    }
    Reply::json(json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}).to_string())
}

fn watch(
    asked: &Asked,
    state: &mut State,
    plural: &str,
    namespace: Option<String>,
    fits: &dyn Fn(&Value) -> bool,
) -> Reply {
    assert_eq!(asked.parameter("allowWatchBookmarks"), Some("true"));
    let from: u64 = asked.parameter("resourceVersion").unwrap().parse().unwrap();
    let (send, receive) = mpsc::channel(4096);
    if from < state.oldest {
        let message = format!("too old resource version: {from} ({})", state.oldest);
        let error = json!({"type": "ERROR", "object": status(410, "Expired", &message)});
        send.try_send(format!("{error}\n").into_bytes()).unwrap();
        return Reply::Stream(Vec::new(), receive);
    }
    for (version, of, event) in &state.history {
        if *version > from && of == plural && fits(&event["object"]) && !state.mute {
            send.try_send(format!("{event}\n").into_bytes()).unwrap();
        }
    }
    state.watchers.push((plural.to_owned(), namespace, send));
    Reply::Stream(Vec::new(), receive)
}
