//! Portolan beside its peers: CPU time per operation of the server process, one pinned worker, in one run.
//!
//! `cargo bench --bench peers -- run` (as root) makes a network namespace of its own, starts every server on
//! CPU 0, and loads one after the other from CPU 1 in alternating order. The figure is (user + system time of
//! the server) / operations; medians and ranges over the repetitions go to stdout and to `target/peers/`.
//! Answers are checked and errors counted; see benches/README.md for how to read the result.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

mod dns_load;
mod http;
mod measure;
mod report;
mod servers;
mod tcp_load;

use std::process::ExitCode;
use std::time::Duration;

use measure::{Sample, Server};
use report::Table;

/// What is asked for on the command line.
#[derive(Debug)]
struct Options {
    repetitions: usize,
    seconds: u64,
    only: Option<Vec<String>>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let Some(options) = parse(&arguments) else {
        println!(
            "peers: measures Portolan beside haproxy, nginx, knot and nsd; needs root and two CPUs.\n\
             cargo bench --bench peers -- run [--repetitions 5] [--seconds 5] [--only dns-a,dns-srv,http,tcp]"
        );
        return ExitCode::SUCCESS;
    };
    if std::env::var_os("PORTOLAN_PEERS_NAMESPACE").is_none() {
        return measure::again_in_namespace(&arguments);
    }
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("peers: {message}");
            ExitCode::FAILURE
        }
    }
}

fn parse(arguments: &[String]) -> Option<Options> {
    let mut arguments = arguments.iter();
    if arguments.next()? != "run" {
        return None;
    }
    let mut options = Options { repetitions: 5, seconds: 5, only: None };
    while let Some(name) = arguments.next() {
        let value = arguments.next()?;
        match name.as_str() {
            "--repetitions" => options.repetitions = value.parse().ok()?,
            "--seconds" => options.seconds = value.parse().ok()?,
            "--only" => options.only = Some(value.split(',').map(str::to_owned).collect()),
            _ => return None,
        }
    }
    Some(options)
}

type Start = fn(&std::path::Path) -> Result<Vec<Server>, String>;
type Load = Box<dyn Fn(&Server, Duration) -> Result<Sample, String>>;

fn run(options: &Options) -> Result<(), String> {
    measure::pin(1)?;
    let directory = measure::scratch()?;
    let parts: [(&str, &str, &str, Start, Load); 4] = [
        ("dns-a", "DNS A, 4 addresses, 20 % NXDOMAIN, EDNS", "knot", servers::dns, Box::new(dns_load::a)),
        ("dns-srv", "DNS SRV, 4 targets with addresses", "knot", servers::dns, Box::new(dns_load::srv)),
        (
            "http",
            "HTTP/1.1 keep-alive, 128 B, 4 upstreams, 64 connections",
            "haproxy",
            servers::http,
            Box::new(http::load),
        ),
        ("tcp", "TCP bulk relay, 4 connections", "haproxy", servers::tcp, Box::new(tcp_load::bulk)),
    ];
    let mut tables = Vec::new();
    for (key, title, reference, start, load) in parts {
        if options.only.as_ref().is_some_and(|only| !only.iter().any(|wanted| wanted == key)) {
            continue;
        }
        let servers = start(&directory)?;
        let mut table = Table::new(title, reference, key);
        for round in 0..options.repetitions {
            // Every other round goes backwards, so that what drifts hits all alike.
            let mut order: Vec<&Server> = servers.iter().collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for server in order {
                let sample = server.measure(Duration::from_secs(options.seconds), &load)?;
                eprintln!("  {key} {} {:.3}", server.name, sample.cost());
                table.add(&server.name, sample);
            }
        }
        println!("{}", table.markdown());
        tables.push(table);
    }
    report::write(&tables)
}
