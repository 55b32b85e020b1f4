//! What the proxy decides for a request: which route, against the number of routes, and which endpoint, by policy.

use std::fmt::Write;
use std::hint::black_box;
use std::time::Instant;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::HeaderMap;
use portolan_config::{Config, Environment};
use portolan_proxy::route::Query;
use portolan_proxy::upstream::{Board, Upstreams};
use portolan_proxy::{RouteBuilder, Routes};
use portolan_table::{Publisher, Table, ViewKey};

mod workload;

/// Routes that are tried in turn.
const HOSTS: usize = 4096;

/// A table with a service for each of `routes` rules: one rule in four is for a wildcard, and all ask for a path.
struct World {
    table: Table,
    routes: ViewKey<Routes>,
    _publisher: Publisher,
}

impl World {
    fn new(routes: usize, upstream: &str) -> Self {
        let mut text = format!(
            "[[proxy.listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\nprotocol = \"http\"\n[proxy.upstream]\n{upstream}\n"
        );
        for n in 0..routes {
            let (host, service) = (rule_host(n), workload::name(n));
            let service = service.as_str();
            write!(
                text,
                "[[proxy.route]]\nlistener = \"web\"\nhost = \"{host}\"\npath = \"/shop\"\nservice = \"{service}\"\n"
            )
            .expect("text grows");
        }
        let config = Config::parse(&text, "bench.toml", &Environment::of_process());
        let config = config.unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let mut publisher = Publisher::new();
        let key = publisher.add_view(RouteBuilder::new(&config.proxy));
        workload::fill(&mut publisher, routes * workload::ENDPOINTS);
        Self { table: publisher.table(), routes: key, _publisher: publisher }
    }
}

fn rule_host(n: usize) -> String {
    if n.is_multiple_of(4) { format!("*.w{n}.example.com") } else { format!("h{n}.example.com") }
}

/// A host that rule `n` matches.
fn host(n: usize) -> String {
    rule_host(n).replace('*', "any")
}

fn query<'a>(host: &'a str, fields: &'a HeaderMap) -> Query<'a, HeaderMap> {
    Query { listener: "web", host: Some(host.as_bytes()), path: "/shop/cart", method: "GET", fields }
}

fn route_match(c: &mut Criterion) {
    let mut group = c.benchmark_group("proxy/route");
    for routes in [10, 1_000, 20_000] {
        let world = World::new(routes, "");
        let hosts: Vec<String> = (0..routes).step_by((routes / HOSTS).max(1)).map(host).collect();
        let fields = HeaderMap::new();
        let mut next = 0;
        group.bench_function(BenchmarkId::from_parameter(routes), |b| {
            b.iter(|| {
                next = (next + 1) % hosts.len();
                let snapshot = world.table.load();
                let found = snapshot.view(world.routes).find(&query(&hosts[next], &fields)).is_some();
                assert!(black_box(found));
            });
        });
    }
    group.finish();
}

fn pick(c: &mut Criterion) {
    let mut group = c.benchmark_group("proxy/pick");
    for policy in ["round-robin", "least-request", "consistent-hash"] {
        let world = World::new(1_000, &format!("balance = \"{policy}\""));
        let upstreams = Upstreams::new(&Board::new(1), 0);
        let hosts: Vec<String> = (0..1_000).map(host).collect();
        let fields = HeaderMap::new();
        let mut next = 0_usize;
        let now = Instant::now();
        group.bench_function(BenchmarkId::from_parameter(policy), |b| {
            b.iter(|| {
                next = (next + 1) % hosts.len();
                let snapshot = world.table.load();
                let routes = snapshot.view(world.routes);
                let route = routes.find(&query(&hosts[next], &fields)).expect("every host has a rule");
                let attempts = upstreams.begin(route, |_| next as u64, now);
                let picked = attempts.expect("a target has weight").pick(&snapshot, routes, now);
                black_box(picked.expect("every service has endpoints").address)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, route_match, pick);
criterion_main!(benches);
