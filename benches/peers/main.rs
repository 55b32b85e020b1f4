//! Portolan beside its peers: CPU time per operation of the server process, one pinned worker, in one run.
//!
//! `cargo bench --bench peers -- run` (as root) installs the peers, makes a network namespace of its own, and goes
//! through the parts: every server of a part runs on CPU 0, and one after the other is loaded from CPU 1, in
//! alternating order. The figure is (user + system time of the server) / operations; medians and ranges go to stdout
//! and to `target/peers/`. Answers are checked and errors counted; see benches/README.md for how to read the result.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

mod bare;
mod certificate;
mod goal;
mod install;
mod load;
mod namespace;
mod parts;
mod plot;
mod processor;
mod report;
mod run;
mod sample;
mod server;
mod servers;
mod trouble;

use std::process::ExitCode;

use run::Options;

const USAGE: &str = "peers: measures Portolan beside haproxy, nginx, Envoy, Traefik, knot and nsd; needs root and two CPUs.\n\
    cargo bench --bench peers -- run [--only PART,…] [--repetitions 5] [--seconds 5] [--names 1000000]\n\
    cargo bench --bench peers -- --list";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let result = match arguments.first().map(String::as_str) {
        Some("--list") => {
            list();
            Ok(())
        }
        Some("bare") => bare::run(&arguments[1..]),
        Some("run") => match parse(&arguments[1..]) {
            Some(options) if std::env::var_os(namespace::INSIDE).is_some() => run::run(&options),
            Some(_) => return outside(&arguments),
            None => Err(format!("that is not understood\n{USAGE}")),
        },
        // Whoever runs all benches, or their tests, gets no measurement of an hour.
        _ => {
            println!("{USAGE}");
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("peers: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Installs what is missing, which needs the network, and goes on inside a namespace.
fn outside(arguments: &[String]) -> ExitCode {
    install::all().iter().for_each(|complaint| eprintln!("peers: {complaint}"));
    namespace::again(arguments)
}

fn list() {
    for part in &parts::ALL {
        println!("{:<14} {}", part.key, part.title);
        for goal in part.goals {
            println!("{:<14}   {} ÷ {} ≤ {}", "", goal.subject, goal.against, goal.at_most);
        }
    }
}

fn parse(arguments: &[String]) -> Option<Options> {
    let mut options = Options { repetitions: 5, seconds: 5, only: None, names: 1_000_000 };
    let mut arguments = arguments.iter();
    while let Some(name) = arguments.next() {
        let value = arguments.next()?;
        match name.as_str() {
            "--repetitions" => options.repetitions = value.parse().ok().filter(|&count| count > 0)?,
            "--seconds" => options.seconds = value.parse().ok().filter(|&count| count > 0)?,
            "--names" => {
                options.names = value.parse().ok().filter(|count| (1..=1_000_000).contains(count))?
            }
            "--only" => options.only = Some(value.split(',').map(str::to_owned).collect()),
            _ => return None,
        }
    }
    let known = |wanted: &String| parts::ALL.iter().any(|part| parts::matches(part.key, wanted));
    options.only.iter().flatten().all(known).then_some(options)
}
