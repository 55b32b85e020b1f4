//! From a scheduler's event to the first DNS answer and the first proxied request that use it.
//!
//! The clock starts before the change is made in the simulation, so its own part (state, event, stream) counts too; it stops when
//! the first answer that shows the change has been read. Probes follow each other without pause. The goal: at 100,000 tasks and
//! 100 changes a second, 99 of 100 within 10 ms.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use portolan::sim::{Asked, Control};

use super::node::{Client, Node, Resolver, until};
use super::{LATE, PROBED, ROUTE, Simulation};

/// What is asked for on the command line.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) tasks: Vec<usize>,
    pub(crate) changes: usize,
    pub(crate) rate: u64,
}

/// Runs the part.
pub(crate) fn run(options: &Options) {
    println!(
        "{:>7} {:>9}  {:<10} {:<6} {:>5} {:>8} {:>8} {:>8}",
        "tasks", "rate", "change", "seen", "n", "p50 ms", "p99 ms", "max ms"
    );
    for &tasks in &options.tasks {
        measure(tasks, options);
    }
}

/// One size of cluster: at rest, then while it changes by itself.
fn measure(tasks: usize, options: &Options) {
    let simulation = Simulation::start(tasks);
    let sim = &simulation.sim;
    let node = Node::start(&sim.url(), ROUTE);
    let mut probe = Probe {
        control: sim.control(),
        resolver: Resolver::new(node.dns, "pair.probe.svc.cluster"),
        client: Client::new(node.web, "pair.example.com"),
    };
    probe.control.reset_counts();
    probe.run(tasks, 0, options.changes);
    let (stop, made) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| churn(&sim.control(), tasks / 10, options.rate, &stop, &made));
        probe.run(tasks, options.rate, options.changes);
        stop.store(true, Ordering::Relaxed);
    });
    let asked = |kind| probe.control.asked(kind);
    println!(
        "{tasks:>7} requests to the scheduler meanwhile: {} lists, {} reads of one app, {} others; {} other changes",
        asked(Asked::Apps),
        asked(Asked::App),
        asked(Asked::Pods) + asked(Asked::Groups) + asked(Asked::Tasks) + asked(Asked::Other),
        made.into_inner(),
    );
    drop(node);
    simulation.shutdown();
}

/// Changes the paper tasks at a rate: verdicts for the most part, each tenth a replaced task.
fn churn(control: &Control, apps: usize, rate: u64, stop: &AtomicBool, made: &AtomicU64) {
    let (begin, mut sick) = (Instant::now(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let due = begin.elapsed().as_millis() as u64 * rate / 1000;
        while made.load(Ordering::Relaxed) < due {
            let turn = made.fetch_add(1, Ordering::Relaxed);
            let app = format!("/load/app-{}", 1 + fastrand::usize(..apps));
            let image = control.app(&app).expect("an app of the scenario");
            let Some(task) = image.tasks.first() else { continue };
            if turn.is_multiple_of(10) {
                let _ = control.kill(&task.id);
            } else if sick.len() < 50 {
                control.set_health(&task.id, false).then(|| sick.push(task.id.clone()));
            } else {
                let well = sick.swap_remove(fastrand::usize(..sick.len()));
                let _ = control.set_health(&well, true);
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The two observed tasks and those who look at them.
struct Probe {
    control: Control,
    resolver: Resolver,
    client: Client,
}

impl Probe {
    fn run(&mut self, tasks: usize, rate: u64, changes: usize) {
        let mut delays = Delays::default();
        for _ in 0..changes {
            let pair = self.pair();
            let (id, address) = &pair[0];
            let begin = Instant::now();
            assert!(self.control.set_health(id, false), "{id} is there");
            delays.failed.push(self.until_answer(begin, |found| !found.contains(address)));
            self.pause();
            let begin = Instant::now();
            assert!(self.control.set_health(id, true), "{id} is there");
            let (dns, http) = self.until_used(begin, |found| found.contains(address), |task| task == id);
            delays.recovered.push((dns, http));
            self.pause();
            let begin = Instant::now();
            self.control.kill(id).expect("it is there");
            let known = |ip: &IpAddr| pair.iter().any(|(_, address)| address == ip);
            let (dns, http) = self.until_used(
                begin,
                |found| found.iter().any(|ip| !known(ip)),
                |task| pair.iter().all(|(id, _)| id != task),
            );
            delays.replaced.push((dns, http));
            self.pause();
        }
        delays.print(tasks, rate);
    }

    /// Ids and addresses of the two, once both are in answers.
    fn pair(&self) -> Vec<(String, IpAddr)> {
        until(LATE, "two tasks", || {
            let image = self.control.app(PROBED)?;
            let pair: Vec<(String, IpAddr)> =
                image.tasks.iter().filter_map(|task| Some((task.id.to_string(), task.address?))).collect();
            let found = self.resolver.addresses();
            (pair.len() == 2 && found.len() == 2 && pair.iter().all(|(_, ip)| found.contains(ip)))
                .then_some(pair)
        })
    }

    fn until_answer(&self, begin: Instant, shows: impl Fn(&[IpAddr]) -> bool) -> Duration {
        while !shows(&self.resolver.addresses()) {
            assert!(begin.elapsed() < LATE, "a change never shows");
        }
        begin.elapsed()
    }

    fn until_used(
        &mut self,
        begin: Instant,
        shows: impl Fn(&[IpAddr]) -> bool,
        served: impl Fn(&str) -> bool,
    ) -> (Duration, Duration) {
        let (mut dns, mut http) = (None, None);
        loop {
            if dns.is_none() && shows(&self.resolver.addresses()) {
                dns = Some(begin.elapsed());
            }
            if http.is_none() {
                let (status, task) = self.client.task();
                assert_eq!(status, 200, "no request fails");
                http = served(&task).then(|| begin.elapsed());
            }
            if let (Some(dns), Some(http)) = (dns, http) {
                return (dns, http);
            }
            assert!(begin.elapsed() < LATE, "a change never shows");
        }
    }

    /// So that changes meet every phase of whatever has a period.
    fn pause(&self) {
        std::thread::sleep(Duration::from_micros(fastrand::u64(5_000..15_000)));
    }
}

#[derive(Default)]
struct Delays {
    failed: Vec<Duration>,
    recovered: Vec<(Duration, Duration)>,
    replaced: Vec<(Duration, Duration)>,
}

impl Delays {
    fn print(self, tasks: usize, rate: u64) {
        let (recovered, replaced) = (self.recovered.into_iter().unzip(), self.replaced.into_iter().unzip());
        let ((dns_back, http_back), (dns_new, http_new)): ((Vec<_>, Vec<_>), (Vec<_>, Vec<_>)) =
            (recovered, replaced);
        let rows = [
            ("unhealthy", "dns", self.failed),
            ("healthy", "dns", dns_back),
            ("healthy", "proxy", http_back),
            ("replaced", "dns", dns_new),
            ("replaced", "proxy", http_new),
        ];
        for (change, seen, mut delays) in rows {
            delays.sort_unstable();
            let at = |share| percentile(&delays, share);
            println!(
                "{tasks:>7} {rate:>7}/s  {change:<10} {seen:<6} {:>5} {:>8.2} {:>8.2} {:>8.2}",
                delays.len(),
                at(0.5),
                at(0.99),
                at(1.0)
            );
        }
    }
}

/// The time in ms that `share` of `sorted` keep to.
pub(crate) fn percentile(sorted: &[Duration], share: f64) -> f64 {
    let index = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}
