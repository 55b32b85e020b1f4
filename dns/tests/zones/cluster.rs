//! A small cluster for tests: services put straight into a table, questions asked of its zones.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hickory_proto::op::{Edns, Message, OpCode, Query};
use hickory_proto::rr::{Name, Record, RecordType};
use portolan_dns::answer::{Outcome, Terms, answer};
use portolan_dns::wire::Request;
use portolan_dns::{Config, NodeConfig, Schema, ZoneBuilder, ZoneConfig, ZoneMetrics, Zones};
use portolan_table::{
    Address, Admission, ChangeSet, Endpoint, Health, Instance, InstanceEndpoint, Member, Network, NodeFact,
    PortSpec, Protocol, Provenance, Publisher, Service, ServiceName, ServicePort, ServiceSpec, Slot,
    SourceId, SourceStatus, Standing, ViewKey,
};
use prometheus::Registry;

pub(crate) const SOURCES: [&str; 2] = ["marathon", "mesos"];

/// A configuration with the zone `svc.cluster` on edge `edge-1`.
pub(crate) fn config() -> Config {
    Config {
        listen: vec![],
        zones: vec![zone("svc.cluster", &[])],
        ttl: 5,
        negative_ttl: 3,
        forward: vec![],
        forward_zones: vec![],
        allow_forward: vec![],
        forward_timeout: std::time::Duration::from_secs(2),
        forward_in_flight_max: 100,
        forward_cache_entries: 100,
        udp_size_max: 1232,
        tcp_connections_max: 100,
        tcp_idle: std::time::Duration::from_secs(10),
        txt_labels: vec!["team".into()],
        node: NodeConfig {
            name: "edge-1".into(),
            addresses: vec!["192.0.2.1".parse().unwrap()],
            proxy_addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        },
        ..Config::default()
    }
}

pub(crate) fn zone(name: &str, sources: &[&str]) -> ZoneConfig {
    let sources = sources.iter().map(|name| Arc::from(*name)).collect();
    ZoneConfig { name: name.into(), schema: Schema::Native, sources }
}

pub(crate) struct Cluster {
    pub(crate) publisher: Publisher,
    pub(crate) key: ViewKey<Zones>,
    pub(crate) registry: Registry,
}

impl Cluster {
    pub(crate) fn new(config: &Config) -> Self {
        let registry = Registry::new();
        let metrics = ZoneMetrics::register(&registry).unwrap();
        let mut publisher = Publisher::new();
        publisher.apply(sources(true));
        let key = publisher.add_view(ZoneBuilder::with_clock(config, metrics, || 1_700_000_000));
        Self { publisher, key, registry }
    }

    pub(crate) fn with(services: Vec<Service>) -> Self {
        let mut cluster = Self::new(&config());
        cluster.put(services);
        cluster
    }

    pub(crate) fn put(&mut self, services: Vec<Service>) {
        let mut change = ChangeSet::default();
        services.into_iter().for_each(|service| change.upsert(Arc::new(service)));
        self.publisher.apply(change);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        let mut change = ChangeSet::default();
        change.remove(ServiceName::parse(name).unwrap());
        self.publisher.apply(change);
    }

    pub(crate) fn node(&mut self, name: &str, addresses: &[&str]) {
        let mut change = ChangeSet::default();
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        let node = NodeFact { name: name.into(), addresses, zone: None, region: None };
        change.upsert_node(Arc::new(node));
        self.publisher.apply(change);
    }

    pub(crate) fn sources(&mut self, with_data: bool) {
        self.publisher.apply(sources(with_data));
    }

    pub(crate) fn zones<R>(&self, look: impl FnOnce(&Zones) -> R) -> R {
        look(self.publisher.table().load().view(self.key))
    }

    /// The answer to `NAME TYPE`, as text. EDNS with 1232 octets, no rotation.
    pub(crate) fn ask(&self, question: &str) -> String {
        let (name, rtype) = question.split_once(' ').unwrap();
        match self.reply(&query(name, rtype, Some(1232)), 0) {
            Some(reply) => self.without_serial(&text(&reply)),
            None => "not ours".into(),
        }
    }

    /// Serials count changes; most tests don't.
    pub(crate) fn without_serial(&self, text: &str) -> String {
        text.replace(&self.zones(|zones| zones.serial()).to_string(), "1700000000")
    }

