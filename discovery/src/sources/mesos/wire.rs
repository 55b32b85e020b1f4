//! Mesos's own types, as much of them as matters here, in both of its dialects.
//!
//! `/state` writes ids as text, labels as a plain array, `slave_id`, and port resources as text; the operator API writes
//! protobuf's JSON: `{"value": …}`, `{"labels": […]}`, `agent_id`, ranges. A type here reads either. Everything is
//! optional, null counts as absent. Tasks, agents and frameworks stay raw at first, so that an odd one costs only itself.

use core::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use smallvec::SmallVec;

pub(super) use crate::lenient::{List, Number, Text, each, text};

/// Elements to be read one by one.
pub(super) type Raw<'a> = Option<Vec<&'a RawValue>>;

/// The document at `/state`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct State<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) leader: Option<Text<'a>>,
    pub(super) elected_time: Option<f64>,
    #[serde(borrow)]
    pub(super) slaves: Raw<'a>,
    #[serde(borrow)]
    pub(super) recovered_slaves: Raw<'a>,
    #[serde(borrow)]
    pub(super) frameworks: Raw<'a>,
}

/// Who answers, and who leads, in the document at `/state`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Answering<'a> {
    #[serde(borrow)]
    pub(super) pid: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) leader: Option<Text<'a>>,
}

/// The document at `/state-summary`, for what the operator API does not tell.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Summary<'a> {
    #[serde(borrow)]
    pub(super) frameworks: Raw<'a>,
}

/// The answer to `GET_MASTER`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct GetMaster<'a> {
    #[serde(borrow)]
    pub(super) get_master: Option<MasterAnswer<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct MasterAnswer<'a> {
    #[serde(borrow)]
    pub(super) master_info: Option<MasterInfo<'a>>,
    pub(super) elected_time: Option<f64>,
}

/// A master, as it describes itself, in ZooKeeper too.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct MasterInfo<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    /// IPv4, the first octet in the low byte.
    pub(super) ip: Option<u32>,
    pub(super) port: Option<Number>,
    #[serde(borrow)]
    pub(super) pid: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) hostname: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) address: Option<MasterAddress<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct MasterAddress<'a> {
    #[serde(borrow)]
    pub(super) hostname: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) ip: Option<Text<'a>>,
    pub(super) port: Option<Number>,
}

/// One record of the operator API's stream.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) subscribed: Option<Subscribed<'a>>,
    #[serde(borrow)]
    pub(super) task_added: Option<TaskAdded<'a>>,
    #[serde(borrow)]
    pub(super) task_updated: Option<TaskUpdated<'a>>,
    #[serde(borrow)]
    pub(super) agent_added: Option<AgentAdded<'a>>,
    #[serde(borrow)]
    pub(super) agent_removed: Option<AgentRemoved<'a>>,
    #[serde(borrow)]
    pub(super) framework_added: Option<FrameworkChanged<'a>>,
    #[serde(borrow)]
    pub(super) framework_updated: Option<FrameworkChanged<'a>>,
    #[serde(borrow)]
    pub(super) framework_removed: Option<FrameworkRemoved<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Subscribed<'a> {
    #[serde(borrow)]
    pub(super) get_state: Option<GetState<'a>>,
    pub(super) heartbeat_interval_seconds: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct GetState<'a> {
    #[serde(borrow)]
    pub(super) get_tasks: Option<GetTasks<'a>>,
    #[serde(borrow)]
    pub(super) get_agents: Option<GetAgents<'a>>,
    #[serde(borrow)]
    pub(super) get_frameworks: Option<GetFrameworks<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct GetTasks<'a> {
    /// Mesos 1.0 calls them `launched_tasks`.
    #[serde(borrow, alias = "launched_tasks")]
    pub(super) tasks: Raw<'a>,
    #[serde(borrow)]
    pub(super) unreachable_tasks: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct GetAgents<'a> {
    #[serde(borrow)]
    pub(super) agents: Raw<'a>,
    #[serde(borrow)]
    pub(super) recovered_agents: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct GetFrameworks<'a> {
    #[serde(borrow)]
    pub(super) frameworks: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TaskAdded<'a> {
    #[serde(borrow)]
    pub(super) task: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TaskUpdated<'a> {
    #[serde(borrow)]
    pub(super) framework_id: Option<Id<'a>>,
    #[serde(borrow)]
    pub(super) status: Option<Status<'a>>,
    #[serde(borrow)]
    pub(super) state: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AgentAdded<'a> {
    #[serde(borrow)]
    pub(super) agent: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AgentRemoved<'a> {
    #[serde(borrow)]
    pub(super) agent_id: Option<Id<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FrameworkChanged<'a> {
    #[serde(borrow)]
    pub(super) framework: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FrameworkRemoved<'a> {
    #[serde(borrow)]
    pub(super) framework_info: Option<FrameworkInfo<'a>>,
}

