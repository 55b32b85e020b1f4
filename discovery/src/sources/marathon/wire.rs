//! Marathon's own types, as much of them as matters here.
//!
//! Everything is optional, null counts as absent, members nobody asked for are skipped. Text is borrowed from
//! the answer where it holds no escape. Tasks and pod instances stay raw at first, so that an odd one costs
//! only itself.

use core::fmt;
use std::borrow::Cow;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::value::RawValue;

pub(super) use crate::lenient::{List, Number, Text, each, text};

/// An app of `/v2/apps`, in every form since Marathon 1.0.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct App<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) labels: Option<Labels<'a>>,
    #[serde(borrow)]
    pub(super) networks: Option<List<NetworkEntry<'a>>>,
    #[serde(borrow)]
    pub(super) port_definitions: Option<List<PortDefinition<'a>>>,
    pub(super) ports: Option<List<Number>>,
    #[serde(borrow)]
    pub(super) container: Option<Container<'a>>,
    #[serde(borrow)]
    pub(super) ip_address: Option<IpAddress<'a>>,
    pub(super) health_checks: Option<List<IgnoredAny>>,
    pub(super) readiness_checks: Option<List<IgnoredAny>>,
    #[serde(borrow)]
    pub(super) readiness_check_results: Option<List<ReadinessResult<'a>>>,
    pub(super) deployments: Option<List<IgnoredAny>>,
    #[serde(borrow)]
    pub(super) version: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) version_info: Option<VersionInfo<'a>>,
    #[serde(borrow)]
    pub(super) tasks: Option<Vec<&'a RawValue>>,
}

/// The answer to `/v2/apps/{id}`.
#[derive(Debug, Deserialize)]
pub(super) struct OneApp<'a> {
    #[serde(borrow)]
    pub(super) app: &'a RawValue,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NetworkEntry<'a> {
    #[serde(borrow)]
    pub(super) mode: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PortDefinition<'a> {
    pub(super) port: Option<Number>,
    #[serde(borrow)]
    pub(super) protocol: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) labels: Option<Labels<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Container<'a> {
    #[serde(borrow)]
    pub(super) docker: Option<Docker<'a>>,
    #[serde(borrow)]
    pub(super) port_mappings: Option<List<PortMapping<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Docker<'a> {
    #[serde(borrow)]
    pub(super) network: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) port_mappings: Option<List<PortMapping<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PortMapping<'a> {
    pub(super) container_port: Option<Number>,
    pub(super) host_port: Option<Number>,
    pub(super) service_port: Option<Number>,
    #[serde(borrow)]
    pub(super) protocol: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) labels: Option<Labels<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Discovery<'a> {
    #[serde(borrow)]
    pub(super) ports: Option<List<DiscoveryPort<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DiscoveryPort<'a> {
    pub(super) number: Option<Number>,
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) protocol: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) labels: Option<Labels<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct VersionInfo<'a> {
    #[serde(borrow)]
    pub(super) last_config_change_at: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ReadinessResult<'a> {
    #[serde(borrow)]
    pub(super) task_id: Option<Text<'a>>,
    pub(super) ready: Option<bool>,
}

/// A task of an app.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Task<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) host: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) state: Option<Text<'a>>,
    pub(super) ports: Option<List<Number>>,
    #[serde(borrow)]
    pub(super) ip_addresses: Option<List<TaskAddress<'a>>>,
    #[serde(borrow)]
    pub(super) staged_at: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) started_at: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) version: Option<Text<'a>>,
    pub(super) health_check_results: Option<List<HealthResult>>,
    #[serde(borrow)]
    pub(super) region: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) zone: Option<Text<'a>>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct TaskAddress<'a> {
    #[serde(borrow)]
    pub(super) ip_address: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) protocol: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct HealthResult {
    pub(super) alive: Option<bool>,
}

/// An element of `/v2/pods/::status`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PodStatus<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) spec: Option<PodSpec<'a>>,
    #[serde(borrow)]
    pub(super) instances: Option<Vec<&'a RawValue>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PodSpec<'a> {
    #[serde(borrow)]
    pub(super) version: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) labels: Option<Labels<'a>>,
    #[serde(borrow)]
    pub(super) networks: Option<List<NetworkEntry<'a>>>,
    #[serde(borrow)]
    pub(super) containers: Option<List<PodContainer<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodContainer<'a> {
    #[serde(borrow)]
    pub(super) endpoints: Option<List<PodEndpoint<'a>>>,
    pub(super) health_check: Option<IgnoredAny>,
    #[serde(borrow)]
    pub(super) labels: Option<Labels<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodEndpoint<'a> {
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    pub(super) container_port: Option<Number>,
    pub(super) host_port: Option<Number>,
    #[serde(borrow)]
    pub(super) protocol: Option<List<Text<'a>>>,
    #[serde(borrow)]
    pub(super) labels: Option<Labels<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodInstance<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) status: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) status_since: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) agent_hostname: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) agent_region: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) agent_zone: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) networks: Option<List<PodNetwork<'a>>>,
    #[serde(borrow)]
    pub(super) containers: Option<List<ContainerStatus<'a>>>,
    #[serde(borrow)]
    pub(super) spec_reference: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PodNetwork<'a> {
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) addresses: Option<List<Text<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ContainerStatus<'a> {
    #[serde(borrow)]
    pub(super) status: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) container_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) endpoints: Option<List<EndpointStatus<'a>>>,
    #[serde(borrow)]
    pub(super) conditions: Option<List<Condition<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct EndpointStatus<'a> {
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    pub(super) allocated_host_port: Option<Number>,
    pub(super) healthy: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Condition<'a> {
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) value: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) reason: Option<Text<'a>>,
}

