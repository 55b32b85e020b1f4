//! The UDP loop over real sockets.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hickory_proto::op::Message;
use portolan_dns::cookie::Secrets;
use portolan_dns::fast::{Peer, SlowPath, UdpPort, bind_udp, run};
use portolan_dns::gate::{Gate, Rules};
use portolan_dns::metrics::Metrics;
use portolan_dns::wire::Query;
use portolan_table::{Protocol, Table, ViewKey};
use prometheus::Registry;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, header, query, service, text, web};

/// Takes names below `taken.example` and nothing else.
#[derive(Default)]
struct Forwarder {
    taken: RefCell<Vec<(u16, Peer)>>,
}

impl SlowPath for Forwarder {
    fn udp_size_max(&self) -> u16 {
        1232
    }
    fn forwards(&self) -> bool {
        true
    }
    fn offers_recursion(&self, client: IpAddr) -> bool {
        client.is_loopback()
    }
    fn take(&self, query: &Query<'_>, peer: Peer) -> bool {
        let ours = query.name().octets().ends_with(b"\x05taken\x07example\0");
        if ours {
            self.taken.borrow_mut().push((query.id(), peer));
        }
        ours
    }
}

/// A worker on a thread of its own, stopped and awaited on drop.
struct Worker {
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<Vec<(u16, Peer)>>>,
    registry: Registry,
}

impl Worker {
    fn start(cluster: &Cluster, bind: &str) -> Self {
        let socket = bind_udp(bind.parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let (stop, registry) = (CancellationToken::new(), Registry::new());
        let metrics = Metrics::register(&registry).unwrap();
        let (table, key) = (cluster.publisher.table(), cluster.key);
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || serve(socket, &table, key, &metrics, stopped));
        Self { address, stop, thread: Some(thread), registry }
    }

    fn stop(&mut self) -> Vec<(u16, Peer)> {
        self.stop.cancel();
        self.thread.take().map(|thread| thread.join().unwrap()).unwrap_or_default()
    }

