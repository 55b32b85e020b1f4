//! A DNS server on loopback, with workers as the daemon has them, and a client for it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use portolan_dns::{
    Config, Network, NodeConfig, Schema, Server, Trust, ZoneBuilder, ZoneConfig, ZoneMetrics, Zones, bind,
    serve, tend,
};
use portolan_table::{
    Admission, AppProtocol, ChangeSet, Endpoint, Generation, Health, Instance, Labels, Member, Protocol,
    Provenance, Publisher, Service, ServiceName, ServicePort, Slot, SourceId, SourceStatus, Standing,
    ViewKey,
};
use prometheus::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// No test waits longer than this for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const MS: Duration = Duration::from_millis(1);

/// A server in threads of its own. Dropped, it drains and is joined.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) server: Arc<Server>,
    pub(crate) registry: Registry,
    publisher: Publisher,
    generations: watch::Sender<Generation>,
    key: ViewKey<Zones>,
    stop: CancellationToken,
    workers: Vec<JoinHandle<()>>,
}

pub(crate) fn config() -> Config {
    Config {
        listen: Vec::new(),
        zones: vec![ZoneConfig { name: "svc.cluster".into(), schema: Schema::Native, sources: Vec::new() }],
        ttl: 5,
        negative_ttl: 5,
        forward: Vec::new(),
        forward_zones: Vec::new(),
        allow_forward: vec![Network { address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), prefix: 8 }],
        forward_timeout: MS * 2000,
        // One client may have a quarter of it.
        forward_in_flight_max: 400,
        forward_cache_entries: 100,
        udp_size_max: 1232,
        tcp_connections_max: 100,
        tcp_idle: PATIENCE,
        txt_labels: Vec::new(),
        node: NodeConfig {
            name: "edge".into(),
            addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            proxy_addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        },
        ..Config::default()
    }
}

impl Node {
    pub(crate) fn start(config: &Config) -> Self {
        Self::with_workers(config, 1)
    }

    pub(crate) fn with_workers(config: &Config, workers: usize) -> Self {
        Self::at(config, workers, "127.0.0.1:0".parse().unwrap())
    }

    /// Stops, and starts anew at the same address, with nothing but what is on disk.
    pub(crate) fn restart(&mut self, config: &Config, address: SocketAddr) {
        self.stop.cancel();
        self.workers.drain(..).for_each(|worker| worker.join().unwrap());
        *self = Self::at(config, 1, address);
    }

    fn at(config: &Config, workers: usize, address: SocketAddr) -> Self {
        let registry = Registry::new();
        let mut publisher = Publisher::new();
        let metrics = ZoneMetrics::register(&registry).unwrap();
        let key = publisher.add_view(ZoneBuilder::new(config, metrics));
        let trust = Trust::read(config).unwrap();
        let server = Server::new(config, trust, publisher.table(), key, &registry);
        let stop = CancellationToken::new();
        let sockets = bind(address, workers).unwrap();
        let address = sockets[0].local_addr().unwrap();
        let (generations, followed) = watch::channel(publisher.table().load().generation());
        let (tended, stopped) = (Arc::clone(&server), stop.clone());
        let control = std::thread::spawn(move || runtime().block_on(tend(tended, followed, stopped)));
        let mut workers: Vec<_> = sockets
            .into_iter()
            .enumerate()
            .map(|(worker, sockets)| {
                let (server, stop) = (Arc::clone(&server), stop.clone());
                std::thread::spawn(move || {
                    tokio::task::LocalSet::new().block_on(&runtime(), serve(server, sockets, worker, stop));
                })
            })
            .collect();
        workers.push(control);
        Self { address, server, registry, publisher, generations, key, stop, workers }
    }

    /// Publishes services, each with so many instances, and one source that has its list.
    pub(crate) fn publish(&mut self, services: &[(&str, u16)]) {
        self.publish_as(services, true);
    }

    /// The same with a source that may lack its list.
    pub(crate) fn publish_as(&mut self, services: &[(&str, u16)], has_data: bool) {
        let mut change = ChangeSet::default();
        change.set_sources(vec![SourceStatus {
            id: SourceId(0),
            name: "test".into(),
            kind: "file",
            standing: Standing::Synced,
            required: true,
            has_data,
        }]);
        for (name, instances) in services {
            change.upsert(Arc::new(service(name, *instances)));
        }
        self.apply(change);
    }

    /// Takes services away.
    pub(crate) fn remove(&mut self, names: &[&str]) {
        let mut change = ChangeSet::default();
        names.iter().for_each(|name| change.remove(ServiceName::parse(name).unwrap()));
        self.apply(change);
    }

    fn apply(&mut self, change: ChangeSet) {
        self.publisher.apply(change).unwrap();
        self.generations.send_replace(self.publisher.table().load().generation());
    }

