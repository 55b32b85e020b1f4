//! The catalog from the outside: changes in, services of the published table out.

mod facts;
mod merging;
mod rules;
mod simulation;

use std::sync::Arc;
use std::time::{Duration, Instant};

use portolan_table::{
    Address, Admission, Health, Instance, InstanceEndpoint, InstanceState, Labels, MergePolicy, Network,
    Outside, PortSpec, Protocol, Provenance, Published, Publisher, Service, ServiceName, ServiceSpec,
    SourceId,
};

use super::{Applied, Catalog};
use crate::config::{FileConfig, SourceConfig, SourceKind};
use crate::source::Change;

pub(crate) fn source(id: u16, name: &str) -> SourceConfig {
    SourceConfig {
        id: SourceId(id),
        name: name.into(),
        kind: SourceKind::File(FileConfig {
            paths: vec![format!("/etc/{name}").into()],
            service_label: None,
        }),
        refresh: Duration::from_secs(30),
        timeout: Duration::from_secs(10),
        merge: MergePolicy::Union,
        priority: 0,
        required: true,
        stale_max: None,
        max_removal: 1.0,
    }
}

pub(crate) fn spec(key: &str, name: &str) -> ServiceSpec {
    ServiceSpec {
        key: key.into(),
        name: ServiceName::parse(name).unwrap(),
        ports: Box::new([PortSpec { number: 80, name: Some("http".into()), ..PortSpec::default() }]),
        labels: Labels::default(),
        checks_defined: true,
        version: None,
        merge: None,
        routes: Vec::new(),
        virtual_addresses: Vec::new(),
    }
}

/// An instance on `10.0.0.<last>` with its first port at `port`.
pub(crate) fn instance(id: &str, last: u8, port: u16, health: Health) -> Instance {
    let mut instance = Instance::running(id);
    instance.health = health;
    instance.node = Some(format!("node-{last}").into());
    instance.addresses.push(Address::new([10, 0, 0, last].into(), Network::Host, Provenance::NodeAddress));
    instance.endpoints.push(InstanceEndpoint { port_index: 0, address_index: 0, number: port });
    instance
}

pub(crate) fn healthy(id: &str, last: u8) -> Instance {
    instance(id, last, 8000, Health::Healthy)
}

/// A catalog with its publisher and a clock of its own.
pub(crate) struct Rig {
    pub(crate) catalog: Catalog,
    pub(crate) publisher: Publisher,
    pub(crate) now: Instant,
}

impl Rig {
    /// The feed of each source is its id.
    pub(crate) fn new(sources: Vec<SourceConfig>) -> Self {
        let mut rig = Self { catalog: Catalog::default(), publisher: Publisher::new(), now: Instant::now() };
        rig.configure(sources);
        rig
    }

    pub(crate) fn configure(&mut self, sources: Vec<SourceConfig>) {
        let feeds = sources.into_iter().map(|config| (config.id.0, config)).collect();
        self.catalog.configure(feeds, self.now);
        self.flush();
    }

    pub(crate) fn tell(&mut self, feed: u16, change: Change) -> Applied {
        self.catalog.apply(feed, change, self.now, self.now)
    }

    pub(crate) fn service(&mut self, feed: u16, spec: ServiceSpec, instances: Vec<Instance>) {
        let instances = instances.into_iter().map(Arc::new).collect();
        self.tell(feed, Change::Service { spec: Arc::new(spec), instances });
    }

    /// A whole list.
    pub(crate) fn list(&mut self, feed: u16, services: Vec<(ServiceSpec, Vec<Instance>)>) -> Applied {
        self.tell(feed, Change::ListBegin);
        for (spec, instances) in services {
            self.service(feed, spec, instances);
        }
        self.tell(feed, Change::ListComplete)
    }

    pub(crate) fn flush(&mut self) -> Option<Published> {
        self.catalog.flush(&mut self.publisher, self.now)
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.catalog.tick(self.now);
        self.flush();
    }

    pub(crate) fn get(&mut self, name: &str) -> Option<Arc<Service>> {
        self.flush();
        self.publisher.core().service(name).cloned()
    }

    /// Ids and admissions of a service's members.
    pub(crate) fn members(&mut self, name: &str) -> Vec<(String, Admission)> {
        let service = self.get(name).unwrap_or_else(|| panic!("no service {name}"));
        service.members.iter().map(|m| (m.instance.id.to_string(), m.admission)).collect()
    }

    /// Addresses that get traffic on the first port.
    pub(crate) fn live(&mut self, name: &str) -> Vec<String> {
        let service = self.get(name).unwrap_or_else(|| panic!("no service {name}"));
        service.ports[0].live().iter().map(|endpoint| endpoint.address.to_string()).collect()
    }

    pub(crate) fn names(&mut self) -> Vec<String> {
        self.flush();
        let mut names: Vec<_> = self.publisher.core().services().map(|s| s.name.to_string()).collect();
        names.sort_unstable();
        names
    }

    pub(crate) fn problems(&self, feed: u16) -> Vec<String> {
        let state = &self.catalog.sources()[self.catalog.position(feed).unwrap()];
        state.problems.values().chain(state.collisions.values()).cloned().collect()
    }
}

pub(crate) fn lost() -> Change {
    Change::Lost { kind: "connect", message: "http://m: connection failed".to_owned() }
}

pub(crate) const IN: Admission = Admission::In;

pub(crate) const fn out(why: Outside) -> Admission {
    Admission::Out(why)
}

pub(crate) const UDP: Protocol = Protocol::Udp;
