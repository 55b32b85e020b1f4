//! A Mesos `/state` document put straight into a table: what the Mesos source does, less all that can go wrong.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use portolan_table::{
    Address, Admission, Agent, ChangeSet, ClusterFact, Contact, Definition, Discovery, DiscoveryPort, Health,
    Instance, InstanceState, Masters, Member, Network, Placement, Provenance, Scheduler, Service,
    ServiceName, SourceId,
};
use serde_json::Value;

const SOURCE: SourceId = SourceId(0);

/// Everything in the document. `leader` stands in the place of the document's own.
pub(crate) fn changes(state: &Value, masters: &[String], leader: Option<&str>) -> ChangeSet {
    let mut set = ChangeSet::default();
    let leader = leader.or(state["leader"].as_str()).and_then(pid);
    let listed = masters.iter().map(|master| contact(master).unwrap()).collect();
    set.upsert_fact(SOURCE, Arc::new(ClusterFact::Masters(Masters { leader, listed })));
    for (key, is_registered) in [("slaves", true), ("recovered_slaves", false)] {
        for agent in list(&state[key]) {
            set.upsert_fact(SOURCE, Arc::new(agent_of(agent, is_registered)));
        }
    }
    for (order, framework) in list(&state["frameworks"]).iter().enumerate() {
        // One id may be there twice.
        let id = format!("{}#{order}", text(framework, "id"));
        let at = pid(&text(framework, "pid"))
            .or_else(|| contact(&format!("{}:0", text(framework, "hostname"))))
            .unwrap_or_default();
        let scheduler = Scheduler {
            id: id.as_str().into(),
            name: text(framework, "name").into(),
            at,
            is_active: true,
            is_connected: true,
            web: None,
            order: order as u32,
        };
        set.upsert_fact(SOURCE, Arc::new(ClusterFact::Scheduler(scheduler)));
        for (number, task) in list(&framework["tasks"]).iter().enumerate() {
            let name = format!("task-{order}-{number}");
            set.upsert(Arc::new(service(task, framework, &id, (&name, number as u32), state)));
        }
    }
    set
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

/// `id@host:port`.
fn pid(text: &str) -> Option<Contact> {
    contact(text.trim().split_once('@')?.1)
}

/// `host:port`; a host that is no address resolves to nothing.
fn contact(text: &str) -> Option<Contact> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        let addresses = [address.ip()].into_iter().collect();
        return Some(Contact { host: address.ip().to_string().into(), addresses, port: address.port() });
    }
    let (host, port) = text.rsplit_once(':')?;
    Some(Contact { host: host.into(), addresses: Default::default(), port: port.parse().ok()? })
}

fn agent_of(agent: &Value, is_registered: bool) -> ClusterFact {
    ClusterFact::Agent(Agent {
        id: text(agent, "id").into(),
        name: text(agent, "hostname").into(),
        at: pid(&text(agent, "pid")).unwrap_or_default(),
        provenance: Provenance::NodeAddress,
        zone: None,
        region: None,
        is_registered,
    })
}

fn service(
    task: &Value,
    framework: &Value,
    framework_id: &str,
    (name, order): (&str, u32),
    state: &Value,
) -> Service {
    let id = text(task, "id");
    let mut instance = Instance::running(id.as_str());
    instance.state = match task["state"].as_str() {
        Some("TASK_RUNNING") => InstanceState::Running,
        Some("TASK_KILLING") => InstanceState::Killing,
        _ => InstanceState::Terminal,
    };
    let running = list(&task["statuses"]).iter().filter(|status| status["state"] == "TASK_RUNNING");
    let stamp = |status: &Value| status["timestamp"].as_f64().unwrap_or_default();
    let latest = running.fold(None, |best: Option<&Value>, status| match best {
        Some(best) if stamp(best) >= stamp(status) => Some(best),
        _ => Some(status),
    });
    instance.addresses = latest.map_or_else(Vec::new, addresses);
    instance.health = match latest.and_then(|status| status["healthy"].as_bool()) {
        Some(true) => Health::Healthy,
        Some(false) => Health::Unhealthy,
        None => Health::Unknown,
    };
    let agent = text(task, "slave_id");
    let on = list(&state["slaves"]).iter().find(|slave| text(slave, "id") == agent);
    let host = on.and_then(|agent| pid(&text(agent, "pid"))).unwrap_or_default();
    for ip in host.addresses {
        instance.addresses.push(Address::new(ip, Network::Host, Provenance::NodeAddress));
    }
    let (discovery, discovery_ports) = discovery(&task["discovery"]);
    instance.placement = Some(Arc::new(Placement {
        definition: Arc::new(Definition {
            name: text(task, "name").into(),
            scheduler: text(framework, "name").into(),
            scheduler_id: framework_id.into(),
            labels: Default::default(),
            discovery,
        }),
        agent: agent.into(),
        host_ports: ranges(task["resources"]["ports"].as_str().unwrap_or_default()).into_iter().collect(),
        discovery_ports: discovery_ports.into_iter().collect(),
        container: None,
        order,
    }));
    let admission = if instance.health == Health::Unhealthy {
        Admission::Out(portolan_table::Outside::Unhealthy)
    } else {
        Admission::In
    };
    Service {
        members: Box::new([Member { source: SOURCE, instance: Arc::new(instance), admission }]),
        ..Service::empty(ServiceName::parse(name).unwrap())
    }
}

fn addresses(status: &Value) -> Vec<Address> {
    let mut all = Vec::new();
    let mut add = |value: &Value, provenance| {
        if let Some(ip) = value.as_str().and_then(|text| text.parse::<IpAddr>().ok()) {
            all.push(Address::new(ip, Network::Container, provenance));
        }
    };
    for info in list(&status["container_status"]["network_infos"]) {
        match list(&info["ip_addresses"]) {
            [] => add(&info["ip_address"], Provenance::TaskNetwork),
            several => several.iter().for_each(|one| add(&one["ip_address"], Provenance::TaskNetwork)),
        }
    }
    for label in list(&status["labels"]) {
        match label["key"].as_str() {
            Some("MesosContainerizer.NetworkSettings.IPAddress") => {
                add(&label["value"], Provenance::ContainerizerLabel);
            }
            Some("Docker.NetworkSettings.IPAddress") => add(&label["value"], Provenance::DockerLabel),
            _ => {}
        }
    }
    all
}

fn discovery(info: &Value) -> (Option<Discovery>, Vec<u16>) {
    if info.is_null() {
        return (None, Vec::new());
    }
    let some = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(Into::into);
    let ports = list(&info["ports"]["ports"]);
    let numbers = ports.iter().map(|port| port["number"].as_u64().unwrap() as u16).collect();
    let ports = ports.iter().map(|port| DiscoveryPort {
        name: some(&port["name"]),
        protocol: some(&port["protocol"]),
        ..DiscoveryPort::default()
    });
    (Some(Discovery { name: some(&info["name"]), ports: ports.collect(), ..Discovery::default() }), numbers)
}

/// `[31000-31002, 31007-31007]`.
fn ranges(text: &str) -> Vec<(u16, u16)> {
    let ends = |range: &str| {
        let (first, last) = range.trim().split_once('-').unwrap_or((range.trim(), range.trim()));
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    text.trim_matches(['[', ']']).split(',').filter_map(ends).collect()
}
