//! What a pick costs under each policy, against the number of endpoints. It must not grow but for the caches.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use portolan_proxy::upstream::{Board, Upstreams};
use portolan_proxy::{Balance, Config, HashKey, Limits, RouteBuilder, Routes, Timeouts, UpstreamConfig};
use portolan_table::{
    AppProtocol, ChangeSet, Endpoint, Labels, Protocol, Provenance, Publisher, RouteMatch, RouteOrigin,
    RouteSpec, RouteTarget, Service, ServiceName, ServicePort, Slot, ViewKey,
};

const POLICIES: [(&str, Balance); 4] = [
    ("round-robin", Balance::RoundRobin),
    ("least-request", Balance::LeastRequest),
    ("peak-ewma", Balance::PeakEwma),
    ("consistent-hash", Balance::ConsistentHash(HashKey::ClientAddress)),
];

fn name() -> ServiceName {
    ServiceName::parse("web.shop").expect("a name")
}

/// One service of this many endpoints, and one rule that leads to it.
fn table(balance: Balance, endpoints: u32, weighted: bool) -> (Publisher, ViewKey<Routes>) {
    let rule = RouteSpec {
        name: "all".into(),
        origin: RouteOrigin::File(0),
        created_ms: 0,
        matches: RouteMatch::default(),
        targets: vec![RouteTarget { service: name(), port: None, weight: 1 }],
    };
    let config = Config {
        listeners: Vec::new(),
        routes: vec![rule],
        certificates: Vec::new(),
        tls: portolan_proxy::tls::TlsConfig::default(),
        upstream: UpstreamConfig { balance, ..UpstreamConfig::default() },
        services: Vec::new(),
        drain: Duration::from_secs(30),
        trusted_proxies: Vec::new(),
        forwarded: false,
        timeouts: Timeouts::default(),
        limits: Limits::default(),
        access_log: None,
    };
    let mut publisher = Publisher::new();
    let routes = publisher.add_view(RouteBuilder::new(&config));
    let mut change = ChangeSet::default();
    change.upsert(Arc::new(service(endpoints, weighted)));
    publisher.apply(change);
    (publisher, routes)
}

fn service(endpoints: u32, weighted: bool) -> Service {
    let endpoint = |n: u32| Endpoint {
        address: SocketAddr::from(([10, (n >> 16) as u8, (n >> 8) as u8, n as u8], 80)),
        member: 0,
        slot: Slot { index: n, epoch: 0 },
        weight: if weighted { 1 + (n % 7) as u16 } else { 1 },
        provenance: Provenance::Registered,
    };
    let mut service = Service::empty(name());
    service.ports = Box::new([ServicePort {
        number: 80,
        name: None,
        protocol: Protocol::Tcp,
        app_protocol: AppProtocol::Unknown,
        labels: Labels::default(),
        endpoints: (0..endpoints).map(endpoint).collect(),
        live: endpoints,
        weighted,
    }]);
    service
}

fn pick(c: &mut Criterion) {
    let mut group = c.benchmark_group("proxy/pick");
    for (label, balance) in POLICIES {
        for weighted in [false, true] {
            let label = if weighted { format!("{label} weighted") } else { label.to_owned() };
            for endpoints in [10, 1_000, 10_000] {
                let (publisher, routes) = table(balance.clone(), endpoints, weighted);
                let table = publisher.table();
                let upstreams = Upstreams::new(&Board::new(1), 0);
                let now = Instant::now();
                let mut key = 0_u64;
                group.bench_function(BenchmarkId::new(&label, endpoints), |b| {
                    b.iter(|| {
                        key = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
                        let snapshot = table.load();
                        let routes = snapshot.view(routes);
                        let route = routes.iter().next().expect("one rule");
                        let mut attempts = upstreams.begin(route, |_| key, now).expect("a target");
                        let picked = attempts.pick(&snapshot, routes, now).expect("an endpoint");
                        picked.succeeded(Duration::from_millis(1), now);
                        black_box(picked.address)
                    });
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, pick);
criterion_main!(benches);
