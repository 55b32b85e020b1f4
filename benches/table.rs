//! What the table costs: a lookup, and the publication of one change, against the size of the table.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
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

fn publish_one_change(c: &mut Criterion) {
    let mut group = c.benchmark_group("table/publish");
    for endpoints in [1_000, 10_000, 100_000, 1_000_000] {
        let mut publisher = Publisher::new();
        let services = workload::fill(&mut publisher, endpoints);
        let mut version = 0_u8;
        let mut n = 0;
        group.bench_function(BenchmarkId::from_parameter(endpoints), |b| {
            b.iter(|| {
                n = (n + 7919) % services;
                version = version.wrapping_add(1);
                let mut change = ChangeSet::default();
                change.upsert(workload::service(n, version));
                black_box(publisher.apply(change))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, lookup, publish_one_change);
criterion_main!(benches);
