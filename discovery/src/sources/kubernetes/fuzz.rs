//! What any octets go through that come from a Kubernetes API.

use super::reflector::{Object, Resource, Seen, key};
use super::state::State;
use super::wire::{Bare, Event, Page, Status};
use crate::config::Reach;
use crate::sources::checked::{OneHost, check};

/// Takes each line of `octets` for an event of a watch, a page, a refusal, and for a service, a slice and a node.
///
/// # Panics
/// When a service comes of it that cannot be: a defect.
pub fn kubernetes(octets: &[u8]) {
    let mut state = State::default();
    for line in octets.split(|octet| *octet == b'\n') {
        let _ = serde_json::from_slice::<Event>(line);
        let _ = serde_json::from_slice::<Page>(line);
        let _ = serde_json::from_slice::<Status>(line);
        let mut put = |resource, object: Option<Object>| {
            if let Some(object) = object {
                state.take(resource, None, Seen::Put(object), &mut None);
            }
        };
        put(Resource::Services, serde_json::from_slice(line).ok().map(Object::Service));
        put(Resource::Slices, serde_json::from_slice(line).ok().map(Object::Slice));
        put(Resource::Nodes, serde_json::from_slice(line).ok().map(Object::Node));
    }
    let keys: Vec<String> = state.services.keys().cloned().collect();
    for reach in [Reach::Container, Reach::Published] {
        for service in &keys {
            if let Some(service) = state.build(service, reach, &OneHost) {
                check(&service);
            }
        }
    }
    if let Ok(bare) = serde_json::from_slice::<Bare>(octets) {
        for resource in [Resource::Services, Resource::Slices, Resource::Nodes] {
            state.take(resource, None, Seen::Gone(key(&bare.metadata)), &mut None);
        }
    }
}

#[cfg(test)]
#[test]
fn the_corpus_is_survived() {
    crate::sources::corpus::replay("kubernetes", kubernetes);
}
