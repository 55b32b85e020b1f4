//! Real small servers behind the simulated tasks, on loopback, all in this process.
//!
//! A task's sockets are bound when it is placed (the kernel gives the numbers), and listen from the moment it runs: before that a
//! connection is refused, as with a real program that is not up yet. A killed task serves on through its grace period; then
//! its listeners close and open requests finish.
//!
//! ```text
//! placed: bound ─► started: listening ─► stopped kindly: listeners closed, open requests finish ─► gone
//!                                    └─► crashed: everything dropped at once
//! ```
//! Every agent has an address of its own in 127.0.0.0/8, every task on a container network too.

use core::convert::Infallible;
use core::pin::{Pin, pin};
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cluster::{
    Agent, Definition, Launcher, Network, PaperLauncher, Placement, Task, own_address, timestamp,
};

/// Label of an app that chooses what its tasks are: `http` (the default), `tcp` (an echo), or `none`.
pub const BACKEND_LABEL: &str = "sim.backend";
/// Connections the kernel holds for one backend.
const BACKLOG: i32 = 1024;
/// Connections one backend serves; further ones are closed.
const CONNECTIONS_MAX: usize = 16_384;
/// Longest time open requests may take after a kind stop.
const FINISH: Duration = Duration::from_secs(30);
/// Largest answer and longest pause a client may ask for.
const BYTES_MAX: u64 = 1 << 30;
const PAUSE_MAX: Duration = Duration::from_secs(60);

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// One backend: the sockets of a task that is not running yet, or the switches of one that is.
#[derive(Debug)]
struct Backend {
    sockets: Vec<Socket>,
    /// Stop kindly.
    stop: CancellationToken,
    /// Stop at once.
    crash: CancellationToken,
    healthy: Arc<AtomicBool>,
}

/// Starts and stops real servers for tasks.
#[derive(Debug)]
pub(crate) struct BackendLauncher {
    runtime: Handle,
    tasks: TaskTracker,
    all: CancellationToken,
    backends: HashMap<u64, Backend>,
    /// Where its tasks' own addresses begin.
    first_address: u32,
    /// Places tasks that are to be no servers.
    paper: PaperLauncher,
}

impl BackendLauncher {
    /// Servers run on `runtime`, are owned by `tasks` and end with `all`.
    pub(crate) fn new(runtime: Handle, tasks: TaskTracker, all: CancellationToken) -> Self {
        Self {
            runtime,
            tasks,
            all,
            backends: HashMap::new(),
            first_address: fastrand::u32(..),
            paper: PaperLauncher::default(),
        }
    }
}

/// What one server tells about itself.
#[derive(Debug)]
struct Identity {
    about: Bytes,
    task: HeaderValue,
    healthy: Arc<AtomicBool>,
}

impl Launcher for BackendLauncher {
    fn place(&mut self, definition: &Definition, agent: &Agent, number: u64) -> Result<Placement, String> {
        if is_backend(definition, "none") {
            return self.paper.place(definition, agent, number);
        }
        let host: IpAddr = agent.host.parse().map_err(|_| format!("agent {} has no address", agent.host))?;
        let address = match definition.network {
            Network::Container(_) => Some(container_address(self.first_address, number)),
            _ => own_address(&definition.network, agent, number),
        };
        let (mut ports, mut sockets) = (Vec::new(), Vec::new());
        for port in &definition.ports {
            if let Some(fixed) = port.host_port {
                let bound = bind_all(&port.protocol, (host, fixed).into(), &mut sockets)?;
                ports.push(bound);
            }
            if let (Network::Container(_), Some(address), Some(inner @ 1..)) =
                (&definition.network, address, port.container_port)
            {
                bind_all(&port.protocol, (address, inner).into(), &mut sockets)?;
            }
        }
        let (stop, crash) = (self.all.child_token(), CancellationToken::new());
        let backend = Backend { sockets, stop, crash, healthy: Arc::new(AtomicBool::new(true)) };
        self.backends.insert(number, backend);
        Ok(Placement { ports, address })
    }

