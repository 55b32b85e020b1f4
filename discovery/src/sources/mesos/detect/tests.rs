//! Against a real ensemble of three servers, with masters of whom only the nodes are there, or the state too.

use std::sync::Mutex;

use portolan_table::{ClusterFact, MergePolicy, SourceId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::super::Mesos;
use super::*;
use crate::config::{Auth, MesosConfig, SourceConfig, SourceKind, TlsConfig};
use crate::source::{Change, Sink, Source, Update};
use crate::zookeeper::tests::{Readers, Servers};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn the_lowest_sequence_leads() {
    let mut names = ["json.info_-2147483648", "json.info_0000000012", "json.info_2147483647"];
    names.sort_by_key(|name| sequence(name));
    assert_eq!(names, ["json.info_0000000012", "json.info_2147483647", "json.info_-2147483648"]);
    for name in ["log_replicas", "info_0000000001", "json.info_", "json.info_x", "json.info_99999999999"] {
        assert_eq!(sequence(name), None, "{name}");
    }
}

fn info(port: u16) -> String {
    format!(
        r#"{{"id":"m{port}","ip":16777343,"port":{port},"pid":"master@127.0.0.1:{port}","hostname":"m{port}",
            "address":{{"hostname":"m{port}","ip":"127.0.0.1","port":{port}}},"version":"1.11.0"}}"#
    )
}

fn masters(ports: &[u16]) -> Vec<(String, u16)> {
    ports.iter().map(|port| ("127.0.0.1".to_owned(), *port)).collect()
}

impl Detector {
    async fn until(&mut self, wanted: &[(String, u16)]) {
        let is_it = |found: &Found| found.listed.as_deref() == Some(wanted);
        let waited = timeout(LIMIT, self.found.wait_for(is_it)).await.map(|found| found.is_ok());
        assert_eq!(waited, Ok(true), "wanted {wanted:?}, known {:?}", self.found.borrow());
    }
}

#[tokio::test]
async fn masters_are_followed_and_kept_while_the_quorum_is_lost() {
    let Some(mut servers) = Servers::start().await else { return };
    let (ensemble, path) = Ensemble::parse(&format!("{}/mesos", servers.url())).unwrap();
    let mut detector = Detector::start(ensemble, path);
    let error = detector.masters(Duration::from_millis(300)).await.unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("no leader"), "{error}");
    let mut zookeeper = servers.connect().await;
    for (node, content) in [
        ("", String::new()),
        ("/log_replicas", String::new()),
        ("/json.info_0000000007", info(5057)),
        ("/json.info_0000000003", info(5053)),
        ("/json.info_0000000001", "{not json".to_owned()),
        // The form of 0.23 and before it: an address in the order of the machine.
        ("/json.info_0000000009", r#"{"ip":33620234,"port":5059}"#.to_owned()),
    ] {
        zookeeper.create(&format!("/mesos{node}"), &content, &Readers::All).await;
    }
    let mut all = masters(&[5053, 5057]);
    all.push(("10.1.1.2".to_owned(), 5059));
    detector.until(&all).await;
    assert_eq!(*detector.masters(LIMIT).await.unwrap(), *all);
    // The leader's session ends, and with it its node.
    let led = masters(&[5053]);
    zookeeper.delete("/mesos/json.info_0000000003").await;
    timeout(LIMIT, detector.another_leads(&led)).await.expect("another leads");
    all.remove(0);
    detector.until(&all).await;
    // Two of three servers die: nothing is known to have changed.
    servers.kill(0);
    servers.kill(1);
    let lost = timeout(LIMIT, detector.found.wait_for(|found| found.error.is_some())).await;
    assert!(lost.is_ok_and(|found| found.is_ok()), "the loss is noted");
    assert_eq!(*detector.masters(LIMIT).await.unwrap(), *all);
    servers.run(0);
    servers.ready(0).await;
    let mut zookeeper = servers.connect().await;
    zookeeper.delete("/mesos/json.info_0000000007").await;
    all.remove(0);
    detector.until(&all).await;
}

