//! The table of the proxy's metrics, and the form in which values go to those who ask.

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricType};

use super::{BOUNDS, ListenerSums};
use crate::tls::metrics::{KINDS, REASONS};

/// What a family is: name, help with unit, label names, kind.
pub(super) type Family = (&'static str, &'static str, &'static [&'static str], MetricType);

/// Every metric of listeners, of TLS and of HTTP.
pub(super) const FAMILIES: [Family; 19] = [
    (
        "portolan_proxy_requests_total",
        "Requests, by listener and class of the status sent.",
        &["listener", "class"],
        MetricType::COUNTER,
    ),
    (
        "portolan_proxy_request_seconds",
        "Time from the end of the request head to the end of the response, in seconds.",
        &["listener"],
        MetricType::HISTOGRAM,
    ),
    ("portolan_proxy_connections", "Downstream connections open.", &["listener"], MetricType::GAUGE),
    (
        "portolan_proxy_connections_total",
        "Downstream connections accepted.",
        &["listener"],
        MetricType::COUNTER,
    ),
    (
        "portolan_proxy_connections_refused_total",
        "Downstream connections turned away at the limit.",
        &["listener"],
        MetricType::COUNTER,
    ),
    ("portolan_proxy_accept_errors_total", "Accepts that failed.", &["listener"], MetricType::COUNTER),
    (
        "portolan_proxy_refusals_total",
        "Requests answered by the proxy itself, by whose fault that is.",
        &["fault"],
        MetricType::COUNTER,
    ),
    (
        "portolan_proxy_upstream_connects_total",
        "Connections opened to endpoints, failed ones included.",
        &[],
        MetricType::COUNTER,
    ),
    (
        "portolan_proxy_upstream_reuses_total",
        "Requests sent on a connection that was there: idle, or shared (HTTP/2).",
        &[],
        MetricType::COUNTER,
    ),
    ("portolan_proxy_upstream_idle", "Idle connections to endpoints.", &[], MetricType::GAUGE),
    (
        "portolan_proxy_http2_broken_total",
        "Clients' HTTP/2 connections ended for what was sent on them, by kind: errors of protocol, or floods.",
        &["kind"],
        MetricType::COUNTER,
    ),
    (
        "portolan_proxy_http2_streams_refused_total",
        "Requests refused because their HTTP/2 connection had as many streams as it may.",
        &[],
        MetricType::COUNTER,
    ),
    (
        "portolan_proxy_access_log_dropped_total",
        "Lines of the access log that were dropped because the writer lagged.",
        &[],
        MetricType::COUNTER,
    ),
    (
        "portolan_proxy_tls_handshakes_total",
        "TLS handshakes that succeeded.",
        &["listener", "version", "resumed"],
        MetricType::COUNTER,
    ),
    (
        "portolan_proxy_tls_handshake_failures_total",
        "TLS handshakes that failed, by reason.",
        &["listener", "reason"],
        MetricType::COUNTER,
    ),
    (
        "portolan_proxy_upstream_tls_handshakes_total",
        "TLS handshakes with endpoints that succeeded.",
        &["version", "resumed"],
        MetricType::COUNTER,
    ),
    (
        "portolan_proxy_upstream_tls_failures_total",
        "TLS handshakes with endpoints that failed, by reason.",
        &["reason"],
        MetricType::COUNTER,
    ),
    (
        "portolan_proxy_tls_unknown_names_total",
        "TLS handshakes that asked for a name no certificate has.",
        &["listener"],
        MetricType::COUNTER,
    ),
    (
        "portolan_proxy_tls_first_expiry_timestamp_seconds",
        "When the first of the certificates in force expires, in Unix time.",
        &[],
        MetricType::GAUGE,
    ),
];

fn labels(pairs: &[(&str, &str)]) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    pairs.iter().map(pair).collect()
}

pub(super) fn counter(pairs: &[(&str, &str)], value: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    let mut metric = Metric::from_label(labels(pairs));
    metric.set_counter(counter);
    metric
}

/// Handshakes by their kind, with `labels` before their own.
pub(super) fn handshakes(labels: &[(&str, &str)], counts: &[u64; KINDS.len()]) -> Vec<Metric> {
    let series = KINDS.iter().zip(counts).map(|((version, resumed), count)| {
        counter(&[labels, &[("resumed", resumed), ("version", version)]].concat(), *count)
    });
    series.collect()
}

/// The same for failures by their reason, the first of [`REASONS`].
pub(super) fn failures(labels: &[(&str, &str)], counts: &[u64]) -> Vec<Metric> {
    let series = REASONS.iter().zip(counts);
    series.map(|(reason, count)| counter(&[labels, &[("reason", reason)]].concat(), *count)).collect()
}

pub(super) fn gauge(pairs: &[(&str, &str)], value: u64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value as f64);
    let mut metric = Metric::from_label(labels(pairs));
    metric.set_gauge(gauge);
    metric
}

pub(super) fn histogram(name: &str, sums: &ListenerSums) -> Metric {
    let mut below = 0;
    let bucket = |(bound, count): (&f64, &u64)| {
        below += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(below);
        bucket
    };
    let mut histogram = Histogram::default();
    histogram.set_bucket(BOUNDS.iter().zip(&sums.buckets).map(bucket).collect());
    histogram.set_sample_count(sums.buckets.iter().sum());
    histogram.set_sample_sum(sums.micros as f64 / 1e6);
    let mut metric = Metric::from_label(labels(&[("listener", name)]));
    metric.set_histogram(histogram);
    metric
}
