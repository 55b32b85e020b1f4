//! h2load as the client of HTTP/2. It counts status codes and the octets of all bodies, which must come out exactly; one body
//! is compared octet by octet before each load.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::origin::BODY;
use crate::sample::{Latencies, Outcome};

/// What h2load is to do.
#[derive(Debug, Clone)]
pub(crate) struct H2load {
    pub(crate) connections: usize,
    pub(crate) streams: usize,
    /// Octets of every body.
    pub(crate) body: usize,
    /// Settings of OpenSSL; with them TLS is used.
    pub(crate) openssl: Option<PathBuf>,
    /// Requests per second, and where h2load may write the latency of each.
    pub(crate) rate: Option<(f64, PathBuf)>,
}

impl H2load {
    /// Loads the server at `port` for `time`, in whole seconds.
    pub(crate) fn run(&self, port: u16, time: Duration) -> Result<Outcome, String> {
        let url = format!("{}://127.0.0.1:{port}/", if self.openssl.is_some() { "https" } else { "http" });
        self.compare(&url)?;
        let output =
            self.command(&url, time).output().map_err(|e| format!("h2load cannot be started: {e}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut outcome = self.parse(&text).ok_or_else(|| format!("{url}: h2load saw no answer: {text}"))?;
        if let Some((_, log)) = &self.rate {
            let mut latencies = latencies(log)?;
            (outcome.p50, outcome.p99) = (latencies.at(0.5), latencies.at(0.99));
        }
        Ok(outcome)
    }

    fn command(&self, url: &str, time: Duration) -> Command {
        let mut command = Command::new("h2load");
        command.args(["-c", &self.connections.to_string(), "-m", &self.streams.to_string()]);
        command.args(["-D", &time.as_secs().max(1).to_string()]);
        if let Some(settings) = &self.openssl {
            command.args(["--groups", "X25519"]).env("OPENSSL_CONF", settings);
        }
        if let Some((rate, log)) = &self.rate {
            let _ = std::fs::remove_file(log);
            command.arg(format!("--rps={}", rate / self.connections as f64));
            command.arg(format!("--log-file={}", log.display()));
        }
        command.arg(url);
        command
    }

    /// One request by another client of the same library.
    fn compare(&self, url: &str) -> Result<(), String> {
        let mut command = Command::new("nghttp");
        if let Some(settings) = &self.openssl {
            command.env("OPENSSL_CONF", settings);
        }
        let output = command.args(["--no-verify-peer", url]).output();
        let output = output.map_err(|e| format!("nghttp cannot be started: {e}"))?;
        let body = output.stdout.strip_suffix(b"\n").unwrap_or(&output.stdout);
        if body.len() == self.body && body.iter().all(|&octet| octet == BODY) {
            return Ok(());
        }
        Err(format!("{url}: not the upstream's answer over HTTP/2 ({} octets)", body.len()))
    }

    fn parse(&self, text: &str) -> Option<Outcome> {
        let number = |line: &str, before: &str| -> Option<u64> {
            let words: Vec<&str> = line.split([' ', ',', '(', ')']).filter(|word| !word.is_empty()).collect();
            let at = words.iter().position(|&word| word == before)?;
            words.get(at.checked_sub(1)?)?.parse().ok()
        };
        let line = |start: &str| text.lines().find(|line| line.starts_with(start));
        let requests = line("requests:")?;
        let succeeded = number(requests, "succeeded").filter(|&count| count > 0)?;
        let failed = number(requests, "failed")?;
        let good = number(line("status codes:")?, "2xx")?;
        // `traffic: 9.9MB (N) total, … (N) headers, … (N) data`
        let data = number(line("traffic:")?, "data")?;
        // Requests on their way when the time is over are neither.
        let short = (succeeded * self.body as u64).saturating_sub(data).div_ceil(self.body as u64);
        Some(Outcome {
            operations: succeeded as f64,
            errors: failed + succeeded.saturating_sub(good) + short,
            p50: None,
            p99: None,
        })
    }
}

/// The third column of every line: µs from the request to the end of its answer.
fn latencies(log: &std::path::Path) -> Result<Latencies, String> {
    let text = std::fs::read_to_string(log).map_err(|e| format!("h2load's log: {e}"))?;
    let mut latencies = Latencies::default();
    let times = text.lines().filter_map(|line| line.split('\t').nth(2)?.trim().parse().ok());
    times.for_each(|time| latencies.add(Duration::from_micros(time)));
    Ok(latencies)
}
