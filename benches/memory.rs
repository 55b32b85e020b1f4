//! Resident memory of the built program in front of simulated clusters.
//!
//! `cargo bench --bench memory -- run` starts a node without services, one with 5,000 services of 4 endpoints (the
//! goal: 30 MB), one with 25,000 of 4 and one with 250,000 of 4 (the goal: 400 octets an endpoint beyond the empty node), lets
//! each settle, and reads what the kernel says. With `--churn SECONDS` the cluster changes 100 times a second for so long first.

#![expect(clippy::print_stdout, reason = "a program for a terminal")]

#[expect(dead_code, reason = "each bench uses a part of it")]
mod node;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use node::{Node, until};
use portolan::sim::Scenario;
use portolan::sim::command::start_scenario;
use portolan::sim::scenario::Mode;

/// Longest wait for the memory to stand still.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// Longest wait for the whole table.
const FILLED_MAX: Duration = Duration::from_secs(900);

/// What is asked for on the command line.
#[derive(Debug)]
struct Options {
    endpoints: Vec<usize>,
    churn: u64,
}

/// What was read, in KiB.
#[derive(Debug, Clone, Copy)]
struct Reading {
    resident: u64,
    peak: u64,
    anonymous: u64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let Some(options) = parse(&arguments) else {
        println!(
            "memory: reads the resident memory of a node in front of simulated clusters.\n\
             cargo bench --bench memory -- run [--endpoints 20000,100000,1000000] [--churn 0]"
        );
        return ExitCode::SUCCESS;
    };
    println!(
        "{:>9} {:>9} {:>12} {:>10} {:>10} {:>14}",
        "services", "endpoints", "resident KiB", "peak KiB", "anon KiB", "octets/endpoint"
    );
    let empty = measure(0, &options);
    print(0, empty, empty);
    for &endpoints in &options.endpoints {
        print(endpoints, measure(endpoints, &options), empty);
    }
    ExitCode::SUCCESS
}

fn parse(arguments: &[String]) -> Option<Options> {
    let mut arguments = arguments.iter();
    if arguments.next()? != "run" {
        return None;
    }
    let mut options = Options { endpoints: vec![20_000, 100_000, 1_000_000], churn: 0 };
    while let Some(name) = arguments.next() {
        let value = arguments.next()?;
        match name.as_str() {
            "--endpoints" => {
                options.endpoints = value.split(',').map(|n| n.parse().ok()).collect::<Option<_>>()?;
            }
            "--churn" => options.churn = value.parse().ok()?,
            _ => return None,
        }
    }
    Some(options)
}

/// Services of four endpoints each.
fn services(endpoints: usize) -> usize {
    endpoints / 4
}

fn measure(endpoints: usize, options: &Options) -> Reading {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let mut scenario =
        Scenario::generate(services(endpoints), endpoints, Mode::Bridge, 1).expect("a scenario");
    if endpoints == 0 {
        scenario.apps.clear();
    }
    let sim = runtime
        .block_on(start_scenario(scenario, "127.0.0.1:0".parse().expect("an address"), None))
        .expect("a simulation");
    let node = Node::start(&sim.url(), "");
    until(FILLED_MAX, "all endpoints", || {
        let table: serde_json::Value = serde_json::from_str(&node.get("/api/v1/table").1).ok()?;
        (table["live_endpoints"] == endpoints).then_some(())
    });
    if options.churn > 0 && endpoints > 0 {
        sim.control().rate(100.0);
        std::thread::sleep(Duration::from_secs(options.churn));
        sim.control().rate(0.0);
    }
    let reading = settled(&node);
    drop(node);
    runtime.block_on(sim.shutdown());
    reading
}

/// The reading once it has not changed for five seconds.
fn settled(node: &Node) -> Reading {
    let (begin, mut before, mut since) = (Instant::now(), 0, Instant::now());
    loop {
        let resident = node.memory_kib("status", "VmRSS");
        if resident.abs_diff(before) > 64 {
            (before, since) = (resident, Instant::now());
        }
        if since.elapsed() > Duration::from_secs(5) || begin.elapsed() > SETTLE_MAX {
            let peak = node.memory_kib("status", "VmHWM");
            let anonymous = node.memory_kib("smaps_rollup", "Anonymous");
            return Reading { resident, peak, anonymous };
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn print(endpoints: usize, reading: Reading, empty: Reading) {
    let Reading { resident, peak, anonymous } = reading;
    let each = match endpoints {
        0 => "-".to_owned(),
        some => (resident.saturating_sub(empty.resident) * 1024 / some as u64).to_string(),
    };
    println!(
        "{:>9} {endpoints:>9} {resident:>12} {peak:>10} {anonymous:>10} {each:>14}",
        services(endpoints)
    );
}
