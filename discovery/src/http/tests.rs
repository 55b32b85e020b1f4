//! The client against small servers on loopback.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::url::Origin;
use super::*;
use crate::config::{Given, GivenPems, Secret};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/http/fixtures").join(name)
}

/// Answers each request, head and body, with what `handler` writes.
struct Server {
    base: String,
    connections: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

type Handler = dyn Fn(&str, &[u8]) -> String + Send + Sync;

impl Server {
    async fn start(
        tls: Option<TlsAcceptor>,
        handler: impl Fn(&str, &[u8]) -> String + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let base = format!("{scheme}://{}", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let (counter, handler): (_, Arc<Handler>) = (Arc::clone(&connections), Arc::new(handler));
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                let (tls, handler) = (tls.clone(), Arc::clone(&handler));
                open.spawn(async move {
                    match tls {
                        None => converse(tcp, &*handler).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(tcp).await {
                                converse(stream, &*handler).await;
                            }
                        }
                    }
                });
            }
        });
        Self { base, connections, _task: task }
    }

    fn base(&self) -> Base {
        Base::parse(&self.base).unwrap()
    }
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, handler: &Handler) {
    let mut held = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let complete = |held: &[u8]| {
            let head = held.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
            let text = String::from_utf8_lossy(&held[..head]).to_ascii_lowercase();
            let length = text
                .split("content-length: ")
                .nth(1)
                .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse::<usize>().unwrap());
            (held.len() >= head + length).then_some((head, head + length))
        };
        if let Some((head, end)) = complete(&held) {
            let answer = handler(&String::from_utf8_lossy(&held[..head]), &held[head..end]);
            held.drain(..end);
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
            continue;
        }
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(n) => held.extend_from_slice(&chunk[..n]),
        }
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

const LIMITS: Limits = Limits { request: Duration::from_secs(5), body: 1 << 20 };

fn client(server: &Server, auth: &Auth, tls: &TlsConfig) -> Client {
    Client::new(auth, tls, &server.base(), LIMITS).unwrap()
}

async fn text(client: &Client, server: &Server, target: &str) -> Result<String, SourceError> {
    let url = server.base().url(target);
    let answer = client.get(&url, "application/json").await?.success(&url)?;
    Ok(String::from_utf8(answer.body.all(1 << 20).await?).unwrap())
}

#[test]
fn urls_are_read_and_shown() {
    let table = [
        ("http://h", "http://h", "/v2", "http://h/v2"),
        ("http://H:8080/", "http://h:8080", "/v2?x=1", "http://h:8080/v2"),
        (
            "https://h:443/service/marathon/",
            "https://h/service/marathon",
            "/v2",
            "https://h/service/marathon/v2",
        ),
        ("http://[fd00::1]:80", "http://[fd00::1]", "/", "http://[fd00::1]/"),
    ];
    for (given, base, target, url) in table {
        let parsed = Base::parse(given).unwrap();
        assert_eq!(parsed.to_string(), base);
        assert_eq!(parsed.url(target).to_string(), url);
        assert_eq!(Base::of(&parsed.url(target), target), Some(parsed));
    }
    let origin = Origin { tls: true, host: "h".into(), port: 8443 };
    assert_eq!(origin.authority(), "h:8443");
    for bad in ["", "h:80", "ftp://h", "http://", "http:///x", "/v2"] {
        assert!(Base::parse(bad).is_err(), "{bad}");
    }
    let told = Base::parse("http://user:secret@h").unwrap_err().to_string();
    assert!(!told.contains("secret") && told.contains("[source.auth]"), "{told}");
}

