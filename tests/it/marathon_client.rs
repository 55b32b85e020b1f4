//! The simulated Marathon serves clients that know nothing of it: the independent `marathon` package from PyPI lists,
//! scales, kills and follows events.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::support::program::program;

/// A running `portolan sim`; killed with its handle.
struct Sim {
    child: Child,
    url: String,
}

impl Sim {
    fn start() -> Self {
        let mut child = Command::new(program())
            .args(["sim", "--apps", "20", "--tasks", "100"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("portolan sim starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: serde_json::Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        assert_eq!((&ready["apps"], &ready["tasks"]), (&20.into(), &100.into()));
        Self { child, url: ready["url"].as_str().unwrap().to_owned() }
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_python_client_drives_the_simulation() {
    if std::env::var_os("PORTOLAN_TEST_SKIP_REAL").is_some() {
        return;
    }
    let python = std::env::var_os("PORTOLAN_TEST_PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let has_client = Command::new(&python).args(["-c", "import marathon"]).output();
    assert!(
        has_client.as_ref().is_ok_and(|output| output.status.success()),
        "{} has no package `marathon` ({has_client:?}): run tests/run, which installs it, or set \
         PORTOLAN_TEST_SKIP_REAL",
        python.display()
    );
    let sim = Sim::start();
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/marathon_client.py");
    let output = Command::new(&python).arg(script).arg(&sim.url).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(told.lines().filter(|line| line.starts_with("ok: ")).count() >= 10, "it checked things: {told}");
}
