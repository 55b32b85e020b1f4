//! What the table costs: a lookup, and the publication of one change, against the size of the table.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use portolan_config::{Config, Environment};
use portolan_dns::{ZoneBuilder, ZoneMetrics};
use portolan_proxy::RouteBuilder;
use portolan_table::{ChangeSet, Publisher};

mod workload;

fn lookup(c: &mut Criterion) {
    let mut group = c.benchmark_group("table/lookup");
    for endpoints in [1_000, 10_000, 100_000, 1_000_000] {
        let mut publisher = Publisher::new();
        let services = workload::fill(&mut publisher, endpoints);
        let names: Vec<_> = (0..services).step_by((services / 1024).max(1)).map(workload::name).collect();
        let table = publisher.table();
        let mut next = 0;
        group.bench_function(BenchmarkId::from_parameter(endpoints), |b| {
            b.iter(|| {
                next = (next + 1) % names.len();
                black_box(table.load().service(names[next].as_str()).is_some())
            });
        });
    }
    group.finish();
}

/// A publisher that compiles DNS zones and routes, as that of a node does.
fn of_node() -> Publisher {
    let text = "[dns]\n[[dns.zone]]\nname = \"svc.cluster\"\nschema = \"native\"\n\
                [[proxy.listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\nprotocol = \"http\"\n";
    let config = Config::parse(text, "bench.toml", &Environment::of_process());
    let config = config.unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let metrics = ZoneMetrics::register(&prometheus::Registry::new()).expect("a new registry");
    let mut publisher = Publisher::new();
    publisher.add_view(ZoneBuilder::new(&config.dns.expect("it is in the text"), metrics));
    publisher.add_view(RouteBuilder::new(&config.proxy));
    publisher
}

/// Publication of one replaced task: of the table alone, then with DNS zones and routes.
fn publish_one_change(c: &mut Criterion) {
    publish(c, "table/publish", Publisher::new);
    publish(c, "table/publish_with_views", of_node);
}

/// `<name>` is the publication; `<name>_made` has the making of the changed service in it, for which all that the service
/// is made of comes into the cache.
fn publish(c: &mut Criterion, name: &str, publisher: impl Fn() -> Publisher) {
    for made in [false, true] {
        let mut group = c.benchmark_group(format!("{name}{}", if made { "_made" } else { "" }));
        for endpoints in [1_000, 10_000, 100_000, 1_000_000] {
            let mut publisher = publisher();
            let services = workload::fill(&mut publisher, endpoints);
            let (mut version, mut n) = (0_u8, 0);
            let mut replace = |publisher: &Publisher| {
                n = (n + 7919) % services;
                version = version.wrapping_add(1);
                let before = publisher.core().service(workload::name(n).as_str()).expect("a service");
                let mut change = ChangeSet::default();
                change.upsert(workload::replaced(n, before, version));
                change
            };
            group.bench_function(BenchmarkId::from_parameter(endpoints), |b| {
                b.iter_custom(|times| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..times {
                        let begun = Instant::now();
                        let change = replace(&publisher);
                        let begun = if made { begun } else { Instant::now() };
                        black_box(publisher.apply(change));
                        spent += begun.elapsed();
                    }
                    spent
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, lookup, publish_one_change);
criterion_main!(benches);
