//! The comparisons.

mod dns;
mod latency;
mod scale;
mod tcp;
mod web;

use std::path::PathBuf;
use std::time::Duration;

use crate::goal::{BARE, BEST, Goal, goal, own};
use crate::sample::Outcome;
use crate::server::{Server, Spec};
use crate::servers::portolan;
use crate::trouble::Trouble;

/// What an operation is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    Query,
    Request,
    Connection,
    Gibibyte,
    /// Not cost but the latency that 99 of 100 operations keep below.
    P99,
}

/// Loads one server for a time.
pub(crate) type Load = Box<dyn Fn(&Server, Duration) -> Result<Outcome, String>>;

/// Servers that are up, and how to load each.
pub(crate) struct Trial {
    pub(crate) servers: Vec<Server>,
    /// Processes whose CPU time belongs to the load.
    pub(crate) helpers: Vec<Server>,
    pub(crate) load: Load,
    /// What a reader must know.
    pub(crate) notes: Vec<String>,
}

/// What a part needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// Its own folder for configurations and logs.
    pub(crate) directory: PathBuf,
    /// Names of the large table.
    pub(crate) names: usize,
}

/// One comparison.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    pub(crate) unit: Unit,
    /// The row that ratios refer to.
    pub(crate) reference: &'static str,
    pub(crate) goals: &'static [Goal],
    pub(crate) prepare: fn(&Place) -> Result<Trial, Trouble>,
}

macro_rules! part {
    ($key:literal, $title:literal, $unit:ident, $reference:literal, [$($goal:expr),*], $prepare:path) => {
        Part {
            key: $key,
            title: $title,
            unit: Unit::$unit,
            reference: $reference,
            goals: &[$($goal),*],
            prepare: $prepare,
        }
    };
}

/// All of them, with the figures of the issue that asked for them.
pub(crate) const ALL: [Part; 21] = [
    part!(
        "dns-a",
        "DNS A, 10,000 names of 4 addresses, 20 % NXDOMAIN, EDNS",
        Query,
        "knot",
        [goal("knot", 0.86), goal("nsd", 0.95), goal(BARE, 1.05)],
        dns::a
    ),
    part!("dns-srv", "DNS SRV, 4 targets with addresses", Query, "knot", [goal("knot", 0.70)], dns::srv),
    part!(
        "dns-a-1m",
        "DNS A, a large table beside 10,000 names",
        Query,
        "portolan",
        [own("portolan-1m", 1.15)],
        dns::large
    ),
    part!(
        "dns-a-churn",
        "DNS A, 10,000 names, while 100 changes a second are published",
        Query,
        "portolan",
        [own("portolan-churn", 1.15)],
        dns::churn
    ),
    part!(
        "http",
        "HTTP/1.1 keep-alive, 128 B, 4 upstreams, 64 connections, saturated",
        Request,
        "haproxy",
        [goal("haproxy", 0.90), goal("nginx", 0.90), goal("envoy", 0.40), goal(BARE, 1.10)],
        web::http
    ),
    part!(
        "http-paced",
        "HTTP/1.1 keep-alive, 128 B, 4,000 requests/s on 16 connections",
        Request,
        "haproxy",
        [goal("haproxy", 0.75)],
        web::paced
    ),
    part!(
        "http-16k",
        "HTTP/1.1 keep-alive, 16 KiB",
        Request,
        "haproxy",
        [goal("haproxy", 0.65)],
        web::medium
    ),
    part!(
        "http-vhosts",
        "HTTP/1.1 keep-alive, 128 B, 1,000 virtual hosts",
        Request,
        "haproxy",
        [goal("haproxy", 0.95)],
        web::vhosts
    ),
    part!(
        "http-1m",
        "HTTP/1.1 keep-alive, 1 MiB, 16 connections",
        Request,
        "haproxy-splice",
        [goal("haproxy-splice", 0.95)],
        web::large
    ),
    part!(
        "tls",
        "HTTP/1.1 keep-alive over TLS 1.3, 128 B, 64 connections",
        Request,
        "haproxy",
        [goal("haproxy", 0.80)],
        web::tls
    ),
    part!(
        "tls-handshake",
        "A full TLS 1.3 handshake (ECDSA P-256, X25519) and one request a connection",
        Connection,
        "haproxy",
        [goal("haproxy", 0.50), goal("envoy", 0.70)],
        web::handshake
    ),
    part!(
        "h2",
        "HTTP/2 over TLS, 16 connections of 8 streams, 128 B",
        Request,
        "haproxy",
        [goal("haproxy", 0.95), goal("envoy", 0.45)],
        web::h2
    ),
    part!("h2c", "HTTP/2 without TLS, 16 connections of 8 streams, 128 B", Request, "haproxy", [], web::h2c),
    part!(
        "tcp",
        "TCP bulk relay, 4 connections",
        Gibibyte,
        "haproxy",
        [goal("haproxy", 0.42), goal("haproxy-splice", 0.95), goal("traefik", 0.95), goal(BARE, 1.08)],
        tcp::bulk
    ),
    part!(
        "tcp-connect",
        "TCP connect, 1 byte there and back, close",
        Connection,
        "haproxy",
        [goal(BARE, 1.05), goal("haproxy", 1.05)],
        tcp::connect
    ),
    part!(
        "scale-dns",
        "DNS A with two workers beside one, load on the same two CPUs",
        Query,
        "portolan",
        [own("portolan-2-workers", 1.11)],
        scale::dns
    ),
    part!(
        "scale-http",
        "HTTP/1.1 with two workers beside one, load on the same two CPUs",
        Request,
        "portolan",
        [own("portolan-2-workers", 1.11)],
        scale::http
    ),
    part!("latency-dns", "Latency at half load: DNS A", P99, "knot", [goal(BEST, 1.2)], latency::dns),
    part!(
        "latency-http",
        "Latency at half load: HTTP/1.1, 128 B, 64 connections",
        P99,
        "haproxy",
        [goal(BEST, 1.2)],
        latency::http
    ),
    part!(
        "latency-tls",
        "Latency at half load: HTTP/1.1 over TLS 1.3, 128 B, 64 connections",
        P99,
        "haproxy",
        [goal(BEST, 1.2)],
        latency::tls
    ),
    part!(
        "latency-h2",
        "Latency at half load: HTTP/2 over TLS, 16 connections of 8 streams, 128 B",
        P99,
        "haproxy",
        [goal(BEST, 1.2)],
        latency::h2
    ),
];

/// True if `wanted` names the part, or the group of parts it stands in (`latency`, `scale`).
pub(crate) fn matches(key: &str, wanted: &str) -> bool {
    let group = ALL.iter().all(|part| part.key != wanted);
    key == wanted || group && key.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('-'))
}

/// Servers that could be started, and notes about those that could not. Without Portolan there is nothing to compare.
fn start(
    place: &Place,
    specs: Vec<Result<Spec, String>>,
    serves: impl Fn(&Server) -> bool,
) -> Result<(Vec<Server>, Vec<String>), Trouble> {
    let (mut servers, mut notes) = (Vec::new(), Vec::new());
    let own = |server: &Server| server.name.starts_with("portolan");
    let serves = |server: &Server| serves(server) && (!own(server) || portolan::ready(server.port));
    for spec in specs {
        let started = spec.and_then(|spec| Server::start(&spec, &place.directory));
        match started.and_then(|mut server| server.ready(serves).map(|()| server)) {
            Ok(server) => servers.push(server),
            Err(complaint) if complaint.starts_with("portolan") => return Err(complaint.into()),
            Err(complaint) => notes.push(format!("left out: {complaint}")),
        }
    }
    Ok((servers, notes))
}