    fn counter(&self, name: &str, label: &str) -> f64 {
        let families = self.registry.gather();
        let metrics = families.iter().filter(|family| family.name() == name).flat_map(|f| f.get_metric());
        metrics
            .filter(|metric| metric.get_label().iter().any(|pair| pair.value() == label))
            .map(|metric| metric.get_counter().get_value())
            .sum()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(
    socket: UdpSocket,
    table: &Table,
    key: ViewKey<portolan_dns::Zones>,
    metrics: &Metrics,
    stop: CancellationToken,
) -> Vec<(u16, Peer)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let slow = Forwarder::default();
    let cells = metrics.worker();
    runtime.block_on(async {
        let port = UdpPort::new(socket).unwrap();
        let rules = Rules::new(&crate::cluster::config(), &Arc::new(Secrets::random()));
        let gate = RefCell::new(Gate::new(&Arc::new(ArcSwap::from_pointee(rules)), 1));
        run(&port, table, key, &slow, (&gate, &cells), stop).await.unwrap();
    });
    slow.taken.into_inner()
}

fn client(server: &str) -> UdpSocket {
    let server: SocketAddr = server.parse().unwrap();
    let client = UdpSocket::bind(if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // A connected socket takes packets from the address it asked and from no other.
    client.connect(server).unwrap();
    client
}

fn ask(client: &UdpSocket, packet: &[u8]) -> Message {
    client.send(packet).unwrap();
    let mut buffer = [0; 4096];
    let len = client.recv(&mut buffer).unwrap();
    Message::from_vec(&buffer[..len]).unwrap()
}

#[test]
fn queries_are_answered_refused_or_handed_over() {
    let cluster = Cluster::with(vec![web()]);
    let mut worker = Worker::start(&cluster, "127.0.0.1:0");
    let client = client(&worker.address.to_string());
    let reply = ask(&client, &query("web.shop.prod.svc.cluster", "A", None));
    assert_eq!((header(&reply).as_str(), reply.answers.len()), ("NOERROR aa ra", 2));
    let reply = ask(&client, &query("example.com", "A", None));
    assert_eq!(text(&reply), "REFUSED ra");
    client.send(b"no query").unwrap();
    client.send(&query("x.taken.example", "A", None)).unwrap();
    let mut broken = query("web.shop.prod.svc.cluster", "A", None);
    broken[5] = 2;
    assert_eq!(text(&ask(&client, &broken)), "FORMERR");
    let taken = worker.stop();
    let peer = Peer { client: client.local_addr().unwrap(), asked: None, known: false };
    assert_eq!(taken, [(0x1234, peer)]);
    assert_eq!(worker.counter("portolan_dns_queries_total", "A"), 3.0);
    assert_eq!(worker.counter("portolan_dns_replies_total", "REFUSED"), 1.0);
    assert_eq!(worker.counter("portolan_dns_replies_total", "FORMERR"), 1.0);
    assert_eq!(worker.counter("portolan_dns_ignored_total", "udp"), 1.0);
    assert_eq!(worker.counter("portolan_dns_handed_over_total", "udp"), 1.0);
}

#[test]
fn a_burst_is_answered_whole() {
    let cluster = Cluster::with(vec![web()]);
    let worker = Worker::start(&cluster, "127.0.0.1:0");
    let client = client(&worker.address.to_string());
    let mut packet = query("web.shop.prod.svc.cluster", "A", Some(1232));
    for id in 0..200u16 {
        packet[..2].copy_from_slice(&id.to_be_bytes());
        client.send(&packet).unwrap();
    }
    let mut ids = std::collections::BTreeSet::new();
    let mut firsts = std::collections::BTreeSet::new();
    let mut buffer = [0; 4096];
    while ids.len() < 200 {
        let len = client.recv(&mut buffer).unwrap();
        let reply = Message::from_vec(&buffer[..len]).unwrap();
        ids.insert(reply.metadata.id);
        firsts.insert(reply.answers[0].data.to_string());
    }
    assert_eq!(firsts.len(), 2, "the order turns from answer to answer");
}

#[test]
fn replies_come_from_the_address_that_was_asked() {
    let cluster = Cluster::with(vec![web()]);
    let worker = Worker::start(&cluster, "0.0.0.0:0");
    for server in ["127.0.0.1", "127.0.0.2", "127.9.9.9"] {
        let client = client(&format!("{server}:{}", worker.address.port()));
        let reply = ask(&client, &query("web.shop.prod.svc.cluster", "A", None));
        assert_eq!(reply.answers.len(), 2, "{server}");
    }
}

#[test]
fn ipv6_is_served() {
    if UdpSocket::bind("[::1]:0").is_err() {
        return;
    }
    let cluster = Cluster::with(vec![web()]);
    for bind in ["[::1]:0", "[::]:0"] {
        let worker = Worker::start(&cluster, bind);
        let client = client(&format!("[::1]:{}", worker.address.port()));
        let reply = ask(&client, &query("web.shop.prod.svc.cluster", "AAAA", None));
        assert_eq!(reply.answers.len(), 1, "{bind}");
    }
}

#[test]
fn changes_are_seen_by_the_next_query() {
    let mut cluster = Cluster::with(vec![web()]);
    let worker = Worker::start(&cluster, "127.0.0.1:0");
    let client = client(&worker.address.to_string());
    cluster.remove("web.shop.prod");
    let reply = ask(&client, &query("web.shop.prod.svc.cluster", "A", None));
    assert_eq!(header(&reply), "NXDOMAIN aa ra");
}

#[test]
fn every_address_comes_first_equally_often_for_a_client_that_asks_for_two_types_in_turn() {
    for len in 2..=4_usize {
        let tasks: Vec<(String, [String; 2])> = (1..=len)
            .map(|n| (format!("web.{n}"), [format!("10.0.0.{n}"), format!("2001:db8::{n}")]))
            .collect();
        let web = service("web").defined_by(0, &[]).port("http", Protocol::Tcp, 0);
        let web = tasks.iter().fold(web, |web, (id, [v4, v6])| web.instance(id, &[v4, v6]));
        let worker = Worker::start(&Cluster::with(vec![web.done()]), "127.0.0.1:0");
        let client = client(&worker.address.to_string());
        let questions =
            [("web.svc.cluster", "A"), ("web.svc.cluster", "AAAA"), ("_http._tcp.web.svc.cluster", "SRV")];
        // As a dual-stack client asks, then with the ports in between as well.
        for kinds in [2, 3] {
            let mut firsts = BTreeMap::new();
            for (name, rtype) in questions[..kinds].iter().cycle().take(kinds * 60 * len) {
                let reply = ask(&client, &query(name, rtype, Some(1232)));
                assert_eq!(reply.answers.len(), len);
                *firsts.entry((*rtype, reply.answers[0].data.to_string())).or_insert(0) += 1;
            }
            assert_eq!(firsts.len(), kinds * len, "each is first at times: {firsts:?}");
            assert!(firsts.values().all(|count| (54..=66).contains(count)), "{len}: {firsts:?}");
        }
    }
}
