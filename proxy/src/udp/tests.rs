//! `udp` listeners over real sockets on the loopback.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Instant;

use portolan_table::Slot;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::relay::Relay;
use super::*;
use crate::fixture::{self, World, rule};
use crate::upstream::Board;
use crate::{Balance, Config, EjectionConfig, HashKey, UpstreamConfig};

/// Nothing in these tests may take this long.
const LIMIT: Duration = Duration::from_secs(60);
const V4: &str = "127.0.0.1:0";
const V6: &str = "[::1]:0";

fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(LocalSet::new().run_until(async { timeout(LIMIT, test).await.expect("took too long") }))
}

/// A `udp` listener `dgram` in front of a service `app`.
struct Served {
    world: World,
    env: Env,
    board: Arc<Board>,
    address: SocketAddr,
    stop: CancellationToken,
    done: JoinHandle<io::Result<()>>,
}

fn endpoints(addresses: &[SocketAddr]) -> Vec<(SocketAddr, Slot, u16)> {
    (0..).zip(addresses).map(|(index, address)| (*address, Slot { index, epoch: 0 }, 1)).collect()
}

fn world(change: impl FnOnce(&mut Config), addresses: &[SocketAddr]) -> (World, Env, Arc<Board>) {
    let mut relayed = rule("relay", "app");
    relayed.matches.listener = Some("dgram".into());
    let mut config = fixture::config(vec![relayed]);
    change(&mut config);
    let mut world = World::new(&config);
    world.put(fixture::service("app", &endpoints(addresses)));
    let board = Board::new(1);
    let env = Env {
        table: world.table.clone(),
        routes: world.routes,
        upstreams: Rc::new(Upstreams::new(&board, 0)),
        listeners: Rc::default(),
    };
    (world, env, board)
}