/// An agent: of `/state`, of the operator API (whose `agent_info` holds the rest), or recovered and not back yet.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Agent<'a> {
    #[serde(borrow)]
    pub(super) agent_info: Option<AgentInfo<'a>>,
    #[serde(borrow)]
    pub(super) id: Option<Id<'a>>,
    #[serde(borrow)]
    pub(super) hostname: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) domain: Option<Domain<'a>>,
    #[serde(borrow)]
    pub(super) pid: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AgentInfo<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Id<'a>>,
    #[serde(borrow)]
    pub(super) hostname: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) domain: Option<Domain<'a>>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub(super) struct Domain<'a> {
    #[serde(borrow)]
    pub(super) fault_domain: Option<FaultDomain<'a>>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub(super) struct FaultDomain<'a> {
    #[serde(borrow)]
    pub(super) region: Option<Place<'a>>,
    #[serde(borrow)]
    pub(super) zone: Option<Place<'a>>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub(super) struct Place<'a> {
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
}

/// A framework, of `/state` or of the operator API.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Framework<'a> {
    #[serde(borrow)]
    pub(super) framework_info: Option<FrameworkInfo<'a>>,
    #[serde(borrow)]
    pub(super) id: Option<Id<'a>>,
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) hostname: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) webui_url: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) pid: Option<Text<'a>>,
    pub(super) active: Option<bool>,
    pub(super) connected: Option<bool>,
    #[serde(borrow)]
    pub(super) tasks: Raw<'a>,
    #[serde(borrow)]
    pub(super) unreachable_tasks: Raw<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FrameworkInfo<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Id<'a>>,
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) hostname: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) webui_url: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Task<'a> {
    #[serde(borrow, alias = "task_id")]
    pub(super) id: Option<Id<'a>>,
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) framework_id: Option<Id<'a>>,
    #[serde(borrow, alias = "slave_id")]
    pub(super) agent_id: Option<Id<'a>>,
    #[serde(borrow)]
    pub(super) state: Option<Text<'a>>,
    pub(super) resources: Option<Resources>,
    #[serde(borrow)]
    pub(super) statuses: Option<List<Status<'a>>>,
    #[serde(borrow)]
    pub(super) labels: Option<Labels<'a>>,
    #[serde(borrow)]
    pub(super) discovery: Option<Discovery<'a>>,
    #[serde(borrow)]
    pub(super) container: Option<Container<'a>>,
    pub(super) health_check: Option<IgnoredAny>,
}

