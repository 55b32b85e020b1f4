//! The metrics of upstreams and relays, read from the workers' counts when scraped.

use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Registry};

use super::Board;
use super::counters::{Count, Counters};

/// Which count it is, name, help. All are counts since start.
type Row = (fn(&Counters) -> &Count, &'static str, &'static str);

const TABLE: [Row; 25] = [
    (|c| &c.retries, "portolan_proxy_retries_total", "Attempts after the first."),
    (
        |c| &c.retries_refused,
        "portolan_proxy_retries_refused_total",
        "Retries that the budget did not allow.",
    ),
    (|c| &c.ejections, "portolan_proxy_ejections_total", "Ejections of an endpoint by a worker."),
    (
        |c| &c.ejections_refused,
        "portolan_proxy_ejections_refused_total",
        "Ejections not made because of the panic threshold.",
    ),
    (
        |c| &c.saturated,
        "portolan_proxy_saturated_total",
        "Requests refused as every endpoint had as many in flight as it may.",
    ),
    (
        |c| &c.no_endpoint,
        "portolan_proxy_no_endpoint_total",
        "Requests for a service without a live endpoint.",
    ),
    (
        |c| &c.tcp_connections,
        "portolan_proxy_tcp_connections_total",
        "Connections accepted by tcp listeners.",
    ),
    (|c| &c.tcp_closed, "portolan_proxy_tcp_closed_total", "Connections of tcp listeners that have ended."),
    (
        |c| &c.tcp_refused,
        "portolan_proxy_tcp_refused_total",
        "Connections closed at once because of their number.",
    ),
    (
        |c| &c.tcp_unserved,
        "portolan_proxy_tcp_unserved_total",
        "Connections for which no endpoint was found.",
    ),
    (|c| &c.tcp_accept_errors, "portolan_proxy_tcp_accept_errors_total", "Accepts that failed."),
    (
        |c| &c.tcp_connect_errors,
        "portolan_proxy_tcp_connect_errors_total",
        "Connects to an endpoint that failed.",
    ),
    (|c| &c.tcp_octets_up, "portolan_proxy_tcp_upstream_bytes_total", "Bytes relayed to endpoints."),
    (|c| &c.tcp_octets_down, "portolan_proxy_tcp_downstream_bytes_total", "Bytes relayed to clients."),
    (|c| &c.udp_flows, "portolan_proxy_udp_flows_total", "Flows begun by udp listeners."),
    (|c| &c.udp_closed, "portolan_proxy_udp_flows_closed_total", "Flows of udp listeners that have ended."),
    (
        |c| &c.udp_evicted,
        "portolan_proxy_udp_flows_evicted_total",
        "Flows ended before their time because of their number.",
    ),
    (|c| &c.udp_unserved, "portolan_proxy_udp_unserved_total", "Datagrams dropped as no endpoint was found."),
    (
        |c| &c.udp_dropped,
        "portolan_proxy_udp_dropped_total",
        "Datagrams dropped as a socket did not take them.",
    ),
    (|c| &c.udp_refused, "portolan_proxy_udp_refused_total", "Flows ended by an endpoint that refused."),
    (
        |c| &c.udp_socket_errors,
        "portolan_proxy_udp_socket_errors_total",
        "Flows for which the system gave no socket.",
    ),
    (
        |c| &c.udp_datagrams_up,
        "portolan_proxy_udp_upstream_datagrams_total",
        "Datagrams relayed to endpoints.",
    ),
    (
        |c| &c.udp_datagrams_down,
        "portolan_proxy_udp_downstream_datagrams_total",
        "Datagrams relayed to clients.",
    ),
    (|c| &c.udp_octets_up, "portolan_proxy_udp_upstream_bytes_total", "Bytes of datagrams to endpoints."),
    (|c| &c.udp_octets_down, "portolan_proxy_udp_downstream_bytes_total", "Bytes of datagrams to clients."),
];

struct Sums {
    board: Arc<Board>,
    /// What the sums are described by; their values are not used.
    described: Vec<Counter>,
}

impl Board {
    /// Adds the upstreams' metrics to `registry`.
    ///
    /// # Errors
    /// If they were added before.
    pub fn register(self: &Arc<Self>, registry: &Registry) -> prometheus::Result<()> {
        let described = TABLE
            .iter()
            .map(|(_, name, help)| Counter::new(*name, *help))
            .collect::<prometheus::Result<_>>()?;
        registry.register(Box::new(Sums { board: Arc::clone(self), described }))
    }
}

impl Collector for Sums {
    fn desc(&self) -> Vec<&Desc> {
        self.described.iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let sum = |(of, name, help): &Row| {
            // Made anew, so that two scrapes at once don't add up.
            let counter = Counter::new(*name, *help).ok()?;
            let sum: u64 = self.board.workers.iter().map(|worker| of(&worker.counters).value()).sum();
            counter.inc_by(sum as f64);
            Some(counter.collect())
        };
        TABLE.iter().filter_map(sum).flatten().collect()
    }
}
