//! From a scheduler's events to what uses them, in front of simulated clusters.
//!
//! `cargo bench --bench propagation -- run` measures single changes (`delay`), `-- burst` 10,000 at once, `-- start` the time from
//! the start of the process to its first answer. The clusters are simulated in this process; the built program runs in front of
//! them with one worker.

#![expect(clippy::print_stdout, reason = "a program for a terminal")]

mod burst;
mod delay;
#[expect(dead_code, reason = "each bench uses a part of it")]
#[path = "../node/mod.rs"]
mod node;
mod start;

use std::process::ExitCode;
use std::time::Duration;

use portolan::sim::command::start_scenario;
use portolan::sim::{Scenario, Sim};

/// Longest wait for one change.
const LATE: Duration = Duration::from_secs(10);
/// The app that answers for real.
const PROBED: &str = "/probe/pair";
/// The way to it.
const ROUTE: &str =
    "[[proxy.route]]\nlistener = \"web\"\nhost = \"pair.example.com\"\nservice = \"pair.probe\"\n";

const USAGE: &str = "propagation: measures the delay from a scheduler's event to DNS answers and proxied requests.\n\
    cargo bench --bench propagation -- run [--tasks 100,10000,100000] [--changes 200] [--rate 100]\n\
    cargo bench --bench propagation -- burst [--tasks 100000] [--changes 10000] [--bursts 10]\n\
    cargo bench --bench propagation -- start [--tasks 100000] [--repetitions 5]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if measure(&arguments).is_none() {
        println!("{USAGE}");
    }
    ExitCode::SUCCESS
}

/// Measures what is asked for; nothing if it is not understood.
fn measure(arguments: &[String]) -> Option<()> {
    let (part, rest) = arguments.split_first()?;
    let number = |name, default| option(rest, name).map_or(Some(default), |text| text.parse::<usize>().ok());
    match part.as_str() {
        "run" => {
            let tasks = option(rest, "--tasks").unwrap_or("100,10000,100000");
            let tasks: Vec<usize> = tasks.split(',').map(|n| n.parse().ok()).collect::<Option<_>>()?;
            let (changes, rate) = (number("--changes", 200)?, number("--rate", 100)? as u64);
            delay::run(&delay::Options { tasks, changes, rate });
        }
        "burst" => {
            let (tasks, changes) = (number("--tasks", 100_000)?, number("--changes", 10_000)?);
            burst::run(burst::Options { tasks, changes, bursts: number("--bursts", 10)? });
        }
        "start" => {
            let repetitions = number("--repetitions", 5)?;
            start::run(start::Options { tasks: number("--tasks", 100_000)?, repetitions });
        }
        _ => return None,
    }
    Some(())
}

/// The word behind an option's name.
fn option<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let at = arguments.iter().position(|argument| argument == name)?;
    arguments.get(at + 1).map(String::as_str)
}

/// A simulated cluster in this process.
struct Simulation {
    runtime: tokio::runtime::Runtime,
    sim: Sim,
}

impl Simulation {
    fn start(tasks: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let scenario = Scenario::parse(&scenario(tasks)).expect("a scenario");
        let sim = runtime
            .block_on(start_scenario(scenario, "127.0.0.1:0".parse().expect("an address"), None))
            .expect("a simulation");
        Self { runtime, sim }
    }

    fn shutdown(self) {
        self.runtime.block_on(self.sim.shutdown());
    }
}

/// Paper tasks, ten to an app, and one app of two real ones. Nothing takes time in this cluster.
fn scenario(tasks: usize) -> String {
    format!(
        "agents = {agents}\nbackends = true\nmax_outstanding_messages = 65536\n\
         [timing]\nstaging = \"0ms\"\nstarting = \"0ms\"\nhealthy = \"0ms\"\ngrace = \"0ms\"\n\
         [[app]]\nid = \"/load/app-{{n}}\"\ncopies = {copies}\ntasks = 10\nbackend = \"none\"\ncheck = \"MESOS_HTTP\"\n\
         [[app]]\nid = \"{PROBED}\"\ntasks = 2\nnetwork = \"container\"\ncheck = \"MESOS_HTTP\"\n",
        agents = (tasks / 20).clamp(3, 1000),
        copies = tasks / 10,
    )
}
