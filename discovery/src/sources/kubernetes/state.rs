//! What is known of a cluster: services, their slices, nodes; and what became of a service when something changed.

use std::collections::{BTreeMap, BTreeSet};

use portolan_table::SharedStr;

use super::convert::{self, Place};
use super::reflector::{Object, Resource, Seen, key};
use super::wire;
use crate::config::Reach;
use crate::hosts::Hosts;
use crate::sources::telling::Service;

/// The label of a slice that names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Everything, by key.
#[derive(Default)]
pub(super) struct State {
    pub(super) services: BTreeMap<String, wire::Service>,
    slices: BTreeMap<String, wire::Slice>,
    by_service: BTreeMap<String, BTreeSet<String>>,
    pub(super) nodes: BTreeMap<String, Place>,
    /// Services whose telling may be out of date.
    pub(super) touched: BTreeSet<String>,
    /// Nodes likewise.
    pub(super) touched_nodes: BTreeSet<String>,
    /// What is odd, by the key under which a service is held or the object's own.
    pub(super) problems: Vec<(SharedStr, String)>,
}

/// A list while it is read: what it has named.
pub(super) type Listed = BTreeSet<String>;

impl State {
    /// Takes in what was seen of `resource` in `namespace`.
    pub(super) fn take(
        &mut self,
        resource: Resource,
        namespace: Option<&str>,
        seen: Seen,
        listed: &mut Option<Listed>,
    ) {
        match seen {
            Seen::ListBegins => *listed = Some(Listed::new()),
            Seen::Put(object) => {
                let key = self.put(object);
                if let Some(listed) = listed {
                    listed.insert(key);
                }
            }
            Seen::Odd(key, message) => {
                let kind = match resource {
                    Resource::Services => "",
                    Resource::Slices => "endpoint slice ",
                    Resource::Nodes => "node ",
                };
                self.problems.push((format!("{kind}{key}").into(), message));
                if let Some(listed) = listed {
                    listed.insert(key);
                }
            }
            Seen::Gone(key) => self.remove(resource, &key),
            Seen::ListEnds => {
                let Some(listed) = listed.take() else { return };
                for key in self.unlisted(resource, namespace, &listed) {
                    self.remove(resource, &key);
                }
            }
            Seen::Alive => {}
        }
    }

    fn unlisted(&self, resource: Resource, namespace: Option<&str>, listed: &Listed) -> Vec<String> {
        let prefix = namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default();
        let gone = |key: &&String| key.starts_with(&prefix) && !listed.contains(*key);
        match resource {
            Resource::Services => self.services.keys().filter(gone).cloned().collect(),
            Resource::Slices => self.slices.keys().filter(gone).cloned().collect(),
            Resource::Nodes => self.nodes.keys().filter(|key| !listed.contains(*key)).cloned().collect(),
        }
    }

    fn put(&mut self, object: Object) -> String {
        match object {
            Object::Service(service) => {
                let key = key(&service.metadata);
                self.touched.insert(key.clone());
                self.services.insert(key.clone(), service);
                key
            }
            Object::Slice(slice) => {
                let key = key(&slice.metadata);
                self.remove(Resource::Slices, &key);
                if let Some(service) = service_of(&slice) {
                    self.touched.insert(service.clone());
                    self.by_service.entry(service).or_default().insert(key.clone());
                }
                self.slices.insert(key.clone(), slice);
                key
            }
            Object::Node(node) => {
                let (name, place) = convert::node(node);
                if self.nodes.get(&name) != Some(&place) {
                    self.nodes.insert(name.clone(), place);
                    self.touch_node(&name);
                }
                name
            }
        }
    }

    fn remove(&mut self, resource: Resource, key: &str) {
        match resource {
            Resource::Services => {
                if self.services.remove(key).is_some() {
                    self.touched.insert(key.to_owned());
                }
            }
            Resource::Slices => {
                let Some(service) = self.slices.remove(key).as_ref().and_then(service_of) else { return };
                if let Some(slices) = self.by_service.get_mut(&service) {
                    slices.remove(key);
                    if slices.is_empty() {
                        self.by_service.remove(&service);
                    }
                }
                self.touched.insert(service);
            }
            Resource::Nodes => {
                if self.nodes.remove(key).is_some() {
                    self.touch_node(key);
                }
            }
        }
    }

    /// A node has changed in what matters, which is rare: its services are looked for.
    fn touch_node(&mut self, name: &str) {
        self.touched_nodes.insert(name.to_owned());
        let at_node = |slice: &&wire::Slice| {
            slice.endpoints.iter().flatten().any(|endpoint| endpoint.node_name.as_deref() == Some(name))
        };
        let touched: Vec<String> = self.slices.values().filter(at_node).filter_map(service_of).collect();
        self.touched.extend(touched);
    }

    /// The service as it is now; `None` if it is gone.
    pub(super) fn build(&mut self, key: &str, reach: Reach, hosts: &dyn Hosts) -> Option<Service> {
        let service = self.services.get(key)?;
        let slices = self.by_service.get(key).into_iter().flatten().filter_map(|key| self.slices.get(key));
        let mut problems = Vec::new();
        let built = convert::service(key, service, slices, &self.nodes, reach, hosts, &mut problems);
        self.problems.extend(problems.into_iter().map(|problem| (key.into(), problem)));
        built
    }
}

fn service_of(slice: &wire::Slice) -> Option<String> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some(format!("{}/{name}", slice.metadata.namespace))
}