fn served_at(bound: &str, change: impl FnOnce(&mut Config), addresses: &[SocketAddr]) -> Served {
    let (world, env, board) = world(change, addresses);
    let socket = bind(bound.parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let stop = CancellationToken::new();
    let done = spawn_local(serve(env.clone(), "dgram".into(), socket, stop.clone()));
    Served { world, env, board, address, stop, done }
}

fn served(change: impl FnOnce(&mut Config), addresses: &[SocketAddr]) -> Served {
    served_at(V4, change, addresses)
}

impl Served {
    async fn client(&self) -> UdpSocket {
        client(self.address).await
    }

    /// The tick of a worker, this long after now.
    fn tick(&self, later: Duration) {
        let now = Instant::now() + later;
        self.env.upstreams.tick(&self.env.table.load(), now);
        self.env.listeners.tick(now);
    }

    fn in_flight(&self, index: u32) -> u32 {
        self.board.endpoint(Slot { index, epoch: 0 }, Instant::now()).in_flight
    }

    fn counters(&self) -> &crate::upstream::Counters {
        self.env.upstreams.counters()
    }
}

async fn client(server: SocketAddr) -> UdpSocket {
    let local = if server.is_ipv4() { V4 } else { V6 };
    let socket = UdpSocket::bind(local).await.unwrap();
    socket.connect(server).await.unwrap();
    socket
}

async fn receive(client: &UdpSocket) -> Vec<u8> {
    let mut octets = vec![0; 70_000];
    let len = timeout(Duration::from_secs(10), client.recv(&mut octets)).await.expect("no answer").unwrap();
    octets.truncate(len);
    octets
}

async fn ask(client: &UdpSocket, text: &str) -> String {
    client.send(text.as_bytes()).await.unwrap();
    String::from_utf8(receive(client).await).unwrap()
}

/// An endpoint that answers every datagram with its tag and the datagram.
struct Echo {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Echo {
    async fn start(bound: &str, tag: &'static str) -> Self {
        let socket = UdpSocket::bind(bound).await.unwrap();
        let address = socket.local_addr().unwrap();
        let task = spawn_local(async move {
            let mut octets = vec![0; 70_000];
            loop {
                // Of clients that are gone there is nothing to tell.
                let Ok((len, from)) = socket.recv_from(&mut octets).await else { continue };
                let answer = [tag.as_bytes(), &octets[..len]].concat();
                let _ = socket.send_to(&answer, from).await;
            }
        });
        Self { address, task }
    }

    /// Closes the socket: datagrams are refused from then on.
    async fn close(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn datagrams_go_to_an_endpoint_and_back_in_every_family() {
    for (listener, endpoint) in [(V4, V4), (V6, V6), (V6, V4), (V4, V6)] {
        run(async {
            let echo = Echo::start(endpoint, "a:").await;
            let served = served_at(listener, |_| {}, &[echo.address]);
            let client = served.client().await;
            for n in 0..5 {
                assert_eq!(ask(&client, &format!("hello {n}")).await, format!("a:hello {n}"));
            }
            let counters = served.counters();
            let counts = [&counters.udp_flows, &counters.udp_datagrams_up, &counters.udp_datagrams_down];
            assert_eq!(counts.map(|count| count.value()), [1, 5, 5]);
            let octets = [&counters.udp_octets_up, &counters.udp_octets_down].map(|count| count.value());
            assert_eq!(octets, [35, 45]);
        });
    }
}

#[test]
fn every_size_passes_whole() {
    run(async {
        let echo = Echo::start(V4, "").await;
        let served = served(|_| {}, &[echo.address]);
        let client = served.client().await;
        let mut random = fastrand::Rng::with_seed(3);
        for len in [0, 1, 1_472, 9_000, 65_507] {
            let mut datagram = vec![0; len];
            random.fill(&mut datagram);
            client.send(&datagram).await.unwrap();
            assert!(receive(&client).await == datagram, "{len} octets");
        }
    });
}

#[test]
fn clients_hear_what_is_meant_for_them() {
    run(async {
        let (a, b) = (Echo::start(V4, "").await, Echo::start(V4, "").await);
        let served = served(|_| {}, &[a.address, b.address]);
        let mut clients = Vec::new();
        for _ in 0..300 {
            clients.push(served.client().await);
        }
        for round in 0..4 {
            for (n, client) in clients.iter().enumerate() {
                client.send(format!("{n} {round} one").as_bytes()).await.unwrap();
                client.send(format!("{n} {round} two").as_bytes()).await.unwrap();
            }
            for (n, client) in clients.iter().enumerate() {
                for text in ["one", "two"] {
                    let answer = String::from_utf8(receive(client).await).unwrap();
                    assert_eq!(answer, format!("{n} {round} {text}"));
                }
            }
        }
        assert_eq!(served.counters().udp_flows.value(), 300);
        assert_eq!((served.in_flight(0), served.in_flight(1)), (150, 150));
    });
}

#[test]
fn a_client_stays_with_its_endpoint() {
    run(async {
        let (a, b) = (Echo::start(V4, "a").await, Echo::start(V4, "b").await);
        let served = served(|_| {}, &[a.address, b.address]);
        let mut seen = HashSet::new();
        for _ in 0..4 {
            let client = served.client().await;
            let first = ask(&client, "").await;
            for _ in 0..5 {
                assert_eq!(ask(&client, "").await, first);
            }
            seen.insert(first);
        }
        assert_eq!(seen.len(), 2, "others go elsewhere");
    });
}

#[test]
fn under_consistent_hashing_an_address_stays_with_its_endpoint() {
    run(async {
        let (a, b) = (Echo::start(V4, "a").await, Echo::start(V4, "b").await);
        let hashed = |config: &mut Config| {
            config.upstream.balance = Balance::ConsistentHash(HashKey::ClientAddress);
        };
        let served = served(hashed, &[a.address, b.address]);
        let mut seen = HashSet::new();
        for _ in 0..12 {
            seen.insert(ask(&served.client().await, "").await);
        }
        assert_eq!(seen.len(), 1, "whatever its port");
    });
}

#[test]
fn the_least_recently_used_flow_makes_room() {
    run(async {
        let echo = Echo::start(V4, "").await;
        let served = served(|config| config.limits.udp_flows_max = 2, &[echo.address]);
        let (first, second, third) = (served.client().await, served.client().await, served.client().await);
        for client in [&first, &second, &first, &third] {
            ask(client, "x").await;
        }
        let counts = || {
            let counters = served.counters();
            [&counters.udp_flows, &counters.udp_evicted, &counters.udp_closed].map(|count| count.value())
        };
        assert_eq!(counts(), [3, 1, 1]);
        ask(&first, "still there").await;
        assert_eq!(counts(), [3, 1, 1], "the second had to go");
        ask(&second, "anew").await;
        assert_eq!(counts(), [4, 2, 2]);
        assert_eq!(served.in_flight(0), 2);
    });
}

#[test]
fn when_an_endpoint_leaves_its_flows_go_elsewhere() {
    run(async {
        let (a, b) = (Echo::start(V4, "a").await, Echo::start(V4, "b").await);
        let mut served = served(|_| {}, &[a.address]);
        let client = served.client().await;
        assert_eq!(ask(&client, "").await, "a");
        served.tick(Duration::ZERO);
        let elsewhere = [(b.address, Slot { index: 1, epoch: 0 }, 1)];
        served.world.put(fixture::service("app", &elsewhere));
        served.tick(Duration::ZERO);
        assert_eq!(ask(&client, "").await, "b");
        assert_eq!((served.in_flight(0), served.in_flight(1)), (0, 1));
        served.world.put(fixture::service("app", &[]));
        served.tick(Duration::ZERO);
        client.send(b"to nobody").await.unwrap();
        until("it is dropped", || served.counters().udp_unserved.value() == 1).await;
        // Another client's flow takes the place of one that has ended, and hears nothing of it.
        served.world.put(fixture::service("app", &elsewhere));
        assert_eq!(ask(&served.client().await, "x").await, "bx");
    });
}

#[test]
fn flows_without_datagrams_end() {
    run(async {
        let echo = Echo::start(V4, "").await;
        let served = served(|_| {}, &[echo.address]);
        let (idle, busy) = (served.client().await, served.client().await);
        served.tick(Duration::ZERO);
        ask(&idle, "x").await;
        ask(&busy, "x").await;
        served.tick(Duration::from_secs(20));
        ask(&busy, "x").await;
        assert_eq!(served.in_flight(0), 2);
        served.tick(Duration::from_secs(35));
        assert_eq!((served.in_flight(0), served.counters().udp_closed.value()), (1, 1));
        served.tick(Duration::from_secs(51));
        assert_eq!((served.in_flight(0), served.counters().udp_closed.value()), (0, 2));
        assert_eq!(ask(&idle, "again").await, "again");
    });
}

#[test]
fn replies_come_from_the_address_that_was_asked() {
    run(async {
        let echo = Echo::start(V4, "").await;
        let served = served_at("0.0.0.0:0", |_| {}, &[echo.address]);
        // A connected socket hears nobody else.
        let mut clients = Vec::new();
        for ip in [[127, 0, 0, 1], [127, 0, 0, 2], [127, 1, 2, 3]] {
            clients.push(client((IpAddr::from(ip), served.address.port()).into()).await);
        }
        for client in clients.iter().chain(&clients) {
            let text = client.peer_addr().unwrap().to_string();
            assert_eq!(ask(client, &text).await, text);
        }
        // One client port that asks two addresses: two flows, each answered from its own.
        let one = UdpSocket::bind(V4).await.unwrap();
        for ip in [[127, 0, 0, 1], [127, 0, 0, 2]] {
            let asked = SocketAddr::from((ip, served.address.port()));
            one.send_to(b"x", asked).await.unwrap();
            let (_, from) = timeout(LIMIT, one.recv_from(&mut [0; 9])).await.unwrap().unwrap();
            assert_eq!(from, asked);
        }
        assert_eq!(served.counters().udp_flows.value(), 5);
    });
    run(async {
        let echo = Echo::start(V6, "").await;
        let served = served_at("[::]:0", |_| {}, &[echo.address]);
        let client = client(("::1".parse::<IpAddr>().unwrap(), served.address.port()).into()).await;
        assert_eq!(ask(&client, "six").await, "six");
    });
}

#[test]
fn an_endpoint_that_refuses_has_failed_and_its_flows_go_elsewhere() {
    run(async {
        let (a, b) = (Echo::start(V4, "a").await, Echo::start(V4, "b").await);
        let addresses = [a.address, b.address];
        let ejecting = |config: &mut Config| {
            let ejection = EjectionConfig { failures: 1, ..EjectionConfig::default() };
            config.upstream = UpstreamConfig { ejection: Some(ejection), ..UpstreamConfig::default() };
        };
        let served = served(ejecting, &addresses);
        a.close().await;
        let mut clients = Vec::new();
        for _ in 0..6 {
            clients.push(served.client().await);
        }
        let slot = Slot { index: 0, epoch: 0 };
        let ejected = || served.board.endpoint(slot, Instant::now()).ejected_by == 1;
        for client in &clients {
            client.send(b"lost, if it went to the one that is closed").await.unwrap();
        }
        until("the refusal is heard", ejected).await;
        assert!(served.counters().udp_refused.value() >= 1);
        for client in &clients {
            // Answers to the datagrams before may still come.
            let mut answer = ask(client, "now").await;
            while answer != "bnow" {
                answer = String::from_utf8(receive(client).await).unwrap();
            }
        }
        assert_eq!(served.in_flight(0), 0);
    });
}

#[test]
fn a_refusal_that_sending_is_told_of_costs_that_datagram_nothing() {
    run(async {
        let (a, b) = (Echo::start(V4, "a").await, Echo::start(V4, "b").await);
        let (_world, env, _board) = world(|_| {}, &[a.address, b.address]);
        let socket = UdpSocket::from_std(bind(V4.parse().unwrap()).unwrap()).unwrap();
        let mut relay = Relay::new(env.clone(), "dgram".into(), &socket).unwrap();
        let client = client(socket.local_addr().unwrap()).await;
        a.close().await;
        // Nothing but the sending side is driven, so that the refusals are told there.
        for n in 0..8u8 {
            client.send(&[n]).await.unwrap();
            socket.readable().await.unwrap();
            let _ = socket.try_io(Interest::READABLE, || relay.turn_up());
            sleep(Duration::from_millis(5)).await;
        }
        let up = env.upstreams.counters().udp_datagrams_up.value();
        assert_eq!(up, 8, "all were sent, the first perhaps to the one that is closed");
        assert!(env.upstreams.counters().udp_refused.value() <= 1);
    });
}

#[test]
fn an_endpoint_that_never_answers_and_never_refuses_is_in_order() {
    run(async {
        let silent = UdpSocket::bind(V4).await.unwrap();
        let served = served(|_| {}, &[silent.local_addr().unwrap()]);
        let slot = Slot { index: 0, epoch: 0 };
        let now = Instant::now();
        {
            // It failed before.
            let snapshot = served.env.table.load();
            let routes = snapshot.view(served.env.routes);
            let route = routes.tcp("dgram").unwrap();
            let mut attempts = served.env.upstreams.begin(route, |_| 0, now).unwrap();
            attempts.pick(&snapshot, routes, now).unwrap().failed(now);
        }
        let failures = || served.board.endpoint(slot, now).failures;
        let client = served.client().await;
        client.send(b"one").await.unwrap();
        silent.recv(&mut [0; 9]).await.unwrap();
        assert_eq!(failures(), 1);
        served.tick(Duration::from_secs(2));
        client.send(b"two").await.unwrap();
        silent.recv(&mut [0; 9]).await.unwrap();
        assert_eq!(failures(), 0);
    });
}

#[test]
fn a_turn_is_bounded() {
    run(async {
        let sink = UdpSocket::bind(V4).await.unwrap();
        let (_world, env, _board) = world(|_| {}, &[sink.local_addr().unwrap()]);
        let socket = UdpSocket::from_std(bind(V4.parse().unwrap()).unwrap()).unwrap();
        let mut relay = Relay::new(env.clone(), "dgram".into(), &socket).unwrap();
        let mut clients = Vec::new();
        for _ in 0..10 {
            let client = client(socket.local_addr().unwrap()).await;
            for n in 0..10u8 {
                client.send(&[n]).await.unwrap();
            }
            clients.push(client);
        }
        let mut turns = Vec::new();
        for _ in 0..4 {
            let before = env.upstreams.counters().udp_datagrams_up.value();
            let more = relay.turn_up().is_ok();
            turns.push((env.upstreams.counters().udp_datagrams_up.value() - before, more));
        }
        assert_eq!(turns, [(32, true), (32, true), (32, true), (4, false)]);
        // Replies to all of them, many for each.
        let mut from = Vec::new();
        for _ in 0..100 {
            let (_, address) = sink.recv_from(&mut [0; 9]).await.unwrap();
            from.push(address);
        }
        for address in from {
            sink.send_to(b"reply", address).await.unwrap();
        }
        let mut most = 0;
        while relay.turn_down().is_ok() {
            let before = most;
            most = env.upstreams.counters().udp_datagrams_down.value();
            assert!(most - before <= (32 * 8), "{} in one turn", most - before);
        }
        assert_eq!(most, 100);
    });
}

#[test]
fn a_stopped_listener_serves_those_it_knows_until_they_are_silent() {
    run(async {
        let echo = Echo::start(V4, "").await;
        let served = served(|_| {}, &[echo.address]);
        let (known, stranger) = (served.client().await, served.client().await);
        ask(&known, "x").await;
        served.stop.cancel();
        tokio::task::yield_now().await;
        assert_eq!(ask(&known, "still").await, "still");
        stranger.send(b"too late").await.unwrap();
        until("it is not served", || served.counters().udp_unserved.value() == 1).await;
        assert!(!served.done.is_finished());
        served.tick(Duration::from_secs(2));
        served.done.await.unwrap().unwrap();
        assert_eq!(served.env.upstreams.counters().udp_closed.value(), 1);
    });
    // Without flows it ends at once; with flows that never fall silent, after the time to drain.
    run(async {
        let echo = Echo::start(V4, "").await;
        let idle = served(|_| {}, &[echo.address]);
        idle.stop.cancel();
        idle.done.await.unwrap().unwrap();
        let busy = served(|config| config.drain = Duration::from_millis(200), &[echo.address]);
        ask(&busy.client().await, "x").await;
        busy.stop.cancel();
        busy.done.await.unwrap().unwrap();
        assert_eq!(busy.env.upstreams.counters().udp_closed.value(), 1);
    });
}