/// Any event of `/v2/events`: the members of all types that are listened to.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Event<'a> {
    #[serde(borrow)]
    pub(super) event_type: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) timestamp: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) app_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) run_spec_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) task_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) instance_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) task_status: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) condition: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) host: Option<Text<'a>>,
    pub(super) ports: Option<List<Number>>,
    #[serde(borrow)]
    pub(super) ip_addresses: Option<List<TaskAddress<'a>>>,
    #[serde(borrow)]
    pub(super) version: Option<Text<'a>>,
    pub(super) alive: Option<bool>,
    pub(super) healthy: Option<bool>,
    #[serde(borrow)]
    pub(super) group_id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) uri: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) app_definition: Option<AppReference<'a>>,
    #[serde(borrow)]
    pub(super) plan: Option<Plan<'a>>,
    #[serde(borrow)]
    pub(super) current_step: Option<Step<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AppReference<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) version: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Plan<'a> {
    #[serde(borrow)]
    pub(super) version: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) steps: Option<List<Step<'a>>>,
}

/// A step: a list of actions, or one action itself in the oldest form.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Step<'a> {
    #[serde(borrow)]
    pub(super) actions: Option<List<Action<'a>>>,
    #[serde(borrow)]
    pub(super) app: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) pod: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Action<'a> {
    #[serde(borrow)]
    pub(super) app: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) pod: Option<Text<'a>>,
}

/// The answer to `/v2/leader`.
#[derive(Debug, Deserialize)]
pub(super) struct Leader {
    pub(super) leader: Option<String>,
}

/// Just the id of an object.
#[derive(Debug, Deserialize)]
pub(super) struct Named<'a> {
    #[serde(borrow, default)]
    pub(super) id: Option<Text<'a>>,
}

/// Just the agent of a task or pod instance.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hosted<'a> {
    #[serde(borrow, default)]
    pub(super) host: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) agent_hostname: Option<Text<'a>>,
}

/// An error in Marathon's words.
#[derive(Debug, Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow, default)]
    pub(super) message: Option<Text<'a>>,
}

/// Names and values; a value that is a number or a truth value is taken as its text.
#[derive(Debug, Default)]
pub(super) struct Labels<'a>(pub(super) Vec<(Text<'a>, Cow<'a, str>)>);

/// The `ipAddress` object of Marathon before 1.5. An object without a (non-null) member says nothing.
#[derive(Debug, Default)]
pub(super) struct IpAddress<'a> {
    pub(super) is_set: bool,
    pub(super) network_name: Option<Text<'a>>,
    pub(super) discovery: Option<Discovery<'a>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Labels<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LabelsVisitor;
        impl<'de> Visitor<'de> for LabelsVisitor {
            type Value = Labels<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of labels")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels<'de>, A::Error> {
                let mut labels = Vec::new();
                while let Some((name, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    if let Some(value) = label_value(value.get()).map_err(de::Error::custom)? {
                        labels.push((name, value));
                    }
                }
                Ok(Labels(labels))
            }
        }
        deserializer.deserialize_map(LabelsVisitor)
    }
}

fn label_value(raw: &str) -> Result<Option<Cow<'_, str>>, serde_json::Error> {
    match raw.as_bytes().first() {
        Some(b'"') => Ok(Some(serde_json::from_str::<Text<'_>>(raw)?.into_cow())),
        Some(b'n' | b'{' | b'[') | None => Ok(None),
        Some(_) => Ok(Some(Cow::Borrowed(raw))),
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for IpAddress<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IpAddressVisitor;
        impl<'de> Visitor<'de> for IpAddressVisitor {
            type Value = IpAddress<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<IpAddress<'de>, A::Error> {
                let mut address = IpAddress::default();
                while let Some((name, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    let value = value.get();
                    address.is_set |= value != "null";
                    match name.as_str() {
                        "networkName" => {
                            address.network_name = serde_json::from_str(value).map_err(de::Error::custom)?;
                        }
                        "discovery" => {
                            address.discovery = serde_json::from_str(value).map_err(de::Error::custom)?;
                        }
                        _ => {}
                    }
                }
                Ok(address)
            }
        }
        deserializer.deserialize_map(IpAddressVisitor)
    }
}
