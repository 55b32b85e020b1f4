//! Relays and `tcp` listeners over real sockets on the loopback.

use core::net::SocketAddr;
use core::time::Duration;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener as StdListener, TcpStream as StdStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use portolan_table::Slot;
use rustix::event::{PollFd, PollFlags, poll};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{End, Env, Relayed, Relays, Tunnel, open, relay, serve};
use crate::fixture::{self, World, rule};
use crate::upstream::{Board, Upstreams};
use crate::{Config, UpstreamConfig};

/// Nothing in these tests may take this long.
const LIMIT: Duration = Duration::from_secs(60);
/// Content that differs at every offset for a prime number of octets.
const PATTERN_LEN: usize = 1_000_003;

fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = LocalSet::new();
    runtime.block_on(local.run_until(async { timeout(LIMIT, test).await.expect("took too long") }))
}

fn pair() -> (StdStream, TcpStream) {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let near = StdStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    far.set_nonblocking(true).unwrap();
    near.set_read_timeout(Some(LIMIT)).unwrap();
    near.set_write_timeout(Some(LIMIT)).unwrap();
    (near, TcpStream::from_std(far).unwrap())
}

/// A relay under test, with the client's and the server's ends of it.
struct Bench {
    relays: Rc<Relays>,
    client: StdStream,
    server: StdStream,
    done: tokio::task::JoinHandle<Relayed>,
}

fn bench(idle: Duration) -> Bench {
    bench_with(idle, Relays::new(), b"", b"")
}

fn bench_with(
    idle: Duration,
    relays: Rc<Relays>,
    to_upstream: &'static [u8],
    to_downstream: &'static [u8],
) -> Bench {
    let ((client, downstream), (server, upstream)) = (pair(), pair());
    let ticked = Rc::clone(&relays);
    tokio::task::spawn_local(async move {
        loop {
            ticked.tick(Instant::now().into_std());
            sleep(Duration::from_millis(10)).await;
        }
    });
    let own = Rc::clone(&relays);
    let done = tokio::task::spawn_local(async move {
        let tunnel = Tunnel {
            downstream: downstream.into(),
            upstream: upstream.into(),
            to_upstream,
            to_downstream,
            idle,
            picked: None,
            drain: idle,
        };
        relay(&own, tunnel).await
    });
    Bench { relays, client, server, done }
}

fn pattern(seed: u64) -> Vec<u8> {
    let mut octets = vec![0; PATTERN_LEN];
    fastrand::Rng::with_seed(seed).fill(&mut octets);
    octets
}

/// Sends `len` octets of the pattern and the end.
fn send(mut to: StdStream, seed: u64, len: usize) -> JoinHandle<()> {
    thread::spawn(move || {
        let pattern = pattern(seed);
        let mut left = len;
        while left > 0 {
            let n = left.min(pattern.len());
            to.write_all(&pattern[..n]).unwrap();
            left -= n;
        }
        to.shutdown(Shutdown::Write).unwrap();
    })
}

/// Reads to the end and compares; returns the number of octets.
fn receive(mut from: StdStream, seed: u64) -> JoinHandle<usize> {
    thread::spawn(move || {
        let pattern = pattern(seed);
        let (mut len, mut buffer) = (0, vec![0; 300_000]);
        loop {
            let n = from.read(&mut buffer).unwrap();
            if n == 0 {
                return len;
            }
            let mut got = &buffer[..n];
            while !got.is_empty() {
                let at = len % PATTERN_LEN;
                let step = got.len().min(PATTERN_LEN - at);
                assert!(got[..step] == pattern[at..at + step], "content differs after {len} octets");
                len += step;
                got = &got[step..];
            }
        }
    })
}

async fn joined<T: Send + 'static>(thread: JoinHandle<T>) -> T {
    tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap()
}

#[test]
fn bulk_passes_unchanged_both_ways_at_once() {
    run(async {
        let bench = bench(LIMIT);
        let (up, down) = (100 << 20, (64 << 20) + 12_345);
        let sent = [
            send(bench.client.try_clone().unwrap(), 1, up),
            send(bench.server.try_clone().unwrap(), 2, down),
        ];
        let received = [receive(bench.server, 1), receive(bench.client, 2)];
        for thread in sent {
            joined(thread).await;
        }
        let mut lens = Vec::new();
        for thread in received {
            lens.push(joined(thread).await);
        }
        assert_eq!(lens, [up, down]);
        let relayed = bench.done.await.unwrap();
        assert_eq!(relayed, Relayed { up: up as u64, down: down as u64, end: End::Closed });
        assert_eq!((bench.relays.open(), bench.relays.pipes.in_use()), (0, 0));
    });
}

