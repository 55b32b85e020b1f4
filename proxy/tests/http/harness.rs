//! A proxy on a thread of its own, endpoints that say what they are told to, and clients that see every octet.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use portolan_proxy::tls::Certificates;
use portolan_proxy::{
    Bound, Config, ListenerConfig, ListenerProtocol, Proxy, RouteBuilder, UpstreamConfig, bind, serve,
};
use portolan_table::{
    AppProtocol, ChangeSet, Endpoint, HostMatch, Labels, PathMatch, Protocol, Provenance, Publisher,
    RouteMatch, RouteOrigin, RouteSpec, RouteTarget, Service, ServiceName, ServicePort, Slot,
};
use tokio_util::sync::CancellationToken;

/// Nothing on loopback takes this long; a test that waits for it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A running proxy with one listener and one route to one service.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) registry: prometheus::Registry,
    pub(crate) proxy: Arc<Proxy>,
    publisher: Publisher,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// The configuration that tests start from.
pub(crate) fn config() -> Config {
    Config {
        listeners: vec![ListenerConfig {
            name: "web".into(),
            bind: "127.0.0.1:0".parse().unwrap(),
            protocol: ListenerProtocol::Http,
            tcp_fast_open: false,
        }],
        routes: vec![route("all", HostMatch::Any, "app")],
        certificates: Vec::new(),
        tls: portolan_proxy::tls::TlsConfig::default(),
        upstream: UpstreamConfig::default(),
        services: Vec::new(),
        drain: Duration::from_secs(2),
        trusted_proxies: Vec::new(),
        forwarded: false,
        timeouts: portolan_proxy::Timeouts::default(),
        limits: portolan_proxy::Limits::default(),
        access_log: None,
    }
}

pub(crate) fn route(name: &str, host: HostMatch, service: &str) -> RouteSpec {
    RouteSpec {
        name: name.into(),
        origin: RouteOrigin::File(0),
        created_ms: 0,
        matches: RouteMatch { host, path: PathMatch::Prefix("/".into()), ..RouteMatch::default() },
        targets: vec![RouteTarget { service: ServiceName::parse(service).unwrap(), port: None, weight: 1 }],
    }
}

/// A service with these endpoints, all of which may get traffic.
pub(crate) fn service(name: &str, addresses: &[SocketAddr]) -> Arc<Service> {
    service_of(AppProtocol::Unknown, name, addresses)
}

/// The same with a port of which it is known what is spoken there.
pub(crate) fn service_of(app: AppProtocol, name: &str, addresses: &[SocketAddr]) -> Arc<Service> {
    let mut service = Service::empty(ServiceName::parse(name).unwrap());
    let endpoints: Box<[Endpoint]> = addresses
        .iter()
        .map(|&address| Endpoint {
            address,
            member: 0,
            // One slot per port number, so that an endpoint keeps its slot when others come and go.
            slot: Slot { index: u32::from(address.port()), epoch: 0 },
            weight: 1,
            provenance: Provenance::Registered,
        })
        .collect();
    service.ports = Box::new([ServicePort {
        number: 80,
        name: None,
        protocol: Protocol::Tcp,
        app_protocol: app,
        labels: Labels::default(),
        live: endpoints.len() as u32,
        endpoints,
        weighted: false,
    }]);
    Arc::new(service)
}

/// A proxy, its table and its socket.
pub(crate) fn assemble(config: Config, registry: &prometheus::Registry) -> (Arc<Proxy>, Publisher, Bound) {
    let mut publisher = Publisher::new();
    let key = publisher.add_view(RouteBuilder::new(&config));
    let listener = config.listeners[0].clone();
    let certificates = Certificates::read(&config).unwrap();
    let proxy = Proxy::new(config, publisher.table(), key, registry);
    proxy.certify(&certificates);
    (proxy, publisher, bind(&listener, 1).unwrap().remove(0))
}

impl Node {
    pub(crate) fn start(endpoints: &[SocketAddr]) -> Self {
        Self::with(config(), endpoints)
    }

    pub(crate) fn with(config: Config, endpoints: &[SocketAddr]) -> Self {
        let registry = prometheus::Registry::new();
        let (proxy, publisher, bound) = assemble(config, &registry);
        let address = bound.address();
        let stop = CancellationToken::new();
        let (of_worker, stopped) = (Arc::clone(&proxy), stop.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async move {
                let worker = of_worker.worker(0);
                serve(worker, bound, stopped).await;
            });
        });
        let mut node = Self { address, registry, proxy, publisher, stop, thread: Some(thread) };
        node.publish(&service("app", endpoints));
        node
    }

    /// Puts another configuration in force, with the files that it names.
    pub(crate) fn reconfigure(&self, config: &Config) {
        self.proxy.reconfigure(config, &Certificates::read(config).unwrap());
    }

    pub(crate) fn publish(&mut self, service: &Arc<Service>) {
        let mut change = ChangeSet::default();
        change.upsert(Arc::clone(service));
        self.publisher.apply(change);
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// Sends one request on a connection of its own and reads the whole answer.
    pub(crate) fn request(&self, text: &str) -> Response {
        let mut client = self.connect();
        client.send(text);
        client.response()
    }

    /// The value of a metric's line.
    pub(crate) fn metric(&self, line: &str) -> f64 {
        let text = prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        text.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok()).unwrap_or(0.0)
    }

    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Stops, and waits for the end of the worker.
    pub(crate) fn join(mut self) {
        self.stop.cancel();
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            thread.join().unwrap();
        }
    }
}

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One side of a connection, with what was read and not used.
pub(crate) struct Client<S = TcpStream> {
    pub(crate) stream: S,
    pub(crate) read: Vec<u8>,
}

