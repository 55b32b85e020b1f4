//! The one workload that all benches share: services of four endpoints, named and addressed by number, on nodes of
//! twenty tasks.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use portolan_table::{
    Address, Admission, AppProtocol, ChangeSet, Endpoint, Health, Instance, InstanceEndpoint, Labels, Member,
    Network, PortSpec, Protocol, Provenance, Publisher, Service, ServiceName, ServicePort, ServiceSpec, Slot,
    SourceId, SourceStatus, Standing,
};

/// Endpoints of every service.
pub(crate) const ENDPOINTS: usize = 4;
/// A node runs twenty tasks, each with a port of the node's.
const TASKS_PER_BLOCK: usize = 1_000;
const NODES_PER_BLOCK: usize = 50;

/// The name of service `n`.
#[must_use]
pub(crate) fn name(n: usize) -> ServiceName {
    ServiceName::parse(&format!("svc{n:06}.load.test")).expect("a valid name")
}

/// Service `n`; another `version` gives its first endpoint another address, as a replaced task has.
#[must_use]
pub(crate) fn service(n: usize, version: u8) -> Arc<Service> {
    let instances: Vec<Arc<Instance>> = (0..ENDPOINTS).map(|k| instance(n, k, version)).collect();
    let spec = ServiceSpec {
        key: format!("/test/load/svc{n:06}").into(),
        name: name(n),
        ports: Box::new([PortSpec { number: 10_000, name: Some("http".into()), ..PortSpec::default() }]),
        labels: Labels::default(),
        checks_defined: true,
        version: None,
        merge: None,
        routes: Vec::new(),
        virtual_addresses: Vec::new(),
    };
    let endpoints: Box<[Endpoint]> = instances.iter().enumerate().map(|(k, i)| endpoint(n, k, i)).collect();
    let port = ServicePort {
        number: 10_000,
        name: Some("http".into()),
        protocol: Protocol::Tcp,
        app_protocol: AppProtocol::Http,
        labels: Labels::default(),
        live: endpoints.len() as u32,
        endpoints,
        weighted: false,
    };
    let member = |instance| Member { source: SourceId(0), instance, admission: Admission::In };
    Arc::new(Service {
        name: name(n),
        ports: Box::new([port]),
        members: instances.into_iter().map(member).collect(),
        specs: Box::new([(SourceId(0), Arc::new(spec))]),
    })
}

/// Service `n` with its first task replaced, as the catalog makes it: what has not changed is shared with `before`.
#[must_use]
#[allow(dead_code, reason = "each bench uses a part of the workload")]
pub(crate) fn replaced(n: usize, before: &Service, version: u8) -> Arc<Service> {
    let mut after = before.clone();
    let new = instance(n, 0, version);
    after.ports[0].endpoints[0] = endpoint(n, 0, &new);
    after.members[0].instance = new;
    Arc::new(after)
}

/// The node that a task runs on: those of one block of tasks are spread over the block's nodes, the tasks of one service
/// over four of them. Another version of the first task runs on another node.
fn node(n: usize, k: usize, version: u8) -> usize {
    const STRIDE: usize = NODES_PER_BLOCK / ENDPOINTS;
    let moved = if k == 0 { usize::from(version) % STRIDE } else { 0 };
    let spread = n.wrapping_mul(2_654_435_761) >> 16;
    (n * ENDPOINTS / TASKS_PER_BLOCK) * NODES_PER_BLOCK + (spread + k * STRIDE + moved) % NODES_PER_BLOCK
}

fn instance(n: usize, k: usize, version: u8) -> Arc<Instance> {
    let node = node(n, k, version);
    let host = IpAddr::V4(Ipv4Addr::new(10, (node >> 16) as u8, (node >> 8) as u8, node as u8));
    let mut instance = Instance::running(format!("test_load_svc{n:06}.instance-{k:08x}-{version}._app.1"));
    instance.health = Health::Healthy;
    instance.node = Some(host.to_string().into());
    instance.addresses.push(Address::new(host, Network::Host, Provenance::NodeAddress));
    let number = port(n, k);
    instance.endpoints.push(InstanceEndpoint { port_index: 0, address_index: 0, number });
    Arc::new(instance)
}

/// No two tasks on one node have the same.
fn port(n: usize, k: usize) -> u16 {
    31_000 + ((n * ENDPOINTS + k) % TASKS_PER_BLOCK) as u16
}

fn endpoint(n: usize, k: usize, instance: &Instance) -> Endpoint {
    Endpoint {
        address: SocketAddr::new(instance.addresses[0].ip, port(n, k)),
        member: k as u32,
        slot: Slot { index: (n * ENDPOINTS + k) as u32, epoch: 0 },
        weight: 1,
        provenance: Provenance::NodeAddress,
    }
}

/// The one source of the workload, synced.
#[must_use]
pub(crate) fn sources() -> Vec<SourceStatus> {
    vec![SourceStatus {
        id: SourceId(0),
        name: "load".into(),
        kind: "marathon",
        standing: Standing::Synced,
        required: true,
        has_data: true,
    }]
}

/// Publishes a whole table of about `endpoints` endpoints; returns its number of services.
pub(crate) fn fill(publisher: &mut Publisher, endpoints: usize) -> usize {
    let services = (endpoints / ENDPOINTS).max(1);
    let mut change = ChangeSet::default();
    change.set_sources(sources());
    for n in 0..services {
        change.upsert(service(n, 0));
    }
    publisher.apply(change).expect("a new table is a change");
    services
}