#[test]
fn without_pipes_bulk_is_copied() {
    run(async {
        let bench = bench(LIMIT);
        let taken: Vec<_> = core::iter::from_fn(|| bench.relays.pipes.take()).collect();
        assert!(!taken.is_empty());
        let sent = send(bench.client.try_clone().unwrap(), 3, 20 << 20);
        bench.server.shutdown(Shutdown::Write).unwrap();
        let received = receive(bench.server, 3);
        joined(sent).await;
        assert_eq!(joined(received).await, 20 << 20);
        assert_eq!(bench.done.await.unwrap().end, End::Closed);
        assert_eq!(bench.relays.pipes.in_use(), taken.len());
    });
}

#[test]
fn small_messages_after_bulk_pass_one_by_one() {
    run(async {
        let Bench { client, server, done, .. } = bench(LIMIT);
        let talk = thread::spawn(move || {
            let (mut client, mut server) = (client, server);
            let bulk = pattern(4);
            let (mut writer, copy) = (client.try_clone().unwrap(), bulk.clone());
            let sender = thread::spawn(move || writer.write_all(&copy).unwrap());
            let mut got = vec![0; bulk.len()];
            server.read_exact(&mut got).unwrap();
            sender.join().unwrap();
            assert!(got == bulk);
            for n in 0..200u8 {
                client.write_all(&[n]).unwrap();
                let mut one = [0];
                server.read_exact(&mut one).unwrap();
                server.write_all(&one).unwrap();
                client.read_exact(&mut one).unwrap();
                assert_eq!(one, [n]);
            }
        });
        joined(talk).await;
        assert_eq!(done.await.unwrap().end, End::Closed);
    });
}

#[test]
fn an_end_of_one_side_is_passed_on_and_the_other_goes_on() {
    for client_first in [true, false] {
        run(async {
            let Bench { client, server, done, .. } = bench(LIMIT);
            let (first, second) = if client_first { (client, server) } else { (server, client) };
            let talk = thread::spawn(move || {
                let (mut first, mut second) = (first, second);
                first.write_all(b"question").unwrap();
                first.shutdown(Shutdown::Write).unwrap();
                let mut text = String::new();
                second.read_to_string(&mut text).unwrap();
                assert_eq!(text, "question");
                second.write_all(b"answer").unwrap();
                drop(second);
                let mut text = String::new();
                first.read_to_string(&mut text).unwrap();
                assert_eq!(text, "answer");
            });
            joined(talk).await;
            assert_eq!(done.await.unwrap().end, End::Closed);
        });
    }
}

#[test]
fn octets_read_before_go_first() {
    run(async {
        let Bench { client, server, done, .. } =
            bench_with(LIMIT, Relays::new(), b"to the server, ", b"to the client, ");
        let talk = thread::spawn(move || {
            for (mut from, mut to, want) in
                [(&client, &server, "to the server, more"), (&server, &client, "to the client, more")]
            {
                from.write_all(b"more").unwrap();
                let mut text = vec![0; want.len()];
                to.read_exact(&mut text).unwrap();
                assert_eq!(text, want.as_bytes());
            }
        });
        joined(talk).await;
        let relayed = done.await.unwrap();
        assert_eq!((relayed.up, relayed.down), (19, 19));
    });
}

#[test]
fn a_slow_reader_slows_the_sender_down() {
    run(async {
        let Bench { relays, mut client, server, done } = bench(LIMIT);
        SockRef::from(&client).set_send_buffer_size(64 * 1024).unwrap();
        SockRef::from(&server).set_recv_buffer_size(64 * 1024).unwrap();
        client.set_nonblocking(true).unwrap();
        let pattern = pattern(5);
        let (mut sent, mut still) = (0, 0);
        // Nobody reads: the sender must come to a stop, whatever the kernel's buffers hold.
        while still < 20 {
            let at = sent % PATTERN_LEN;
            match client.write(&pattern[at..]) {
                Ok(n) => (sent, still) = (sent + n, 0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    still += 1;
                    sleep(Duration::from_millis(10)).await;
                }
                Err(error) => panic!("{error}"),
            }
            assert!(sent < 32 << 20, "the relay takes without limit");
        }
        assert!(relays.pipes.in_use() <= 1);
        client.set_nonblocking(false).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        server.shutdown(Shutdown::Write).unwrap();
        assert_eq!(joined(receive(server, 5)).await, sent);
        assert_eq!(done.await.unwrap().up, sent as u64);
    });
}

