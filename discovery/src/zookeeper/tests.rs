//! Against real servers: three of Debian's package `zookeeper`, started here.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream as StdStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::*;

const JAR: &str = "/usr/share/java/zookeeper.jar";
/// Starting three servers on a busy machine takes a while.
const READY: Duration = Duration::from_secs(120);

/// Three servers; they end with it.
pub(crate) struct Servers {
    directory: tempfile::TempDir,
    ports: [u16; 3],
    running: [Option<Child>; 3],
}

impl Servers {
    /// Starts three servers, or says why this test is left out.
    pub(crate) async fn start() -> Option<Self> {
        if !Path::new(JAR).exists() {
            let skip = std::env::var_os("PORTOLAN_TEST_SKIP_REAL").is_some();
            assert!(skip, "{JAR} is missing: install the packages zookeeper and default-jre-headless");
            return None;
        }
        // Held until all are known, so that none is given twice.
        let listeners: Vec<TcpListener> = (0..9).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> =
            listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        drop(listeners);
        let directory = tempfile::tempdir().unwrap();
        for server in 0..3 {
            let home = directory.path().join(server.to_string());
            fs::create_dir(&home).unwrap();
            fs::write(home.join("myid"), (server + 1).to_string()).unwrap();
            let mut config = format!(
                "tickTime=200\ninitLimit=20\nsyncLimit=10\ndataDir={}\nclientPort={}\n\
                 clientPortAddress=127.0.0.1\nadmin.enableServer=false\n4lw.commands.whitelist=*\n\
                 maxSessionTimeout=20000\n",
                home.display(),
                ports[server]
            );
            for other in 0..3 {
                let (peer, vote) = (ports[3 + other], ports[6 + other]);
                config += &format!("server.{}=127.0.0.1:{peer}:{vote}\n", other + 1);
            }
            fs::write(home.join("zoo.cfg"), config).unwrap();
        }
        let ports = [ports[0], ports[1], ports[2]];
        let mut servers = Self { directory, ports, running: [None, None, None] };
        (0..3).for_each(|server| servers.run(server));
        for server in 0..3 {
            servers.ready(server).await;
        }
        Some(servers)
    }