    /// Asks, and holds the full answer against `expected`, line by line.
    #[track_caller]
    pub(crate) fn expect(&self, question: &str, expected: &[&str]) {
        assert_eq!(self.ask(question), expected.join("\n"), "{question}");
    }

    /// Asks, and holds the code and flags alone against `expected`.
    #[track_caller]
    pub(crate) fn expect_code(&self, question: &str, expected: &str) {
        assert_eq!(self.ask(question).lines().next(), Some(expected), "{question}");
    }

    /// The reply to a packet over UDP, decoded; `None` for what is not ours.
    pub(crate) fn reply(&self, packet: &[u8], rotation: u32) -> Option<Message> {
        let octets = self.octets(packet, rotation)?;
        Some(Message::from_vec(&octets).unwrap())
    }

    pub(crate) fn octets(&self, packet: &[u8], rotation: u32) -> Option<Vec<u8>> {
        let Request::Question(query) = Request::read(packet) else { panic!("the query is malformed") };
        let terms = Terms::udp(query.udp_limit(1232), 1232);
        let mut out = vec![0; 65_535];
        let outcome = self.zones(|zones| answer(zones, &query, &terms, rotation, &mut out));
        let Outcome::Reply(written) = outcome else { return None };
        assert!(written.len <= terms.size_max, "{} octets", written.len);
        out.truncate(written.len);
        Some(out)
    }
}

fn sources(with_data: bool) -> ChangeSet {
    let mut change = ChangeSet::default();
    change.set_sources(
        SOURCES
            .iter()
            .enumerate()
            .map(|(id, name)| SourceStatus {
                id: SourceId(id as u16),
                name: (*name).into(),
                kind: "marathon",
                standing: if with_data { Standing::Synced } else { Standing::Unsynced },
                required: true,
                has_data: with_data || id == 0,
            })
            .collect(),
    );
    change
}

/// A query as another library writes it.
pub(crate) fn query(name: &str, rtype: &str, udp_size: Option<u16>) -> Vec<u8> {
    let mut message = Message::new(0x1234, hickory_proto::op::MessageType::Query, OpCode::Query);
    // A number for types that the other library has no word for.
    let rtype = rtype.parse::<u16>().map_or_else(|_| rtype.parse().unwrap(), RecordType::from);
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    message.add_query(Query::query(name, rtype));
    if let Some(size) = udp_size {
        let mut edns = Edns::new();
        edns.set_max_payload(size);
        message.edns = Some(edns);
    }
    message.to_vec().unwrap()
}

/// The authority of every negative answer of the zone `svc.cluster`.
pub(crate) const SOA: &str = "authority svc.cluster. 3 SOA edge-1.node.svc.cluster. hostmaster.svc.cluster. \
                              1700000000 3600 600 86400 3";

/// `web.shop.prod` of the first source: port `http` (8000) and, by UDP, `dns` (8001); two instances with
/// addresses of their own, the second with two.
pub(crate) fn web() -> Service {
    service("web.shop.prod")
        .defined_by(0, &[("team", "blue"), ("other", "x")])
        .port("http", Protocol::Tcp, 10_000)
        .port("dns", Protocol::Udp, 0)
        .instance("web.1", &["10.0.0.1"])
        .instance("web.2", &["10.0.0.2", "2001:db8::2"])
        .done()
}

/// The label of an instance of the first source.
pub(crate) fn label(id: &str) -> String {
    portolan_table::instance_label(SOURCES[0], id)
}

/// A reply in lines: code and flags, then the records of each section.
pub(crate) fn text(reply: &Message) -> String {
    let mut lines = vec![header(reply)];
    let sections =
        [("", &reply.answers), ("authority ", &reply.authorities), ("additional ", &reply.additionals)];
    for (section, records) in sections {
        lines.extend(records.iter().map(|record| format!("{section}{}", line(record))));
    }
    lines.join("\n")
}

pub(crate) fn header(reply: &Message) -> String {
    let flags = [
        (reply.metadata.authoritative, "aa"),
        (reply.metadata.truncation, "tc"),
        (reply.metadata.recursion_available, "ra"),
    ];
    let code = match u16::from(reply.metadata.response_code) {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        16 => "BADVERS",
        _ => "?",
    };
    let flags = flags.iter().filter(|(set, _)| *set).map(|(_, flag)| *flag);
    [code].into_iter().chain(flags).collect::<Vec<_>>().join(" ")
}