#[test]
fn without_traffic_it_ends() {
    run(async {
        let Bench { client, server, done, .. } = bench(Duration::from_millis(400));
        let start = Instant::now();
        // Traffic of one direction keeps it open beyond the limit.
        for _ in 0..8 {
            (&server).write_all(b"x").unwrap();
            sleep(Duration::from_millis(100)).await;
        }
        assert!(!done.is_finished());
        assert_eq!(done.await.unwrap(), Relayed { up: 0, down: 8, end: End::Idle });
        // The clock of idle limits is as coarse as the ticks of the bench, and under load they are late.
        assert!(start.elapsed() >= Duration::from_millis(1_000));
        for mut end in [&client, &server] {
            let mut rest = Vec::new();
            end.read_to_end(&mut rest).unwrap();
        }
    });
}

#[test]
fn a_reset_is_passed_on() {
    for by_client in [true, false] {
        run(async {
            let Bench { client, server, done, .. } = bench(LIMIT);
            let (resets, mut sees) = if by_client { (client, server) } else { (server, client) };
            SockRef::from(&resets).set_linger(Some(Duration::ZERO)).unwrap();
            drop(resets);
            let want = if by_client { End::Downstream } else { End::Upstream };
            assert_eq!(done.await.unwrap().end, want);
            let error = sees.read(&mut [0]).expect_err("an ordinary end would hide the reset");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        });
    }
}

/// Writes so many octets, and counts them as they are taken.
fn write_counted(mut to: StdStream, octets: usize, count: &AtomicUsize) -> io::Result<()> {
    let piece = vec![b'x'; 64 << 10];
    while count.load(Ordering::Relaxed) < octets {
        count.fetch_add(to.write(&piece)?, Ordering::Relaxed);
    }
    Ok(())
}

/// Waits until a writer is held up by all that lies before it.
fn until_still(count: &AtomicUsize) {
    let (mut before, mut looks) = (0, 0);
    while looks < 10 {
        thread::sleep(Duration::from_millis(5));
        let now = count.load(Ordering::Relaxed);
        looks = if now > 0 && now == before { looks + 1 } else { 0 };
        before = now;
    }
}

/// Waits until the end of the other side's stream has come, whatever of it was not read.
fn until_ended(stream: &StdStream) {
    let mut ended = [PollFd::new(stream, PollFlags::RDHUP)];
    poll(&mut ended, None).unwrap();
}

#[test]
fn what_a_side_said_before_it_stopped_reading_arrives() {
    for by_server in [true, false] {
        run(async {
            let Bench { client, server, done, .. } = bench(LIMIT);
            let (quits, talks) = if by_server { (server, client) } else { (client, server) };
            let talk = thread::spawn(move || {
                let (mut quits, mut talks) = (quits, talks);
                let writes = talks.try_clone().unwrap();
                let count = Arc::new(AtomicUsize::new(0));
                let counted = Arc::clone(&count);
                let writer = thread::spawn(move || write_counted(writes, 64 << 20, &counted));
                // More than is taken, so that the relay has octets left to write when the reset comes.
                until_still(&count);
                quits.read_exact(&mut [0]).unwrap();
                quits.write_all(b"no more of that").unwrap();
                // With octets unread this is a reset, and what was written before is still to be read.
                drop(quits);
                let mut text = [0; 15];
                talks.read_exact(&mut text).unwrap();
                assert_eq!(&text, b"no more of that");
                let error = writer.join().unwrap().expect_err("an ordinary end would hide the reset");
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            });
            joined(talk).await;
            let want = if by_server { End::Upstream } else { End::Downstream };
            assert_eq!(done.await.unwrap().end, want);
        });
    }
}

