//! Servers as processes of one pinned worker, and what they cost.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::processor::{Busy, cpu_of_tree, own_cpu};
use super::sample::{Outcome, Sample};

/// Longest wait for a server to serve; a table of a million names has to be read by some.
const READY_MAX: Duration = Duration::from_secs(900);

/// Gives a session priority and becomes the program: plain nice does nothing between sessions where the kernel groups
/// them. A refusal is no harm.
pub(crate) const PREFER: &str = "echo -15 > /proc/self/autogroup; exec \"$0\" \"$@\"";

/// How a server is started.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// What the table calls it.
    pub(crate) name: String,
    /// Where it listens.
    pub(crate) port: u16,
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// Variables of its environment.
    pub(crate) environment: Vec<(String, String)>,
    /// The CPUs it may use, as `taskset` takes them.
    pub(crate) cpus: &'static str,
}

impl Spec {
    /// One on CPU 0.
    pub(crate) fn new(name: &str, port: u16, command: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            port,
            command: command.iter().map(|&word| word.to_owned()).collect(),
            environment: Vec::new(),
            cpus: "0",
        }
    }

    /// The same with a variable.
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }
}

/// A server under test, or one that the load needs.
#[derive(Debug)]
pub(crate) struct Server {
    /// What the table calls it.
    pub(crate) name: String,
    /// Where it listens.
    pub(crate) port: u16,
    child: Child,
}

impl Server {
    /// Starts it in a session of its own with priority over what else runs; its output goes to `NAME.log`.
    pub(crate) fn start(spec: &Spec, directory: &Path) -> Result<Self, String> {
        let path = directory.join(format!("{}.log", spec.name));
        let log = File::create(path).map_err(|e| e.to_string())?;
        let child = Command::new("setsid")
            .args(["setpriv", "--pdeathsig", "KILL", "taskset", "-c", spec.cpus])
            .args(["sh", "-c", PREFER])
            .args(&spec.command)
            .envs(spec.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|e| e.to_string())?)
            .stderr(log)
            .spawn()
            .map_err(|e| format!("{} cannot be started: {e}", spec.name))?;
        Ok(Self { name: spec.name.clone(), port: spec.port, child })
    }

    /// Waits until `serves` says so.
    pub(crate) fn ready(&mut self, serves: impl Fn(&Self) -> bool) -> Result<(), String> {
        let deadline = Instant::now() + READY_MAX;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("{} has ended ({status}); its log tells why", self.name));
            }
            if serves(self) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(format!("{} does not serve; see its log", self.name))
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Runs `load` for `time` and accounts for it; `helpers` belong to the load.
    pub(crate) fn measure(
        &self,
        time: Duration,
        helpers: &[Self],
        load: &dyn Fn(&Self, Duration) -> Result<Outcome, String>,
    ) -> Result<Sample, String> {
        load(self, Duration::from_millis(300))?;
        let of_load = || own_cpu() + helpers.iter().map(|helper| cpu_of_tree(helper.id())).sum::<f64>();
        let (server, own, busy, begin) = (cpu_of_tree(self.id()), of_load(), Busy::now(), Instant::now());
        let outcome = load(self, time)?;
        let seconds = begin.elapsed().as_secs_f64();
        let (server, own) = (cpu_of_tree(self.id()) - server, of_load() - own);
        Ok(Sample {
            outcome,
            seconds,
            server,
            load: own,
            other: busy.since() - server - own,
            resident: resident(self.id()),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// True if something accepts on the server's port.
pub(crate) fn accepts(server: &Server) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", server.port)).is_ok()
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}
