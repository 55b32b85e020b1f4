//! What kube-apiserver 1.36 answered, where the recordings lie beside the repository.

use std::path::PathBuf;

use serde_json::Value;

use super::super::convert;
use super::super::reflector::{Object, Resource, Seen};
use super::super::state::State;
use super::super::wire::{Event, Page};
use super::fake::status;
use crate::config::Reach;
use crate::hosts::{Addresses, Hosts};
use crate::sources::told::endpoints;

struct Known;

impl Hosts for Known {
    fn addresses(&self, name: &str) -> Addresses {
        (name == "db.example.com").then(|| [203, 0, 113, 5].into()).into_iter().collect()
    }
}

fn recorded(name: &str) -> Option<String> {
    let shared = std::env::var_os("PORTOLAN_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"));
    let folder = shared.join("fixtures/captures/kubernetes");
    folder.exists().then(|| std::fs::read_to_string(folder.join(name)).unwrap())
}

fn read(resource: Resource, text: &str) -> Object {
    match resource {
        Resource::Services => Object::Service(serde_json::from_str(text).unwrap()),
        Resource::Slices => Object::Slice(serde_json::from_str(text).unwrap()),
        Resource::Nodes => Object::Node(serde_json::from_str(text).unwrap()),
    }
}

fn listed() -> Option<State> {
    let mut state = State::default();
    for (resource, name) in [
        (Resource::Services, "list-services.json"),
        (Resource::Slices, "list-endpointslices.json"),
        (Resource::Nodes, "list-nodes.json"),
    ] {
        let page: Page = serde_json::from_str(&recorded(name)?).unwrap();
        assert!(!page.metadata.resource_version.is_empty());
        let mut seen = None;
        state.take(resource, None, Seen::ListBegins, &mut seen);
        for item in page.items.unwrap() {
            state.take(resource, None, Seen::Put(read(resource, item.get())), &mut seen);
        }
        state.take(resource, None, Seen::ListEnds, &mut seen);
    }
    Some(state)
}

/// A line for each service: its ports and where it is reached.
fn shown(state: &mut State, reach: Reach) -> Vec<String> {
    let keys: Vec<String> = state.services.keys().cloned().collect();
    let line = |key: String| {
        let (spec, instances) = state.build(&key, reach, &Known).unwrap();
        let ports: Vec<String> =
            spec.ports.iter().map(|p| format!("{}:{}", p.name.as_deref().unwrap_or(""), p.number)).collect();
        let places: Vec<String> = instances.iter().flat_map(|i| endpoints(i)).collect();
        format!("{} {ports:?} {places:?}", spec.name)
    };
    keys.into_iter().map(line).collect()
}

#[test]
fn lists_become_services() {
    let Some(mut state) = listed() else { return };
    assert_eq!(
        shown(&mut state, Reach::Container),
        [
            "kubernetes.default [\"https:443\"] []",
            "db.demo [\"sql:5432\"] []",
            "ext.demo [] []",
            "lb.demo [\"https:443\"] [\"10.1.0.21:8443\", \"10.1.1.22:8443\"]",
            "np.demo [\":80\"] [\"10.1.0.21:8080\", \"10.1.1.22:8080\"]",
            "web.demo [\"http:80\", \"dns:53\"] [\"10.1.0.21:8080\", \"10.1.0.21:5353\", \"10.1.1.22:8080\", \"10.1.1.22:5353\"]",
        ]
    );
    assert_eq!(convert::external_name(&state.services["demo/ext"]), Some("db.example.com"));
    let nodes = shown(&mut state, Reach::Published);
    assert!(nodes[4].starts_with("np.demo [\":80\"] [\"192.0.2.1:30080\""), "{}", nodes[4]);
    assert!(state.problems.is_empty(), "{:?}", state.problems);
}

#[test]
fn watches_are_read_to_their_end() {
    let Some(mut state) = listed() else { return };
    let mut kinds = Vec::new();
    for (resource, name) in
        [(Resource::Slices, "watch-endpointslices.jsonl"), (Resource::Services, "watch-services.jsonl")]
    {
        for line in recorded(name).unwrap().lines() {
            let event: Event = serde_json::from_str(line).unwrap();
            kinds.push(event.kind.clone());
            match &*event.kind {
                "ADDED" | "MODIFIED" => {
                    state.take(resource, None, Seen::Put(read(resource, event.object.get())), &mut None);
                }
                "DELETED" => {
                    let bare: super::super::wire::Bare = serde_json::from_str(event.object.get()).unwrap();
                    let key = super::super::reflector::key(&bare.metadata);
                    state.take(resource, None, Seen::Gone(key), &mut None);
                }
                _ => {}
            }
        }
    }
    for kind in ["ADDED", "MODIFIED", "DELETED", "BOOKMARK"] {
        assert!(kinds.iter().any(|told| told == kind), "{kind}");
    }
    assert!(!shown(&mut state, Reach::Container).iter().any(|line| line.starts_with("extra.")));
}

/// Every member of what the fake refuses with is what the real one has there.
#[test]
fn the_fake_refuses_as_the_real_one_does() {
    let Some(answer) = recorded("error-410-watch.http") else { return };
    let line = answer.lines().last().unwrap();
    let real: Value = serde_json::from_str(line).unwrap();
    let ours = status(410, "Expired", "too old resource version: 281 (347)");
    assert_eq!(real, serde_json::json!({"type": "ERROR", "object": ours}));
    let (_, body) = recorded("error-403.http")
        .map(|text| {
            let (head, body) = text.split_once("{\n").unwrap();
            (head.to_owned(), format!("{{{body}"))
        })
        .unwrap();
    let real: Value = serde_json::from_str(&body).unwrap();
    let ours = status(403, "Forbidden", "no");
    for name in ["kind", "apiVersion", "status", "reason", "code"] {
        assert_eq!(real[name], ours[name], "{name}");
    }
}
