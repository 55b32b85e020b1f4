//! A real Mesos master with agents, and a framework on it: by the tool that lies beside the repository.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::PATIENCE;
use super::program::{finish, text, with_real_clients};

/// Clusters of this process so far.
static STARTED: AtomicU8 = AtomicU8::new(0);

/// A running cluster; it ends with its handle.
pub(crate) struct Cluster {
    tool: PathBuf,
    home: tempfile::TempDir,
    pub(crate) master: SocketAddr,
}

impl Cluster {
    /// Starts a master and two agents; `None` without the tool, or where tests may not use other programs.
    pub(crate) fn start() -> Option<Self> {
        let tool = super::shared()?.join("tools/real-mesos");
        if !with_real_clients() || !tool.join("run").exists() {
            return None;
        }
        let installed = installed();
        assert!(
            installed.join("launcher").exists(),
            "no Mesos in {}: tests/run installs it, PORTOLAN_TEST_MESOS names another folder, PORTOLAN_TEST_SKIP_REAL \
             leaves it out",
            installed.display()
        );
        // Its own folder, since the tool keeps its pids there; its own address of loopback, since ports are fixed.
        let home = tempfile::tempdir().unwrap();
        std::fs::copy(installed.join("launcher"), home.path().join("launcher")).unwrap();
        for folder in ["lib", "libexec"] {
            std::os::unix::fs::symlink(installed.join(folder), home.path().join(folder)).unwrap();
        }
        let [high, low] = (std::process::id() as u16).to_be_bytes();
        let ip = std::net::Ipv4Addr::new(127, 90 + STARTED.fetch_add(1, Ordering::Relaxed), high, low.max(1));
        let cluster = Self { tool, home, master: (ip, 5050).into() };
        cluster.run("start", &["--ip", &ip.to_string(), "--port", "5050", "--agents", "2"]);
        Some(cluster)
    }

    /// Runs a command of the tool.
    pub(crate) fn run(&self, command: &str, arguments: &[&str]) {
        let output =
            finish(Command::new(self.tool.join("run")).arg(command).arg(self.home.path()).args(arguments));
        let output = output.unwrap();
        assert!(output.status.success(), "{command}: {}{}", text(&output.stdout), text(&output.stderr));
    }

    /// Starts a framework.
    pub(crate) fn framework(&self, name: &str) -> Framework {
        let mut child = Command::new(self.tool.join("framework"))
            .args([
                "--master",
                &self.master.to_string(),
                "--name",
                name,
                "--checkpoint",
                "--failover-timeout",
                "3600",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let events = Arc::<Mutex<Vec<Value>>>::default();
        let (told, sink) = (child.stdout.take().unwrap(), Arc::clone(&events));
        std::thread::spawn(move || {
            for line in BufReader::new(told).lines().map_while(Result::ok) {
                sink.lock().unwrap().extend(serde_json::from_str::<Value>(&line));
            }
        });
        let stdin = child.stdin.take();
        Framework { child, stdin, events }
    }

    /// Follows the master's event stream.
    pub(crate) fn witness(&self) -> Witness {
        Witness::start(self.master)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = finish(Command::new(self.tool.join("run")).arg("stop").arg(self.home.path()));
    }
}

/// Where `tests/run` installs it.
fn installed() -> PathBuf {
    if let Some(named) = std::env::var_os("PORTOLAN_TEST_MESOS") {
        return named.into();
    }
    // Beside the tests' Python, which may be another worktree's.
    let python = std::env::var_os("PORTOLAN_TEST_PYTHON").map(PathBuf::from);
    let tools = python.and_then(|python| Some(python.parent()?.parent()?.parent()?.to_owned()));
    tools.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-tools")).join("mesos")
}

/// A running framework, driven by lines.
pub(crate) struct Framework {
    child: Child,
    stdin: Option<ChildStdin>,
    events: Arc<Mutex<Vec<Value>>>,
}

impl Framework {
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Waits until the task was last told to be in `state` (`RUNNING`, `KILLED`, …).
    pub(crate) fn until(&mut self, task: &str, state: &str) {
        self.until_update(task, &|update| update["state"] == state);
    }

    /// Waits until the last update of the task fits.
    pub(crate) fn until_update(&mut self, task: &str, fits: &dyn Fn(&Value) -> bool) {
        let begin = Instant::now();
        loop {
            let events = self.events.lock().unwrap();
            let last = events.iter().rev().find(|event| event["event"] == "update" && event["task"] == task);
            if last.is_some_and(fits) {
                return;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && begin.elapsed() < PATIENCE, "{task}: waited in vain: {events:?}");
            drop(events);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Framework {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Notes when each status of each task was told by the master's own stream.
pub(crate) struct Witness(Arc<Mutex<HashMap<(String, String), Instant>>>);

impl Witness {
    fn start(master: SocketAddr) -> Self {
        let witness = Self(Arc::default());
        let seen = Arc::clone(&witness.0);
        let mut stream = TcpStream::connect(master).unwrap();
        let body = r#"{"type":"SUBSCRIBE"}"#;
        let request = format!(
            "POST /api/v1 HTTP/1.1\r\nHost: {master}\r\nContent-Type: application/json\r\nAccept: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
            }
            while let Some(chunk) = chunk(&mut reader) {
                // The master writes one record a chunk.
                let record = chunk.splitn(2, |octet| *octet == b'\n').nth(1).unwrap_or_default();
                let Ok(event) = serde_json::from_slice::<Value>(record) else { continue };
                let status = &event["task_updated"]["status"];
                if let (Some(task), Some(state)) =
                    (status["task_id"]["value"].as_str(), event["task_updated"]["state"].as_str())
                {
                    let key = (task.to_owned(), state.to_owned());
                    seen.lock().unwrap().entry(key).or_insert_with(Instant::now);
                }
            }
        });
        witness
    }

    /// When the task was first told to be in `state` (`TASK_RUNNING`, …).
    pub(crate) fn told(&self, task: &str, state: &str) -> Option<Instant> {
        self.0.lock().unwrap().get(&(task.to_owned(), state.to_owned())).copied()
    }
}

fn chunk(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let len = usize::from_str_radix(line.trim(), 16).ok()?;
    let mut chunk = vec![0; len + 2];
    reader.read_exact(&mut chunk).ok()?;
    chunk.truncate(len);
    Some(chunk)
}
