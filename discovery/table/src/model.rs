//! What a source says about a cluster, in the table's words.
//!
//! A source turns its API's objects into [`ServiceSpec`]s and [`Instance`]s; everything that differs between
//! schedulers ends there. The types are plain data, serialisable for the last-known-good file, and small:
//! a cluster has a million of them.

use core::fmt;
use core::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::SharedStr;
use crate::cluster::Placement;
use crate::name::ServiceName;
use crate::route::RouteSpec;

/// Number of a source inside one process: its place in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceId(pub u16);

/// How far a source can be trusted right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// No full list yet. What it would hold is unknown, not empty.
    Unsynced,
    /// A full list was read and the stream (or the last poll) is alive.
    Synced,
    /// Its last good state is served, but it cannot be confirmed at present.
    Stale,
}

impl Standing {
    /// The word used in logs, metrics and the admin API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unsynced => "unsynced",
            Self::Synced => "synced",
            Self::Stale => "stale",
        }
    }
}

/// What readers of a snapshot know about one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceStatus {
    /// Its number.
    pub id: SourceId,
    /// Its configured name.
    pub name: SharedStr,
    /// Its type as configured (`marathon`, `file`, …).
    pub kind: &'static str,
    /// Where it stands.
    pub standing: Standing,
    /// A required source without data makes unknown names SERVFAIL and `/readyz` fail.
    pub required: bool,
    /// A first list was read, or a saved one was loaded: its part of the table may be believed.
    pub has_data: bool,
}

/// How the parts of one service name from several sources are put together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MergePolicy {
    /// All endpoints of all sources.
    #[default]
    Union,
    /// Only the endpoints of the best source (lowest priority number) that has one to offer.
    Failover,
    /// The source's part is reachable by its source-qualified names only.
    Isolate,
}

/// Transport protocol of a port or an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// `tcp` or `udp`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// What is spoken on a port, as far as the scheduler says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AppProtocol {
    /// Not said.
    #[default]
    Unknown,
    /// HTTP/1.1.
    Http,
    /// HTTP/1.1 over TLS.
    Https,
    /// HTTP/2 with prior knowledge.
    H2c,
    /// gRPC over HTTP/2 without TLS.
    Grpc,
    /// Any protocol over TLS.
    Tls,
}

/// Names and values as the scheduler's users wrote them, sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels(Box<[(SharedStr, SharedStr)]>);

impl Labels {
    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(n, _)| (**n).cmp(name)).ok()?;
        Some(&self.0[at].1)
    }

    /// All pairs, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (&**n, &**v))
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: Into<SharedStr>, V: Into<SharedStr>> FromIterator<(N, V)> for Labels {
    /// Of a name given twice, the last value stands.
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let map: std::collections::BTreeMap<SharedStr, SharedStr> =
            pairs.into_iter().map(|(n, v)| (n.into(), v.into())).collect();
        Self(map.into_iter().collect())
    }
}

/// One port of a service, as its definition says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSpec {
    /// The port clients are meant to use (Marathon's service port, Kubernetes' `port`); 0 if there is none.
    pub number: u16,
    /// Its name; also the first label of its SRV records.
    pub name: Option<SharedStr>,
    /// Its transport.
    pub protocol: Protocol,
    /// What is spoken on it.
    pub app_protocol: AppProtocol,
    /// Labels on the port alone.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// A virtual address that clients may use in place of the endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualAddress {
    /// `name:port` or `address:port` as the scheduler's label gave it.
    pub given: SharedStr,
    /// Which of the service's ports it leads to.
    pub port_index: u16,
}

/// One service as one source defines it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// Native identity inside the source (`/shop/web`).
    pub key: SharedStr,
    /// The name it has in the native zone.
    pub name: ServiceName,
    /// Its ports, in the order that indexes refer to.
    pub ports: Box<[PortSpec]>,
    /// Its labels.
    pub labels: Labels,
    /// Health checks are defined: without a verdict an instance gets no traffic.
    pub checks_defined: bool,
    /// Version of the definition.
    pub version: Option<SharedStr>,
    /// Overrides the source's own policy for this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<MergePolicy>,
    /// Routing rules that the scheduler's labels or objects ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteSpec>,
    /// Virtual addresses that its labels ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub virtual_addresses: Vec<VirtualAddress>,
}

/// Which network an address belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The node's own.
    Host,
    /// A network of the container runtime, private to the node.
    Container,
    /// A named network on which instances reach each other across nodes.
    Overlay(SharedStr),
}

/// Where an address was read. `explain` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provenance {
    /// The node's address as the scheduler gives it.
    NodeAddress,
    /// The node's host name as the scheduler gives it, resolved by this process.
    NodeNameResolved,
    /// The task's own network status.
    TaskNetwork,
    /// An earlier network status of the task: its latest one says nothing of addresses.
    TaskNetworkBefore,
    /// A label that Mesos's containerizer put on the task's status.
    ContainerizerLabel,
    /// A label that Mesos's Docker containerizer put on the task's status.
    DockerLabel,
    /// The pod's network status.
    PodNetwork,
    /// A registry entry or a configuration file.
    Registered,
}

impl Provenance {
    /// The word used by `explain` and the admin API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NodeAddress => "node address",
            Self::NodeNameResolved => "node name, resolved",
            Self::TaskNetwork => "task network status",
            Self::TaskNetworkBefore => "earlier task network status",
            Self::ContainerizerLabel => "containerizer label of the task status",
            Self::DockerLabel => "docker label of the task status",
            Self::PodNetwork => "pod network status",
            Self::Registered => "registered",
        }
    }
}