    pub(crate) fn run(&mut self, server: usize) {
        let home: PathBuf = self.directory.path().join(server.to_string());
        let log = fs::File::create(home.join("log")).unwrap();
        let child = Command::new("java")
            .args(["-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
            .arg(format!("{}:{JAR}", home.display()))
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(home.join("zoo.cfg"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("java runs");
        self.running[server] = Some(child);
    }

    /// Waits until a server is part of a quorum.
    pub(crate) async fn ready(&self, server: usize) {
        let until = Instant::now() + READY;
        while !self.says(server).is_some_and(|text| text.contains("Mode: ")) {
            assert!(Instant::now() < until, "no quorum: {}", self.log(server));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn says(&self, server: usize) -> Option<String> {
        let mut stream = StdStream::connect(("127.0.0.1", self.ports[server])).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        stream.write_all(b"srvr").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }

    fn log(&self, server: usize) -> String {
        fs::read_to_string(self.directory.path().join(format!("{server}/log"))).unwrap_or_default()
    }

    pub(crate) fn kill(&mut self, server: usize) {
        if let Some(mut child) = self.running[server].take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn ensemble(&self) -> Ensemble {
        let servers = self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        Ensemble { servers, credentials: None }
    }

    /// `zk://…` without a path.
    pub(crate) fn url(&self) -> String {
        format!("zk://{}", self.ensemble().servers.join(","))
    }

    /// A connection, as soon as there is a quorum.
    pub(crate) async fn connect(&self) -> Connection {
        let until = Instant::now() + READY;
        loop {
            match self.ensemble().connect().await {
                Ok(connection) => return connection,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        (0..3).for_each(|server| self.kill(server));
    }
}

/// Who may read a node.
pub(crate) enum Readers {
    All,
    /// `user:base64(sha1(user:password))`.
    Digest(&'static str),
}

impl Connection {
    /// Makes a node that stays.
    pub(crate) async fn create(&mut self, path: &str, content: &str, readers: &Readers) {
        let (scheme, id) = match readers {
            Readers::All => ("world", "anyone"),
            Readers::Digest(id) => ("digest", *id),
        };
        self.xid += 1;
        let request = Message::request(self.xid, 1).octets(path.as_bytes()).octets(content.as_bytes());
        let request = request.number(1).number(31).octets(scheme.as_bytes()).octets(id.as_bytes()).number(0);
        self.send(&request.finish()).await.unwrap();
        let answer = self.answer(self.xid).await.unwrap();
        assert_eq!(self.header(&answer).unwrap().1, OK, "create {path}");
    }

    pub(crate) async fn delete(&mut self, path: &str) {
        self.xid += 1;
        let request = Message::request(self.xid, 2).octets(path.as_bytes()).number(-1);
        self.send(&request.finish()).await.unwrap();
        let answer = self.answer(self.xid).await.unwrap();
        assert_eq!(self.header(&answer).unwrap().1, OK, "delete {path}");
    }
}

#[test]
fn urls_are_taken_apart_and_secrets_are_not_shown() {
    let (ensemble, path) = Ensemble::parse("zk://u:hunter2@a:1,b,[::1]:3/mesos/prod/").unwrap();
    assert_eq!(ensemble.servers, ["a:1", "b:2181", "[::1]:3"]);
    assert_eq!(path, "/mesos/prod");
    assert!(!format!("{ensemble:?}").contains("hunter2"));
    assert_eq!(ensemble.credentials.unwrap().0, "u:hunter2");
    for url in ["http://a", "zk://", "zk:///mesos", "zk://u:hunter2@/x"] {
        assert!(!Ensemble::parse(url).unwrap_err().to_string().contains("hunter2"), "{url}");
    }
}

#[tokio::test]
async fn what_changes_is_told_whichever_server_dies() {
    let Some(mut servers) = Servers::start().await else { return };
    let mut writer = servers.connect().await;
    let mut reader = servers.connect().await;
    assert_eq!(reader.children("/a").await.unwrap(), None);
    writer.create("/a", "", &Readers::All).await;
    assert_eq!(reader.changed().await.unwrap(), "/a", "its creation");
    assert_eq!(reader.children("/a").await.unwrap(), Some(vec![]));
    for n in 0..200 {
        writer.create(&format!("/a/n{n}"), &n.to_string(), &Readers::All).await;
    }
    assert_eq!(reader.changed().await.unwrap(), "/a");
    let names = reader.children("/a").await.unwrap().unwrap();
    assert_eq!(names.len(), 200);
    let mut paths: Vec<String> = names.iter().map(|name| format!("/a/{name}")).collect();
    paths.push("/a/gone".to_owned());
    let contents = reader.contents(&paths).await.unwrap();
    for (name, content) in names.iter().zip(&contents) {
        assert_eq!(format!("n{}", String::from_utf8_lossy(content.as_ref().unwrap())), *name);
    }
    assert_eq!(contents[200], None);
    // The server of the reader dies: the error says so, and the next connection goes elsewhere.
    let at = servers.ports.iter().position(|port| reader.server.ends_with(&format!(":{port}"))).unwrap();
    servers.kill(at);
    assert!(matches!(reader.changed().await, Err(SourceError::Connect { .. })));
    let mut reader = servers.connect().await;
    assert_eq!(reader.children("/a").await.unwrap().unwrap().len(), 200);
}

#[tokio::test]
async fn what_needs_a_password_is_read_with_it() {
    let Some(servers) = Servers::start().await else { return };
    // As ZooKeeper's own DigestAuthenticationProvider makes it of `super:secret`.
    let only = Readers::Digest("super:lK75jTNcA+U9vtVEw5vB51mj/w4=");
    let mut ensemble = servers.ensemble();
    ensemble.credentials = Some(Credentials("super:secret".to_owned()));
    let mut writer = ensemble.connect().await.unwrap();
    writer.create("/s", "", &only).await;
    assert_eq!(writer.children("/s").await.unwrap(), Some(vec![]));
    let error = servers.connect().await.children("/s").await.unwrap_err();
    assert!(matches!(error, SourceError::Setup { .. }), "{error}");
    assert!(error.to_string().contains("reading is refused"), "{error}");
}
