//! Shares, ejection, budget and slots, on injected time.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use portolan_table::{ServiceName, Slot};

use super::*;
use crate::balance::steps::counted;
use crate::fixture::{self, World, rule};
use crate::{EjectionConfig, UpstreamConfig};

/// One worker in front of one service `app`.
struct Bench {
    world: World,
    board: Arc<Board>,
    upstreams: Upstreams,
    start: Instant,
}

impl Bench {
    fn new(policy: UpstreamConfig, endpoints: &[(SocketAddr, Slot, u16)]) -> Self {
        fastrand::seed(42);
        let mut config = fixture::config(vec![rule("all", "app")]);
        config.upstream = policy;
        let mut world = World::new(&config);
        world.put(fixture::service("app", endpoints));
        let board = Board::new(2);
        Self { world, upstreams: Upstreams::new(&board, 0), board, start: Instant::now() }
    }

    fn at(&self, seconds: f64) -> Instant {
        self.start + Duration::from_secs_f64(seconds)
    }

    fn begin(&self, key: u64, now: Instant) -> Attempts {
        let snapshot = self.world.table.load();
        let routes = snapshot.view(self.world.routes);
        let route = routes.iter().next().unwrap();
        self.upstreams.begin(route, |_| key, now).unwrap()
    }

    fn again(&self, attempts: &mut Attempts, now: Instant) -> Result<Picked, Refusal> {
        let snapshot = self.world.table.load();
        attempts.pick(&snapshot, snapshot.view(self.world.routes), now)
    }

    fn pick(&self, now: Instant) -> Result<Picked, Refusal> {
        self.again(&mut self.begin(0, now), now)
    }

    fn tick(&self, now: Instant) {
        self.upstreams.tick(&self.world.table.load(), now);
    }

    /// How often each slot is picked in `n` picks that succeed at once.
    fn shares(&self, n: u32, now: Instant) -> BTreeMap<u32, u32> {
        let mut counts = BTreeMap::new();
        for _ in 0..n {
            let picked = self.pick(now).unwrap();
            picked.succeeded(Duration::from_millis(1), now);
            *counts.entry(picked.slot.index).or_default() += 1;
        }
        counts
    }

    /// Lets every request to `slot` fail until there were `failures`.
    fn fail(&self, slot: u32, failures: u32, now: Instant) {
        let mut left = failures;
        for _ in 0..100_000 {
            let picked = self.pick(now).unwrap();
            if picked.slot.index == slot {
                picked.failed(now);
                left -= 1;
                if left == 0 {
                    return;
                }
            } else {
                picked.succeeded(Duration::from_millis(1), now);
            }
        }
        panic!("slot {slot} was not picked");
    }

    fn ejected(&self, slot: u32, now: Instant) -> bool {
        self.board.endpoint(Slot { index: slot, epoch: 0 }, now).ejected_by > 0
    }
}

fn weighted(weights: &[u16]) -> Vec<(SocketAddr, Slot, u16)> {
    let mut endpoints = fixture::endpoints(weights.len() as u32);
    endpoints.iter_mut().zip(weights).for_each(|(endpoint, weight)| endpoint.2 = *weight);
    endpoints
}

fn policies() -> [Balance; 4] {
    [
        Balance::RoundRobin,
        Balance::LeastRequest,
        Balance::PeakEwma,
        Balance::ConsistentHash(HashKey::ClientAddress),
    ]
}

fn policy(balance: Balance) -> UpstreamConfig {
    UpstreamConfig { balance, ..UpstreamConfig::default() }
}

fn eject_after(failures: u32, panic_threshold: f64) -> UpstreamConfig {
    let ejection = EjectionConfig {
        failures,
        base: Duration::from_secs(5),
        max: Duration::from_secs(30),
        panic_threshold,
    };
    UpstreamConfig { ejection: Some(ejection), ..UpstreamConfig::default() }
}

