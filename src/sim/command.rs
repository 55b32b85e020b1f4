//! `portolan sim`.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use serde_json::json;

use super::scenario::{Mode, Scenario, parse_duration, parse_rate};
use super::{Sim, SimConfig};

/// Arguments of `portolan sim`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  portolan sim --backends                          the demonstration's apps, with real backends
  portolan sim --listen 127.0.0.1:8088 --apps 1000 --tasks 100000 --rate 100/s
  portolan sim --scenario deploys.toml

A line of JSON on standard output tells the URL when everything is up:
  {\"url\":\"http://127.0.0.1:40213\",\"apps\":4,\"tasks\":9}
Then `curl -X POST URL/sim/scale?app=/blog\\&instances=5` and so on; docs/sim.md tells all.")]
pub struct Args {
    /// Where the API listens; port 0 lets the kernel choose
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Scenario file: apps, their tasks, and what happens when
    #[arg(long, value_name = "FILE", conflicts_with_all = ["apps", "tasks"])]
    scenario: Option<PathBuf>,
    /// Number of generated apps [default: the tasks' tenth part, at least 1]
    #[arg(long, value_name = "N")]
    apps: Option<usize>,
    /// Number of generated tasks, spread over the apps [default: one per app]
    #[arg(long, value_name = "N")]
    tasks: Option<usize>,
    /// How generated tasks are reached
    #[arg(long, value_enum, default_value = "bridge")]
    network: Mode,
    /// Number of agents [default: by the number of tasks]
    #[arg(long, value_name = "N")]
    agents: Option<usize>,
    /// Changes that happen by themselves: 100/s, 30/m
    #[arg(long, value_name = "RATE")]
    rate: Option<String>,
    /// Seed of ids, placements and changes
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Start a real small server on loopback for each running task
    #[arg(long)]
    backends: bool,
    /// How long a killed task serves on [default: 400ms]
    #[arg(long, value_name = "TIME")]
    grace: Option<String>,
    /// File with USER:PASSWORD that API requests must carry
    #[arg(long, value_name = "FILE")]
    credentials_file: Option<PathBuf>,
}

impl Args {
    fn scenario(&self) -> anyhow::Result<Scenario> {
        let mut scenario = match (&self.scenario, self.apps, self.tasks) {
            (Some(path), ..) => {
                let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
                Scenario::parse(&text).with_context(|| path.display().to_string())?
            }
            (None, None, None) => Scenario { backends: false, ..Scenario::demo() },
            (None, apps, tasks) => {
                let apps = apps.unwrap_or_else(|| (tasks.unwrap_or(1) / 10).max(1));
                Scenario::generate(apps, tasks.unwrap_or(apps), self.network, self.seed.unwrap_or(1))?
            }
        };
        scenario.cluster.seed = self.seed.unwrap_or(scenario.cluster.seed);
        scenario.cluster.agents = self.agents.unwrap_or(scenario.cluster.agents);
        scenario.backends |= self.backends;
        if let Some(rate) = &self.rate {
            scenario.rate = parse_rate(rate)?;
        }
        if let Some(grace) = &self.grace {
            scenario.cluster.timing.grace = u64::try_from(parse_duration(grace)?.as_millis())?;
        }
        Ok(scenario)
    }

    fn credentials(&self) -> anyhow::Result<Option<(String, String)>> {
        let Some(path) = &self.credentials_file else { return Ok(None) };
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let (user, password) =
            text.trim().split_once(':').context("the credentials file is not USER:PASSWORD")?;
        Ok(Some((user.to_owned(), password.to_owned())))
    }
}

/// Starts what a scenario describes, its steps and its rate included.
///
/// # Errors
/// See [`super::StartError`].
pub async fn start_scenario(
    scenario: Scenario,
    listen: SocketAddr,
    credentials: Option<(String, String)>,
) -> Result<Sim, super::StartError> {
    super::start(SimConfig { listen, credentials, ..scenario.into() }).await
}

/// Runs until told to stop by SIGINT or SIGTERM.
///
/// # Errors
/// The arguments or the scenario are wrong, or the address is taken.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let (scenario, credentials) = (args.scenario()?, args.credentials()?);
    if scenario.backends {
        crate::descriptors::raise_limit();
    }
    let sim = start_scenario(scenario, args.listen, credentials).await?;
    let control = sim.control();
    let (apps, tasks) =
        control.with(|cluster| (cluster.images(super::cluster::Kind::App).count(), cluster.task_count()));
    let ready = json!({"url": sim.url(), "apps": apps, "tasks": tasks});
    let mut out = std::io::stdout().lock();
    writeln!(out, "{ready}")?;
    out.flush()?;
    drop(out);
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = term.recv() => {}
    }
    sim.shutdown().await;
    Ok(())
}
