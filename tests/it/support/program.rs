//! The built program as an operator starts it, and the clients of others.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::PATIENCE;

/// The built program.
pub(crate) fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_portolan"))
}

/// Runs the program to its end.
pub(crate) fn portolan(arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.args(arguments).env_remove("PORTOLAN_LOG").env_remove("NO_COLOR");
    finish(&mut command).unwrap_or_else(|error| panic!("portolan {arguments:?}: {error}"))
}

/// Runs a command to its end. One that does not end within [`PATIENCE`] is killed, and has failed.
pub(crate) fn finish(command: &mut Command) -> std::io::Result<Output> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let (stdout, stderr) = (all(child.stdout.take().unwrap()), all(child.stderr.take().unwrap()));
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if begin.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
    match status {
        Some(status) => Ok(Output { status, stdout, stderr }),
        None => panic!("{command:?} does not end:\n{}\n{}", text(&stdout), text(&stderr)),
    }
}

/// Reads to the end, beside whatever else is read.
fn all(mut reader: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut octets = Vec::new();
        let _ = reader.read_to_end(&mut octets);
        octets
    })
}

/// Whether tests may use the clients of others. Only a person may say no; a client that is missing is a failure.
pub(crate) fn with_real_clients() -> bool {
    std::env::var_os("PORTOLAN_TEST_SKIP_REAL").is_none()
}

/// Runs one of the clients that `tests/run` installs; panics unless it succeeds.
pub(crate) fn client(name: &str, arguments: &[&str]) -> String {
    let output = finish(Command::new(name).args(arguments)).unwrap_or_else(|error| {
        panic!("{name}: {error}: tests/run installs it; PORTOLAN_TEST_SKIP_REAL leaves it out")
    });
    let told = text(&output.stdout);
    assert!(output.status.success(), "{name} {arguments:?}: {told}{}", text(&output.stderr));
    told
}

/// Text of a program's output.
pub(crate) fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// A running program; killed with its handle.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

/// Lines read so far.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn of(reader: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let sink = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                sink.0.lock().unwrap().push(line);
            }
        });
        lines
    }

    fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

impl Running {
    /// Starts the program.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::spawn(Command::new(program()).args(arguments))
    }

    /// Starts `portolan run --config FILE`. The log goes to standard error, as JSON if the file says so.
    pub(crate) fn daemon(file: &Path) -> Self {
        Self::start(&["run", "--config", file.to_str().unwrap()])
    }

    /// Starts a command.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .env_remove("PORTOLAN_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = Lines::of(child.stdout.take().unwrap());
        let stderr = Lines::of(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Standard output so far.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until `condition` gives something; fails if the program ends before.
    pub(crate) fn until<T>(&mut self, what: &str, mut condition: impl FnMut(&Self) -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            let ended = self.child.try_wait().unwrap();
            if let Some(found) = condition(self) {
                return found;
            }
            let told = || format!("{}\n{}", self.stdout(), self.stderr());
            assert!(ended.is_none(), "ended with {ended:?} before: {what}\n{}", told());
            assert!(begin.elapsed() < PATIENCE, "waited in vain for: {what}\n{}", told());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Where a listener was bound, from the log (which must be JSON); the last one if it was bound more than once.
    pub(crate) fn bound(&mut self, listener: &str) -> SocketAddr {
        self.until(&format!("listener {listener}"), |running| {
            let lines = running.stderr.0.lock().unwrap().clone();
            lines.iter().rev().find_map(|line| {
                let entry: serde_json::Value = serde_json::from_str(line).ok()?;
                (entry["message"] == "bound" && entry["listener"] == listener)
                    .then(|| entry["address"].as_str()?.parse().ok())?
            })
        })
    }

    /// The soft and the hard limit on open files, as the kernel has them.
    pub(crate) fn open_files_max(&self) -> (String, String) {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", self.child.id())).unwrap();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
        let mut values = line.split_whitespace().map(str::to_owned);
        (values.next().unwrap(), values.next().unwrap())
    }

    /// Sends a signal by its short name, as in `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.child.id())).status();
        assert!(status.unwrap().success());
    }

    /// Waits for the end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begin.elapsed() < PATIENCE, "does not end\n{}", self.stderr());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it by SIGTERM; panics unless its exit code is 0.
    pub(crate) fn stop(&mut self) {
        self.signal("TERM");
        let status = self.ended();
        assert!(status.success(), "{status}\n{}", self.stderr());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
