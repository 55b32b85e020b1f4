//! Checks against scripted backends on the loopback.

use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::collections::VecDeque;

use portolan_table::{ServiceName, SharedStr, Slot};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;
use crate::fixture::{self, World};
use crate::tls::{Certificates, Tls, provider};
use crate::{CheckKind, UpstreamConfig};

type Report = (SourceId, SharedStr, Option<Health>);

/// A backend that answers as it is told at the moment.
struct Backend {
    address: SocketAddr,
    answer: watch::Sender<Option<&'static str>>,
    asked: Arc<AtomicU32>,
    requests: mpsc::Receiver<String>,
    _task: JoinSet<()>,
}

async fn backend(answer: &'static str) -> Backend {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (answer, answers) = watch::channel(Some(answer));
    let asked = Arc::new(AtomicU32::new(0));
    let (sender, requests) = mpsc::channel(1000);
    let mut task = JoinSet::new();
    let count = Arc::clone(&asked);
    task.spawn(async move {
        let mut hung = VecDeque::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, SeqCst);
            let Some(answer) = *answers.borrow() else {
                hung.push_back(stream);
                continue;
            };
            let mut request = [0; 1024];
            let n = stream.read(&mut request).await.unwrap_or(0);
            let _ = sender.try_send(String::from_utf8_lossy(&request[..n]).into_owned());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    Backend { address, answer, asked, requests, _task: task }
}

/// Checks at work.
struct Bench {
    world: World,
    generations: watch::Sender<Generation>,
    config: watch::Sender<Arc<Config>>,
    reports: mpsc::Receiver<Report>,
    stop: CancellationToken,
    task: JoinSet<()>,
}

fn check(kind: CheckKind) -> UpstreamConfig {
    let check = CheckConfig {
        kind,
        interval: Duration::from_millis(20),
        timeout: Duration::from_millis(300),
        rise: 2,
        fall: 2,
    };
    UpstreamConfig { check: Some(check), ..UpstreamConfig::default() }
}

fn http(path: &str, host: Option<&str>) -> UpstreamConfig {
    check(CheckKind::Http { path: path.into(), host: host.map(Arc::from) })
}

fn bench(services: Vec<(&str, UpstreamConfig)>) -> Bench {
    let config = with(services);
    let world = World::new(&config);
    let (generations, follow) = watch::channel(Generation(0));
    let tls = Tls::new(&config.tls);
    tls.replace(&config, &Certificates::read(&config).unwrap());
    let clients = tls.clients().clone();
    let (config, configs) = watch::channel(Arc::new(config));
    let (sender, reports) = mpsc::channel(1000);
    let stop = CancellationToken::new();
    let report = move |source, instance, verdict| sender.try_send((source, instance, verdict)).unwrap();
    let mut task = JoinSet::new();
    task.spawn(run(world.table.clone(), configs, follow, clients, report, stop.clone()));
    Bench { world, generations, config, reports, stop, task }
}

fn with(services: Vec<(&str, UpstreamConfig)>) -> Config {
    let mut config = fixture::config(Vec::new());
    config.services =
        services.into_iter().map(|(name, own)| (ServiceName::parse(name).unwrap(), own)).collect();
    config
}

impl Bench {
    fn put(&mut self, name: &str, addresses: &[SocketAddr]) {
        let endpoints: Vec<_> =
            (0..).zip(addresses).map(|(index, address)| (*address, Slot { index, epoch: 0 }, 1)).collect();
        self.world.put(fixture::service(name, &endpoints));
        self.generations.send_replace(self.world.table.load().generation());
    }

    async fn next(&mut self) -> (String, Option<Health>) {
        let report =
            timeout(Duration::from_secs(20), self.reports.recv()).await.expect("no verdict").unwrap();
        assert_eq!(report.0, SourceId(0));
        (report.1.to_string(), report.2)
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const DOWN: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";

#[tokio::test]
async fn verdicts_follow_the_backend_and_end_with_it() {
    let mut backend = backend(OK).await;
    let mut bench = bench(vec![("app", http("/health?x=1", Some("app.example")))]);
    bench.put("app", &[backend.address]);
    let id = backend.address.to_string();
    assert_eq!(bench.next().await, (id.clone(), Some(Health::Healthy)));
    let request = backend.requests.recv().await.unwrap();
    assert!(request.starts_with("GET /health?x=1 HTTP/1.1\r\nHost: app.example\r\n"), "{request}");
    backend.answer.send_replace(Some(DOWN));
    assert_eq!(bench.next().await, (id.clone(), Some(Health::Unhealthy)));
    backend.answer.send_replace(Some(OK));
    assert_eq!(bench.next().await, (id.clone(), Some(Health::Healthy)));
    // It hangs: only the time-out tells.
    backend.answer.send_replace(None);
    assert_eq!(bench.next().await, (id.clone(), Some(Health::Unhealthy)));
    bench.put("app", &[]);
    assert_eq!(bench.next().await, (id, None));
    bench.stop.cancel();
    bench.task.join_next().await;
}

#[tokio::test]
async fn what_counts_as_good() {
    for (answer, want) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", Health::Healthy),
        ("HTTP/1.0 399 Odd\r\n\r\nbody", Health::Healthy),
        ("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", Health::Healthy),
        ("HTTP/1.1 404 Not Found\r\n\r\n", Health::Unhealthy),
        ("HTTP/1.1 200 OK\r\nno end", Health::Unhealthy),
        ("HTTP/1.1 100 Continue\r\n\r\n", Health::Unhealthy),
        ("SSH-2.0-x\r\n", Health::Unhealthy),
        ("", Health::Unhealthy),
    ] {
        let backend = backend(answer).await;
        let mut bench = bench(vec![("app", http("/", None))]);
        bench.put("app", &[backend.address]);
        assert_eq!(bench.next().await.1, Some(want), "{answer:?}");
    }
}

#[tokio::test]
async fn a_connection_is_enough_for_tcp() {
    let backend = backend("").await;
    let closed = {
        let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let mut bench = bench(vec![("app", check(CheckKind::Tcp))]);
    bench.put("app", &[backend.address, closed]);
    let mut got = [bench.next().await, bench.next().await];
    got.sort_by_key(|(id, _)| *id != backend.address.to_string());
    assert_eq!(got[0], (backend.address.to_string(), Some(Health::Healthy)));
    assert_eq!(got[1], (closed.to_string(), Some(Health::Unhealthy)));
}

#[tokio::test]
async fn only_services_that_ask_are_checked_and_a_reload_is_followed() {
    let (asks, silent) = (backend(OK).await, backend(OK).await);
    let mut bench = bench(vec![("asks", http("/", None))]);
    bench.put("asks", &[asks.address]);
    bench.put("silent", &[silent.address]);
    assert_eq!(bench.next().await, (asks.address.to_string(), Some(Health::Healthy)));
    assert_eq!(silent.asked.load(SeqCst), 0);
    bench.config.send_replace(Arc::new(with(vec![("silent", http("/", None))])));
    let mut got = [bench.next().await, bench.next().await];
    got.sort_by_key(|(_, verdict)| verdict.is_some());
    assert_eq!(got[0], (asks.address.to_string(), None), "checked no more: its verdict is taken back");
    assert_eq!(got[1], (silent.address.to_string(), Some(Health::Healthy)));
    // Asked for by the policy of all services.
    let mut config = with(Vec::new());
    config.upstream = http("/", None);
    bench.config.send_replace(Arc::new(config));
    assert_eq!(bench.next().await, (asks.address.to_string(), Some(Health::Healthy)));
}

#[tokio::test]
async fn another_way_of_checking_keeps_the_verdict_until_it_says_otherwise() {
    let backend = backend(DOWN).await;
    let mut bench = bench(vec![("app", check(CheckKind::Tcp))]);
    bench.put("app", &[backend.address]);
    assert_eq!(bench.next().await.1, Some(Health::Healthy));
    bench.config.send_replace(Arc::new(with(vec![("app", http("/", None))])));
    assert_eq!(bench.next().await.1, Some(Health::Unhealthy), "nothing is taken back in between");
}

/// A backend over TLS whose certificate, for its address, is the authority too; and that in PEM.
async fn encrypted() -> (SocketAddr, String, JoinSet<()>) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let server = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut task = JoinSet::new();
    task.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(OK.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (address, made.cert.pem(), task)
}

#[tokio::test]
async fn checks_speak_tls_where_requests_do() {
    let directory = tempfile::tempdir().unwrap();
    let (address, pem, _task) = encrypted().await;
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, pem).unwrap();
    for (enabled, ca, expected) in [
        (true, Some(ca.clone()), Health::Healthy),
        (true, None, Health::Unhealthy),
        (false, Some(ca), Health::Unhealthy),
    ] {
        let mut policy = http("/", None);
        policy.tls = UpstreamTlsConfig { enabled: Some(enabled), ca, ..UpstreamTlsConfig::default() };
        let mut bench = bench(vec![("app", policy)]);
        bench.put("app", &[address]);
        assert_eq!(bench.next().await.1, Some(expected));
    }
}

#[test]
fn instances_that_do_not_run_are_not_checked() {
    let mut service = fixture::service("app", &fixture::endpoints(2));
    let mut ending = (*service.members[1].instance).clone();
    ending.state = InstanceState::Killing;
    service.members[1].instance = Arc::new(ending);
    let config = with(vec![("app", check(CheckKind::Tcp))]);
    let mut world = World::new(&config);
    world.put(service);
    let wanted = wanted(&world.table.load(), &config);
    assert_eq!(wanted.keys().map(|(_, id)| &**id).collect::<Vec<_>>(), ["10.0.0.0:80"]);
}
