//! The proxy's metrics: cells that one worker writes and nobody waits for, summed when somebody asks.

mod families;

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Metric, MetricFamily};

use crate::l7::Refusal;
use crate::tls::Tls;
use crate::tls::metrics::{HandshakeCells, KINDS, REASONS};
use families::{FAMILIES, Family, counter, failures, gauge, handshakes, histogram};

/// Upper bounds of the latency buckets, in seconds.
const BOUNDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
/// The same in microseconds.
const BOUNDS_US: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000, 60_000_000,
];
/// Classes of status codes: 1xx (upgrades) to 5xx, and requests whose client went away.
const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "aborted"];
/// Sides a failure can be the fault of.
const FAULTS: [&str; 3] = ["downstream", "upstream", "us"];

/// A number that one thread changes and others read.
#[derive(Debug, Default)]
pub(crate) struct Cell(AtomicU64);

impl Cell {
    /// Not an atomic addition: there is one writer, so no bus lock is needed.
    #[inline]
    pub(crate) fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The cells of one worker.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct WorkerCells {
    faults: [Cell; 3],
    pub(crate) connects: Cell,
    pub(crate) reuses: Cell,
    idle: Cell,
    pub(crate) upstream_tls: HandshakeCells,
    pub(crate) http2_errors: Cell,
    pub(crate) http2_floods: Cell,
    pub(crate) http2_refused: Cell,
    pub(crate) log_dropped: Cell,
    listeners: Mutex<Vec<(Arc<str>, Arc<ListenerCells>)>>,
}

/// The cells of one listener on one worker.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct ListenerCells {
    classes: [Cell; 6],
    buckets: [Cell; BOUNDS.len() + 1],
    micros: Cell,
    open: Cell,
    accepted: Cell,
    refused: Cell,
    accept_errors: Cell,
    pub(crate) tls: HandshakeCells,
}

impl WorkerCells {
    /// The cells of a listener; the same for the same name, so that counts go on after a reload.
    pub(crate) fn listener(&self, name: &Arc<str>) -> Arc<ListenerCells> {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, cells)) = listeners.iter().find(|(known, _)| known == name) {
            return Arc::clone(cells);
        }
        let cells = Arc::new(ListenerCells::default());
        listeners.push((Arc::clone(name), Arc::clone(&cells)));
        cells
    }

    /// A request was answered by the proxy itself.
    pub(crate) fn answered(&self, refusal: &Refusal) {
        self.faults[refusal.fault as usize].add(1);
    }

    pub(crate) fn set_idle(&self, count: usize) {
        self.idle.set(count as u64);
    }
}

impl ListenerCells {
    /// A request has ended, with this status after this time.
    #[inline]
    pub(crate) fn request(&self, status: u16, took: Duration) {
        let class = match status {
            499 => 5,
            status => usize::from(status / 100).saturating_sub(1).min(4),
        };
        self.classes[class].add(1);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.buckets[BOUNDS_US.partition_point(|bound| *bound < micros)].add(1);
        self.micros.add(micros);
    }

    pub(crate) fn accepted(&self, open: usize) {
        self.accepted.add(1);
        self.set_open(open);
    }

    pub(crate) fn set_open(&self, open: usize) {
        self.open.set(open as u64);
    }

    pub(crate) fn refused_connection(&self) {
        self.refused.add(1);
    }

    pub(crate) fn accept_failed(&self) {
        self.accept_errors.add(1);
    }
}

/// All workers' cells. Clones see the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    workers: Arc<Mutex<Vec<Arc<WorkerCells>>>>,
}

impl Metrics {
    /// Metrics that `registry` asks for.
    pub(crate) fn register(registry: &prometheus::Registry, tls: Arc<Tls>) -> Self {
        let metrics = Self::default();
        let descriptions = FAMILIES.iter().map(describe).collect();
        registry
            .register(Box::new(Summed { metrics: metrics.clone(), tls, descriptions }))
            .expect("a registry gets the proxy's metrics once");
        metrics
    }

    /// Cells for one more worker.
    pub(crate) fn worker(&self) -> Arc<WorkerCells> {
        let cells = Arc::new(WorkerCells::default());
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&cells));
        cells
    }
}

fn describe(family: &Family) -> Desc {
    let (name, help, labels, _) = *family;
    let labels = labels.iter().map(|&label| label.to_owned()).collect();
    Desc::new(name.to_owned(), help.to_owned(), labels, std::collections::HashMap::new())
        .expect("names and labels of the table are valid")
}

struct Summed {
    metrics: Metrics,
    tls: Arc<Tls>,
    descriptions: Vec<Desc>,
}