pub(crate) fn line(record: &Record) -> String {
    format!("{} {} {} {}", record.name, record.ttl, record.record_type(), record.data)
}

/// The maker of one service.
pub(crate) struct Maker {
    service: Service,
}

pub(crate) fn service(name: &str) -> Maker {
    Maker { service: Service::empty(ServiceName::parse(name).unwrap()) }
}

impl Maker {
    pub(crate) fn defined_by(mut self, source: u16, labels: &[(&str, &str)]) -> Self {
        let spec = ServiceSpec {
            key: "/key".into(),
            name: self.service.name.clone(),
            ports: Box::new([PortSpec::default()]),
            labels: labels.iter().copied().collect(),
            checks_defined: false,
            version: Some("v1".into()),
            merge: None,
            routes: vec![],
            virtual_addresses: vec![],
        };
        let mut specs = std::mem::take(&mut self.service.specs).into_vec();
        specs.push((SourceId(source), Arc::new(spec)));
        self.service.specs = specs.into();
        self
    }

    pub(crate) fn port(mut self, name: &str, protocol: Protocol, number: u16) -> Self {
        let mut ports = std::mem::take(&mut self.service.ports).into_vec();
        ports.push(ServicePort {
            number,
            name: (!name.is_empty()).then(|| name.into()),
            protocol,
            app_protocol: Default::default(),
            labels: Default::default(),
            endpoints: Box::default(),
            live: 0,
            weighted: false,
        });
        self.service.ports = ports.into();
        self
    }

    /// An instance of the first source with addresses of its own.
    pub(crate) fn instance(self, id: &str, addresses: &[&str]) -> Self {
        self.member(Task { id, addresses, ..Task::default() })
    }

    /// An instance with an endpoint for each port and address; port `n` is reached at `8000 + n`.
    pub(crate) fn member(mut self, task: Task<'_>) -> Self {
        let mut instance = Instance::running(task.id);
        instance.health = Health::Healthy;
        instance.node = task.node.map(Into::into);
        instance.zone = task.zone.map(Into::into);
        let network = if task.node.is_some() { Network::Host } else { Network::Overlay("calico".into()) };
        for ip in task.addresses {
            instance.addresses.push(Address::new(
                ip.parse().unwrap(),
                network.clone(),
                Provenance::TaskNetwork,
            ));
        }
        let mut members = std::mem::take(&mut self.service.members).into_vec();
        for (index, port) in self.service.ports.iter_mut().enumerate() {
            let mut endpoints = std::mem::take(&mut port.endpoints).into_vec();
            for (at, address) in instance.addresses.iter().enumerate() {
                let number = 8000 + index as u16;
                instance.endpoints.push(InstanceEndpoint {
                    port_index: index as u16,
                    address_index: at as u8,
                    number,
                });
                endpoints.push(endpoint(address.ip, number, members.len() as u32, task.weight));
                port.live += u32::from(task.admission.is_in());
            }
            endpoints.sort_by_key(|endpoint| !is_in(&members, endpoint, task.admission));
            port.endpoints = endpoints.into();
        }
        members.push(Member {
            source: SourceId(task.source),
            instance: Arc::new(instance),
            admission: task.admission,
        });
        self.service.members = members.into();
        self
    }

    pub(crate) fn done(self) -> Service {
        self.service
    }
}

fn is_in(members: &[Member], endpoint: &Endpoint, last: Admission) -> bool {
    members.get(endpoint.member as usize).map_or(last, |member| member.admission).is_in()
}

fn endpoint(ip: IpAddr, port: u16, member: u32, weight: u16) -> Endpoint {
    Endpoint {
        address: SocketAddr::new(ip, port),
        member,
        slot: Slot { index: 0, epoch: 0 },
        weight,
        provenance: Provenance::TaskNetwork,
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Task<'a> {
    pub(crate) source: u16,
    pub(crate) id: &'a str,
    pub(crate) addresses: &'a [&'a str],
    pub(crate) node: Option<&'a str>,
    pub(crate) zone: Option<&'a str>,
    pub(crate) admission: Admission,
    pub(crate) weight: u16,
}

impl Default for Task<'_> {
    fn default() -> Self {
        Self {
            source: 0,
            id: "task",
            addresses: &[],
            node: None,
            zone: None,
            admission: Admission::In,
            weight: 1,
        }
    }
}