    fn start(&mut self, task: &Task, definition: &Definition) {
        let Some(backend) = self.backends.get_mut(&task.number) else { return };
        let echo = is_backend(definition, "tcp");
        for socket in backend.sockets.drain(..) {
            // At once, not in the server: whoever reads "running" may connect.
            if socket.r#type().is_ok_and(|kind| kind == Type::STREAM)
                && let Err(error) = socket.listen(BACKLOG)
            {
                tracing::error!(%error, task = %task.id, "a backend cannot listen");
                continue;
            }
            let identity = identity(task, &socket, &backend.healthy);
            let (stop, crash) = (backend.stop.clone(), backend.crash.clone());
            let server = async move {
                tokio::select! {
                    () = crash.cancelled() => {}
                    served = serve(socket, echo, Arc::new(identity), stop) => {
                        if let Err(error) = served {
                            tracing::warn!(%error, "a backend failed");
                        }
                    }
                }
            };
            self.tasks.spawn_on(server, &self.runtime);
        }
    }

    fn set_healthy(&mut self, number: u64, healthy: bool) {
        if let Some(backend) = self.backends.get(&number) {
            backend.healthy.store(healthy, Ordering::Relaxed);
        }
    }

    fn stop(&mut self, number: u64, crash: bool) {
        let Some(backend) = self.backends.remove(&number) else { return };
        if crash {
            backend.crash.cancel();
        }
        backend.stop.cancel();
    }
}

fn is_backend(definition: &Definition, kind: &str) -> bool {
    definition.labels.get(BACKEND_LABEL).is_some_and(|own| own == kind)
}

/// An address of its own for a task on a container network: in 127.64.0.0/10, by number. Every simulation begins at
/// another place: two tasks at one address can both be bound, and the second would never listen.
fn container_address(first: u32, number: u64) -> IpAddr {
    let host = u32::try_from(number % (1 << 22)).unwrap_or(0).wrapping_add(first) % (1 << 22);
    Ipv4Addr::from(0x7f40_0000 | host.max(1)).into()
}

/// Binds what the protocol asks for; all on one number, which is given back.
fn bind_all(protocol: &str, mut address: SocketAddr, sockets: &mut Vec<Socket>) -> Result<u16, String> {
    let bind = |kind: Type, protocol: Protocol, address: SocketAddr| -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
        // A restarted task may take a fixed port again although old connections linger.
        socket.set_reuse_address(kind == Type::STREAM)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(socket)
    };
    let wanted = address;
    let failed = |error: io::Error| format!("cannot bind {wanted}: {error}");
    let number = |socket: &Socket| socket.local_addr().ok()?.as_socket().map(|address| address.port());
    if protocol != "udp" {
        let socket = bind(Type::STREAM, Protocol::TCP, address).map_err(failed)?;
        address.set_port(number(&socket).unwrap_or(address.port()));
        sockets.push(socket);
    }
    if protocol.contains("udp") {
        let socket = bind(Type::DGRAM, Protocol::UDP, address).map_err(failed)?;
        address.set_port(number(&socket).unwrap_or(address.port()));
        sockets.push(socket);
    }
    Ok(address.port())
}

fn identity(task: &Task, socket: &Socket, healthy: &Arc<AtomicBool>) -> Identity {
    let port = socket.local_addr().ok().and_then(|address| address.as_socket()).map(|address| address.port());
    let about = json!({
        "app": &*task.app, "task": &*task.id, "host": task.agent.host, "port": port,
        "version": timestamp(task.version),
    });
    let name = HeaderValue::from_str(&task.id).unwrap_or_else(|_| HeaderValue::from_static("unnamed"));
    Identity { about: about.to_string().into(), task: name, healthy: Arc::clone(healthy) }
}

