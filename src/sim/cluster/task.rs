//! One task (for a pod: one instance) and its JSON form.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};

use super::ids::{Millis, timestamp};

/// Where a task is in its life.
///
/// ```text
/// Staging ─► Starting ─► Running ─► Killing ─► (gone)
///     └──────────┴──────────┴── failed ─► (gone, replaced after the back-off)
///                           └── Unreachable ─► Running
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Accepted by an agent.
    Staging,
    /// The executor is up.
    Starting,
    /// The program runs.
    Running,
    /// Told to stop; still serving for its grace period.
    Killing,
    /// Its agent is lost.
    Unreachable,
}

impl State {
    /// The task status: `TASK_RUNNING`.
    #[must_use]
    pub const fn status(self) -> &'static str {
        match self {
            Self::Staging => "TASK_STAGING",
            Self::Starting => "TASK_STARTING",
            Self::Running => "TASK_RUNNING",
            Self::Killing => "TASK_KILLING",
            Self::Unreachable => "TASK_UNREACHABLE",
        }
    }

    /// The condition of instance events: `Running`.
    #[must_use]
    pub const fn condition(self) -> &'static str {
        match self {
            Self::Staging => "Staging",
            Self::Starting => "Starting",
            Self::Running => "Running",
            Self::Killing => "Killing",
            Self::Unreachable => "Unreachable",
        }
    }
}

/// What the checks said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Alive or not.
    pub alive: bool,
    /// Failures in a row.
    pub failures: u32,
    /// When it first succeeded.
    pub first_success: Option<Millis>,
    /// When it succeeded last.
    pub last_success: Option<Millis>,
    /// When it failed last.
    pub last_failure: Option<Millis>,
}

/// One task.
#[derive(Debug, Clone)]
pub struct Task {
    /// Order of launch; unique in the cluster.
    pub number: u64,
    /// Mesos task id (of the first container for pods).
    pub id: Arc<str>,
    /// Instance id.
    pub instance: Arc<str>,
    /// Its app or pod.
    pub app: Arc<str>,
    /// Its agent.
    pub agent: Arc<Agent>,
    /// Host ports, for entries that have one, in order.
    pub ports: Vec<u16>,
    /// Its own address, where it has one.
    pub address: Option<IpAddr>,
    /// State.
    pub state: State,
    /// Since when it is in that state.
    pub since: Millis,
    /// When it was accepted.
    pub staged_at: Millis,
    /// When its program started.
    pub started_at: Option<Millis>,
    /// Version of the definition it runs.
    pub version: Millis,
    /// What the checks said; `None` before the first result.
    pub verdict: Option<Verdict>,
    /// Held at this verdict by the control interface; checks don't change it.
    pub held: bool,
    /// Readiness; `true` when there is no readiness check.
    pub ready: bool,
    /// How many checks report (one result each).
    pub checks: u8,
}

impl Task {
    /// Whether a deployment may count on it: it runs, and is healthy and ready as far as that is checked.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        let healthy = self.checks == 0 || self.verdict.as_ref().is_some_and(|v| v.alive);
        self.state == State::Running && healthy && self.ready
    }
}

/// One agent.
#[derive(Debug, PartialEq, Eq)]
pub struct Agent {
    /// Agent id.
    pub id: String,
    /// Host name or address, as tasks show it.
    pub host: String,
    /// Region of its fault domain.
    pub region: String,
    /// Zone of its fault domain.
    pub zone: String,
}

/// The JSON form of a task; `service_ports` is filled by `/v2/tasks` only.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TaskView<'a> {
    pub(crate) task: &'a Task,
    pub(crate) service_ports: &'a [u16],
    pub(crate) role: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    app_id: &'a str,
    id: &'a str,
    host: &'a str,
    ports: &'a [u16],
    service_ports: &'a [u16],
    ip_addresses: Addresses,
    slave_id: &'a str,
    state: &'static str,
    staged_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    version: String,
    region: &'a str,
    zone: &'a str,
    role: &'a str,
    local_volumes: [(); 0],
    health_check_results: Results<'a>,
}

impl Serialize for TaskView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { task, service_ports, role } = *self;
        Wire {
            app_id: &task.app,
            id: &task.id,
            host: &task.agent.host,
            ports: &task.ports,
            service_ports,
            ip_addresses: Addresses(task.address),
            slave_id: &task.agent.id,
            state: task.state.status(),
            staged_at: timestamp(task.staged_at),
            started_at: task.started_at.map(timestamp),
            version: timestamp(task.version),
            region: &task.agent.region,
            zone: &task.agent.zone,
            role,
            local_volumes: [],
            health_check_results: Results(task),
        }
        .serialize(serializer)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Address {
    ip_address: IpAddr,
    protocol: &'static str,
}

/// At most one address, as the list that Marathon writes.
pub(crate) struct Addresses(pub(crate) Option<IpAddr>);

impl Serialize for Addresses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(usize::from(self.0.is_some())))?;
        if let Some(ip_address) = self.0 {
            let protocol = if ip_address.is_ipv4() { "IPv4" } else { "IPv6" };
            list.serialize_element(&Address { ip_address, protocol })?;
        }
        list.end()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResultWire<'a> {
    alive: bool,
    consecutive_failures: u32,
    instance_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_success: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_success: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_failure: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_failure_cause: Option<&'static str>,
}

struct Results<'a>(&'a Task);

impl Serialize for Results<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(verdict) = &self.0.verdict else { return serializer.serialize_seq(Some(0))?.end() };
        let mut list = serializer.serialize_seq(Some(usize::from(self.0.checks)))?;
        for _ in 0..self.0.checks {
            list.serialize_element(&ResultWire {
                alive: verdict.alive,
                consecutive_failures: verdict.failures,
                instance_id: &self.0.instance,
                first_success: verdict.first_success.map(timestamp),
                last_success: verdict.last_success.map(timestamp),
                last_failure: verdict.last_failure.map(timestamp),
                last_failure_cause: verdict.last_failure.map(|_| "503 Service Unavailable"),
            })?;
        }
        list.end()
    }
}