#[test]
fn shares_follow_weights() {
    let weights = [1u16, 2, 3, 10, 4];
    let whole: u32 = weights.iter().map(|w| u32::from(*w)).sum();
    for balance in [Balance::RoundRobin, Balance::LeastRequest, Balance::PeakEwma] {
        let bench = Bench::new(policy(balance.clone()), &weighted(&weights));
        let picks = 40_000;
        let counts = bench.shares(picks, bench.start);
        // Chi-square with 4 degrees of freedom: 23.5 is passed by chance once in 10,000 runs; the seed is fixed.
        let chi: f64 = (0u32..)
            .zip(weights)
            .map(|(slot, weight)| {
                let expected = f64::from(picks) * f64::from(weight) / f64::from(whole);
                (f64::from(counts[&slot]) - expected).powi(2) / expected
            })
            .sum();
        assert!(chi < 23.5, "{balance:?}: {counts:?}, chi-square {chi}");
    }
}

#[test]
fn round_robin_goes_round_evenly() {
    let bench = Bench::new(policy(Balance::RoundRobin), &fixture::endpoints(7));
    let counts = bench.shares(7_000, bench.start);
    assert!(counts.values().all(|count| *count == 1_000), "{counts:?}");
}

#[test]
fn workers_do_not_walk_in_step() {
    let bench = Bench::new(policy(Balance::RoundRobin), &fixture::endpoints(1000));
    let firsts: std::collections::HashSet<_> = (0..20)
        .map(|_| {
            let upstreams = Upstreams::new(&bench.board, 1);
            let snapshot = bench.world.table.load();
            let routes = snapshot.view(bench.world.routes);
            let mut attempts = upstreams.begin(routes.iter().next().unwrap(), |_| 0, bench.start).unwrap();
            attempts.pick(&snapshot, routes, bench.start).unwrap().slot.index
        })
        .collect();
    assert!(firsts.len() > 10, "{firsts:?}");
}

#[test]
fn least_request_prefers_the_idle() {
    let bench = Bench::new(policy(Balance::LeastRequest), &fixture::endpoints(2));
    // One endpoint never answers, the other at once.
    let mut stuck = Vec::new();
    let mut quick = 0;
    for _ in 0..1_000 {
        let picked = bench.pick(bench.start).unwrap();
        if picked.slot.index == 0 { stuck.push(picked) } else { quick += 1 }
    }
    assert!(stuck.len() <= 2, "{} went to the one that is stuck", stuck.len());
    assert!(quick >= 998);
    let state = bench.board.endpoint(Slot { index: 0, epoch: 0 }, bench.start);
    assert_eq!(state.in_flight as usize, stuck.len());
    drop(stuck);
    assert_eq!(bench.board.endpoint(Slot { index: 0, epoch: 0 }, bench.start).in_flight, 0);
}

#[test]
fn a_key_stays_with_its_endpoint() {
    let hashed = policy(Balance::ConsistentHash(HashKey::ClientAddress));
    let mut bench = Bench::new(hashed, &fixture::endpoints(20));
    let pick =
        |bench: &Bench, key| bench.again(&mut bench.begin(key, bench.start), bench.start).unwrap().address;
    let before: Vec<_> = (0..2_000).map(|key| pick(&bench, key)).collect();
    let mut left = fixture::endpoints(20);
    let gone = left.remove(4).0;
    bench.world.put(fixture::service("app", &left));
    let mut moved = 0;
    for (key, was) in before.iter().enumerate() {
        let is = pick(&bench, key as u64);
        assert!(is == *was || *was == gone, "key {key} moved from {was} to {is}");
        moved += u32::from(is != *was);
    }
    assert!(moved > 0 && moved <= 2 * 2_000 / 20, "{moved} keys moved");
}

