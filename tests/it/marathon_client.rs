//! The simulated Marathon serves clients that know nothing of it: the independent `marathon` package from PyPI lists,
//! scales, kills and follows events.

use std::path::PathBuf;
use std::process::Command;

use crate::support::program::{Running, finish, text, with_real_clients};

/// Starts `portolan sim`; returns it and its URL.
fn sim() -> (Running, String) {
    let mut sim = Running::start(&["sim", "--apps", "20", "--tasks", "100"]);
    let line = sim.until("the ready line", |sim| sim.stdout().lines().next().map(str::to_owned));
    let ready: serde_json::Value =
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
    assert_eq!((&ready["apps"], &ready["tasks"]), (&20.into(), &100.into()));
    let url = ready["url"].as_str().unwrap().to_owned();
    (sim, url)
}

#[test]
fn the_python_client_drives_the_simulation() {
    if !with_real_clients() {
        return;
    }
    let python = std::env::var_os("PORTOLAN_TEST_PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let has_client = finish(Command::new(&python).args(["-c", "import marathon"]));
    assert!(
        has_client.as_ref().is_ok_and(|output| output.status.success()),
        "{} has no package `marathon` ({has_client:?}): run tests/run, which installs it, or set \
         PORTOLAN_TEST_SKIP_REAL",
        python.display()
    );
    let (_sim, url) = sim();
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/marathon_client.py");
    let output = finish(Command::new(&python).arg(script).arg(&url)).unwrap();
    let told = text(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(told.lines().filter(|line| line.starts_with("ok: ")).count() >= 10, "it checked things: {told}");
}
