//! Portolan: service discovery and load balancing from one routing table.
//!
//! The root package assembles the crates into one process and gives it a command line. See ARCHITECTURE.md for
//! the whole; [`node::Node`] is a running data plane, `run` the daemon around it, [`sim`] a simulated
//! scheduler to run it against.

mod admin;
pub mod ask;
pub mod cli;
mod demo;
mod descriptors;
mod files;
mod logging;
pub mod node;
mod run;
pub mod sim;

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser};
use portolan_config::mesos_dns::MesosDns;
use portolan_config::{Config, Environment, Mistakes};

use ask::Listing;
use cli::{Cli, Command};
use files::Files;

/// The whole program: parses the command line, does what it says, gives the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    match dispatch(command) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "portolan: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode> {
    match command {
        Command::Run(arguments) => daemon(arguments),
        Command::Import(arguments) => import(&arguments.from),
        Command::Check(arguments) => Ok(check(&arguments.file)),
        Command::Demo(arguments) => {
            logging::start(&logging::quiet())?;
            descriptors::raise_limit();
            on_control(SIM_THREADS, demo::run(arguments))
        }
        Command::Sim(arguments) => {
            logging::start(&logging::quiet())?;
            on_control(SIM_THREADS, sim::command::run(arguments))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Services(list) => ask(ask::list(&Listing::Services, &list)),
        Command::Routes(list) => ask(ask::list(&Listing::Routes, &list)),
        Command::Sources(list) => ask(ask::list(&Listing::Sources, &list)),
        Command::Endpoints(arguments) => {
            ask(ask::list(&Listing::Endpoints(arguments.service), &arguments.list))
        }
        Command::Explain(arguments) => ask(ask::explain(&arguments)),
        Command::Resolve(arguments) => ask(ask::resolve(&arguments)),
        Command::Diff(arguments) => ask(ask::diff(&arguments)),
        Command::Completions { shell } => {
            // By way of memory: the generator panics where it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "portolan", &mut script);
            ask::print(&String::from_utf8_lossy(&script))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Carries out a command that asks the running daemon.
fn ask(asking: impl Future<Output = Result<()>>) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("no runtime")?.block_on(asking)?;
    Ok(ExitCode::SUCCESS)
}

fn daemon(arguments: cli::RunArgs) -> Result<ExitCode> {
    let files = Files::of(arguments);
    let watched = run::Watched::new(files.paths());
    let config = match told(files.load()) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let logging = logging::start(&config.log)?;
    descriptors::raise_limit();
    on_control(CONTROL_THREADS, run::run(config, files, watched, logging))?;
    Ok(ExitCode::SUCCESS)
}

fn import(from: &cli::Import) -> Result<ExitCode> {
    let cli::Import::MesosDns { file, options } = from;
    match told(MesosDns::load(file, files::options(options))) {
        Ok(settings) => {
            ask::print(&settings.to_toml())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(code) => Ok(code),
    }
}

fn check(file: &Path) -> ExitCode {
    match told(Config::check(file, &Environment::of_process())) {
        Ok(_) => {
            let _ = writeln!(std::io::stderr(), "{}: no mistakes", file.display());
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

/// Tells the mistakes of a configuration file on stdout, one per line (they are what `check` is asked for).
fn told<T>(read: Result<T, Mistakes>) -> Result<T, ExitCode> {
    read.map_err(|mistakes| {
        let mut stdout = std::io::stdout();
        let _ = write!(stdout, "{}", portolan_config::render(mistakes.list(), stdout.is_terminal()));
        if mistakes.omitted() > 0 {
            let _ = writeln!(std::io::stderr(), "{} more mistakes are not shown", mistakes.omitted());
        }
        ExitCode::FAILURE
    })
}

/// Threads of the control runtime of a node. What is long leaves it (`spawn_blocking`), and a change goes from
/// source to table without a change of thread. With two of them the allocator keeps two arenas, each with gaps of its
/// own: 70 octets an endpoint.
const CONTROL_THREADS: usize = 1;
/// The same for a simulated cluster, whose clients take as much of it as they can.
const SIM_THREADS: usize = 2;

/// Runs `whole` on the runtime of sources, catalog, checks and admin: few threads, however many CPUs there are.
/// What is over then is over: a data thread that still drains, or a disk that hangs, does not hold the end up.
fn on_control<T>(threads: usize, whole: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("control")
        .enable_all()
        .build()
        .context("the control runtime cannot be started")?;
    let result = runtime.block_on(whole);
    runtime.shutdown_background();
    result
}
