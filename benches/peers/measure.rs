//! Servers as processes, and what they cost.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// One repetition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Operations done (queries, requests, octets).
    pub(crate) operations: f64,
    /// Operations whose answer was wrong or missing.
    pub(crate) errors: u64,
    /// Wall time.
    pub(crate) seconds: f64,
    /// CPU time of the server.
    pub(crate) server: f64,
    /// CPU time of everything else that belongs to the load (generator and upstreams).
    pub(crate) load: f64,
    /// Octets of resident memory of the server afterwards.
    pub(crate) resident: u64,
}

impl Sample {
    /// CPU microseconds per operation.
    pub(crate) fn cost(&self) -> f64 {
        self.server * 1e6 / self.operations
    }
}

/// A server under test.
#[derive(Debug)]
pub(crate) struct Server {
    /// What the table calls it.
    pub(crate) name: String,
    /// Where it listens.
    pub(crate) port: u16,
    child: Child,
}

impl Server {
    /// Starts a program on CPU 0, in a session of its own with priority over what else runs.
    pub(crate) fn start(name: &str, port: u16, directory: &Path, command: &[&str]) -> Result<Self, String> {
        let log = fs::File::create(directory.join(format!("{name}.log"))).map_err(|e| e.to_string())?;
        let child = Command::new("setsid")
            .args(["taskset", "-c", "0"])
            .args(command)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|e| e.to_string())?)
            .stderr(log)
            .spawn()
            .map_err(|e| format!("{name} cannot be started: {e}"))?;
        // Plain nice does nothing between sessions where the kernel groups them; a refusal is no harm.
        let _ = fs::write(format!("/proc/{}/autogroup", child.id()), "-15");
        Ok(Self { name: name.to_owned(), port, child })
    }

    /// Runs `load` for `time` and accounts for it.
    pub(crate) fn measure(
        &self,
        time: Duration,
        load: &dyn Fn(&Self, Duration) -> Result<Sample, String>,
    ) -> Result<Sample, String> {
        load(self, Duration::from_millis(300))?;
        let (server, own, begin) = (cpu_of_tree(self.child.id()), own_cpu(), Instant::now());
        let mut sample = load(self, time)?;
        sample.seconds = begin.elapsed().as_secs_f64();
        sample.server = cpu_of_tree(self.child.id()) - server;
        sample.load = own_cpu() - own;
        sample.resident = resident(self.child.id());
        Ok(sample)
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

/// User and system time of a process and its children, in seconds.
fn cpu_of_tree(pid: u32) -> f64 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let below: f64 =
        children.split_whitespace().filter_map(|child| child.parse().ok()).map(cpu_of_tree).sum();
    cpu_of(&pid.to_string()).0 + below
}

/// User and system time of this process, its threads and the programs it has waited for.
fn own_cpu() -> f64 {
    let (own, waited) = cpu_of("self");
    own + waited
}

fn cpu_of(pid: &str) -> (f64, f64) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<f64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(11)
        .take(4)
        .filter_map(|field| field.parse().ok())
        .collect();
    // Clock ticks are 1/100 s on every Linux that this runs on.
    match fields[..] {
        [user, system, waited_user, waited_system] => {
            ((user + system) / 100.0, (waited_user + waited_system) / 100.0)
        }
        _ => (0.0, 0.0),
    }
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Binds this process, and what it starts from now on, to one CPU.
pub(crate) fn pin(cpu: usize) -> Result<(), String> {
    let mut set = CpuSet::new();
    set.set(cpu).map_err(|e| e.to_string())?;
    sched_setaffinity(Pid::from_raw(0), &set).map_err(|e| format!("CPU {cpu} cannot be used alone: {e}"))
}

/// A fresh directory for configurations and logs.
pub(crate) fn scratch() -> Result<PathBuf, String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/run");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).map_err(|e| e.to_string())?;
    Ok(directory)
}

/// Runs this program again inside a network namespace made for it, with cubic as congestion control and
/// large default socket buffers, so that every server has the same.
pub(crate) fn again_in_namespace(arguments: &[String]) -> ExitCode {
    let program = std::env::current_exe().expect("the path of this program");
    let script = "ip link set lo up && \
        echo cubic > /proc/sys/net/ipv4/tcp_congestion_control && \
        { echo 4194304 > /proc/sys/net/core/rmem_default; echo 4194304 > /proc/sys/net/core/rmem_max; } 2>/dev/null; \
        exec \"$0\" \"$@\"";
    let status = Command::new("unshare")
        .args(["--net", "sh", "-c", script])
        .arg(program)
        .args(arguments)
        .env("PORTOLAN_PEERS_NAMESPACE", "1")
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("peers: no network namespace (root and util-linux are needed): {error}");
            ExitCode::FAILURE
        }
    }
}

/// Waits until something accepts on a TCP port.
pub(crate) fn wait_tcp(port: u16) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(15);
    while Instant::now() < deadline {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(format!("nothing accepts on port {port}; see target/peers/run/*.log"))
}