#[test]
fn a_side_that_finished_before_it_stopped_reading_is_not_taken_for_broken() {
    run(async {
        let Bench { mut client, mut server, done, .. } = bench(LIMIT);
        let talk = thread::spawn(move || {
            client.write_all(&vec![b'x'; 1 << 20]).unwrap();
            server.read_exact(&mut [0]).unwrap();
            server.write_all(b"all there is").unwrap();
            server.shutdown(Shutdown::Write).unwrap();
            until_ended(&client);
            drop(server);
            let _ = client.write_all(&vec![b'x'; 1 << 20]);
            let mut text = [0; 12];
            client.read_exact(&mut text).unwrap();
            assert_eq!(&text, b"all there is");
            assert_eq!(client.read(&mut text).unwrap(), 0);
        });
        joined(talk).await;
        assert_eq!(done.await.unwrap().end, End::Upstream);
    });
}

/// A `tcp` listener `db` in front of a service `app`.
struct Served {
    world: World,
    env: Env,
    address: SocketAddr,
    stop: CancellationToken,
    done: tokio::task::JoinHandle<()>,
}

fn endpoints(addresses: &[SocketAddr]) -> Vec<(SocketAddr, Slot, u16)> {
    (0..).zip(addresses).map(|(index, address)| (*address, Slot { index, epoch: 0 }, 1)).collect()
}

async fn served(change: impl FnOnce(&mut Config), addresses: &[SocketAddr]) -> Served {
    let mut relayed = rule("relay", "app");
    relayed.matches.listener = Some("db".into());
    let mut config = fixture::config(vec![relayed]);
    change(&mut config);
    let mut world = World::new(&config);
    world.put(fixture::service("app", &endpoints(addresses)));
    let env = Env {
        table: world.table.clone(),
        routes: world.routes,
        upstreams: Rc::new(Upstreams::new(&Board::new(1), 0)),
        relays: Relays::new(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let done = tokio::task::spawn_local(serve(env.clone(), "db".into(), listener, stop.clone()));
    Served { world, env, address, stop, done }
}

impl Served {
    fn tick(&self) {
        let now = Instant::now().into_std();
        self.env.upstreams.tick(&self.env.table.load(), now);
        self.env.relays.tick(now);
    }

    /// What a client reads that sends `text` and the end.
    async fn ask(&self, text: &'static str) -> io::Result<String> {
        let address = self.address;
        joined(thread::spawn(move || {
            let mut client = StdStream::connect(address)?;
            client.set_read_timeout(Some(LIMIT))?;
            client.write_all(text.as_bytes())?;
            // Of a connection that was reset already, reading tells.
            let _ = client.shutdown(Shutdown::Write);
            let mut answer = String::new();
            client.read_to_string(&mut answer)?;
            Ok(answer)
        }))
        .await
    }

    async fn client(&self) -> StdStream {
        let address = self.address;
        joined(thread::spawn(move || StdStream::connect(address).unwrap())).await
    }
}

/// A server that answers every connection with its tag and what it read, until the process ends.
fn echo(tag: &'static str) -> SocketAddr {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            thread::spawn(move || {
                let mut text = Vec::new();
                let _ = stream.write_all(tag.as_bytes());
                let _ = stream.read_to_end(&mut text);
                let _ = stream.write_all(&text);
            });
        }
    });
    address
}

