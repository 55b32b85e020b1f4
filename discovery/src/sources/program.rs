//! Real servers in tests: started by the test, in a folder of their own, on ports that were free, ended with it.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running program; ended when dropped.
pub(super) struct Program(Child);

impl Program {
    /// Starts `program`, whose output goes to `log`. Debian has servers where users don't look.
    pub(super) fn start(program: &str, arguments: &[String], log: &Path) -> Self {
        let path = std::env::var("PATH").unwrap_or_default();
        let log = std::fs::File::create(log).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{program}: {error}: tests/run installs it; PORTOLAN_TEST_SKIP_REAL leaves it out")
            });
        Self(child)
    }

    /// Sends it a signal by name.
    pub(super) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Kills it and waits until it has gone.
    pub(super) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    pub(super) fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// True unless tests with real servers are left out.
pub(super) fn real_wanted() -> bool {
    std::env::var_os("PORTOLAN_TEST_SKIP_REAL").is_none()
}

/// Ports that are free now.
pub(super) fn free_ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}