/// The ids of a task that is otherwise not understood.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TaskIds<'a> {
    #[serde(borrow, alias = "task_id")]
    pub(super) id: Option<Id<'a>>,
    #[serde(borrow)]
    pub(super) framework_id: Option<Id<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status<'a> {
    #[serde(borrow)]
    pub(super) task_id: Option<Id<'a>>,
    #[serde(borrow, alias = "slave_id")]
    pub(super) agent_id: Option<Id<'a>>,
    #[serde(borrow)]
    pub(super) state: Option<Text<'a>>,
    pub(super) timestamp: Option<f64>,
    pub(super) healthy: Option<bool>,
    #[serde(borrow)]
    pub(super) labels: Option<Labels<'a>>,
    #[serde(borrow)]
    pub(super) container_status: Option<ContainerStatus<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ContainerStatus<'a> {
    #[serde(borrow)]
    pub(super) container_id: Option<Id<'a>>,
    #[serde(borrow)]
    pub(super) network_infos: Option<List<NetworkInfo<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NetworkInfo<'a> {
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) ip_addresses: Option<List<IpAddress<'a>>>,
    /// Mesos 0.25.
    #[serde(borrow)]
    pub(super) ip_address: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) port_mappings: Option<List<PortMapping<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct IpAddress<'a> {
    #[serde(borrow)]
    pub(super) ip_address: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PortMapping<'a> {
    pub(super) host_port: Option<Number>,
    pub(super) container_port: Option<Number>,
    #[serde(borrow)]
    pub(super) protocol: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Discovery<'a> {
    #[serde(borrow)]
    pub(super) visibility: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) environment: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) location: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) version: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) ports: Option<Ports<'a>>,
    #[serde(borrow)]
    pub(super) labels: Option<Labels<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ports<'a> {
    #[serde(borrow)]
    pub(super) ports: Option<List<Port<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Port<'a> {
    pub(super) number: Option<Number>,
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) protocol: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) visibility: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) labels: Option<Labels<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Container<'a> {
    #[serde(borrow)]
    pub(super) docker: Option<Docker<'a>>,
    #[serde(borrow)]
    pub(super) network_infos: Option<List<NetworkInfo<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Docker<'a> {
    #[serde(borrow)]
    pub(super) network: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) port_mappings: Option<List<PortMapping<'a>>>,
}

/// An id: text, or an object with a `value`.
#[derive(Debug, Default, Clone)]
pub(super) struct Id<'a>(Option<Text<'a>>);

/// Names and values: an array, or an object with one called `labels`.
#[derive(Debug, Default)]
pub(super) struct Labels<'a>(pub(super) Vec<(Text<'a>, Text<'a>)>);

/// Ranges of the resource `ports`, first and last.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Resources {
    pub(super) ports: SmallVec<[(u16, u16); 1]>,
}

/// The text of an id that is there and not empty.
pub(super) fn id<'t>(id: &'t Option<Id<'_>>) -> Option<&'t str> {
    text(&id.as_ref()?.0)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Pair<'a> {
    #[serde(borrow)]
    key: Option<Text<'a>>,
    #[serde(borrow)]
    value: Option<Text<'a>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Id<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;
        impl<'de> Visitor<'de> for IdVisitor {
            type Value = Id<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an id")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Id<'de>, E> {
                Ok(Id(Some(text.into())))
            }
            fn visit_str<E>(self, text: &str) -> Result<Id<'de>, E> {
                Ok(Id(Some(text.to_owned().into())))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Id<'de>, A::Error> {
                let mut id = Id::default();
                while let Some(name) = map.next_key::<Text<'de>>()? {
                    match name.as_str() {
                        "value" => id = Id(map.next_value()?),
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(id)
            }
        }
        deserializer.deserialize_any(IdVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Labels<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LabelsVisitor;
        impl<'de> Visitor<'de> for LabelsVisitor {
            type Value = Labels<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("labels")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Labels<'de>, A::Error> {
                let mut labels = Vec::new();
                while let Some(pair) = seq.next_element::<Option<Pair<'de>>>()? {
                    let Some(Pair { key: Some(key), value }) = pair else { continue };
                    labels.push((key, value.unwrap_or_default()));
                }
                Ok(Labels(labels))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels<'de>, A::Error> {
                let mut labels = Labels::default();
                while let Some(name) = map.next_key::<Text<'de>>()? {
                    match name.as_str() {
                        "labels" => labels = map.next_value::<Option<Labels<'de>>>()?.unwrap_or_default(),
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(labels)
            }
        }
        deserializer.deserialize_any(LabelsVisitor)
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Resource<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    ranges: Option<Ranges>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Ranges {
    range: Option<List<Range>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Range {
    begin: Option<Number>,
    end: Option<Number>,
}

impl Resources {
    /// `[31000-31001, 31005-31005]`; a port by itself counts as a range of one, anything else is skipped.
    fn parse(text: &str) -> Self {
        let ranges = text.trim().trim_start_matches('[').trim_end_matches(']').split(',');
        let range = |range: &str| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            (first <= last).then_some((first, last))
        };
        let mut resources = Self::default();
        ranges.filter_map(range).for_each(|(first, last)| resources.push(first, last));
        resources
    }

    /// Adds a range; one that continues the last one makes it longer: the dialects do not cut alike.
    fn push(&mut self, first: u16, last: u16) {
        match self.ports.last_mut().filter(|before| before.1.checked_add(1) == Some(first)) {
            Some(before) => before.1 = last,
            None => self.ports.push((first, last)),
        }
    }

    fn add(&mut self, resource: &Resource<'_>) {
        if text(&resource.name) != Some("ports") {
            return;
        }
        for range in each(resource.ranges.as_ref().and_then(|ranges| ranges.range.as_ref())) {
            let (Some(Number(Some(first))), Some(Number(Some(last)))) = (range.begin, range.end) else {
                continue;
            };
            if first <= last {
                self.push(first, last);
            }
        }
    }
}