/// An address where nobody listens, and nobody will: it stays bound.
fn refused() -> SocketAddr {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    core::mem::forget(socket);
    address
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn a_listener_relays_to_the_endpoints_of_its_rule() {
    run(async {
        let served = served(|_| {}, &[echo("a:"), echo("b:")]).await;
        let mut answers = Vec::new();
        for _ in 0..4 {
            answers.push(served.ask("hello").await.unwrap());
        }
        answers.sort();
        assert_eq!(answers, ["a:hello", "a:hello", "b:hello", "b:hello"]);
        served.stop.cancel();
        served.done.await.unwrap();
        assert!(StdStream::connect(served.address).is_err(), "it accepts no more");
    });
}

#[test]
fn an_endpoint_that_refuses_is_passed_over() {
    run(async {
        let served = served(|config| config.upstream.ejection = None, &[refused(), echo("b:")]).await;
        for _ in 0..4 {
            assert_eq!(served.ask("x").await.unwrap(), "b:x");
        }
        assert!(served.env.upstreams.counters().retries.value() >= 1);
        assert!(served.env.upstreams.counters().tcp_connect_errors.value() >= 1);
    });
}

#[test]
fn a_connection_that_nobody_can_serve_is_reset() {
    run(async {
        for addresses in [vec![], vec![refused()]] {
            let served = served(|_| {}, &addresses).await;
            let error = served.ask("").await.expect_err("nobody answers");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            assert_eq!(served.env.upstreams.counters().tcp_unserved.value(), 1);
        }
    });
}

#[test]
fn relays_to_an_endpoint_that_left_drain_and_end() {
    run(async {
        let address = echo("");
        let mut served = served(|config| config.drain = Duration::from_millis(300), &[address]).await;
        let mut client = served.client().await;
        until("the relay is open", || served.env.relays.open() == 1).await;
        served.tick();
        served.world.put(fixture::service("app", &[]));
        served.tick();
        let start = Instant::now();
        client.write_all(b"still served").unwrap();
        until("the relay ended", || {
            served.tick();
            served.env.relays.open() == 0
        })
        .await;
        assert!(start.elapsed() >= Duration::from_millis(280), "it had time to drain");
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
    });
}

#[test]
fn a_stopped_listener_drains() {
    run(async {
        let served = served(|config| config.drain = Duration::from_millis(300), &[echo("")]).await;
        let (quick, _slow) = (served.client().await, served.client().await);
        until("both are open", || served.env.relays.open() == 2).await;
        served.stop.cancel();
        sleep(Duration::from_millis(50)).await;
        let answer = thread::spawn(move || {
            let mut quick = quick;
            quick.write_all(b"late").unwrap();
            quick.shutdown(Shutdown::Write).unwrap();
            let mut text = String::new();
            quick.read_to_string(&mut text).unwrap();
            text
        });
        assert_eq!(joined(answer).await, "late", "open connections are served");
        assert!(!served.done.is_finished(), "one is still open");
        served.done.await.unwrap();
        assert_eq!(served.env.relays.open(), 0);
    });
}

#[test]
fn connections_that_wait_to_be_accepted_are_served_after_the_stop() {
    run(async {
        let served = served(|_| {}, &[echo("a:")]).await;
        // Nothing is accepted while this thread does not yield.
        let waiting: Vec<_> = (0..20).map(|_| StdStream::connect(served.address).unwrap()).collect();
        served.stop.cancel();
        let answers = thread::spawn(move || {
            waiting.into_iter().all(|mut client| {
                let mut text = String::new();
                client.write_all(b"x").unwrap();
                client.shutdown(Shutdown::Write).unwrap();
                client.read_to_string(&mut text).unwrap();
                text == "a:x"
            })
        });
        assert!(joined(answers).await);
        served.done.await.unwrap();
    });
}

#[test]
fn connections_above_the_limit_are_reset() {
    run(async {
        let served = served(|config| config.limits.connections_max = 1, &[echo("a:")]).await;
        let first = served.client().await;
        until("it is open", || served.env.relays.open() == 1).await;
        assert!(served.ask("x").await.is_err());
        drop(first);
        until("it is closed", || served.env.upstreams.counters().tcp_closed.value() == 1).await;
        assert_eq!(served.ask("x").await.unwrap(), "a:x");
    });
}

#[test]
fn a_connection_to_an_endpoint_is_open_when_it_says_so_and_sends_at_once() {
    run(async {
        let upstream = open(echo("a:")).await.unwrap();
        assert!(upstream.nodelay().unwrap() && upstream.peer_addr().is_ok());
        let error = open(refused()).await.expect_err("nobody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        // What a listener is told its connections inherit.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        SockRef::from(&listener).set_tcp_nodelay(true).unwrap();
        let _client = open(listener.local_addr().unwrap()).await.unwrap();
        assert!(listener.accept().await.unwrap().0.nodelay().unwrap());
    });
}

#[test]
fn connects_that_hang_time_out() {
    run(async {
        // A listener whose queue is full answers no more connects.
        let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        full.listen(0).unwrap();
        let address = full.local_addr().unwrap().as_socket().unwrap();
        let mut fill = Vec::new();
        while let Ok(stream) = StdStream::connect_timeout(&address, Duration::from_millis(200)) {
            fill.push(stream);
        }
        let config = |config: &mut Config| {
            config.timeouts.connect = Duration::from_millis(200);
            config.upstream = UpstreamConfig { ejection: None, ..UpstreamConfig::default() };
        };
        let served = served(config, &[address, echo("b:")]).await;
        for _ in 0..2 {
            assert_eq!(served.ask("x").await.unwrap(), "b:x");
        }
    });
}
