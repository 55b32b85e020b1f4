//! etcd itself: a cluster of one or three, with what a test needs to write to it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::config::{Auth, TlsConfig};
use crate::http::{Base, Client, Limits};
use crate::sources::program::{Program, free_ports};

pub(super) struct Cluster {
    directory: TempDir,
    members: Vec<Member>,
    client: Client,
    scheme: &'static str,
    pub(super) tls: TlsConfig,
}

struct Member {
    arguments: Vec<String>,
    log: PathBuf,
    port: u16,
    program: Program,
}

/// An authority and one certificate of it, good for servers and clients: etcd's gateway shows the member's own to the member.
fn certificates(directory: &Path) -> TlsConfig {
    let file = |name: &str| directory.join(name);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, key).unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let own = params.signed_by(&key, &ca).unwrap();
    std::fs::write(file("ca.pem"), ca.pem()).unwrap();
    std::fs::write(file("own.pem"), own.pem()).unwrap();
    std::fs::write(file("own.key"), key.serialize_pem()).unwrap();
    TlsConfig {
        ca: Some(file("ca.pem")),
        cert: Some(file("own.pem")),
        key: Some(file("own.key")),
        ..TlsConfig::default()
    }
}

impl Cluster {
    pub(super) async fn start(members: usize) -> Self {
        Self::with(members, "http", tempfile::tempdir().unwrap(), TlsConfig::default(), &[]).await
    }

    /// One member that wants a certificate of every client.
    pub(super) async fn start_tls() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tls = certificates(directory.path());
        let file = |name: &str| directory.path().join(name).display().to_string();
        let arguments = [
            "--client-cert-auth".to_owned(),
            format!("--trusted-ca-file={}", file("ca.pem")),
            format!("--cert-file={}", file("own.pem")),
            format!("--key-file={}", file("own.key")),
        ];
        Self::with(1, "https", directory, tls, &arguments).await
    }

    async fn with(
        count: usize,
        scheme: &'static str,
        directory: TempDir,
        tls: TlsConfig,
        more: &[String],
    ) -> Self {
        let ports = free_ports::<6>();
        let peers: Vec<String> =
            (0..count).map(|n| format!("n{n}=http://127.0.0.1:{}", ports[3 + n])).collect();
        let members = (0..count)
            .map(|n| {
                let (client, peer) = (format!("{scheme}://127.0.0.1:{}", ports[n]), ports[3 + n]);
                let mut arguments: Vec<String> = [
                    format!("--name=n{n}"),
                    format!("--data-dir={}", directory.path().join(format!("n{n}")).display()),
                    format!("--listen-client-urls={client}"),
                    format!("--advertise-client-urls={client}"),
                    format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
                    format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
                    format!("--initial-cluster={}", peers.join(",")),
                    "--initial-cluster-state=new".to_owned(),
                    "--unsafe-no-fsync".to_owned(),
                    "--log-level=error".to_owned(),
                ]
                .into();
                arguments.extend_from_slice(more);
                let log = directory.path().join(format!("n{n}.log"));
                let program = Program::start("etcd", &arguments, &log);
                Member { arguments, log, port: ports[n], program }
            })
            .collect();
        let base = Base::parse(&format!("{scheme}://127.0.0.1:{}", ports[0])).unwrap();
        let limits = Limits { request: Duration::from_secs(3), body: 1 << 24 };
        let client = Client::new(&Auth::None, &tls, &base, limits).unwrap();
        let mut cluster = Self { directory, members, client, scheme, tls };
        cluster.until_ready().await;
        cluster
    }

    async fn until_ready(&mut self) {
        for _ in 0..1200 {
            if self.try_call(0, "/v3/kv/range", &json!({"key": STANDARD.encode("x")})).await.is_some() {
                return;
            }
            for member in &mut self.members {
                assert!(
                    !member.program.has_ended(),
                    "etcd: {}",
                    std::fs::read_to_string(&member.log).unwrap_or_default()
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("etcd is not ready: {:?}", self.directory.path());
    }

    pub(super) fn url(&self, member: usize) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.members[member].port)
    }

    pub(super) fn urls(&self) -> Vec<String> {
        (0..self.members.len()).map(|member| self.url(member)).collect()
    }

    async fn try_call(&self, member: usize, path: &str, body: &Value) -> Option<Value> {
        let url = Base::parse(&self.url(member)).unwrap().url(path);
        let answer = self.client.post(&url, "application/json", body.to_string()).await.ok()?;
        let body = answer.success(&url).ok()?.body.all(1 << 24).await.ok()?;
        serde_json::from_slice(&body).ok()
    }

    pub(super) async fn call(&self, path: &str, body: Value) -> Value {
        for _ in 0..100 {
            for member in 0..self.members.len() {
                if let Some(answer) = self.try_call(member, path, &body).await {
                    return answer;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{path}: no member gives an answer");
    }

    pub(super) async fn put(&self, key: &str, value: &str) {
        self.call("/v3/kv/put", json!({"key": STANDARD.encode(key), "value": STANDARD.encode(value)})).await;
    }

    pub(super) async fn delete(&self, key: &str) {
        self.call("/v3/kv/deleterange", json!({"key": STANDARD.encode(key)})).await;
    }

    /// Forgets all history before now.
    pub(super) async fn compact(&self) {
        let now = self.call("/v3/kv/range", json!({"key": STANDARD.encode("x")})).await;
        let revision = now["header"]["revision"].clone();
        self.call("/v3/kv/compaction", json!({"revision": revision, "physical": true})).await;
    }

    pub(super) fn kill(&mut self, member: usize) {
        self.members[member].program.kill();
    }

    pub(super) fn restart(&mut self, member: usize) {
        let member = &mut self.members[member];
        member.program = Program::start("etcd", &member.arguments, &member.log);
    }

    pub(super) fn signal(&self, member: usize, signal: &str) {
        self.members[member].program.signal(signal);
    }
}