async fn serve(
    socket: Socket,
    echo: bool,
    identity: Arc<Identity>,
    stop: CancellationToken,
) -> io::Result<()> {
    if socket.r#type()? == Type::DGRAM {
        return serve_udp(socket, &stop).await;
    }
    let listener = TcpListener::from_std(socket.into())?;
    let connections = TaskTracker::new();
    let take = |stream: TcpStream| {
        if connections.len() < CONNECTIONS_MAX {
            connections.spawn(converse(stream, echo, Arc::clone(&identity), stop.clone()));
        }
    };
    loop {
        // Accepting is cancel-safe: a connection not returned stays in the kernel's queue.
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => take(stream),
                // Out of descriptors: leave the others time to close some.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            },
        }
    }
    // Whoever is in the kernel's queue has been promised an answer; closing the listener would reset it.
    loop {
        tokio::select! {
            biased;
            Ok((stream, _)) = listener.accept() => take(stream),
            () = core::future::ready(()) => break,
        }
    }
    drop(listener);
    connections.close();
    // Whatever takes longer is dropped with the tracker's owner.
    let _ = tokio::time::timeout(FINISH, connections.wait()).await;
    Ok(())
}

async fn serve_udp(socket: Socket, stop: &CancellationToken) -> io::Result<()> {
    let socket = UdpSocket::from_std(socket.into())?;
    let mut buffer = vec![0; 65_536];
    loop {
        // Cancel-safe: a datagram not returned stays in the socket's queue.
        let (length, peer) = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            received = socket.recv_from(&mut buffer) => match received {
                Ok(received) => received,
                Err(_) => continue,
            },
        };
        // A datagram that cannot be sent back is lost, as datagrams are.
        let _ = socket.send_to(&buffer[..length], peer).await;
    }
}

async fn converse(stream: TcpStream, echo: bool, identity: Arc<Identity>, stop: CancellationToken) {
    // Only costs time if it fails.
    let _ = stream.set_nodelay(true);
    if echo {
        return echo_bytes(stream, stop).await;
    }
    let service = service_fn(move |request| answer(Arc::clone(&identity), request));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // A failed connection is its client's affair.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(FINISH, connection).await;
}

async fn echo_bytes(mut stream: TcpStream, stop: CancellationToken) {
    let (mut read, mut write) = stream.split();
    let mut copy = pin!(tokio::io::copy(&mut read, &mut write));
    tokio::select! {
        _ = copy.as_mut() => return,
        () = stop.cancelled() => {}
    }
    // An echo has no end of a request to wait for: its client gets the grace period once more.
    let _ = tokio::time::timeout(Duration::from_secs(1), copy).await;
}

async fn answer(identity: Arc<Identity>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let query = request.uri().query().unwrap_or_default();
    let number = |name: &str| {
        let own = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        own.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0)
    };
    let about = || whole(identity.about.clone());
    let mut response = match request.uri().path() {
        "/health" if identity.healthy.load(Ordering::Relaxed) => about(),
        "/health" => {
            let mut response = about();
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response
        }
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(number("ms")).min(PAUSE_MAX)).await;
            about()
        }
        "/bytes" => Response::new(zeros(number("n").min(BYTES_MAX)).boxed_unsync()),
        _ if *request.method() == Method::POST => {
            let kind = request.headers().get(header::CONTENT_TYPE).cloned();
            let mut response = Response::new(request.into_body().boxed_unsync());
            kind.map(|kind| response.headers_mut().insert(header::CONTENT_TYPE, kind));
            response
        }
        _ => about(),
    };
    response.headers_mut().insert("x-task", identity.task.clone());
    Ok(response)
}

fn whole(text: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(text).map_err(|never| match never {}).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A body of this many zeros, of known length, that takes no memory.
fn zeros(left: u64) -> impl hyper::body::Body<Data = Bytes, Error = hyper::Error> + Send + 'static {
    struct Zeros(u64);
    impl hyper::body::Body for Zeros {
        type Data = Bytes;
        type Error = hyper::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut core::task::Context<'_>,
        ) -> core::task::Poll<Option<Result<hyper::body::Frame<Bytes>, hyper::Error>>> {
            static PIECE: [u8; 16 << 10] = [0; 16 << 10];
            let now = self.0.min(PIECE.len() as u64);
            self.0 -= now;
            let piece = &PIECE[..usize::try_from(now).unwrap_or(0)];
            core::task::Poll::Ready(
                (now > 0).then(|| Ok(hyper::body::Frame::data(Bytes::from_static(piece)))),
            )
        }

        fn size_hint(&self) -> hyper::body::SizeHint {
            hyper::body::SizeHint::with_exact(self.0)
        }
    }
    Zeros(left)
}
