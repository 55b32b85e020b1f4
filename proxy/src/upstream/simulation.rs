//! One slow endpoint of eleven on virtual time: what share of the requests is answered within a time-out of one
//! second under each policy. The experiment of Buoyant's "Beyond round robin: load balancing for latency" (2016):
//! clients that don't wait for each other, one endpoint that answers after two seconds. Ejection is off: the policy
//! alone is to be seen.

use core::cmp::Reverse;
use core::time::Duration;
use std::collections::BinaryHeap;
use std::time::Instant;

use super::*;
use crate::fixture::{self, World, rule};
use crate::{Balance, UpstreamConfig};

const ENDPOINTS: u32 = 11;
/// Slot of the slow one.
const SLOW: u32 = 4;
/// Clients lose patience after this time, in microseconds.
const PATIENCE: u64 = 1_000_000;
/// Length of a run in microseconds.
const LENGTH: u64 = 120 * 1_000_000;

/// What clients who lose patience look like to the balancer.
#[derive(Debug, Clone, Copy)]
enum Impatience {
    /// The proxy's own time-out, a failure of the endpoint.
    Failed,
    /// A client that goes away.
    GivenUp,
}

struct Simulation {
    world: World,
    upstreams: Upstreams,
    start: Instant,
    random: fastrand::Rng,
    /// Ends of requests in order: time, number, and whether there is an answer.
    ends: BinaryHeap<Reverse<(u64, usize, bool)>>,
    open: Vec<Option<(Picked, u64)>>,
    impatience: Impatience,
}

impl Simulation {
    fn new(balance: Balance, impatience: Impatience, seed: u64) -> Self {
        fastrand::seed(seed);
        let mut config = fixture::config(vec![rule("all", "app")]);
        config.upstream =
            UpstreamConfig { balance, ejection: None, attempts_max: 1, ..UpstreamConfig::default() };
        let mut world = World::new(&config);
        world.put(fixture::service("app", &fixture::endpoints(ENDPOINTS)));
        Self {
            world,
            upstreams: Upstreams::new(&Board::new(1), 0),
            start: Instant::now(),
            random: fastrand::Rng::with_seed(seed),
            ends: BinaryHeap::new(),
            open: Vec::new(),
            impatience,
        }
    }

    /// Requests per second at random moments, and the share of them that was answered in time.
    fn success(mut self, rate: f64) -> f64 {
        let (mut now, mut answered) = (0, 0);
        while now < LENGTH {
            answered += self.end_until(now);
            self.request(now);
            now += self.exponential(1e6 / rate);
        }
        answered += self.end_until(u64::MAX);
        f64::from(answered) / self.open.len() as f64
    }

    fn request(&mut self, now: u64) {
        let snapshot = self.world.table.load();
        let routes = snapshot.view(self.world.routes);
        let at = self.at(now);
        let mut attempts = self.upstreams.begin(routes.iter().next().unwrap(), |_| 0, at).unwrap();
        let picked = attempts.pick(&snapshot, routes, at).unwrap();
        // Quick ones take 30 ms and a tail of 20 ms on average; the slow one takes 1.5 s and 0.5 s.
        let took = match picked.slot.index {
            SLOW => 1_500_000 + self.exponential(500_000.0),
            _ => 30_000 + self.exponential(20_000.0),
        };
        self.ends.push(Reverse((now + took.min(PATIENCE), self.open.len(), took < PATIENCE)));
        self.open.push(Some((picked, now)));
    }

    /// Ends what ends before `now`; returns how many were answered.
    fn end_until(&mut self, now: u64) -> u32 {
        let mut answered = 0;
        while let Some(Reverse((end, number, in_time))) =
            self.ends.peek().copied().filter(|Reverse(e)| e.0 <= now)
        {
            self.ends.pop();
            let (picked, begun) = self.open[number].take().unwrap();
            let at = self.at(end);
            match (in_time, self.impatience) {
                (true, _) => picked.succeeded(Duration::from_micros(end - begun), at),
                (false, Impatience::Failed) => picked.failed(at),
                (false, Impatience::GivenUp) => drop(picked),
            }
            answered += u32::from(in_time);
        }
        answered
    }

    fn at(&self, micros: u64) -> Instant {
        self.start + Duration::from_micros(micros)
    }

    fn exponential(&mut self, mean: f64) -> u64 {
        (-mean * (1.0 - self.random.f64()).ln()) as u64
    }
}

#[test]
fn one_slow_endpoint_of_eleven() {
    for (seed, rate) in [(1, 100.0), (2, 300.0), (3, 1_000.0)] {
        for impatience in [Impatience::Failed, Impatience::GivenUp] {
            let run = |balance| Simulation::new(balance, impatience, seed).success(rate);
            let (round_robin, least_request, peak_ewma) =
                (run(Balance::RoundRobin), run(Balance::LeastRequest), run(Balance::PeakEwma));
            let figures = format!(
                "round robin {round_robin:.4}, least request {least_request:.4}, peak EWMA {peak_ewma:.5} \
                 at {rate} requests/s, {impatience:?}, seed {seed}"
            );
            assert!((round_robin - 10.0 / 11.0).abs() < 0.001, "{figures}");
            assert!(round_robin + 0.02 < least_request && least_request < peak_ewma, "{figures}");
            assert!(peak_ewma >= 0.999, "{figures}");
        }
    }
}
