//! What the Engine API writes, as far as it is read. Maps and lists may be null, text may be empty.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Anything that may be null or absent.
type Maybe<T> = Option<T>;
pub(super) type Labels = BTreeMap<String, String>;

/// `/containers/json`: only which there are; each is then inspected.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
    pub(super) id: String,
}

/// `/info`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Info {
    #[serde(default)]
    pub(super) name: String,
}

/// `/containers/ID/json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) state: State,
    pub(super) config: Config,
    pub(super) host_config: Maybe<HostConfig>,
    pub(super) network_settings: Maybe<NetworkSettings>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct State {
    pub(super) status: String,
    pub(super) started_at: String,
    pub(super) health: Maybe<HealthState>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HealthState {
    #[serde(default)]
    pub(super) status: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Config {
    pub(super) labels: Maybe<Labels>,
    pub(super) exposed_ports: Maybe<BTreeMap<String, serde::de::IgnoredAny>>,
    pub(super) stop_signal: Maybe<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HostConfig {
    pub(super) network_mode: Maybe<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NetworkSettings {
    pub(super) ports: Maybe<BTreeMap<String, Maybe<Vec<Binding>>>>,
    pub(super) networks: Maybe<BTreeMap<String, Maybe<Attached>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
pub(super) struct Binding {
    pub(super) host_ip: String,
    pub(super) host_port: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Attached {
    #[serde(rename = "IPAddress")]
    pub(super) v4: Maybe<String>,
    #[serde(rename = "GlobalIPv6Address")]
    pub(super) v6: Maybe<String>,
}

/// One line of `/events`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Event {
    #[serde(rename = "Type", default)]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) action: String,
    pub(super) actor: Maybe<Actor>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Actor {
    #[serde(rename = "ID")]
    pub(super) id: String,
    #[serde(rename = "Attributes")]
    pub(super) attributes: Maybe<Labels>,
}

impl Actor {
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.as_ref()?.get(name).map(String::as_str)
    }
}

/// One of `/services`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Service {
    #[serde(rename = "ID")]
    pub(super) id: String,
    pub(super) spec: ServiceSpec,
    pub(super) endpoint: Maybe<Endpoint>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ServiceSpec {
    pub(super) name: String,
    pub(super) labels: Maybe<Labels>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Endpoint {
    pub(super) ports: Maybe<Vec<Port>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Port {
    pub(super) protocol: String,
    pub(super) target_port: u16,
    pub(super) published_port: u16,
    pub(super) publish_mode: String,
}

/// One of `/tasks`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Task {
    #[serde(rename = "ID")]
    pub(super) id: String,
    #[serde(rename = "ServiceID", default)]
    pub(super) service: String,
    #[serde(rename = "NodeID", default)]
    pub(super) node: String,
    #[serde(default)]
    pub(super) slot: u64,
    pub(super) status: TaskStatus,
    #[serde(default)]
    pub(super) desired_state: String,
    pub(super) networks_attachments: Maybe<Vec<Attachment>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TaskStatus {
    #[serde(default)]
    pub(super) state: String,
    #[serde(default)]
    pub(super) timestamp: String,
    pub(super) port_status: Maybe<PortStatus>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PortStatus {
    pub(super) ports: Maybe<Vec<Port>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Attachment {
    pub(super) network: Network,
    pub(super) addresses: Maybe<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Network {
    pub(super) spec: NetworkSpec,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NetworkSpec {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) ingress: bool,
}

/// One of `/nodes`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Node {
    #[serde(rename = "ID")]
    pub(super) id: String,
    pub(super) spec: Maybe<NodeSpec>,
    pub(super) description: Maybe<Description>,
    pub(super) status: Maybe<NodeStatus>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NodeSpec {
    pub(super) labels: Maybe<Labels>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Description {
    #[serde(default)]
    pub(super) hostname: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NodeStatus {
    #[serde(default)]
    pub(super) state: String,
    #[serde(default)]
    pub(super) addr: String,
}
