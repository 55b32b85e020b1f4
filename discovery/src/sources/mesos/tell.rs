//! What is told of a cluster: all of it, or what has changed.

use core::net::IpAddr;
use std::collections::BTreeSet;
use std::sync::Arc;

use portolan_table::{ClusterFact, Contact, FactKey, Instance, NodeFact, Provenance, Scheduler, ServiceName};

use super::convert::Node;
use super::snapshot::{Agent, Framework, Standing};
use super::state::{Due, Placed, State, Touched, scheduler_host};
use super::task::{Task, TaskKey};
use crate::hosts::{Addresses, Hosts};
use crate::source::{Change, Unread};

impl State {
    /// Everything, to be told between the beginning and the end of a list.
    pub(super) fn list(&mut self, hosts: &dyn Hosts) -> Vec<Change> {
        self.touched.clear();
        self.due.clear();
        let mut changes = Vec::new();
        for agent in self.agents.values() {
            changes.extend(agent_facts(agent, hosts));
        }
        changes.extend(self.frameworks.values().map(|framework| scheduler_fact(framework, hosts)));
        let names: Vec<ServiceName> = self.services.keys().cloned().collect();
        for name in names {
            self.touched.insert(name, Touched { all: true, tasks: BTreeSet::new() });
        }
        self.tell_services(hosts, &mut changes);
        self.tell_problems(hosts, &mut changes);
        changes
    }

    /// What has changed since this was last asked.
    pub(super) fn changes(&mut self, hosts: &dyn Hosts) -> Vec<Change> {
        let mut changes = Vec::new();
        for due in std::mem::take(&mut self.due) {
            match due {
                Due::Agent(id) => match self.agents.get(&id) {
                    Some(agent) => changes.extend(agent_facts(agent, hosts)),
                    None => changes.push(Change::RemoveFact(FactKey::Agent(id))),
                },
                Due::Scheduler(id) => changes.push(match self.frameworks.get(&id) {
                    Some(framework) => scheduler_fact(framework, hosts),
                    None => Change::RemoveFact(FactKey::Scheduler(id)),
                }),
                Due::Node(name) => {
                    // Another agent may have this name.
                    let other = self.agents.values().find(|agent| agent.name == name);
                    let told = other.and_then(|agent| node_fact(agent, hosts));
                    changes.push(told.unwrap_or(Change::RemoveNode(name)));
                }
            }
        }
        self.tell_services(hosts, &mut changes);
        self.tell_problems(hosts, &mut changes);
        changes
    }

    fn tell_problems(&mut self, hosts: &dyn Hosts, changes: &mut Vec<Change>) {
        let lost = |agent: &&Agent| {
            agent.standing == Standing::Registered
                && self.by_agent.contains_key(&agent.id)
                && address(&agent.host, hosts).is_empty()
        };
        for agent in self.agents.values().filter(lost).take(10) {
            let message = format!(
                "agent {} ({}) has no address: its tasks get no traffic; check that this node resolves {:?}",
                agent.name, agent.id, agent.host
            );
            changes.push(Change::Problem { place: agent.id.clone(), message });
        }
        for (place, message) in self.problems.drain(..) {
            changes.push(Change::Problem { place: place.into(), message });
        }
    }

    fn tell_services(&mut self, hosts: &dyn Hosts, changes: &mut Vec<Change>) {
        for (name, touched) in std::mem::take(&mut self.touched) {
            let Some(service) = self.services.get_mut(&name) else { continue };
            if service.members.is_empty() {
                self.services.remove(&name);
                if !self.is_partial {
                    changes.push(Change::RemoveService { service: name.as_str().into() });
                    continue;
                }
                changes.extend(touched.tasks.iter().flat_map(|key| removals(&name, key)));
                continue;
            }
            let spec_changed = service.lay_out(&name);
            let nodes = |task: &Task| node_of(self.agents.get(&task.agent), hosts);
            let Some(spec) = service.spec.clone() else { continue };
            if touched.all || spec_changed {
                let instances = service.members.iter().filter_map(|key| {
                    let task = &self.tasks.get(key)?.task;
                    Some(Arc::new(service.instance(task, nodes(task).as_ref())))
                });
                let instances: Vec<Arc<Instance>> = instances.collect();
                if self.is_partial {
                    let gone = touched.tasks.iter().filter(|key| !service.members.contains(*key));
                    changes.extend(gone.flat_map(|key| removals(&name, key)));
                }
                changes.push(match self.is_partial {
                    false => Change::Service { spec, instances },
                    true => Change::ServiceInPart { spec, instances, unread: Unread::Any },
                });
                continue;
            }
            for key in &touched.tasks {
                changes.push(match self.tasks.get(key).filter(|_| service.members.contains(key)) {
                    Some(Placed { task, .. }) => Change::Instance {
                        service: spec.key.clone(),
                        instance: Arc::new(service.instance(task, nodes(task).as_ref())),
                    },
                    None => Change::RemoveInstance { service: spec.key.clone(), id: key.instance_id() },
                });
            }
        }
    }
}

/// A task that is gone may have gone by either of its ids.
fn removals(service: &ServiceName, key: &TaskKey) -> [Change; 2] {
    [key.id.clone(), key.namesake_id()]
        .map(|id| Change::RemoveInstance { service: service.as_str().into(), id })
}

fn address(host: &str, hosts: &dyn Hosts) -> Addresses {
    match host.parse::<IpAddr>() {
        Ok(ip) => [ip].into_iter().collect(),
        Err(_) => hosts.addresses(host),
    }
}

fn node_of(agent: Option<&Agent>, hosts: &dyn Hosts) -> Option<Node> {
    let agent = agent?;
    Some(Node {
        name: agent.name.clone(),
        ip: address(&agent.host, hosts).first().copied(),
        is_resolved: agent.host.parse::<IpAddr>().is_err(),
        zone: agent.zone.clone(),
        region: agent.region.clone(),
    })
}

fn agent_facts(agent: &Agent, hosts: &dyn Hosts) -> impl Iterator<Item = Change> + use<> {
    let addresses = address(&agent.host, hosts);
    let is_literal = agent.host.parse::<IpAddr>().is_ok();
    let fact = ClusterFact::Agent(portolan_table::Agent {
        id: agent.id.clone(),
        name: agent.name.clone(),
        at: Contact { host: agent.host.clone(), addresses, port: agent.port },
        provenance: if is_literal { Provenance::NodeAddress } else { Provenance::NodeNameResolved },
        zone: agent.zone.clone(),
        region: agent.region.clone(),
        is_registered: agent.standing == Standing::Registered,
    });
    [Some(Change::Fact(Arc::new(fact))), node_fact(agent, hosts)].into_iter().flatten()
}

fn node_fact(agent: &Agent, hosts: &dyn Hosts) -> Option<Change> {
    let addresses = address(&agent.host, hosts);
    if addresses.is_empty() || agent.name.is_empty() {
        return None;
    }
    let (zone, region) = (agent.zone.clone(), agent.region.clone());
    Some(Change::Node(Arc::new(NodeFact { name: agent.name.clone(), addresses, zone, region })))
}

fn scheduler_fact(framework: &Framework, hosts: &dyn Hosts) -> Change {
    let (host, port) = scheduler_host(framework).unwrap_or_default();
    let at = Contact { addresses: address(&host, hosts), host, port };
    Change::Fact(Arc::new(ClusterFact::Scheduler(Scheduler {
        id: framework.id.clone(),
        name: framework.name.clone(),
        at,
        is_active: framework.is_active,
        is_connected: framework.is_connected,
        web: framework.web.clone(),
        order: framework.order,
    })))
}