/// A message as it came, and its content without framing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

pub(crate) fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect(address).unwrap())
    }

    pub(crate) fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    pub(crate) fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends what the other side may no longer want.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Reads more. False at the end of the stream, or at a reset.
    pub(crate) fn fill(&mut self) -> bool {
        let mut piece = [0; 65536];
        match self.stream.read(&mut piece) {
            Ok(0) => false,
            Ok(count) => {
                self.read.extend_from_slice(&piece[..count]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing came: {error}; so far {:?}", self.text()),
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.read).into_owned()
    }

    /// Takes octets up to and with `end`.
    pub(crate) fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|w| w == end.as_bytes()) {
                let taken: Vec<u8> = self.read.drain(..at + end.len()).collect();
                return String::from_utf8(taken).unwrap();
            }
            assert!(self.fill(), "closed before {end:?}; got {:?}", self.text());
        }
    }

    pub(crate) fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count {
            assert!(self.fill(), "closed after {} of {count} octets", self.read.len());
        }
        self.read.drain(..count).collect()
    }

    /// Everything up to the end of the stream.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.read)
    }

    /// The same where the end may be a reset, which is an error here.
    pub(crate) fn try_rest(&mut self) -> std::io::Result<Vec<u8>> {
        self.stream.read_to_end(&mut self.read)?;
        Ok(std::mem::take(&mut self.read))
    }

    /// True if the other side has ended and sent nothing more.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.read.is_empty() && !self.fill()
    }

    pub(crate) fn head(&mut self) -> String {
        self.until("\r\n\r\n")
    }

    /// Content after this head; `None` if it has no length and the connection's end is the end.
    pub(crate) fn body(&mut self, head: &str) -> Vec<u8> {
        if let Some(length) = field(head, "content-length") {
            return self.exactly(length.parse().unwrap());
        }
        if field(head, "transfer-encoding").is_some() {
            return self.chunks().0;
        }
        if head.starts_with("HTTP/") { self.rest() } else { Vec::new() }
    }

    /// Chunked content, and the trailers with their empty line.
    pub(crate) fn chunks(&mut self) -> (Vec<u8>, String) {
        let mut content = Vec::new();
        loop {
            let line = self.until("\r\n");
            let size = line.trim_end().split(';').next().unwrap().to_owned();
            let size = usize::from_str_radix(&size, 16).unwrap();
            if size == 0 {
                let mut trailers = String::new();
                while !trailers.ends_with("\r\n\r\n") && trailers != "\r\n" {
                    trailers.push_str(&self.until("\r\n"));
                }
                return (content, trailers);
            }
            content.extend(self.exactly(size));
            assert_eq!(self.exactly(2), b"\r\n");
        }
    }

    pub(crate) fn response(&mut self) -> Response {
        let head = self.head();
        let status = head[9..12].parse().unwrap();
        let body = if matches!(status, 100..200 | 204 | 304) { Vec::new() } else { self.body(&head) };
        Response { status, head, body }
    }

    /// The answer to a HEAD request.
    pub(crate) fn response_without_body(&mut self) -> Response {
        let head = self.head();
        Response { status: head[9..12].parse().unwrap(), head, body: Vec::new() }
    }

    /// Reads a request as an endpoint does.
    pub(crate) fn request(&mut self) -> (String, Vec<u8>) {
        let head = self.head();
        let body = self.body(&head);
        (head, body)
    }
}

/// An endpoint whose every connection is handled by a function, on a thread of its own.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    accepted: Receiver<()>,
}

impl Backend {
    pub(crate) fn start(handle: impl Fn(Client) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (accepting, accepted) = channel();
        let handle = Arc::new(handle);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let handle = Arc::clone(&handle);
                // Nobody may be interested.
                let _ = accepting.send(());
                std::thread::spawn(move || handle(Client::of(stream)));
            }
        });
        Self { address, accepted }
    }

    /// Answers every request with `answer`, and reports the requests it got.
    pub(crate) fn answering(answer: impl Into<Vec<u8>>) -> (Self, Receiver<(String, Vec<u8>)>) {
        let answer = answer.into();
        let (seen, requests) = channel();
        let seen: Mutex<Sender<_>> = Mutex::new(seen);
        let backend = Self::start(move |mut client| {
            let seen = seen.lock().unwrap().clone();
            loop {
                if client.read.is_empty() && !client.fill() {
                    return;
                }
                let request = client.request();
                // The test may have seen enough.
                let _ = seen.send(request);
                if !client.try_send(&answer) {
                    return;
                }
            }
        });
        (backend, requests)
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.accepted.try_iter().count()
    }
}

/// An address where nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: app.example\r\n\r\n")
}

pub(crate) const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