#[test]
fn a_retry_goes_elsewhere() {
    for balance in policies() {
        let bench = Bench::new(policy(balance), &fixture::endpoints(3));
        for key in 0..50 {
            let now = bench.at(key as f64);
            let mut attempts = bench.begin(key, now);
            let mut slots: Vec<_> =
                (0..3).map(|_| bench.again(&mut attempts, now).unwrap().slot.index).collect();
            assert_eq!(bench.again(&mut attempts, now).unwrap_err(), Refusal::AttemptsSpent);
            slots.sort_unstable();
            assert_eq!(slots, [0, 1, 2]);
        }
    }
    // With one endpoint there is no elsewhere.
    let bench = Bench::new(policy(Balance::RoundRobin), &fixture::endpoints(1));
    let mut attempts = bench.begin(0, bench.start);
    assert!(bench.again(&mut attempts, bench.start).is_ok());
    assert!(bench.again(&mut attempts, bench.start).is_ok());
}

#[test]
fn retries_do_not_bring_every_request_to_the_bad_endpoint() {
    let bench =
        Bench::new(UpstreamConfig { ejection: None, ..UpstreamConfig::default() }, &fixture::endpoints(2));
    let mut failed = 0;
    for request in 0..100 {
        let now = bench.at(f64::from(request));
        let mut attempts = bench.begin(0, now);
        if bench.again(&mut attempts, now).unwrap().slot.index == 0 {
            failed += 1;
            assert_eq!(bench.again(&mut attempts, now).unwrap().slot.index, 1);
        }
    }
    assert_eq!(failed, 50);
}

#[test]
fn retries_stay_within_the_budget() {
    let bench = Bench::new(policy(Balance::RoundRobin), &fixture::endpoints(3));
    let mut allowed = 0;
    let now = bench.at(0.5);
    for _ in 0..1_000 {
        let mut attempts = bench.begin(0, now);
        bench.again(&mut attempts, now).unwrap().failed(now);
        match bench.again(&mut attempts, now) {
            Ok(_) => allowed += 1,
            Err(refusal) => assert_eq!(refusal, Refusal::BudgetSpent),
        }
    }
    assert!((195..=205).contains(&allowed), "{allowed} retries for 1000 requests at a share of 0.2");
}

#[test]
fn failures_in_a_row_eject_and_one_success_brings_back() {
    let bench = Bench::new(eject_after(3, 0.5), &fixture::endpoints(4));
    let now = bench.at(1.0);
    bench.fail(2, 2, now);
    assert!(!bench.ejected(2, now));
    assert_eq!(bench.shares(40, now)[&2], 10, "a success in between starts the count anew");
    bench.fail(2, 3, now);
    assert!(bench.ejected(2, now));
    assert_eq!(bench.shares(300, now).get(&2), None);
    // Half open: one request at a time.
    let later = bench.at(6.5);
    let open: Vec<_> = (0..40).map(|_| bench.pick(later).unwrap()).collect();
    let trials: Vec<_> = open.iter().filter(|picked| picked.slot.index == 2).collect();
    assert_eq!(trials.len(), 1, "one trial while it is open");
    trials[0].succeeded(Duration::from_millis(1), later);
    drop(open);
    assert_eq!(bench.shares(40, later)[&2], 10);
}

#[test]
fn a_connection_that_lives_for_hours_does_not_keep_an_ejected_endpoint_out() {
    let bench = Bench::new(eject_after(3, 0.3), &fixture::endpoints(3));
    let long = core::iter::repeat_with(|| bench.pick(bench.start).unwrap())
        .find(|picked| picked.slot.index == 1)
        .unwrap();
    bench.fail(1, 3, bench.start);
    assert!(bench.ejected(1, bench.start));
    let later = bench.at(3_600.0);
    assert_eq!(bench.shares(30, later)[&1], 10, "its trial succeeded");
    drop(long);
}

#[test]
fn a_trial_that_is_given_up_makes_room_for_the_next() {
    let bench = Bench::new(eject_after(3, 0.3), &fixture::endpoints(3));
    bench.fail(1, 3, bench.start);
    let later = bench.at(10.0);
    for _ in 0..5 {
        let open: Vec<_> = (0..30).map(|_| bench.pick(later).unwrap()).collect();
        assert_eq!(open.iter().filter(|picked| picked.slot.index == 1).count(), 1, "one at a time");
    }
}

