//! A real ZooKeeper server, as Debian's packages have it.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::PATIENCE;
use super::program::{finish, text, with_real_clients};

const JAR: &str = "/usr/share/java/zookeeper.jar";

/// A running server; it ends with its handle.
pub(crate) struct ZooKeeper {
    pub(crate) address: SocketAddr,
    child: Child,
    home: tempfile::TempDir,
}

impl ZooKeeper {
    /// Starts one; `None` where tests may not use other programs.
    pub(crate) fn start() -> Option<Self> {
        if !with_real_clients() {
            return None;
        }
        assert!(Path::new(JAR).exists(), "{JAR} is missing: tests/run installs the package zookeeper");
        let home = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = home.path().join("zoo.cfg");
        let text = format!(
            "tickTime=200\ndataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n",
            home.path().display(),
            address.port()
        );
        std::fs::write(&config, text).unwrap();
        let log = std::fs::File::create(home.path().join("log")).unwrap();
        let child = java("org.apache.zookeeper.server.ZooKeeperServerMain")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("java runs: tests/run installs it");
        let server = Self { address, child, home };
        let begin = Instant::now();
        while TcpStream::connect(address).is_err() {
            let log = || std::fs::read_to_string(server.home.path().join("log")).unwrap_or_default();
            assert!(begin.elapsed() < PATIENCE, "no ZooKeeper: {}", log());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Some(server)
    }

    /// Makes nodes that stay.
    pub(crate) fn create(&self, nodes: &[(&str, &str)]) {
        let begin = Instant::now();
        for (path, content) in nodes {
            loop {
                let mut command = java("org.apache.zookeeper.ZooKeeperMain");
                command.args(["-server", &self.address.to_string(), "create", path, content]);
                let output = finish(&mut command).unwrap();
                if output.status.success() {
                    break;
                }
                // It accepts connections before it serves.
                let told = format!("{}{}", text(&output.stdout), text(&output.stderr));
                assert!(told.contains("ConnectionLoss") && begin.elapsed() < PATIENCE, "{path}: {told}");
            }
        }
    }
}

impl Drop for ZooKeeper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn java(class: &str) -> Command {
    let mut command = Command::new("java");
    command.args(["-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", JAR, class]);
    command
}