impl<'de> Deserialize<'de> for Resources {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ResourcesVisitor;
        impl<'de> Visitor<'de> for ResourcesVisitor {
            type Value = Resources;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("resources")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Resources, A::Error> {
                let mut resources = Resources::default();
                while let Some(resource) = seq.next_element::<Option<Resource<'de>>>()? {
                    resource.iter().for_each(|resource| resources.add(resource));
                }
                Ok(resources)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Resources, A::Error> {
                let mut resources = Resources::default();
                while let Some(name) = map.next_key::<Text<'de>>()? {
                    match name.as_str() {
                        "ports" => {
                            let ports = map.next_value::<Option<Text<'de>>>()?;
                            resources = Resources::parse(text(&ports).unwrap_or_default());
                        }
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(resources)
            }
        }
        deserializer.deserialize_any(ResourcesVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_resources_are_read_in_both_dialects() {
        let texts = [
            ("[31000-31001, 31005-31005]", &[(31000, 31001), (31005, 31005)][..]),
            ("[31000]", &[(31000, 31000)]),
            ("[5-5, 6-7, 9-9]", &[(5, 7), (9, 9)]),
            ("[]", &[]),
            ("[31001-31000, x-2, 70000-70001, 4-5]", &[(4, 5)]),
        ];
        for (ports, read) in texts {
            let json = format!(r#"{{"cpus":0.1,"ports":{ports:?}}}"#);
            assert_eq!(*serde_json::from_str::<Resources>(&json).unwrap().ports, *read, "{ports}");
        }
        let ranges = r#"[{"name":"cpus","scalar":{"value":1}},null,
            {"name":"ports","ranges":{"range":[{"begin":80.0,"end":81},{"begin":5,"end":1},{"begin":-1,"end":1}]}}]"#;
        assert_eq!(*serde_json::from_str::<Resources>(ranges).unwrap().ports, [(80, 81)]);
    }

    #[test]
    fn ids_and_labels_are_read_in_both_dialects() {
        for json in [r#""a""#, r#"{"value":"a"}"#, r#"{"parent":{"value":"p"},"value":"a"}"#] {
            assert_eq!(id(&Some(serde_json::from_str(json).unwrap())), Some("a"), "{json}");
        }
        for json in [r#"{}"#, r#"{"value":null}"#, r#""""#] {
            assert_eq!(id(&Some(serde_json::from_str(json).unwrap())), None, "{json}");
        }
        let pairs = r#"[{"key":"a","value":"1"},null,{"value":"x"},{"key":"b"}]"#;
        for json in [pairs.to_owned(), format!(r#"{{"labels":{pairs}}}"#)] {
            let labels: Labels<'_> = serde_json::from_str(&json).unwrap();
            let labels: Vec<_> = labels.0.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert_eq!(labels, [("a", "1"), ("b", "")], "{json}");
        }
        assert!(serde_json::from_str::<Labels<'_>>(r#"{"labels":null}"#).unwrap().0.is_empty());
    }
}