#[test]
fn a_head_alone_is_no_success() {
    let bench = Bench::new(eject_after(3, 0.3), &fixture::endpoints(3));
    let broken = |now| {
        for _ in 0..100 {
            let picked = bench.pick(now).unwrap();
            picked.answered(now);
            if picked.slot.index == 1 {
                picked.failed(now);
                picked.completed(now);
            }
        }
    };
    broken(bench.start);
    assert!(bench.ejected(1, bench.start), "three broke off one after the other, each behind a good head");
    let later = bench.at(6.0);
    broken(later);
    assert!(bench.ejected(1, later), "nor does a head end the ejection");
}

#[test]
fn time_out_of_rotation_doubles_and_is_forgotten() {
    let bench = Bench::new(eject_after(2, 0.5), &fixture::endpoints(4));
    let left = |now| {
        bench
            .board
            .endpoint(Slot { index: 1, epoch: 0 }, now)
            .ejected_for
            .map(|d| d.as_secs_f64().ceil() as u64)
    };
    bench.fail(1, 2, bench.at(1.0));
    assert_eq!(left(bench.at(1.0)), Some(5));
    for (now, want) in [(7.0, 10), (18.0, 20), (39.0, 30), (70.0, 30)] {
        bench.fail(1, 1, bench.at(now));
        assert_eq!(left(bench.at(now)), Some(want), "at {now}");
    }
    let back = bench.at(101.0);
    assert_eq!(bench.shares(40, back)[&1], 10);
    // In order for longer than the longest ejection: the next one is a first one.
    let much_later = bench.at(140.0);
    bench.fail(1, 2, much_later);
    assert_eq!(left(much_later), Some(5));
}

#[test]
fn no_more_are_ejected_than_the_threshold_allows() {
    let bench = Bench::new(eject_after(1, 0.5), &fixture::endpoints(5));
    let now = bench.at(1.0);
    for _ in 0..500 {
        bench.pick(now).unwrap().failed(now);
    }
    let ejected = (0..5).filter(|slot| bench.ejected(*slot, now)).count();
    assert_eq!(ejected, 2, "3 of 5 are left");
    let single = Bench::new(eject_after(1, 0.5), &fixture::endpoints(1));
    single.pick(now).unwrap().failed(now);
    assert!(!single.ejected(0, now), "the last one is never ejected");
    let always = Bench::new(eject_after(1, 0.0), &fixture::endpoints(3));
    for _ in 0..100 {
        always.pick(now).unwrap().failed(now);
    }
    assert_eq!((0..3).filter(|slot| always.ejected(*slot, now)).count(), 2, "not even with a threshold of 0");
}

#[test]
fn when_the_others_leave_ejection_is_ignored() {
    let mut bench = Bench::new(eject_after(1, 0.5), &fixture::endpoints(4));
    let now = bench.at(1.0);
    bench.fail(0, 1, now);
    bench.fail(1, 1, now);
    assert_eq!(bench.shares(100, now).len(), 2);
    bench.world.put(fixture::service("app", &fixture::endpoints(3)));
    assert_eq!(bench.shares(90, now).len(), 3, "1 of 3 would be left");
}

#[test]
fn an_endpoint_that_leaves_takes_its_ejection_along() {
    let mut bench = Bench::new(eject_after(1, 0.5), &fixture::endpoints(4));
    let now = bench.at(1.0);
    bench.fail(0, 1, now);
    bench.fail(1, 1, now);
    let mut after = fixture::endpoints(4);
    after[0].1.epoch = 1;
    after[1].1.epoch = 1;
    bench.world.put(fixture::service("app", &after));
    assert_eq!(bench.shares(400, now).len(), 4, "the slots are other endpoints' now");
    bench.fail(3, 1, now);
    assert!(bench.ejected(3, now), "room for ejections is back");
}