/// Sums over the workers.
#[derive(Default)]
struct Sums {
    faults: [u64; 3],
    connects: u64,
    reuses: u64,
    idle: u64,
    http2_errors: u64,
    http2_floods: u64,
    http2_refused: u64,
    log_dropped: u64,
    listeners: BTreeMap<Arc<str>, ListenerSums>,
    upstream_handshakes: [u64; KINDS.len()],
    upstream_failures: [u64; REASONS.len()],
    strangers: Vec<(Arc<str>, u64)>,
    first_expiry: Option<i64>,
}

#[derive(Default)]
struct ListenerSums {
    handshakes: [u64; KINDS.len()],
    failed_handshakes: [u64; REASONS.len()],
    classes: [u64; 6],
    buckets: [u64; BOUNDS.len() + 1],
    micros: u64,
    open: u64,
    accepted: u64,
    refused: u64,
    accept_errors: u64,
}

impl Sums {
    fn of(metrics: &Metrics, tls: &Tls) -> Self {
        let mut sums = Self { strangers: tls.strangers(), first_expiry: tls.first_end(), ..Self::default() };
        for worker in metrics.workers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            add_all(&mut sums.faults, &worker.faults);
            sums.connects += worker.connects.get();
            sums.reuses += worker.reuses.get();
            sums.idle += worker.idle.get();
            add_all(&mut sums.upstream_handshakes, &worker.upstream_tls.done);
            add_all(&mut sums.upstream_failures, &worker.upstream_tls.failed);
            sums.http2_errors += worker.http2_errors.get();
            sums.http2_floods += worker.http2_floods.get();
            sums.http2_refused += worker.http2_refused.get();
            sums.log_dropped += worker.log_dropped.get();
            for (name, cells) in worker.listeners.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                let sum = sums.listeners.entry(Arc::clone(name)).or_default();
                add_all(&mut sum.classes, &cells.classes);
                add_all(&mut sum.buckets, &cells.buckets);
                sum.micros += cells.micros.get();
                sum.open += cells.open.get();
                sum.accepted += cells.accepted.get();
                sum.refused += cells.refused.get();
                sum.accept_errors += cells.accept_errors.get();
                add_all(&mut sum.handshakes, &cells.tls.done);
                add_all(&mut sum.failed_handshakes, &cells.tls.failed);
            }
        }
        sums
    }

    /// The metrics of one family.
    fn metrics(&self, name: &str) -> Vec<Metric> {
        let per_listener = |value: fn(&ListenerSums) -> u64, make: fn(&[(&str, &str)], u64) -> Metric| {
            self.listeners.iter().map(|(name, sums)| make(&[("listener", name)], value(sums))).collect()
        };
        match name {
            "portolan_proxy_requests_total" => self.requests(),
            "portolan_proxy_request_seconds" => {
                self.listeners.iter().map(|(name, sums)| histogram(name, sums)).collect()
            }
            "portolan_proxy_connections" => per_listener(|sums| sums.open, gauge),
            "portolan_proxy_connections_total" => per_listener(|sums| sums.accepted, counter),
            "portolan_proxy_connections_refused_total" => per_listener(|sums| sums.refused, counter),
            "portolan_proxy_accept_errors_total" => per_listener(|sums| sums.accept_errors, counter),
            "portolan_proxy_refusals_total" => FAULTS
                .iter()
                .zip(self.faults)
                .map(|(fault, count)| counter(&[("fault", fault)], count))
                .collect(),
            "portolan_proxy_upstream_connects_total" => vec![counter(&[], self.connects)],
            "portolan_proxy_upstream_reuses_total" => vec![counter(&[], self.reuses)],
            "portolan_proxy_upstream_idle" => vec![gauge(&[], self.idle)],
            "portolan_proxy_http2_broken_total" => vec![
                counter(&[("kind", "error")], self.http2_errors),
                counter(&[("kind", "flood")], self.http2_floods),
            ],
            "portolan_proxy_http2_streams_refused_total" => vec![counter(&[], self.http2_refused)],
            "portolan_proxy_access_log_dropped_total" => vec![counter(&[], self.log_dropped)],
            _ => self.tls(name),
        }
    }

    /// The metrics of one family of TLS, of listeners that speak it. A series is there before anything happened, so
    /// that a rate counts its first event.
    fn tls(&self, name: &str) -> Vec<Metric> {
        let series = |of: fn(&str, &ListenerSums) -> Vec<Metric>| {
            let listeners = self.strangers.iter().filter_map(|(name, _)| self.listeners.get_key_value(name));
            listeners.flat_map(|(name, sums)| of(name, sums)).collect()
        };
        match name {
            "portolan_proxy_tls_handshakes_total" => {
                series(|listener, sums| handshakes(&[("listener", listener)], &sums.handshakes))
            }
            "portolan_proxy_tls_handshake_failures_total" => {
                series(|listener, sums| {
                    // The last reason is about certificates of the other side, which clients are not asked for.
                    let (_, counts) = sums.failed_handshakes.split_last().unwrap_or((&0, &[]));
                    failures(&[("listener", listener)], counts)
                })
            }
            "portolan_proxy_upstream_tls_handshakes_total" => handshakes(&[], &self.upstream_handshakes),
            "portolan_proxy_upstream_tls_failures_total" => failures(&[], &self.upstream_failures),
            "portolan_proxy_tls_unknown_names_total" => {
                self.strangers.iter().map(|(name, count)| counter(&[("listener", name)], *count)).collect()
            }
            "portolan_proxy_tls_first_expiry_timestamp_seconds" => {
                let seconds = self.first_expiry.and_then(|end| u64::try_from(end).ok());
                seconds.map(|seconds| gauge(&[], seconds)).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    fn requests(&self) -> Vec<Metric> {
        let of = |(name, sums): (&Arc<str>, &ListenerSums)| {
            let name = Arc::clone(name);
            let counts = CLASSES.into_iter().zip(sums.classes);
            counts
                .map(|(class, count)| counter(&[("class", class), ("listener", &name)], count))
                .collect::<Vec<_>>()
        };
        self.listeners.iter().flat_map(of).collect()
    }
}

fn add_all<const N: usize>(sums: &mut [u64; N], cells: &[Cell; N]) {
    for (sum, cell) in sums.iter_mut().zip(cells) {
        *sum += cell.get();
    }
}

impl Collector for Summed {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let sums = Sums::of(&self.metrics, &self.tls);
        let family = |(name, help, _, kind): &Family| {
            let mut family = MetricFamily::default();
            family.set_name((*name).to_owned());
            family.set_help((*help).to_owned());
            family.set_field_type(*kind);
            family.set_metric(sums.metrics(name));
            family
        };
        FAMILIES.iter().map(family).filter(|family| !family.get_metric().is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_served_and_sums_over_workers() {
        let registry = prometheus::Registry::new();
        let mut config = crate::fixture::config(Vec::new());
        config.listeners[0].protocol = crate::ListenerProtocol::Https;
        let tls = Tls::new(&config.tls);
        tls.replace(&config, &crate::tls::Certificates::default());
        let metrics = Metrics::register(&registry, Arc::new(tls));
        let name: Arc<str> = "web".into();
        for _ in 0..2 {
            let worker = metrics.worker();
            let listener = worker.listener(&name);
            listener.accepted(3);
            listener.request(200, Duration::from_millis(2));
            listener.request(499, Duration::from_secs(100));
            worker.connects.add(2);
            listener
                .tls
                .succeeded(Some(rustls::ProtocolVersion::TLSv1_3), Some(rustls::HandshakeKind::Resumed));
            listener.tls.failed(crate::tls::metrics::Failure::TimedOut);
        }
        let families = registry.gather();
        // The one about certificates has nothing to tell while there are none.
        assert_eq!(families.len(), FAMILIES.len() - 1);
        let text = prometheus::TextEncoder::new().encode_to_string(&families).unwrap();
        for line in [
            "portolan_proxy_requests_total{class=\"2xx\",listener=\"web\"} 2",
            "portolan_proxy_requests_total{class=\"aborted\",listener=\"web\"} 2",
            "portolan_proxy_request_seconds_bucket{listener=\"web\",le=\"0.001\"} 0",
            "portolan_proxy_request_seconds_bucket{listener=\"web\",le=\"0.0025\"} 2",
            "portolan_proxy_request_seconds_bucket{listener=\"web\",le=\"60\"} 2",
            "portolan_proxy_request_seconds_bucket{listener=\"web\",le=\"+Inf\"} 4",
            "portolan_proxy_request_seconds_count{listener=\"web\"} 4",
            "portolan_proxy_connections{listener=\"web\"} 6",
            "portolan_proxy_upstream_connects_total 4",
            "portolan_proxy_tls_handshakes_total{listener=\"web\",resumed=\"true\",version=\"1.3\"} 2",
            "portolan_proxy_tls_handshakes_total{listener=\"web\",resumed=\"true\",version=\"1.2\"} 0",
            "portolan_proxy_tls_handshake_failures_total{listener=\"web\",reason=\"timeout\"} 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }
}