/// A master that offers `/master/state` and nothing else, with one task of the framework `marathon`.
async fn master(task: &str, tasks: &mut JoinSet<()>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let state = format!(
        r#"{{"id":"m{port}","pid":"master@127.0.0.1:{port}","leader":"master@127.0.0.1:{port}","slaves":[
            {{"id":"S0","hostname":"agent-0","pid":"slave(1)@10.0.0.1:5051"}}],"frameworks":[
            {{"id":"F0","name":"marathon","tasks":[{{"id":"{task}.1","name":"{task}","slave_id":"S0",
            "state":"TASK_RUNNING","resources":{{"ports":"[31000-31000]"}},"statuses":[]}}]}}]}}"#
    );
    tasks.spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let Ok(read) = connection.read(&mut head).await else { continue };
            let (status, body) = match head[..read].starts_with(b"GET /master/state ") {
                true => ("200 OK", &*state),
                false => ("404 Not Found", ""),
            };
            let answer = format!(
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = connection.write_all(answer.as_bytes()).await;
        }
    });
    port
}

fn source(url: String) -> (SourceConfig, MesosConfig) {
    let mesos = MesosConfig {
        urls: vec![url],
        zookeeper_credentials: None,
        https: false,
        auth: Auth::None,
        tls: TlsConfig::default(),
        poll: Duration::from_secs(1),
        settle_time: Duration::from_secs(60),
        recovery_time: Duration::from_secs(600),
    };
    let source = SourceConfig {
        id: SourceId(0),
        name: "test".into(),
        kind: SourceKind::Mesos(mesos.clone()),
        refresh: Duration::from_secs(300),
        timeout: Duration::from_secs(10),
        merge: MergePolicy::Union,
        priority: 0,
        required: true,
        stale_max: None,
        max_removal: 1.0,
    };
    (source, mesos)
}

/// Takes updates until the service `name` is told; gives the masters that were told before it.
async fn told(updates: &mut mpsc::Receiver<Update>, name: &str) -> Vec<u16> {
    let last = Mutex::new(Vec::new());
    let waited = timeout(LIMIT, async {
        while let Some(update) = updates.recv().await {
            match update.change {
                Change::Fact(fact) => {
                    if let ClusterFact::Masters(told) = &*fact {
                        let ports = told.leader.iter().chain(&told.listed).map(|at| at.port);
                        *last.lock().unwrap() = ports.collect();
                    }
                }
                Change::Service { spec, .. } if spec.name.as_str() == name => return,
                _ => {}
            }
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{name} was never told"));
    last.into_inner().unwrap()
}

#[tokio::test]
async fn the_source_follows_whichever_master_zookeeper_says_leads() {
    let Some(servers) = Servers::start().await else { return };
    let mut tasks = JoinSet::new();
    let (first, second) = (master("web", &mut tasks).await, master("api", &mut tasks).await);
    let mut zookeeper = servers.connect().await;
    zookeeper.create("/mesos", "", &Readers::All).await;
    zookeeper.create("/mesos/json.info_0000000001", &info(first), &Readers::All).await;
    zookeeper.create("/mesos/json.info_0000000002", &info(second), &Readers::All).await;
    let (config, mesos) = source(format!("{}/mesos", servers.url()));
    let (send, mut updates) = mpsc::channel(1024);
    tasks.spawn(async move {
        let sink = Sink::new(SourceId(0), send);
        let mut source = Mesos::new(&config, &mesos);
        loop {
            source.session(&sink).await;
            sleep(Duration::from_millis(20)).await;
        }
    });
    assert_eq!(told(&mut updates, "web.marathon").await, [first, first, second]);
    zookeeper.delete("/mesos/json.info_0000000001").await;
    assert_eq!(told(&mut updates, "api.marathon").await, [second, second]);
}
