//! A rack is lost, and comes back: 10,000 changes at once, and what queries and requests feel of it.
//!
//! The clock starts when the simulation has made all changes and begins to tell of them, and stops when the node's table holds
//! them all. Queries and requests are sent 1,000 times a second each, whether or not the last has been answered, and take their
//! latency from when they were due; both kinds go to services that do not change.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use portolan::sim::Control;

use super::delay::percentile;
use super::node::{Client, Node, Resolver, until};
use super::{LATE, PROBED, ROUTE, Simulation};

/// Time between two queries, and between two requests.
const PERIOD: Duration = Duration::from_millis(1);
/// How long the cluster stands still before each burst.
const QUIET: Duration = Duration::from_secs(2);
/// Changed services that are asked for until all of them show the change; only then the whole table is looked at, so that
/// looking costs the node little.
const SAMPLES: usize = 20;

/// What is asked for on the command line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) tasks: usize,
    pub(crate) changes: usize,
    pub(crate) bursts: usize,
}

/// When something was due, and how long it took from then.
type Seen = Vec<(Instant, Duration)>;

/// Agents whose tasks make a burst, and services on them.
struct Rack {
    hosts: Vec<String>,
    tasks: usize,
    names: Vec<String>,
}

/// Runs the part.
pub(crate) fn run(options: Options) {
    let simulation = Simulation::start(options.tasks);
    let control = simulation.sim.control();
    let node = Node::start(&simulation.sim.url(), ROUTE);
    let rack = Rack::choose(&control, options.changes);
    let stop = AtomicBool::new(false);
    let (mut queries, mut requests, mut windows) = (Seen::new(), Seen::new(), Vec::new());
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let resolver = Resolver::new(node.dns, "pair.probe.svc.cluster");
            paced(&stop, || assert_eq!(resolver.addresses().len(), 2, "both stay"))
        });
        let requesting = scope.spawn(|| {
            let mut client = Client::new(node.web, "pair.example.com");
            paced(&stop, || assert_eq!(client.task().0, 200, "no request fails"))
        });
        for _ in 0..options.bursts {
            windows.push(rack.burst(&control, &node, false));
            windows.push(rack.burst(&control, &node, true));
        }
        stop.store(true, Ordering::Relaxed);
        queries = asking.join().expect("queries are answered");
        requests = requesting.join().expect("requests are answered");
    });
    report(options.tasks, rack.tasks, &windows, &queries, &requests);
    drop(node);
    simulation.shutdown();
}

impl Rack {
    /// As many agents as hold `changes` tasks, none of them with a task that is probed.
    fn choose(control: &Control, changes: usize) -> Self {
        let image = control.app(PROBED).expect("it is in the scenario");
        let spared: HashSet<&str> = image.tasks.iter().map(|task| task.agent.host.as_str()).collect();
        let apps = control.apps();
        let mut rack = Self { hosts: Vec::new(), tasks: 0, names: Vec::new() };
        let agents = control.with(|cluster| cluster.agents().to_vec());
        for agent in agents.iter().filter(|agent| !spared.contains(agent.host.as_str())) {
            let on_it = |app: &&portolan::sim::cluster::Image| {
                app.tasks.iter().any(|task| task.agent.host == agent.host)
            };
            let tasks = apps.iter().flat_map(|app| app.tasks.iter());
            rack.tasks += tasks.filter(|task| task.agent.host == agent.host).count();
            rack.hosts.push(agent.host.clone());
            rack.names.extend(apps.iter().find(on_it).map(|app| name(&app.definition.id)));
            if rack.tasks >= changes {
                break;
            }
        }
        let step = rack.names.len().div_ceil(SAMPLES).max(1);
        rack.names = rack.names.into_iter().step_by(step).collect();
        rack
    }

    /// One burst: the time from the first word of it to the table that holds it all.
    fn burst(&self, control: &Control, node: &Node, back: bool) -> (Instant, Instant) {
        std::thread::sleep(QUIET);
        let live = live(node);
        let expected = if back { live + self.tasks } else { live - self.tasks };
        let resolvers: Vec<Resolver> = self.names.iter().map(|name| Resolver::new(node.dns, name)).collect();
        let before: Vec<usize> = resolvers.iter().map(|resolver| resolver.addresses().len()).collect();
        let begin = control.with(|cluster| {
            let moved: usize = self.hosts.iter().map(|host| cluster.set_agent(host, back)).sum();
            assert_eq!(moved, self.tasks, "all of them are as they were");
            Instant::now()
        });
        for (resolver, before) in resolvers.iter().zip(before) {
            while resolver.addresses().len() == before {
                std::thread::sleep(Duration::from_millis(1));
                assert!(begin.elapsed() < LATE, "a change never shows: {before} addresses of {resolver:?}");
            }
        }
        until(LATE, "the whole burst", || (self::live(node) == expected).then_some(()));
        (begin, Instant::now())
    }
}

/// `/load/app-7` in the native zone.
fn name(id: &str) -> String {
    let labels: Vec<&str> = id.trim_matches('/').rsplit('/').collect();
    format!("{}.svc.cluster", labels.join("."))
}

fn live(node: &Node) -> usize {
    let table: serde_json::Value = serde_json::from_str(&node.get("/api/v1/table").1).unwrap_or_default();
    table["live_endpoints"].as_u64().expect("a number") as usize
}

/// Does `once` each period until it is told to stop.
fn paced(stop: &AtomicBool, mut once: impl FnMut()) -> Seen {
    let (begin, mut seen) = (Instant::now(), Vec::new());
    for turn in 0_u32.. {
        let due = begin + PERIOD * turn;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if stop.load(Ordering::Relaxed) {
            break;
        }
        once();
        seen.push((due, due.elapsed()));
    }
    seen
}

fn report(tasks: usize, changes: usize, windows: &[(Instant, Instant)], queries: &Seen, requests: &Seen) {
    let mut published: Vec<Duration> = windows.iter().map(|(begin, end)| *end - *begin).collect();
    published.sort_unstable();
    println!(
        "{tasks:>7} tasks, {} bursts of {changes} changes: published within {:.0} ms at the median, {:.0} ms at most (goal: 100 ms)",
        windows.len(),
        percentile(&published, 0.5),
        percentile(&published, 1.0)
    );
    for (what, seen) in [("queries", queries), ("requests", requests)] {
        let within = |(begin, end): &(Instant, Instant), due: Instant| due >= *begin && due < *end;
        let part = |during: bool| {
            let of =
                |(due, _): &&(Instant, Duration)| windows.iter().any(|window| within(window, *due)) == during;
            let mut part: Vec<Duration> = seen.iter().filter(of).map(|(_, time)| *time).collect();
            part.sort_unstable();
            part
        };
        let (quiet, during) = (part(false), part(true));
        let (before, meanwhile) = (percentile(&quiet, 0.99), percentile(&during, 0.99));
        println!(
            "  {what:<9} p99 {before:.2} ms in quiet ({}), {meanwhile:.2} ms meanwhile ({}): {:.2} × (goal: 2 ×)",
            quiet.len(),
            during.len(),
            meanwhile / before
        );
    }
}
