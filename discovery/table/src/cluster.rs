//! What is known of a cluster beside its services: its masters, its agents, its framework schedulers; and how a
//! scheduler placed a single instance. The zones of other programs name all of these.
//!
//! ```text
//!   ClusterFact (one per source and key)          Instance ──► Placement ──► Definition, shared by its instances
//!     Masters · Agent · Scheduler                    agent, offered ports       names as given, discovery, labels
//! ```
//!
//! Names are kept as they were given: each schema has a rule of its own for what a label cannot carry.

use core::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::SharedStr;
use crate::hash::index_hash;
use crate::model::{Labels, Provenance, SourceId};

/// Something about a cluster that is neither a service nor an instance, as one source tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClusterFact {
    /// Its control plane. A source has at most one such fact.
    Masters(Masters),
    /// A node that runs instances.
    Agent(Agent),
    /// A framework's scheduler.
    Scheduler(Scheduler),
}

/// Names one fact of a source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FactKey {
    /// [`ClusterFact::Masters`].
    Masters,
    /// [`ClusterFact::Agent`] with this id.
    Agent(SharedStr),
    /// [`ClusterFact::Scheduler`] with this id.
    Scheduler(SharedStr),
}

impl ClusterFact {
    /// The key under which its source holds it.
    #[must_use]
    pub fn key(&self) -> FactKey {
        match self {
            Self::Masters(_) => FactKey::Masters,
            Self::Agent(agent) => FactKey::Agent(agent.id.clone()),
            Self::Scheduler(scheduler) => FactKey::Scheduler(scheduler.id.clone()),
        }
    }
}

impl ClusterFact {
    /// True if this is the fact with `key`.
    #[must_use]
    pub fn is(&self, key: &FactKey) -> bool {
        match (self, key) {
            (Self::Masters(_), FactKey::Masters) => true,
            (Self::Agent(agent), FactKey::Agent(id)) => agent.id == *id,
            (Self::Scheduler(scheduler), FactKey::Scheduler(id)) => scheduler.id == *id,
            _ => false,
        }
    }
}

impl FactKey {
    /// Where the snapshot's index holds the fact of `source` with this key.
    pub(crate) fn index_hash(&self, source: SourceId) -> u64 {
        let (kind, id): (u8, &str) = match self {
            Self::Masters => (0, ""),
            Self::Agent(id) => (1, id),
            Self::Scheduler(id) => (2, id),
        };
        let [high, low] = source.0.to_be_bytes();
        index_hash(id.as_bytes()) ^ index_hash(&[kind, high, low])
    }
}

/// The masters of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Masters {
    /// The one that leads, as the cluster itself says; `None` if it says nothing that can be used.
    pub leader: Option<Contact>,
    /// All that are known, in the order of the configuration; with leader detection the leader comes first.
    pub listed: Vec<Contact>,
}

/// Where a master, an agent or a scheduler listens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// Host name or address as it was given.
    pub host: SharedStr,
    /// Its addresses, sorted: the literal one, or those to which the name resolves.
    pub addresses: SmallVec<[IpAddr; 1]>,
    /// Its port, 0 if none is known.
    pub port: u16,
}

/// A node that runs instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its id (`…-S3`); [`Placement::agent`] refers to it.
    pub id: SharedStr,
    /// Its host name as the scheduler gives it.
    pub name: SharedStr,
    /// Where it listens; a Mesos agent's `pid`.
    pub at: Contact,
    /// How the address is known.
    pub provenance: Provenance,
    /// Fault domain: zone or rack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<SharedStr>,
    /// Fault domain: region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<SharedStr>,
    /// False while the leader knows it from its registry alone, after a fail-over: it has not come back yet, and what
    /// runs on it is held from before.
    pub is_registered: bool,
}

/// A framework's scheduler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduler {
    /// Its id.
    pub id: SharedStr,
    /// Its name as given; several may have one name.
    pub name: SharedStr,
    /// Where it listens, from its `pid`; from its host name, without a port, if it has none.
    pub at: Contact,
    /// It takes offers.
    pub is_active: bool,
    /// It is connected to the leader.
    pub is_connected: bool,
    /// Where its web interface is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web: Option<SharedStr>,
    /// Its place among the schedulers of its source, as [`Placement::order`].
    #[serde(default)]
    pub order: u32,
}

/// How a scheduler placed an instance: what no other part of [`Instance`](crate::Instance) says and other programs' zones
/// are made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// What it shares with the instances of its kind.
    pub definition: Arc<Definition>,
    /// [`Agent::id`] of the agent it runs on.
    pub agent: SharedStr,
    /// Ranges of ports offered to it on its agent, first and last, as given.
    #[serde(default, skip_serializing_if = "SmallVec::is_empty")]
    pub host_ports: SmallVec<[(u16, u16); 1]>,
    /// The numbers of [`Discovery::ports`] by position, as given, 0 included: ports of the agent or of the container.
    /// Here and not there, because on the host network every instance has its own.
    #[serde(default, skip_serializing_if = "SmallVec::is_empty")]
    pub discovery_ports: SmallVec<[u16; 2]>,
    /// Its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<SharedStr>,
    /// Its place among the instances of its source: the order in which they were first told, which stays with each.
    /// Zones of other programs give a record that several have to the first.
    #[serde(default)]
    pub order: u32,
}

impl Placement {
    /// The ports it gives for discovery, with their numbers.
    pub fn discovery(&self) -> impl Iterator<Item = (u16, &DiscoveryPort)> {
        let ports = self.definition.discovery.iter().flat_map(|discovery| &discovery.ports);
        self.discovery_ports.iter().copied().zip(ports)
    }
}

/// What the instances of one kind have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Definition {
    /// The task's name as given.
    pub name: SharedStr,
    /// The framework's name as given.
    pub scheduler: SharedStr,
    /// [`Scheduler::id`] of the framework.
    pub scheduler_id: SharedStr,
    /// The task's labels.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// What it says for discovery, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery: Option<Discovery>,
}

/// Mesos's `DiscoveryInfo`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Discovery {
    /// The name under which it wants to be found; never empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<SharedStr>,
    /// To whom it is to be visible.
    pub visibility: Visibility,
    /// Its environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<SharedStr>,
    /// Its location.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<SharedStr>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<SharedStr>,
    /// Its ports, in the order given.
    #[serde(default, skip_serializing_if = "<[DiscoveryPort]>::is_empty")]
    pub ports: Box<[DiscoveryPort]>,
    /// Its labels.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// A port of a [`Discovery`], without its number: see [`Placement::discovery_ports`].
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DiscoveryPort {
    /// Its name as given; never empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<SharedStr>,
    /// Its protocol as given (`tcp`, `TCP`, `tcp,udp`, …); never empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<SharedStr>,
    /// To whom it is to be visible, if that differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility: Option<Visibility>,
    /// Its labels.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// To whom something is to be visible.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Inside its framework.
    #[default]
    Framework,
    /// Inside the cluster.
    Cluster,
    /// To everybody.
    External,
}