    /// The zones as they are answered from now.
    pub(crate) fn zones(&self) -> Zones {
        self.publisher.table().load().view(self.key).clone()
    }

    /// What a reload does to the server.
    pub(crate) fn reconfigure(&self, config: &Config) {
        self.server.reconfigure(config, Trust::read(config).unwrap());
    }

    /// Asks over UDP once, with EDNS offering `udp_size` octets if it is given.
    pub(crate) fn ask_udp(&self, name: &str, kind: RecordType, udp_size: Option<u16>) -> Message {
        let reply = self.exchange_udp(&query(7, name, kind, udp_size)).unwrap();
        let limit = udp_size.map_or(512, |size| size.clamp(512, 1232));
        assert!(reply.len() <= limit.into(), "{} octets", reply.len());
        Message::from_vec(&reply).unwrap()
    }

    /// Sends a packet over UDP; the reply, if one comes in time.
    pub(crate) fn exchange_udp(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(self.address).unwrap();
        socket.send(packet).unwrap();
        let mut buffer = vec![0; 65_535];
        let len = socket.recv(&mut buffer).ok()?;
        buffer.truncate(len);
        Some(buffer)
    }

    pub(crate) fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.address).unwrap())
    }

    /// The sum of a metric's series, those with `label` in one of their values if it is given.
    pub(crate) fn metric(&self, name: &str, label: Option<&str>) -> f64 {
        let families = self.registry.gather();
        let series =
            families.iter().filter(|family| family.name() == name).flat_map(|family| family.get_metric());
        series
            .filter(|metric| label.is_none_or(|label| metric.get_label().iter().any(|l| l.value() == label)))
            .map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value())
            .sum()
    }

    pub(crate) fn wait_for_metric(&self, name: &str, label: Option<&str>, value: f64) {
        let start = Instant::now();
        while self.metric(name, label) < value {
            assert!(start.elapsed() < PATIENCE, "{name}{label:?} is {}", self.metric(name, label));
            std::thread::sleep(MS);
        }
    }

    /// Waits until something holds.
    pub(crate) fn wait_until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(start.elapsed() < PATIENCE, "{what}");
            std::thread::sleep(MS);
        }
    }

    /// Tells the server to stop, without waiting.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
        for worker in self.workers.drain(..) {
            let ended = worker.join();
            if !std::thread::panicking() {
                ended.unwrap();
            }
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn service(name: &str, instances: u16) -> Service {
    let members: Box<[Member]> = (0..instances)
        .map(|index| Member {
            source: SourceId(0),
            instance: Arc::new(Instance {
                health: Health::Healthy,
                ..Instance::running(format!("{name}.{index}"))
            }),
            admission: Admission::In,
        })
        .collect();
    let endpoints: Box<[Endpoint]> = (0..instances)
        .map(|index| Endpoint {
            address: SocketAddr::from(([10, 1, (index >> 8) as u8, index as u8], 31_000)),
            member: index.into(),
            slot: Slot { index: index.into(), epoch: 0 },
            weight: 1,
            provenance: Provenance::Registered,
        })
        .collect();
    let port = ServicePort {
        number: 80,
        name: Some("http".into()),
        protocol: Protocol::Tcp,
        app_protocol: AppProtocol::Http,
        labels: Labels::default(),
        live: instances.into(),
        weighted: false,
        endpoints,
    };
    Service {
        name: ServiceName::parse(name).unwrap(),
        ports: Box::new([port]),
        members,
        specs: Box::default(),
    }
}

/// A query in wire form; with EDNS if a size is given.
pub(crate) fn query(id: u16, name: &str, kind: RecordType, udp_size: Option<u16>) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    if let Some(size) = udp_size {
        let mut edns = Edns::new();
        edns.set_max_payload(size);
        message.set_edns(edns);
    }
    message.to_vec().unwrap()
}

/// With the two octets that go before a message on TCP (RFC 1035 §4.2.2).
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let mut frame = u16::try_from(message.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(message);
    frame
}

/// A TCP connection to the server.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
}

impl Client {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    pub(crate) fn send(&mut self, message: &[u8]) {
        self.stream.write_all(&framed(message)).unwrap();
    }

    pub(crate) fn read(&mut self) -> Message {
        Message::from_vec(&self.read_octets()).unwrap()
    }

    pub(crate) fn read_octets(&mut self) -> Vec<u8> {
        let mut len = [0; 2];
        self.stream.read_exact(&mut len).unwrap();
        let mut packet = vec![0; u16::from_be_bytes(len).into()];
        self.stream.read_exact(&mut packet).unwrap();
        packet
    }

    pub(crate) fn ask(&mut self, name: &str, kind: RecordType) -> Message {
        self.send(&query(9, name, kind, None));
        self.read()
    }

    /// True when the server has closed the connection, waiting for that.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0; 1]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}
