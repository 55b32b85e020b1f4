//! The end of the built program: what drains, what is said meanwhile, and how it is cut short.

use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::node::configuration;
use crate::support::program::program;
use crate::support::{block_on, http, until};

/// A program that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn terminate(&self) {
        let status = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    async fn ended(&mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_drain_is_told_and_a_second_sigterm_cuts_it_short() {
    block_on(async {
        let backend = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let home = tempfile::tempdir().unwrap();
        let services = home.path().join("services.toml");
        let definition =
            format!("[[service]]\nname = 'echo'\nendpoint = ['{}']\n", backend.local_addr().unwrap());
        std::fs::write(&services, definition).unwrap();
        let (admin, echo) = (free_port(), free_port());
        let source = format!("[[source]]\ntype = \"file\"\npaths = [{services:?}]\n");
        let route = "[[proxy.route]]\nlistener = \"echo\"\nservice = \"echo\"\n";
        let text = configuration(&home.path().join("state"), &source, route)
            .replace("[admin]\nlisten = [\"127.0.0.1:0\"]", &format!("[admin]\nlisten = [\"{admin}\"]"))
            .replace(
                "name = \"echo\"\nbind = \"127.0.0.1:0\"",
                &format!("name = \"echo\"\nbind = \"{echo}\""),
            );
        let file = home.path().join("portolan.toml");
        std::fs::write(&file, text).unwrap();
        let child = Command::new(program()).arg("run").arg("--config").arg(&file).spawn().unwrap();
        let mut program = Running(child);
        let readiness = || async { http::try_get(admin, "localhost", "/readyz").await.ok() };
        until("ready", || async { readiness().await.filter(|answer| answer.status == 200) }).await;

        // A relay that nobody ends.
        let mut client = TcpStream::connect(echo).await.unwrap();
        client.write_all(b"x").await.unwrap();
        let (mut relayed, _) = backend.accept().await.unwrap();
        assert_eq!(relayed.read_u8().await.unwrap(), b'x');

        program.terminate();
        let draining = until("a drain", || async { readiness().await.filter(|a| a.status == 503) }).await;
        assert!(draining.body.contains("draining"), "{}", draining.body);
        relayed.write_all(b"y").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'y', "open connections go on");

        let begin = Instant::now();
        program.terminate();
        let status = program.ended().await;
        assert_eq!(status.code(), Some(1));
        assert!(begin.elapsed() < Duration::from_secs(10), "took {:?}", begin.elapsed());
    });
}
