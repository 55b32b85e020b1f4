//! How long a change takes from a real server to the table, through the whole of discovery.

use std::time::{Duration, Instant};

use portolan_table::{Publisher, Table};
use tokio::task::JoinSet;

use crate::config::{Config, SourceConfig};
use crate::{Discovery, Handle};

/// Discovery with one source, and the table that it publishes.
pub(super) struct Propagation {
    table: Table,
    handle: Handle,
    _driver: JoinSet<()>,
}

impl Propagation {
    pub(super) fn start(source: SourceConfig) -> Self {
        let publisher = Publisher::new();
        let table = publisher.table();
        let config = Config {
            state_dir: None,
            sources: vec![source],
            coalesce_time: Duration::from_millis(5),
            coalesce_changes: 4096,
        };
        let (handle, driver) = Discovery::start(config, publisher, &prometheus::Registry::new()).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(driver);
        Self { table, handle, _driver: tasks }
    }

    fn live(&self, service: &str) -> Vec<String> {
        let snapshot = self.table.load();
        let found = snapshot.service(service);
        let ports = found.iter().flat_map(|service| service.ports.first());
        ports.flat_map(|port| port.live().iter().map(|endpoint| endpoint.address.to_string())).collect()
    }

    /// Waits until the service has one live endpoint, and gives it.
    pub(super) async fn until_one(&self, service: &str) -> std::net::SocketAddr {
        for _ in 0..30_000 {
            if let [one] = &*self.live(service) {
                return one.parse().unwrap();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("{service} is at {:?}; {:#?}", self.live(service), self.handle.sources());
    }

    /// Waits until the service has exactly these live endpoints.
    pub(super) async fn until_live(&self, service: &str, expected: &[&str]) {
        let begun = Instant::now();
        while self.live(service) != expected {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "{service} is at {:?}, not {expected:?}; {:#?}",
                self.live(service),
                self.handle.sources()
            );
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    }

    /// Makes `count` changes one after the other, each to be seen before the next, and says how long they took. What is
    /// asserted is that they arrive: on a busy machine time proves nothing.
    #[expect(clippy::print_stderr, reason = "the figure is what the test is run for")]
    pub(super) async fn measure<R: Future<Output = ()>>(
        &self,
        what: &str,
        service: &str,
        count: u16,
        change: impl Fn(u16) -> R,
        expected: impl Fn(u16) -> Vec<String>,
    ) {
        let mut times = Vec::new();
        for number in 0..count {
            let begun = Instant::now();
            change(number).await;
            let expected = expected(number);
            self.until_live(service, &expected.iter().map(String::as_str).collect::<Vec<_>>()).await;
            times.push(begun.elapsed());
        }
        times.sort_unstable();
        let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
        eprintln!("{what}: from request to table, {count} changes: p50 {:?}, p99 {:?}", at(50), at(99));
    }
}
