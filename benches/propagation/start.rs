//! From the start of the process to its first answer, in front of a whole cluster and with nothing saved.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::Simulation;
use super::delay::percentile;
use super::node::{Node, Resolver};

/// What is asked for on the command line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) tasks: usize,
    pub(crate) repetitions: usize,
}

/// Runs the part.
pub(crate) fn run(options: Options) {
    let simulation = Simulation::start(options.tasks);
    let url = simulation.sim.url();
    let (mut times, mut lists) = (Vec::new(), Vec::new());
    for _ in 0..options.repetitions {
        lists.push(list(&url));
        let begin = Instant::now();
        let node = Node::launch(&url, "");
        let resolver = Resolver::new(node.dns, "pair.probe.svc.cluster");
        while resolver.addresses().len() != 2 {
            assert!(begin.elapsed() < Duration::from_secs(120), "no answer");
            std::thread::sleep(Duration::from_micros(500));
        }
        times.push(begin.elapsed());
    }
    simulation.shutdown();
    times.sort_unstable();
    lists.sort_unstable();
    println!(
        "{:>7} tasks: first answer after {:.0} ms at the median ({:.0}–{:.0}; goal: 1000 ms), of {} starts; to read the \
         scheduler's list alone takes {:.0} ms",
        options.tasks,
        percentile(&times, 0.5),
        percentile(&times, 0.0),
        percentile(&times, 1.0),
        times.len(),
        percentile(&lists, 0.5),
    );
}

/// How long the simulated scheduler needs for the list that a node begins with.
fn list(url: &str) -> Duration {
    let address = url.trim_start_matches("http://");
    let begin = Instant::now();
    let mut stream = TcpStream::connect(address).expect("the scheduler accepts");
    write!(stream, "GET /v2/apps?embed=apps.tasks&embed=apps.readiness HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it answers");
    assert!(answer.starts_with(b"HTTP/1.1 200"), "it has a list");
    begin.elapsed()
}
