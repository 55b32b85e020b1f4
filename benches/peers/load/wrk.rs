//! wrk as the client: keep-alive, saturated. It sees to the framing and the status of every answer; bodies are compared on
//! requests of our own beside it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::probe::Probe;
use crate::sample::Outcome;

/// What wrk is to do.
#[derive(Debug, Clone)]
pub(crate) struct Wrk {
    pub(crate) connections: usize,
    /// Numbers of hosts `host0000.svc.cluster` and so on to ask for in turn.
    pub(crate) script: Option<PathBuf>,
    /// Settings of OpenSSL; with them TLS is used.
    pub(crate) openssl: Option<PathBuf>,
}

impl Wrk {
    /// Loads the probe's server for `time`, in whole seconds.
    pub(crate) fn run(&self, probe: &Probe, time: Duration) -> Result<Outcome, String> {
        probe.once()?;
        let (output, asked, wrong) = probe.beside(|| self.command(probe.port, time).output());
        let output = output.map_err(|e| format!("wrk cannot be started: {e}"))?;
        let mut outcome = parse(&String::from_utf8_lossy(&output.stdout))
            .ok_or_else(|| format!("port {}: wrk saw no answer", probe.port))?;
        outcome.operations += asked as f64;
        outcome.errors += wrong;
        Ok(outcome)
    }

    fn command(&self, port: u16, time: Duration) -> Command {
        let scheme = if self.openssl.is_some() { "https" } else { "http" };
        let mut command = Command::new("wrk");
        command.args(["-t1", "--latency", "-c", &self.connections.to_string()]);
        command.args(["-d", &format!("{}s", time.as_secs().max(1))]);
        if let Some(script) = &self.script {
            command.arg("-s").arg(script);
        }
        if let Some(settings) = &self.openssl {
            command.env("OPENSSL_CONF", settings);
        }
        command.arg(format!("{scheme}://127.0.0.1:{port}/"));
        command
    }
}

/// A script that asks for each of `hosts` hosts in an order of its own; requests are made beforehand.
pub(crate) fn hosts_script(directory: &Path, hosts: usize) -> Result<PathBuf, String> {
    let path = directory.join("hosts.lua");
    let text = format!(
        "local all, i = {{}}, 0\n\
         function init() for n = 0, {last} do\n\
         \x20 all[n] = wrk.format('GET', '/', {{['Host'] = string.format('host%04d.svc.cluster', n)}}) end end\n\
         function request() i = (i * 16807 + 12345) % 2147483647; return all[i % {hosts}] end\n",
        last = hosts - 1
    );
    std::fs::write(&path, text).map_err(|e| e.to_string())?;
    Ok(path)
}

fn parse(text: &str) -> Option<Outcome> {
    let line = |with: &str| text.lines().find(|line| line.contains(with));
    let word = |line: &str, at: usize| line.split_whitespace().nth(at)?.trim_matches(',').parse::<u64>().ok();
    let operations = word(line("requests in")?, 0).filter(|&count| count > 0)?;
    let refused = line("Non-2xx").and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).unwrap_or(0);
    let broken: u64 = line("Socket errors")
        .map_or(0, |line| line.split([' ', ',']).filter_map(|word| word.parse::<u64>().ok()).sum());
    let percentile = |name: &str| {
        let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        words.filter(|words| words.len() == 2 && words[0] == name).find_map(|words| microseconds(words[1]))
    };
    Some(Outcome {
        operations: operations as f64,
        errors: refused + broken,
        p50: percentile("50%"),
        p99: percentile("99%"),
    })
}

/// `1.23ms`, `456.00us`, `1.20s`.
pub(crate) fn microseconds(text: &str) -> Option<f64> {
    let end = text.find(|c: char| c.is_ascii_alphabetic())?;
    let scale = match &text[end..] {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        _ => return None,
    };
    Some(text[..end].parse::<f64>().ok()? * scale)
}