/// One address of an instance. Kept small: the network is taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "PlainAddress", into = "PlainAddress")]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Where it was read.
    pub provenance: Provenance,
    is_host: bool,
    overlay: Option<SharedStr>,
}

/// An [`Address`] as it is written down.
#[derive(Serialize, Deserialize)]
struct PlainAddress {
    ip: IpAddr,
    network: Network,
    provenance: Provenance,
}

impl Address {
    /// An address of `network`.
    #[must_use]
    pub fn new(ip: IpAddr, network: Network, provenance: Provenance) -> Self {
        let is_host = network == Network::Host;
        let overlay = if let Network::Overlay(name) = network { Some(name) } else { None };
        Self { ip, provenance, is_host, overlay }
    }

    /// The network it belongs to.
    #[must_use]
    pub fn network(&self) -> Network {
        match &self.overlay {
            Some(name) => Network::Overlay(name.clone()),
            None if self.is_host => Network::Host,
            None => Network::Container,
        }
    }

    /// True on the node's own network.
    #[must_use]
    pub const fn is_of_host(&self) -> bool {
        self.is_host
    }

    /// The name of the overlay network, for putting a shared copy in its place.
    pub fn overlay_mut(&mut self) -> Option<&mut SharedStr> {
        self.overlay.as_mut()
    }
}

impl From<PlainAddress> for Address {
    fn from(plain: PlainAddress) -> Self {
        Self::new(plain.ip, plain.network, plain.provenance)
    }
}

impl From<Address> for PlainAddress {
    fn from(address: Address) -> Self {
        Self { ip: address.ip, network: address.network(), provenance: address.provenance }
    }
}

/// Where an instance can be reached for one port of its service. An instance has one for each port and
/// address family that it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceEndpoint {
    /// Index into [`ServiceSpec::ports`].
    pub port_index: u16,
    /// Index into [`Instance::addresses`].
    pub address_index: u8,
    /// The port to connect to.
    pub number: u16,
}

/// Life of an instance as far as traffic is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InstanceState {
    /// Placed, not started.
    Staging,
    /// Started, not yet running, or running and not yet ready.
    Starting,
    /// Running.
    Running,
    /// Told to stop.
    Killing,
    /// Its node cannot be reached by the scheduler.
    Unreachable,
    /// Ended, lost, failed, gone.
    Terminal,
}

impl InstanceState {
    /// The word used in the admin API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Staging => "staging",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Killing => "killing",
            Self::Unreachable => "unreachable",
            Self::Terminal => "terminal",
        }
    }
}

/// Verdict on an instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// No verdict.
    #[default]
    Unknown,
    /// Its checks pass.
    Healthy,
    /// Its checks fail.
    Unhealthy,
}

impl Health {
    /// The word used in the admin API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// One running task, pod or registration. Identity is (source, [`id`](Self::id)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Native id.
    pub id: SharedStr,
    /// Id by which the same task is known to another source of the same cluster (the Mesos task id),
    /// where it differs from `id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<SharedStr>,
    /// Name (or address) of the node it runs on, as the scheduler gives it.
    pub node: Option<SharedStr>,
    /// Fault domain: zone or rack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<SharedStr>,
    /// Fault domain: region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<SharedStr>,
    /// All its addresses, those of its node included.
    pub addresses: Vec<Address>,
    /// Where its ports are reached, by the source's address policy, ordered by port index.
    pub endpoints: SmallVec<[InstanceEndpoint; 2]>,
    /// Where it is in its life.
    pub state: InstanceState,
    /// The scheduler's verdict. [`Health::Unknown`] after a verdict does not take that verdict back; the
    /// catalog sees to it.
    pub health: Health,
    /// Relative share of traffic among the endpoints of a service; 0 gets none.
    pub weight: u16,
    /// Start time in milliseconds since the Unix epoch; 0 if not known.
    pub started_ms: u64,
    /// Version of the definition it was started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<SharedStr>,
    /// Metadata beyond that of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Arc<Labels>>,
    /// How its scheduler placed it, where other programs' zones are made of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Arc<Placement>>,
}

impl Instance {
    /// A running instance with weight 1 and nothing else known.
    #[must_use]
    pub fn running(id: impl Into<SharedStr>) -> Self {
        Self {
            id: id.into(),
            correlation: None,
            node: None,
            zone: None,
            region: None,
            addresses: Vec::new(),
            endpoints: SmallVec::new(),
            state: InstanceState::Running,
            health: Health::Unknown,
            weight: 1,
            started_ms: 0,
            version: None,
            metadata: None,
            placement: None,
        }
    }

    /// The key under which the same task seen by another source counts as this one.
    #[must_use]
    pub fn correlation_key(&self) -> &SharedStr {
        self.correlation.as_ref().unwrap_or(&self.id)
    }
}

/// A node of the cluster, or a well-known member of its control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFact {
    /// Name as the scheduler gives it (a host name or an address).
    pub name: SharedStr,
    /// Its addresses, sorted.
    pub addresses: SmallVec<[IpAddr; 1]>,
    /// Fault domain: zone or rack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<SharedStr>,
    /// Fault domain: region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<SharedStr>,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
