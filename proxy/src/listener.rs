//! Listening sockets: one per worker on the same address, so that no worker waits for another's accept.

use core::net::SocketAddr;
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;
use std::future::poll_fn;
use std::io;
use std::net::{TcpListener as StdListener, UdpSocket as StdDatagrams};
use std::rc::Rc;
use std::sync::Arc;

use nix::sys::socket::setsockopt;
use nix::{getsockopt_impl, libc, setsockopt_impl, sockopt_impl};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{ListenerConfig, ListenerProtocol};
use crate::l4;
use crate::l7::{Connection, ListenerState, OVERLOADED, PLAIN_HTTP, TICK};
use crate::stream::Stream;
use crate::tls::ListenerTls;
use crate::tls::metrics::Failure;
use crate::udp;
use crate::worker::Worker;

/// Connections that may wait to be accepted, per worker. The kernel's own limit (`net.core.somaxconn`) applies.
const BACKLOG: i32 = 4096;
/// Pause after an accept that failed for want of descriptors or memory: the cause won't be gone at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listening socket for one worker. Can be sent to it.
#[derive(Debug)]
pub struct Bound {
    name: Arc<str>,
    protocol: ListenerProtocol,
    address: SocketAddr,
    socket: BoundSocket,
}

#[derive(Debug)]
enum BoundSocket {
    Stream(StdListener),
    Datagrams(StdDatagrams),
}

impl Bound {
    /// The name of the listener.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Where it listens; the port is known even if the configuration left it to the kernel (port 0).
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Binds a listener: one socket per worker, all on one address (`SO_REUSEPORT`).
///
/// # Errors
/// The address can't be bound: in use by another program, not of this host, or not permitted.
pub fn bind(listener: &ListenerConfig, workers: usize) -> io::Result<Vec<Bound>> {
    let mut address = listener.bind;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers.max(1) {
        let (socket, local) = open(listener, address)?;
        // With port 0 the first socket gets one from the kernel, which the others share.
        address = local;
        let protocol = listener.protocol;
        sockets.push(Bound { name: Arc::clone(&listener.name), protocol, address, socket });
    }
    Ok(sockets)
}

fn open(listener: &ListenerConfig, address: SocketAddr) -> io::Result<(BoundSocket, SocketAddr)> {
    if listener.protocol == ListenerProtocol::Udp {
        let socket = udp::bind(address)?;
        let local = socket.local_addr()?;
        return Ok((BoundSocket::Datagrams(socket), local));
    }
    let socket = open_stream(address, listener.tcp_fast_open)?;
    let local = socket.local_addr()?;
    Ok((BoundSocket::Stream(socket), local))
}

fn open_stream(address: SocketAddr, fast_open: bool) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // A listener on [::] is for IPv6 alone, so that 0.0.0.0 can be bound beside it.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    if fast_open && let Err(error) = setsockopt(&socket, FastOpen, &BACKLOG) {
        // Nothing is lost but a round trip.
        tracing::warn!(%address, %error, "no TCP Fast Open");
    }
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

// Room for clients whose first packet brought data and who have yet to prove their address.
sockopt_impl!(FastOpen, Both, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, i32);

/// Serves one socket on the worker it was bound for, until `stop`; then accepts no more, lets what is open end
/// within the drain time of the configuration, and returns. Needs a `LocalSet`. Dropping it closes everything.
pub async fn serve(worker: Rc<Worker>, bound: Bound, stop: CancellationToken) {
    let name = Arc::clone(&bound.name);
    tokio::select! {
        served = serve_bound(&worker, bound, stop) => if let Err(error) = served {
            tracing::error!(listener = %name, %error, "listening socket refused by the runtime");
        },
        () = tick(&worker) => {}
    }
}

async fn serve_bound(worker: &Rc<Worker>, bound: Bound, stop: CancellationToken) -> io::Result<()> {
    let Bound { name, protocol, address, socket } = bound;
    let listener = match socket {
        BoundSocket::Datagrams(socket) => return udp::serve(worker.udp_env(), name, socket, stop).await,
        BoundSocket::Stream(listener) => TcpListener::from_std(listener)?,
    };
    match protocol {
        ListenerProtocol::Http => serve_http(worker, &name, None, address, listener, stop).await,
        ListenerProtocol::Https => match worker.tls().listener(&name) {
            tls @ Some(_) => serve_http(worker, &name, tls, address, listener, stop).await,
            None => tracing::error!(listener = %name, "no certificates are in force for the listener"),
        },
        _ => l4::serve(worker.l4_env(), name, listener, stop).await,
    }
    Ok(())
}

/// Keeps the worker's clock going. Every listener of a worker calls it; the clock moves once per tick.
async fn tick(worker: &Worker) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        worker.tick();
    }
}

async fn serve_http(
    worker: &Rc<Worker>,
    name: &Arc<str>,
    tls: Option<Arc<ListenerTls>>,
    address: SocketAddr,
    listener: TcpListener,
    stop: CancellationToken,
) {
    let cells = worker.cells.listener(name);
    let state = Rc::new(ListenerState::new(Arc::clone(name), address.port(), tls, cells));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, peer)) => take_on(worker, &state, &mut connections, client, peer),
                Err(error) => {
                    state.cells.accept_failed();
                    if !is_of_one_connection(&error) {
                        tracing::warn!(listener = %state.name, %error, "accept failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    // One connection's bug is no other connection's problem.
                    tracing::error!(listener = %state.name, %error, "connection task failed");
                }
                state.cells.set_open(connections.len());
            }
            () = stop.cancelled() => break,
        }
    }
    state.draining.set(true);
    // Connections that wait to be accepted were made in good faith; closing the socket would reset them. A moment,
    // because the reactor may not have told of them yet, and no longer, because others may never stop coming.
    let until = tokio::time::Instant::now() + TICK;
    while let Ok(Ok((client, peer))) = tokio::time::timeout_at(until, listener.accept()).await {
        take_on(worker, &state, &mut connections, client, peer);
    }
    drop(listener);
    worker.clock.wake_all();
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(worker.config().drain, drained).await.is_err() {
        tracing::info!(listener = %state.name, open = connections.len(), "drain limit reached, closing");
    }
    state.cells.set_open(0);
}

