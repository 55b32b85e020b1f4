//! A network namespace for one run, and the folder for what it writes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use super::server::PREFER;

/// Set inside the namespace.
pub(crate) const INSIDE: &str = "PORTOLAN_PEERS_NAMESPACE";

/// What the namespace gets: cubic (a machine's default may be another, which shifts ratios) and ports enough for
/// short connections.
const SETTINGS: [(&str, &str); 3] = [
    ("net/ipv4/tcp_congestion_control", "cubic"),
    ("net/ipv4/ip_local_port_range", "20000 65535"),
    ("net/core/somaxconn", "4096"),
];
/// What only the whole host has, for the time of the run: large default buffers, the same for every server, so that a
/// window of queries overflows none.
const HOST: [(&str, &str); 2] = [("net/core/rmem_max", "4194304"), ("net/core/rmem_default", "4194304")];

/// Where results, configurations and logs go.
pub(crate) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers")
}

/// Runs this program again inside a namespace made for it.
pub(crate) fn again(arguments: &[String]) -> ExitCode {
    allow_cubic();
    let program = std::env::current_exe().expect("the path of this program");
    let before = HOST.map(|(key, value)| exchange(key, value));
    // A session of its own, so that priority is not given to the caller's; it ends with this process.
    let status = Command::new("unshare")
        .args(["--net", "--fork", "--kill-child", "setsid", "sh", "-c"])
        .arg(format!("ip link set lo up; {PREFER}"))
        .arg(program)
        .args(arguments)
        .env(INSIDE, "1")
        .status();
    for ((key, _), value) in HOST.iter().zip(before) {
        exchange(key, &value);
    }
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("peers: no network namespace (root and util-linux are needed): {error}");
            ExitCode::FAILURE
        }
    }
}

/// A namespace may choose only among what the host allows: what it has used, or what stands in this list.
fn allow_cubic() {
    let path = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";
    let allowed = fs::read_to_string(path).unwrap_or_default();
    if !allowed.split_whitespace().any(|name| name == "cubic") {
        let _ = fs::write(path, format!("{} cubic", allowed.trim()));
    }
}

/// Applies the settings; returns those in force.
pub(crate) fn settle() -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    for (key, value) in SETTINGS {
        exchange(key, value);
    }
    for (key, _) in SETTINGS.iter().chain(&HOST) {
        let now = fs::read_to_string(format!("/proc/sys/{key}")).unwrap_or_else(|_| "unknown".to_owned());
        found.push((key.replace('/', "."), now.trim().replace('\t', " ")));
    }
    if found[0].1 == SETTINGS[0].1 { Ok(found) } else { Err("cubic cannot be chosen".to_owned()) }
}

/// Sets a kernel's setting; what it was.
fn exchange(key: &str, value: &str) -> String {
    let path = format!("/proc/sys/{key}");
    let before = fs::read_to_string(&path).unwrap_or_default();
    let _ = fs::write(&path, value);
    before
}

/// A fresh folder for the configurations and logs of one part.
pub(crate) fn fresh(name: &str) -> Result<PathBuf, String> {
    let directory = directory().join("configs").join(name);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).map_err(|e| e.to_string())?;
    Ok(directory)
}