#[tokio::test]
async fn one_connection_serves_request_after_request() {
    let server = Server::start(None, |head, _| ok(head.lines().next().unwrap())).await;
    let client = client(&server, &Auth::None, &TlsConfig::default());
    for n in 0..5 {
        assert_eq!(text(&client, &server, &format!("/{n}")).await.unwrap(), format!("GET /{n} HTTP/1.1"));
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_replaced() {
    let once = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";
    let server = Server::start(None, move |_, _| once.to_owned()).await;
    let client = client(&server, &Auth::None, &TlsConfig::default());
    for _ in 0..3 {
        assert_eq!(text(&client, &server, "/").await.unwrap(), "hi");
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn bodies_and_waits_have_limits() {
    let server = Server::start(None, |head, _| match head.split(' ').nth(1).unwrap() {
        "/large" => ok(&"x".repeat(2 << 20)),
        "/half" => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_owned(),
        _ => String::new(),
    })
    .await;
    let limits = Limits { request: Duration::from_millis(200), ..LIMITS };
    let client = Client::new(&Auth::None, &TlsConfig::default(), &server.base(), limits).unwrap();
    let kind = async |target: &str| text(&client, &server, target).await.unwrap_err().kind();
    assert_eq!(kind("/large").await, "malformed");
    assert_eq!(kind("/half").await, "idle");
    assert_eq!(kind("/silence").await, "idle");
}

#[tokio::test]
async fn statuses_come_with_advice() {
    let server = Server::start(None, |_, _| "HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n".to_owned()).await;
    let client = client(&server, &Auth::None, &TlsConfig::default());
    let told = text(&client, &server, "/v2/apps?embed=x").await.unwrap_err().to_string();
    assert_eq!(
        told,
        format!(
            "{}/v2/apps: answered 503: no leader at present or overloaded; the next URL is tried",
            server.base
        )
    );
}

fn acceptor(clients: bool) -> TlsAcceptor {
    let certs = |name| -> Vec<_> {
        CertificateDer::pem_file_iter(fixture(name)).unwrap().map(Result::unwrap).collect()
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if clients {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certs("ca.pem"));
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::from_pem_file(fixture("server.key")).unwrap();
    TlsAcceptor::from(Arc::new(builder.with_single_cert(certs("server.pem"), key).unwrap()))
}

#[tokio::test]
async fn tls_trusts_the_private_authority_and_nobody_else() {
    let server = Server::start(Some(acceptor(false)), |_, _| ok("hi")).await;
    let private = TlsConfig { ca: Some(fixture("ca.pem")), ..TlsConfig::default() };
    assert_eq!(text(&client(&server, &Auth::None, &private), &server, "/").await.unwrap(), "hi");
    let public = client(&server, &Auth::None, &TlsConfig::default());
    assert_eq!(text(&public, &server, "/").await.unwrap_err().kind(), "connect");
    let blind = TlsConfig { verify: false, ..TlsConfig::default() };
    assert_eq!(text(&client(&server, &Auth::None, &blind), &server, "/").await.unwrap(), "hi");
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_it_is_asked_for() {
    let server = Server::start(Some(acceptor(true)), |_, _| ok("hi")).await;
    let without = TlsConfig { ca: Some(fixture("ca.pem")), ..TlsConfig::default() };
    assert_eq!(
        text(&client(&server, &Auth::None, &without), &server, "/").await.unwrap_err().kind(),
        "connect"
    );
    let (cert, key) = (Some(fixture("client.pem")), Some(fixture("client.key")));
    let with = TlsConfig { cert, key, ..without };
    assert_eq!(text(&client(&server, &Auth::None, &with), &server, "/").await.unwrap(), "hi");
    // One of the two may be given as a text, as a kubeconfig may have it.
    let given = GivenPems {
        cert: Some(Given(std::fs::read_to_string(fixture("client.pem")).unwrap())),
        ..GivenPems::default()
    };
    let mixed = TlsConfig { cert: None, given, ..with };
    assert_eq!(text(&client(&server, &Auth::None, &mixed), &server, "/").await.unwrap(), "hi");
}

#[test]
fn unusable_tls_files_are_told_by_name() {
    let base = Base::parse("https://h").unwrap();
    let told = |tls: TlsConfig| Client::new(&Auth::None, &tls, &base, LIMITS).unwrap_err().to_string();
    let absent = told(TlsConfig { ca: Some("/no/such/ca.pem".into()), ..TlsConfig::default() });
    assert!(absent.contains("/no/such/ca.pem"), "{absent}");
    let no_pem = told(TlsConfig { ca: Some(fixture("account.key")), ..TlsConfig::default() });
    assert!(no_pem.contains("no certificate"), "{no_pem}");
    let half = told(TlsConfig { cert: Some(fixture("client.pem")), ..TlsConfig::default() });
    assert!(half.contains("together"), "{half}");
}

#[tokio::test]
async fn basic_credentials_are_sent_and_never_told() {
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), "open sesame\n").unwrap();
    let server = Server::start(None, |head, _| ok(head)).await;
    let auth = Auth::Basic { username: "ali".into(), password: Secret::File(password.path().to_owned()) };
    let ali = client(&server, &auth, &TlsConfig::default());
    let head = text(&ali, &server, "/").await.unwrap().to_ascii_lowercase();
    // base64 of "ali:open sesame", in lower case.
    assert!(head.contains("authorization: basic ywxpom9wzw4gc2vzyw1l"), "{head}");
    drop(password);
    let missing = Auth::Bearer { token: Secret::File("/no/such/token".into()) };
    let client = Client::new(&missing, &TlsConfig::default(), &server.base(), LIMITS).unwrap();
    let error = text(&client, &server, "/").await.unwrap_err();
    assert!(matches!(error, SourceError::Setup { .. }) && error.to_string().contains("/no/such/token"));
}

/// An unsigned token whose end is `life` from now, told apart by `mark`.
fn token(life: Duration, mark: usize) -> String {
    let exp = (SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + life).as_secs();
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{mark}", part(json!({"alg": "none"})), part(json!({"exp": exp})))
}

/// A server that gives out tokens of this life and accepts only the last one.
async fn dcos(life: Duration) -> (Server, Arc<Mutex<Vec<Value>>>, Arc<Mutex<String>>) {
    let logins: Arc<Mutex<Vec<Value>>> = Arc::default();
    let accepted: Arc<Mutex<String>> = Arc::default();
    let (seen, current) = (Arc::clone(&logins), Arc::clone(&accepted));
    let server = Server::start(None, move |head, body| {
        if head.starts_with("POST /acs/api/v1/auth/login ") {
            assert!(!head.to_ascii_lowercase().contains("authorization:"));
            let mut seen = seen.lock().unwrap();
            seen.push(serde_json::from_slice(body).unwrap());
            let token = token(life, seen.len());
            *current.lock().unwrap() = token.clone();
            return ok(&json!({"token": token}).to_string());
        }
        let wanted = format!("authorization: token={}\r\n", current.lock().unwrap());
        if head.contains(&wanted) {
            ok("in")
        } else {
            "HTTP/1.1 401 X\r\nContent-Length: 0\r\n\r\n".to_owned()
        }
    })
    .await;
    (server, logins, accepted)
}

fn account() -> Auth {
    Auth::Dcos { uid: "portolan".into(), private_key: Secret::File(fixture("account.key")), login_url: None }
}

#[tokio::test]
async fn a_service_account_logs_in_once_for_all_and_again_when_refused() {
    let (server, logins, accepted) = dcos(Duration::from_secs(3600)).await;
    let client = Arc::new(client(&server, &account(), &TlsConfig::default()));
    let url = server.base().url("/");
    let all_in = async || {
        let mut requests = JoinSet::new();
        for _ in 0..8 {
            let (client, url) = (Arc::clone(&client), url.clone());
            requests.spawn(async move { client.get(&url, "application/json").await.unwrap().status });
        }
        assert!(requests.join_all().await.iter().all(StatusCode::is_success));
    };
    all_in().await;
    assert_eq!(logins.lock().unwrap().len(), 1, "eight requests, one login");

    let login = logins.lock().unwrap()[0].clone();
    assert_eq!(login["uid"], "portolan");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(login["exp"].as_u64().unwrap() > now + 3600);
    let key = DecodingKey::from_rsa_pem(&std::fs::read(fixture("account.pub")).unwrap()).unwrap();
    let claims = jsonwebtoken::decode::<Value>(
        login["token"].as_str().unwrap(),
        &key,
        &Validation::new(Algorithm::RS256),
    );
    let claims = claims.expect("signed by the account's key").claims;
    assert_eq!(claims["uid"], "portolan");
    assert!(claims["exp"].as_u64().unwrap() <= now + 61, "the login token is short-lived");

    *accepted.lock().unwrap() = "revoked".to_owned();
    all_in().await;
    assert_eq!(logins.lock().unwrap().len(), 2, "eight refusals, one login");
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end() {
    let (server, logins, _) = dcos(Duration::from_secs(3600)).await;
    let client = client(&server, &account(), &TlsConfig::default());
    // Five minutes before its end; a minute to either side of that.
    for (later, expected) in [(0, 1), (54 * 60, 1), (2 * 60, 2)] {
        jump(Duration::from_secs(later)).await;
        assert_eq!(text(&client, &server, "/").await.unwrap(), "in");
        assert_eq!(logins.lock().unwrap().len(), expected, "{later} s later");
    }
}

/// Lets time pass at once; between requests only, as sockets know nothing of it.
async fn jump(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_login_that_fails_tells_why_and_shows_nothing() {
    let server = Server::start(None, |_, _| ok("{\"oops\": \"hush\"}")).await;
    let auth = Auth::Dcos {
        uid: "portolan".into(),
        private_key: Secret::File(fixture("ca.pem")),
        login_url: Some(format!("{}/login", server.base)),
    };
    let told = |error: SourceError| format!("{error} {error:?}");
    let wrong_key =
        told(text(&client(&server, &auth, &TlsConfig::default()), &server, "/").await.unwrap_err());
    assert!(wrong_key.contains("not an RSA key"), "{wrong_key}");
    let no_token = text(&client(&server, &account(), &TlsConfig::default()), &server, "/").await.unwrap_err();
    assert_eq!(no_token.kind(), "malformed");
    assert!(!told(no_token).contains("hush"));
    let refusing = Server::start(None, |_, _| "HTTP/1.1 401 X\r\nContent-Length: 0\r\n\r\n".to_owned()).await;
    let refused =
        text(&client(&refusing, &account(), &TlsConfig::default()), &refusing, "/").await.unwrap_err();
    assert!(refused.to_string().contains("login refused"), "{refused}");
}