fn take_on(
    worker: &Rc<Worker>,
    state: &Rc<ListenerState>,
    connections: &mut JoinSet<()>,
    client: TcpStream,
    peer: SocketAddr,
) {
    // Nagle's algorithm would hold the second write of a response back.
    let _ = client.set_nodelay(true);
    if connections.len() >= worker.config().limits.connections_max {
        state.cells.refused_connection();
        turn_away(&client, state);
        return;
    }
    if state.tls.is_some() {
        connections.spawn_local(encrypted(Rc::clone(worker), Rc::clone(state), client, peer));
    } else {
        connections.spawn_local(Connection::new(worker, state, Stream::Tcp(client), peer).run());
    }
    state.cells.accepted(connections.len());
}

/// A connection to an `https` listener.
async fn encrypted(worker: Rc<Worker>, state: Rc<ListenerState>, client: TcpStream, peer: SocketAddr) {
    let Some(tls) = &state.tls else { return };
    let timer = worker.clock.timer();
    poll_fn(|cx| {
        timer.watch(cx);
        Poll::Ready(())
    })
    .await;
    let (limit, most) = {
        let config = worker.config();
        (config.timeouts.tls_handshake, config.limits.tls_handshakes_max)
    };
    timer.set(limit);
    let accepted = {
        let mut accepting = pin!(worker.handshakes.accept(tls, client, most));
        poll_fn(|cx| match accepting.as_mut().poll(cx) {
            Poll::Pending if timer.is_expired() => Poll::Ready(Err((Failure::TimedOut, None))),
            polled => polled,
        })
        .await
    };
    drop(timer);
    match accepted {
        Ok(client) => {
            let session = client.session();
            state.cells.tls.succeeded(session.protocol_version(), session.handshake_kind());
            Connection::new(&worker, &state, Stream::Tls(Box::new(client)), peer).run().await;
        }
        Err((why, socket)) => {
            state.cells.tls.failed(why);
            if let Some(socket) = socket {
                Connection::new(&worker, &state, Stream::Tcp(socket), peer).refuse(PLAIN_HTTP).await;
            }
        }
    }
}

/// Says 503 as far as that goes without waiting, and closes.
fn turn_away(client: &TcpStream, state: &ListenerState) {
    if state.tls.is_some() {
        // A client that waits for a handshake cannot read it.
        return;
    }
    let mut answer = Vec::new();
    OVERLOADED.compose(&mut answer, false, true);
    // What can't be written or read at once is not worth a descriptor.
    let _ = client.try_write(&answer);
    let _ = client.try_read(&mut [0; 4096]);
}

/// The failure is the connection's that was to be accepted, not the listener's.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use nix::sys::socket::getsockopt;
    use portolan_table::Slot;

    use super::*;
    use crate::fixture::{self, World, rule};
    use crate::worker::Proxy;

    fn listener(protocol: ListenerProtocol, tcp_fast_open: bool) -> ListenerConfig {
        ListenerConfig { name: "dgram".into(), bind: ([127, 0, 0, 1], 0).into(), protocol, tcp_fast_open }
    }

    #[test]
    fn fast_open_is_a_choice() {
        for (wanted, room) in [(false, 0), (true, BACKLOG)] {
            let bound = bind(&listener(ListenerProtocol::Tcp, wanted), 1).unwrap().remove(0);
            let BoundSocket::Stream(socket) = bound.socket else { panic!("a stream socket") };
            assert_eq!(getsockopt(&socket, FastOpen).unwrap(), room);
        }
    }

    /// Answers what it gets until the process ends.
    fn echo() -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut octets = [0; 2048];
            while let Ok((len, from)) = socket.recv_from(&mut octets) {
                let _ = socket.send_to(&octets[..len], from);
            }
        });
        address
    }

    #[test]
    fn workers_share_the_clients_of_a_udp_listener() {
        let mut relayed = rule("relay", "app");
        relayed.matches.listener = Some("dgram".into());
        let config = fixture::config(vec![relayed]);
        let mut world = World::new(&config);
        world.put(fixture::service("app", &[(echo(), Slot { index: 0, epoch: 0 }, 1)]));
        let registry = prometheus::Registry::new();
        let proxy = Proxy::new(config, world.table.clone(), world.routes, &registry);
        let stop = CancellationToken::new();
        let bound = bind(&listener(ListenerProtocol::Udp, false), 2).unwrap();
        let address = bound[0].address();
        let workers = (0..).zip(bound).map(|(index, bound)| {
            let (proxy, stop) = (Arc::clone(&proxy), stop.clone());
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let served = async move { serve(proxy.worker(index), bound, stop).await };
                tokio::task::LocalSet::new().block_on(&runtime, served);
            })
        });
        let workers: Vec<_> = workers.collect();
        let clients = (0..40u8).map(|n| {
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            client.connect(address).unwrap();
            for round in 0..3 {
                client.send(&[n, round]).unwrap();
                let mut answer = [0; 9];
                let len = client.recv(&mut answer).unwrap();
                assert_eq!(answer[..len], [n, round]);
            }
            client
        });
        let clients: Vec<_> = clients.collect();
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in ["portolan_proxy_udp_flows_total 40", "portolan_proxy_udp_upstream_datagrams_total 120"] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        stop.cancel();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        drop(clients);
    }
}
