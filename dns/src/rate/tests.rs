//! Who is limited by what.

use super::*;
use crate::config::Network;
use crate::wire::Request;

fn packet(name: &str) -> Vec<u8> {
    let mut packet = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    packet.extend(crate::wire::text_to_name(name).unwrap());
    packet.extend([0, 1, 0, 1]);
    packet
}

struct Bench {
    rules: Rules,
    limiter: Limiter,
}

impl Bench {
    fn new(config: &RateLimit) -> Self {
        let rules = Rules::new(config).unwrap();
        let mut limiter = Limiter::new(1);
        limiter.fit(Some(&rules));
        Self { rules, limiter }
    }

    /// What becomes of `count` replies at one instant: sent, slipped, dropped.
    fn ask(&mut self, client: &str, class: Class, name: &str, count: usize) -> [usize; 3] {
        let packet = packet(name);
        let Request::Question(query) = Request::read(&packet) else { panic!("a query") };
        let mut outcome = [0; 3];
        for _ in 0..count {
            let client = client.parse().unwrap();
            outcome[self.limiter.judge(&self.rules, client, class, Some(&query), 0) as usize] += 1;
        }
        outcome
    }
}

fn limit(responses_per_second: u32) -> RateLimit {
    RateLimit { responses_per_second, ..RateLimit::default() }
}

#[test]
fn nothing_is_limited_by_default() {
    assert!(Rules::new(&RateLimit::default()).is_none());
}

#[test]
fn a_network_is_limited_by_name_and_class_and_others_are_not() {
    let mut bench = Bench::new(&limit(10));
    assert_eq!(bench.ask("192.0.2.1", Class::Answer, "a.example", 30), [10, 10, 10]);
    assert_eq!(bench.ask("192.0.2.200", Class::Answer, "A.example", 2), [0, 1, 1], "one /24, one name");
    assert_eq!(bench.ask("192.0.2.1", Class::Answer, "b.example", 5), [5, 0, 0]);
    assert_eq!(bench.ask("192.0.3.1", Class::Answer, "a.example", 5), [5, 0, 0]);
    assert_eq!(bench.ask("192.0.2.1", Class::NxDomain, "x1.example", 10), [10, 0, 0]);
    assert_eq!(bench.ask("192.0.2.1", Class::NxDomain, "x2.example", 2), [0, 1, 1], "all names together");
    assert_eq!(bench.ask("2001:db8:1:100::1", Class::Error, ".", 10), [10, 0, 0]);
    assert_eq!(bench.ask("2001:db8:1:1ff::9", Class::Error, ".", 2), [0, 1, 1], "one /56");
    assert_eq!(bench.ask("2001:db8:1:200::9", Class::Error, ".", 2), [2, 0, 0]);
    assert_eq!(bench.ask("::ffff:192.0.2.9", Class::Answer, "a.example", 2), [0, 1, 1], "it is IPv4");
}

#[test]
fn classes_have_rates_of_their_own_and_none_at_zero() {
    let config = RateLimit { errors_per_second: Some(2), nxdomains_per_second: Some(0), ..limit(5) };
    let mut bench = Bench::new(&config);
    assert_eq!(bench.ask("192.0.2.1", Class::Error, ".", 10)[0], 2);
    assert_eq!(bench.ask("192.0.2.1", Class::NxDomain, ".", 100)[0], 100);
    assert_eq!(bench.ask("192.0.2.1", Class::NoData, ".", 100)[0], 5);
    let all = RateLimit { all_per_second: 7, ..limit(5) };
    let mut bench = Bench::new(&all);
    assert_eq!(bench.ask("192.0.2.1", Class::Answer, "a.example", 5)[0], 5);
    assert_eq!(bench.ask("192.0.2.1", Class::Answer, "b.example", 5)[0], 2);
}

#[test]
fn slip_says_how_many_are_told() {
    for (slip, outcome) in [(0, [1, 0, 12]), (1, [1, 12, 0]), (3, [1, 4, 8])] {
        let mut bench = Bench::new(&RateLimit { slip, ..limit(1) });
        assert_eq!(bench.ask("192.0.2.1", Class::Answer, "a.example", 13), outcome, "slip {slip}");
    }
}

#[test]
fn exempt_networks_are_not_limited() {
    let exempt = vec![Network { address: "192.0.2.128".parse().unwrap(), prefix: 25 }];
    let mut bench = Bench::new(&RateLimit { exempt, ..limit(1) });
    assert_eq!(bench.ask("192.0.2.129", Class::Answer, "a.example", 50), [50, 0, 0]);
    assert_eq!(bench.ask("192.0.2.1", Class::Answer, "a.example", 3)[0], 1);
}

#[test]
fn a_verdict_allocates_nothing() {
    let mut bench = Bench::new(&limit(10));
    let packet = packet("a.example");
    let Request::Question(query) = Request::read(&packet) else { panic!("a query") };
    let counted = allocation_counter::measure(|| {
        for at in 0..10_000_u32 {
            let client = IpAddr::from(at.to_be_bytes());
            let _ = bench.limiter.judge(&bench.rules, client, Class::Answer, Some(&query), at);
        }
    });
    assert_eq!(counted.count_total, 0);
}
