//! What an answer costs: a query read and its reply composed, from zones compiled out of tables of several sizes.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use portolan_dns::answer::{Outcome, Terms, answer};
use portolan_dns::wire::{CLASS_IN, Rcode, Request, rtype, text_to_name};
use portolan_dns::{Config, NodeConfig, Schema, ZoneBuilder, ZoneConfig, ZoneMetrics, Zones};
use portolan_table::{Publisher, ViewKey};

mod workload;

/// What a plain client takes over UDP.
const TERMS: Terms = Terms::udp(1232, 1232);
/// Names asked for in turn: more than the nearest caches hold, no more than the table has.
const NAMES: usize = 4096;

fn config() -> Config {
    Config {
        zones: vec![ZoneConfig { name: "svc.cluster".into(), schema: Schema::Native, sources: Vec::new() }],
        node: NodeConfig {
            name: "edge-1".into(),
            addresses: vec![[192, 0, 2, 1].into()],
            proxy_addresses: vec![[192, 0, 2, 1].into()],
        },
        ..Config::default()
    }
}

/// A table of about so many endpoints, its zones, and its number of services.
fn zones(endpoints: usize) -> (Publisher, ViewKey<Zones>, usize) {
    let metrics = ZoneMetrics::register(&prometheus::Registry::new()).expect("a new registry");
    let mut publisher = Publisher::new();
    let key = publisher.add_view(ZoneBuilder::new(&config(), metrics));
    let services = workload::fill(&mut publisher, endpoints);
    (publisher, key, services)
}

fn packet(name: &str, kind: u16) -> Vec<u8> {
    let mut packet = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    packet.extend(text_to_name(name).expect("a name of the workload"));
    packet.extend_from_slice(&kind.to_be_bytes());
    packet.extend_from_slice(&CLASS_IN.to_be_bytes());
    packet
}

/// Packets that ask for names of services all over the table.
fn packets(services: usize, before: &str, kind: u16) -> Vec<Vec<u8>> {
    let step = (services / NAMES).max(1);
    let names = (0..services).step_by(step).map(workload::name);
    names.map(|name| packet(&format!("{before}{}.svc.cluster", name.as_str()), kind)).collect()
}

fn answers(c: &mut Criterion) {
    for (what, before, kind, code) in [
        ("a", "", rtype::A, Rcode::NoError),
        ("srv", "_http._tcp.", rtype::SRV, Rcode::NoError),
        ("no_data", "", rtype::AAAA, Rcode::NoError),
        ("no_such_name", "nope.", rtype::A, Rcode::NxDomain),
    ] {
        let mut group = c.benchmark_group(format!("dns/{what}"));
        for endpoints in [1_000, 100_000, 1_000_000] {
            let (publisher, key, services) = zones(endpoints);
            let (table, packets) = (publisher.table(), packets(services, before, kind));
            let mut out = vec![0; 65_535];
            let mut next = 0_usize;
            group.bench_function(BenchmarkId::from_parameter(endpoints), |b| {
                b.iter(|| {
                    next = (next + 1) % packets.len();
                    let Request::Question(query) = Request::read(&packets[next]) else {
                        unreachable!("the packets are questions")
                    };
                    let snapshot = table.load();
                    let outcome = answer(snapshot.view(key), &query, &TERMS, next as u32, &mut out);
                    let Outcome::Reply(written) = black_box(outcome) else {
                        unreachable!("the names are in the zone")
                    };
                    assert_eq!(written.rcode, code);
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, answers);
criterion_main!(benches);
