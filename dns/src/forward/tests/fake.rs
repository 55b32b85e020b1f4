//! A resolver on loopback that follows a script, and what every test of the forwarder needs.

use std::sync::Mutex as StdMutex;

use hickory_proto::op::{OpCode, ResponseCode};
use hickory_proto::rr::{RData, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use super::*;
use crate::wire::text_to_name;

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A query as a resolver got it.
#[derive(Debug, Clone)]
pub(super) struct Got {
    pub(super) message: Message,
    pub(super) tcp: bool,
}

/// What a resolver does: packets to send, each after a pause.
pub(super) type Script = Vec<(Duration, Vec<u8>)>;

pub(super) struct Fake {
    pub(super) address: SocketAddr,
    got: Arc<StdMutex<Vec<Got>>>,
    _tasks: JoinSet<()>,
}

impl Fake {
    pub(super) async fn new(script: impl Fn(&Got) -> Script + Send + Sync + 'static) -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let (address, script, got) = (udp.local_addr().unwrap(), Arc::new(script), Arc::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(udp, Arc::clone(&script), Arc::clone(&got)));
        tasks.spawn(serve_tcp(tcp, script, Arc::clone(&got)));
        Self { address, got, _tasks: tasks }
    }

    pub(super) fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }
}

async fn serve_udp<S>(socket: UdpSocket, script: Arc<S>, got: Arc<StdMutex<Vec<Got>>>)
where
    S: Fn(&Got) -> Script + Send + Sync + 'static,
{
    let (socket, mut replies) = (Arc::new(socket), JoinSet::new());
    let mut buffer = [0; 2048];
    loop {
        let (len, client) = socket.recv_from(&mut buffer).await.unwrap();
        let query = Got { message: Message::from_vec(&buffer[..len]).unwrap(), tcp: false };
        got.lock().unwrap().push(query.clone());
        let (socket, packets) = (Arc::clone(&socket), script(&query));
        replies.spawn(async move {
            for (pause, packet) in packets {
                tokio::time::sleep(pause).await;
                let _ = socket.send_to(&packet, client).await;
            }
        });
    }
}

async fn serve_tcp<S>(listener: TcpListener, script: Arc<S>, got: Arc<StdMutex<Vec<Got>>>)
where
    S: Fn(&Got) -> Script + Send + Sync + 'static,
{
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let len = stream.read_u16().await.unwrap();
        let mut buffer = vec![0; len.into()];
        stream.read_exact(&mut buffer).await.unwrap();
        let query = Got { message: Message::from_vec(&buffer).unwrap(), tcp: true };
        got.lock().unwrap().push(query.clone());
        for (pause, packet) in script(&query) {
            tokio::time::sleep(pause).await;
            stream.write_u16(packet.len() as u16).await.unwrap();
            stream.write_all(&packet).await.unwrap();
        }
    }
}

pub(super) fn reply(query: &Message, code: ResponseCode) -> Message {
    let mut reply = Message::response(query.metadata.id, OpCode::Query);
    reply.metadata.response_code = code;
    reply.add_query(query.queries[0].clone());
    reply
}

pub(super) fn with_addresses(query: &Message, count: u8, ttl: u32) -> Vec<u8> {
    let mut reply = reply(query, ResponseCode::NoError);
    for last in 1..=count {
        let address = RData::A(Ipv4Addr::new(192, 0, 2, last).into());
        reply.add_answer(Record::from_rdata(query.queries[0].name.clone(), ttl, address));
    }
    reply.to_vec().unwrap()
}

/// Answers with 192.0.2.1 at once.
pub(super) fn good(got: &Got) -> Script {
    vec![(Duration::ZERO, with_addresses(&got.message, 1, 60))]
}

pub(super) fn silent(_: &Got) -> Script {
    Vec::new()
}

pub(super) fn with_code(code: ResponseCode) -> impl Fn(&Got) -> Script + Send + Sync {
    move |got| vec![(Duration::ZERO, reply(&got.message, code).to_vec().unwrap())]
}

pub(super) fn config(resolvers: &[&Fake]) -> Config {
    let loopback = Network { address: CLIENT, prefix: 8 };
    Config {
        forward: resolvers.iter().map(|fake| fake.address).collect(),
        forward_zones: Vec::new(),
        allow_forward: vec![loopback],
        forward_timeout: MS * 2000,
        // One client may have a quarter of it.
        forward_in_flight_max: 400,
        forward_cache_entries: 100,
        ..plain_config()
    }
}

fn plain_config() -> Config {
    Config {
        listen: Vec::new(),
        zones: Vec::new(),
        ttl: 5,
        negative_ttl: 5,
        forward: Vec::new(),
        forward_zones: Vec::new(),
        allow_forward: Vec::new(),
        forward_timeout: MS,
        forward_in_flight_max: 0,
        forward_cache_entries: 0,
        udp_size_max: 1232,
        tcp_connections_max: 10,
        tcp_idle: MS * 1000,
        txt_labels: Vec::new(),
        node: crate::config::NodeConfig::default(),
        ..Config::default()
    }
}

pub(super) fn forwarder(config: &Config) -> Arc<Forwarder> {
    Forwarder::new(config, &Registry::new()).unwrap()
}

pub(super) fn question(name: &str) -> Question {
    Question::new(&text_to_name(name).unwrap(), 1, false, false)
}

pub(super) async fn addresses(forwarder: &Arc<Forwarder>, name: &str) -> Vec<String> {
    addresses_for(forwarder, name, CLIENT).await
}

pub(super) async fn addresses_for(forwarder: &Arc<Forwarder>, name: &str, client: IpAddr) -> Vec<String> {
    match forwarder.resolve(&question(name), client).await {
        Forwarded::Answer(message) => message.answers.iter().map(|record| record.data.to_string()).collect(),
        other => vec![format!("{other:?}")],
    }
}

pub(super) fn queries(forwarder: &Forwarder, outcome: Outcome) -> u64 {
    forwarder.metrics.count_of(outcome)
}