#[test]
fn an_endpoint_is_full_at_its_limit() {
    let limited = UpstreamConfig { in_flight_max: 2, ..UpstreamConfig::default() };
    let bench = Bench::new(limited, &fixture::endpoints(3));
    let mut open: Vec<_> = (0..6).map(|_| bench.pick(bench.start).unwrap()).collect();
    assert_eq!(bench.pick(bench.start).unwrap_err(), Refusal::Saturated);
    let freed = open.pop().map(|picked| picked.slot);
    assert_eq!(bench.pick(bench.start).ok().map(|picked| picked.slot), freed);
}

#[test]
fn a_pick_of_the_endpoint_before_does_not_count_for_the_one_after() {
    let mut bench = Bench::new(UpstreamConfig::default(), &fixture::endpoints(1));
    let old = bench.pick(bench.start).unwrap();
    let mut after = fixture::endpoints(1);
    after[0].1.epoch = 1;
    bench.world.put(fixture::service("app", &after));
    let new = bench.pick(bench.start).unwrap();
    old.failed(bench.start);
    drop(old);
    let state = bench.board.endpoint(new.slot, bench.start);
    assert_eq!((state.in_flight, state.failures), (1, 0));
}

#[test]
fn an_endpoint_that_left_is_known_at_the_next_tick() {
    let mut bench = Bench::new(UpstreamConfig::default(), &fixture::endpoints(2));
    let open: Vec<_> = (0..2).map(|_| bench.pick(bench.start).unwrap()).collect();
    let (stays, leaves) = if open[0].slot.index == 0 { (&open[0], &open[1]) } else { (&open[1], &open[0]) };
    bench.tick(bench.at(1.0));
    assert_eq!((stays.left_at(), leaves.left_at()), (None, None));
    bench.world.put(fixture::service("app", &fixture::endpoints(1)));
    bench.tick(bench.at(2.0));
    let since = leaves.left_at().expect("it has left");
    assert!(since.saturating_duration_since(bench.at(2.0)) < Duration::from_millis(2));
    assert_eq!(stays.left_at(), None);
    // Other changes don't set the clock back.
    for second in 3..8 {
        let mut service = fixture::service("app", &fixture::endpoints(1));
        service.ports[0].number = second;
        bench.world.put(service);
        bench.pick(bench.at(f64::from(second))).unwrap();
        assert_eq!(leaves.left_at(), Some(since));
        bench.tick(bench.at(f64::from(second)));
        assert_eq!(leaves.left_at(), Some(since));
    }
    bench.world.remove("app");
    bench.tick(bench.at(9.0));
    assert!(stays.left_at().is_some(), "a service that is gone has no endpoints");
    bench.world.put(fixture::service("app", &fixture::endpoints(2)));
    bench.tick(bench.at(10.0));
    assert_eq!(leaves.left_at(), None, "it came back");
}

#[test]
fn refusals_say_why() {
    let mut bench = Bench::new(UpstreamConfig::default(), &[]);
    assert_eq!(bench.pick(bench.start).unwrap_err(), Refusal::NoEndpoint);
    bench.world.remove("app");
    assert_eq!(bench.pick(bench.start).unwrap_err(), Refusal::NoService);
    let mut service = fixture::service("app", &[]);
    service.ports = Box::default();
    bench.world.put(service);
    assert_eq!(bench.pick(bench.start).unwrap_err(), Refusal::NoPort);
}

#[test]
fn upstreams_out_of_use_are_forgotten() {
    let bench = Bench::new(UpstreamConfig::default(), &fixture::endpoints(1));
    let open = bench.pick(bench.at(1.0)).unwrap();
    bench.tick(bench.at(700.0));
    assert_eq!(bench.upstreams.by_target.borrow().len(), 1, "something is open");
    drop(open);
    bench.tick(bench.at(700.0));
    assert_eq!(bench.upstreams.by_target.borrow().len(), 0);
}

