//! One table of several sources: real etcd and HTTP service discovery feed one service, fail over to each other and back,
//! are killed and brought back, and no request fails meanwhile.

use std::net::{SocketAddr, TcpListener as Ports};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::rr::RecordType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support::node::TestNode;
use crate::support::program::{Running, with_real_clients};
use crate::support::{block_on, dns, http, until};

/// A server that gives the same to everybody: what stands in the cell.
async fn serve(
    tasks: &mut JoinSet<()>,
    content: &'static str,
    body: Arc<Mutex<(u16, String)>>,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let Ok((mut connection, _)) = listener.accept().await else { return };
            let body = Arc::clone(&body);
            connections.spawn(async move {
                let mut held = Vec::new();
                while connection.read_buf(&mut held).await.is_ok_and(|read| read > 0) {
                    while let Some(end) = held.windows(4).position(|w| w == b"\r\n\r\n") {
                        held.drain(..end + 4);
                        let (status, text) = body.lock().unwrap().clone();
                        let answer = format!(
                            "HTTP/1.1 {status} X\r\nContent-Type: {content}\r\nContent-Length: {}\r\n\r\n{text}",
                            text.len()
                        );
                        if connection.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

fn cell(text: &str) -> Arc<Mutex<(u16, String)>> {
    Arc::new(Mutex::new((200, text.to_owned())))
}

struct Etcd {
    port: u16,
    peer: u16,
    running: Running,
}

impl Etcd {
    fn start(home: &Path) -> Self {
        let free = || Ports::bind("127.0.0.1:0").unwrap();
        let (client, peer) = (free(), free());
        let [port, peer] = [client, peer].map(|held| held.local_addr().unwrap().port());
        Self { port, peer, running: Self::spawn(home, port, peer) }
    }

    fn spawn(home: &Path, port: u16, peer: u16) -> Running {
        let client = format!("http://127.0.0.1:{port}");
        let peer = format!("http://127.0.0.1:{peer}");
        let mut command = Command::new("etcd");
        command
            .arg(format!("--data-dir={}", home.display()))
            .args([format!("--listen-client-urls={client}"), format!("--advertise-client-urls={client}")])
            .args([format!("--listen-peer-urls={peer}"), format!("--initial-advertise-peer-urls={peer}")])
            .args([format!("--initial-cluster=default={peer}"), "--log-level=error".to_owned()]);
        Running::spawn(&mut command)
    }

    fn restart(&mut self, home: &Path) {
        self.running.signal("KILL");
        let _ = self.running.ended();
        self.running = Self::spawn(home, self.port, self.peer);
    }

    async fn call(&self, path: &str, body: &str) {
        let server = SocketAddr::from(([127, 0, 0, 1], self.port));
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: e\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        until("etcd", || async {
            let answer = http::request(server, &request).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
    }

    async fn put(&self, key: &str, value: &str) {
        let (key, value) = (STANDARD.encode(key), STANDARD.encode(value));
        self.call("/v3/kv/put", &format!(r#"{{"key":"{key}","value":"{value}"}}"#)).await;
    }

    async fn delete(&self, key: &str) {
        let key = STANDARD.encode(key);
        self.call("/v3/kv/deleterange", &format!(r#"{{"key":"{key}"}}"#)).await;
    }
}

/// Asks the proxy again and again; what fails is counted, the last answer kept.
#[derive(Default)]
struct Traffic {
    stop: AtomicBool,
    failed: AtomicUsize,
    served: AtomicUsize,
    last: Mutex<String>,
}

impl Traffic {
    async fn flow(&self, web: SocketAddr) {
        while !self.stop.load(Ordering::Relaxed) {
            match http::try_get(web, "web", "/").await {
                Ok(answer) if answer.status == 200 => {
                    self.served.fetch_add(1, Ordering::Relaxed);
                    *self.last.lock().unwrap() = answer.body;
                }
                Ok(answer) => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    *self.last.lock().unwrap() = format!("{} {}", answer.status, answer.body);
                }
                Err(error) => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    *self.last.lock().unwrap() = error.to_string();
                }
            }
        }
    }

    async fn until(&self, expected: &str) {
        until(&format!("answers of {expected}"), || async {
            (*self.last.lock().unwrap() == expected).then_some(())
        })
        .await;
    }
}

async fn until_standing(node: &TestNode, source: &str, expected: &str) {
    until(&format!("{source} is {expected}"), || async {
        let sources = http::json(node.admin(), "/api/v1/sources").await;
        let sources = sources["sources"].as_array().unwrap().clone();
        let found = sources.iter().find(|found| found["name"] == source)?;
        (found["standing"] == expected).then_some(())
    })
    .await;
}

#[test]
fn two_sources_stand_in_for_each_other_and_survive_their_deaths() {
    if !with_real_clients() {
        return;
    }
    block_on(async {
        let mut tasks = JoinSet::new();
        let a = serve(&mut tasks, "text/plain", cell("a")).await;
        let b = serve(&mut tasks, "text/plain", cell("b")).await;
        let targets = cell(&format!(r#"[{{"targets": ["{b}"], "labels": {{"service": "web"}}}}]"#));
        let list = serve(&mut tasks, "application/json", Arc::clone(&targets)).await;
        let home = tempfile::tempdir().unwrap();
        let mut etcd = Etcd::start(home.path());
        etcd.put("/services/web/1", &a.to_string()).await;
        let sources = format!(
            "[[source]]\nname = \"keys\"\ntype = \"etcd\"\nlayout = \"tree\"\nurls = [\"http://127.0.0.1:{}\"]\n\
             timeout = \"1s\"\nmerge = \"failover\"\npriority = 1\n\
             [[source]]\nname = \"list\"\ntype = \"http\"\nurls = [\"http://{list}/\"]\n\
             refresh = \"1s\"\ntimeout = \"1s\"\nmerge = \"failover\"\npriority = 2\n",
            etcd.port
        );
        let route = "[[proxy.route]]\nlistener = \"web\"\nservice = \"web\"\n";
        let node = TestNode::start(&sources, route).await;
        until_standing(&node, "keys", "synced").await;
        until_standing(&node, "list", "synced").await;

        let traffic = Arc::new(Traffic::default());
        let (flowing, web) = (Arc::clone(&traffic), node.web());
        tasks.spawn(async move { flowing.flow(web).await });
        traffic.until("a").await;
        traffic.failed.store(0, Ordering::Relaxed);
        // The better one has nothing to offer; then it has again.
        etcd.delete("/services/web/1").await;
        traffic.until("b").await;
        etcd.put("/services/web/1", &a.to_string()).await;
        traffic.until("a").await;
        // It is killed: a stale source is not a dead one.
        etcd.running.signal("KILL");
        until_standing(&node, "keys", "stale").await;
        let served = traffic.served.load(Ordering::Relaxed);
        until("more answers", || async {
            (traffic.served.load(Ordering::Relaxed) > served + 20).then_some(())
        })
        .await;
        assert_eq!(*traffic.last.lock().unwrap(), "a");
        assert_eq!(dns::addresses(node.dns(), "web.svc.cluster", RecordType::A).await, ["127.0.0.1"]);
        let metrics = http::get(node.admin(), "localhost", "/metrics").await.body;
        for line in [
            "portolan_source_standing{source=\"keys\",standing=\"stale\"} 1",
            "portolan_source_standing{source=\"list\",standing=\"synced\"} 1",
        ] {
            assert!(metrics.contains(line), "{line}");
        }
        etcd.restart(home.path());
        until_standing(&node, "keys", "synced").await;
        // So is the other.
        *targets.lock().unwrap() = (500, String::new());
        until_standing(&node, "list", "stale").await;
        etcd.delete("/services/web/1").await;
        traffic.until("b").await;
        *targets.lock().unwrap() =
            (200, format!(r#"[{{"targets": ["{a}"], "labels": {{"service": "web"}}}}]"#));
        until_standing(&node, "list", "synced").await;
        traffic.until("a").await;
        traffic.stop.store(true, Ordering::Relaxed);
        let failed = traffic.failed.load(Ordering::Relaxed);
        assert_eq!(failed, 0, "of {} requests", traffic.served.load(Ordering::Relaxed));
        let _ = node.stop().await;
    });
}
