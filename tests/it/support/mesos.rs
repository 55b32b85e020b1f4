//! A master that offers no event stream and says one state, as it is told; and the program in the place of Mesos-DNS.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::program::{Running, program};
use super::{PATIENCE, http};

/// A running master. Its threads end with the program.
pub(crate) struct Master {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<String>>,
}

impl Master {
    /// Starts one that answers `/master/state` with `state`. It says of itself that it leads.
    pub(crate) fn start(state: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let master =
            Self { address: listener.local_addr().unwrap(), state: Arc::new(Mutex::new(String::new())) };
        master.set_state(state);
        let state = Arc::clone(&master.state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&state);
                std::thread::spawn(move || while answer(&stream, &state).is_some() {});
            }
        });
        master
    }

    /// Nothing is said from now on: connections are closed.
    pub(crate) fn fall_silent(&self) {
        self.state.lock().unwrap().clear();
    }

    /// What is said from now on. A state without a leader is led from here.
    pub(crate) fn set_state(&self, mut state: Value) {
        if state["leader"].is_null() {
            state["leader"] = json!(format!("master@{}", self.address));
        }
        state["pid"] = state["leader"].clone();
        *self.state.lock().unwrap() = state.to_string();
    }
}

/// Answers one request; `None` at the end of the connection.
fn answer(mut stream: &TcpStream, state: &Mutex<String>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let (mut first, mut len) = (String::new(), 0);
    reader.read_line(&mut first).ok().filter(|octets| *octets > 0)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            len = value.trim().parse().ok()?;
        }
    }
    reader.read_exact(&mut vec![0; len]).ok()?;
    let state = state.lock().unwrap().clone();
    if state.is_empty() {
        return None;
    }
    let (status, body) = match first.split(' ').nth(1)? {
        "/master/state" => ("200 OK", state),
        _ => ("404 Not Found", String::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()
}

/// The program on a `config.json`.
pub(crate) struct Program {
    pub(crate) running: Running,
    pub(crate) dns: SocketAddr,
    pub(crate) http: SocketAddr,
    home: tempfile::TempDir,
}

impl Program {
    /// Starts it on `config` with `master`, wherever the kernel lets it listen.
    pub(crate) fn start(master: &Master, config: &Value, arguments: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), &placed(config, &[master]), arguments)
    }

    /// Starts it on `config` as it is, with what it saved before in `home`.
    pub(crate) fn start_in(home: tempfile::TempDir, config: &Value, arguments: &[&str]) -> Self {
        let file = write(home.path(), config);
        let mut command = Command::new(program());
        command.args(["run", "--mesos-dns-config"]).arg(file).args(arguments);
        let mut running = Running::spawn(command.env("PORTOLAN_STATE_DIR", home.path().join("state")));
        let (dns, http) = (bound(&mut running, "dns"), bound(&mut running, "mesos"));
        Self { running, dns, http, home }
    }

    /// Waits until every source has told something, or was remembered.
    pub(crate) async fn until_ready(&self) {
        let begin = Instant::now();
        while !http::try_get(self.http, "localhost", "/readyz").await.is_ok_and(|answer| answer.status == 200)
        {
            assert!(
                begin.elapsed() < PATIENCE,
                "waited in vain for the first list:\n{}",
                self.running.stderr()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends it; what it saved is left.
    pub(crate) fn stop(mut self) -> tempfile::TempDir {
        self.running.stop();
        self.home
    }
}

/// `config` where every port is the kernel's choice and the masters are `masters`.
pub(crate) fn placed(config: &Value, masters: &[&Master]) -> Value {
    let masters: Vec<String> = masters.iter().map(|master| master.address.to_string()).collect();
    let mut placed = json!({
        "masters": masters, "listener": "127.0.0.1", "HTTPListener": "127.0.0.1",
        "port": 0, "httpport": 0, "externalOn": false, "refreshSeconds": 1,
    });
    let own = ["masters", "listener", "httplistener", "port", "httpport", "externalon"];
    for (key, value) in config.as_object().unwrap() {
        if !own.contains(&&*key.to_lowercase()) {
            placed.as_object_mut().unwrap().retain(|name, _| !name.eq_ignore_ascii_case(key));
            placed[key] = value.clone();
        }
    }
    placed
}

pub(crate) fn write(home: &Path, config: &Value) -> PathBuf {
    let file = home.join("config.json");
    std::fs::write(&file, config.to_string()).unwrap();
    file
}

/// Where a listener was bound last, from a log in text; paths are passed over.
pub(crate) fn bound(running: &mut Running, listener: &str) -> SocketAddr {
    let begin = format!("bound listener=\"{listener}\" address=\"");
    running.until(&format!("listener {listener}"), |running| {
        let log = running.stderr();
        log.split(&begin).skip(1).filter_map(|rest| rest.split('"').next()?.parse().ok()).last()
    })
}