#[test]
fn finding_a_rule_and_picking_allocate_nothing() {
    let n = 10_000;
    let weights: Vec<u16> = (0..n).map(|i| 1 + i % 7).collect();
    for balance in policies() {
        for endpoints in [fixture::endpoints(u32::from(n)), weighted(&weights)] {
            let mut config = fixture::config((0..1_000).map(by_host).collect());
            config.upstream = policy(balance.clone());
            let mut world = World::new(&config);
            world.put(fixture::service("app", &endpoints));
            let upstreams = Upstreams::new(&Board::new(1), 0);
            let now = Instant::now();
            let serve = |host: &str| {
                let snapshot = world.table.load();
                let routes = snapshot.view(world.routes);
                let query = crate::route::Query {
                    listener: "web",
                    host: Some(host.as_bytes()),
                    path: "/a/b/c",
                    method: "GET",
                    fields: &[("accept", "*/*")][..],
                };
                let route = routes.find(&query).expect("every host has a rule");
                let mut attempts = upstreams.begin(route, |_| 7, now).expect("it has a target");
                let picked = attempts.pick(&snapshot, routes, now).expect("there are endpoints");
                picked.succeeded(Duration::from_millis(1), now);
            };
            // Cells and the state of the upstream are made when first used.
            for index in 0..u32::from(n) {
                upstreams.worker.state.cells.own(Slot { index, epoch: 0 });
            }
            serve("Shop1.Example.com:8080");
            let measured = allocation_counter::measure(|| {
                for _ in 0..1_000 {
                    serve("Shop1.Example.com:8080");
                    serve("shop999.example.com");
                }
            });
            assert_eq!(measured.count_total, 0, "{balance:?}");
        }
    }
}

/// Cells touched and places of tables read by one pick, at most and on average.
fn steps_of_picks(balance: &Balance, endpoints: &[(SocketAddr, Slot, u16)]) -> (u64, f64) {
    let bench = Bench::new(policy(balance.clone()), endpoints);
    let (mut most, mut all) = (0, 0);
    for key in 0..2_000 {
        let mut attempts = bench.begin(hash_key(key), bench.start);
        let (picked, steps) = counted(|| bench.again(&mut attempts, bench.start).unwrap());
        picked.succeeded(Duration::from_millis(1), bench.start);
        (most, all) = (most.max(steps), all + steps);
    }
    (most, all as f64 / 2_000.0)
}

fn hash_key(n: u64) -> u64 {
    crate::balance::hash_key(&n.to_le_bytes())
}

#[test]
fn a_pick_costs_the_same_whatever_the_number_of_endpoints() {
    // One in a hundred outweighs all others together, which is the worst for tables by weight.
    let steep = |n: u16| weighted(&(0..n).map(|i| if i % 100 == 0 { 1_000 } else { 1 }).collect::<Vec<_>>());
    let mixed = |n: u16| weighted(&(0..n).map(|i| 1 + i % 7).collect::<Vec<_>>());
    let equal = |n: u16| fixture::endpoints(n.into());
    for balance in policies() {
        for endpoints in [&equal as &dyn Fn(u16) -> Vec<_>, &mixed, &steep] {
            let (_, few) = steps_of_picks(&balance, &endpoints(10));
            for n in [1_000, 10_000] {
                let (most, mean) = steps_of_picks(&balance, &endpoints(n));
                let limit = match balance {
                    Balance::RoundRobin | Balance::LeastRequest | Balance::PeakEwma => 32,
                    // 21 probes, each a few places from the guide's.
                    Balance::ConsistentHash(_) => 100,
                };
                assert!(most <= limit, "{balance:?}: {most} steps among {n}");
                assert!(mean <= 1.5 * few + 2.0, "{balance:?}: {mean} steps among {n}, {few} among 10");
            }
        }
    }
}

#[test]
fn a_pick_gives_up_after_a_bounded_search() {
    for balance in policies() {
        let limited = UpstreamConfig { in_flight_max: 1, ..policy(balance.clone()) };
        let bench = Bench::new(limited, &fixture::endpoints(10_000));
        for index in 0..10_000 {
            bench.upstreams.worker.state.cells.own(Slot { index, epoch: 0 }).set_in_flight(1);
        }
        let mut attempts = bench.begin(7, bench.start);
        let (refused, steps) = counted(|| bench.again(&mut attempts, bench.start).unwrap_err());
        assert_eq!(refused, Refusal::Saturated);
        assert!(steps <= 800, "{balance:?}: {steps} steps");
    }
}

#[test]
fn peak_ewma_leaves_a_slow_endpoint_alone_until_it_may_be_quick_again() {
    let bench = Bench::new(policy(Balance::PeakEwma), &fixture::endpoints(5));
    // Everybody is heard of, one of them late.
    let now = bench.at(1.0);
    for picked in (0..50).map(|_| bench.pick(now).unwrap()).collect::<Vec<_>>() {
        let latency = if picked.slot.index == 2 { 900 } else { 30 };
        picked.succeeded(Duration::from_millis(latency), now);
    }
    let picks_of_slow = |now| {
        let picked: Vec<_> = (0..200).map(|_| bench.pick(now).unwrap()).collect();
        for picked in picked.iter().filter(|picked| picked.slot.index != 2) {
            picked.succeeded(Duration::from_millis(30), now);
        }
        picked.into_iter().filter(|picked| picked.slot.index == 2).count()
    };
    assert_eq!(bench.shares(200, bench.at(2.0)).get(&2), None);
    // With so many in flight elsewhere it gets its part of the load all the same: what counts is the wait.
    assert!((1..=4).contains(&picks_of_slow(bench.at(2.1))));
    // Once its estimate has faded it is tried again, with one request until there is an answer.
    let later = bench.at(60.0);
    let (mut trials, mut others) = (Vec::new(), 0);
    while others < 200 {
        let picked = bench.pick(later).unwrap();
        if picked.slot.index == 2 {
            trials.push(picked);
        } else {
            picked.succeeded(Duration::from_millis(30), later);
            others += 1;
        }
    }
    assert_eq!(trials.len(), 1);
    trials[0].succeeded(Duration::from_millis(20), bench.at(60.02));
    drop(trials);
    let share = bench.shares(200, bench.at(60.03)).get(&2).copied();
    assert!(share > Some(20), "{share:?} of 200 when it is in order again");
}

#[test]
fn what_a_client_gave_up_counts_as_slow() {
    let bench = Bench::new(policy(Balance::PeakEwma), &fixture::endpoints(2));
    let waits: Vec<_> = (0..2).map(|_| bench.pick(bench.at(0.0)).unwrap()).collect();
    assert_ne!(waits[0].slot, waits[1].slot, "fairly begun");
    for picked in waits {
        if picked.slot.index == 0 {
            picked.succeeded(Duration::from_millis(20), bench.at(0.02));
        } else {
            bench.tick(bench.at(3.0));
            drop(picked);
        }
    }
    assert_eq!(bench.shares(50, bench.at(3.0)).get(&1), None);
}

fn by_host(n: u32) -> portolan_table::RouteSpec {
    let mut spec = rule(&format!("r{n}"), "app");
    spec.matches.host = portolan_table::HostMatch::Exact(format!("shop{n}.example.com").into());
    spec
}

#[test]
fn a_policy_of_one_service_is_its_own() {
    let mut config = fixture::config(vec![rule("all", "app")]);
    config.services.push((
        ServiceName::parse("app").unwrap(),
        UpstreamConfig { attempts_max: 7, ..UpstreamConfig::default() },
    ));
    let mut world = World::new(&config);
    world.put(fixture::service("app", &fixture::endpoints(1)));
    let upstreams = Upstreams::new(&Board::new(1), 0);
    let attempts_max = |world: &World| {
        let snapshot = world.table.load();
        let route = Arc::clone(snapshot.view(world.routes).iter().next().unwrap());
        upstreams.begin(&route, |_| 0, Instant::now()).unwrap().config().attempts_max
    };
    assert_eq!(attempts_max(&world), 7);
    config.services.clear();
    world.publisher.replace_view(world.routes, crate::RouteBuilder::new(&config));
    assert_eq!(attempts_max(&world), 3, "a reload is followed");
}
