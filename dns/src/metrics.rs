//! Counters of queries and replies: plain cells per worker, summed when somebody looks.
//!
//! | name | unit | labels | meaning |
//! |---|---|---|---|
//! | `portolan_dns_queries_total` | queries | `transport`, `type` | queries read, by type asked for |
//! | `portolan_dns_replies_total` | replies | `transport`, `rcode` | replies written |
//! | `portolan_dns_truncated_total` | replies | `transport` | replies with the TC bit |
//! | `portolan_dns_ignored_total` | packets | `transport` | packets that are no query: too short, or replies |
//! | `portolan_dns_handed_over_total` | queries | `transport` | queries for names in none of our zones, taken by the forwarder |
//! | `portolan_dns_send_failures_total` | replies | `transport` | replies the kernel did not take |
//! | `portolan_dns_denied_total` | queries | `transport` | queries of clients that `allow_query` leaves out |
//! | `portolan_dns_rate_limited_total` | replies | `transport`, `action` | replies cut (`slip`) or not sent (`drop`) |
//! | `portolan_dns_cookies_total` | queries | `transport`, `outcome` | queries with a cookie, by what it was |

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, Opts, Registry};

use crate::cookie::Shown;
use crate::wire::{Rcode, rtype};

/// How a query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams.
    Udp = 0,
    /// Streams (RFC 7766).
    Tcp = 1,
}

const TRANSPORTS: [(Transport, &str); 2] = [(Transport::Udp, "udp"), (Transport::Tcp, "tcp")];
/// Types counted by name; all others are counted together, so that clients cannot make series.
const TYPES: [(u16, &str); 9] = [
    (rtype::A, "A"),
    (rtype::AAAA, "AAAA"),
    (rtype::SRV, "SRV"),
    (rtype::TXT, "TXT"),
    (rtype::PTR, "PTR"),
    (rtype::SOA, "SOA"),
    (rtype::NS, "NS"),
    (rtype::ANY, "ANY"),
    (0, "other"),
];

const LIMITED: [&str; 2] = ["slip", "drop"];
const COOKIES: [&str; 4] = ["valid", "new", "invalid", "malformed"];

/// Counts of one batch or one query, on the stack of its worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    queries: [u32; TYPES.len()],
    replies: [u32; Rcode::ALL.len()],
    truncated: u32,
    ignored: u32,
    handed_over: u32,
    send_failures: u32,
    denied: u32,
    limited: [u32; LIMITED.len()],
    cookies: [u32; COOKIES.len()],
}

impl Tally {
    /// A query of this type was read.
    #[inline]
    pub fn query(&mut self, qtype: u16) {
        let at = TYPES.iter().position(|(number, _)| *number == qtype).unwrap_or(TYPES.len() - 1);
        self.queries[at] += 1;
    }

    /// A reply was written.
    #[inline]
    pub fn reply(&mut self, rcode: Rcode, truncated: bool) {
        self.replies[rcode.index()] += 1;
        self.truncated += u32::from(truncated);
    }

    /// A packet was no query.
    pub fn ignored(&mut self) {
        self.ignored += 1;
    }

    /// A query was handed to the forwarder.
    pub fn handed_over(&mut self) {
        self.handed_over += 1;
    }

    /// The kernel did not take `replies` replies.
    pub fn send_failures(&mut self, replies: u32) {
        self.send_failures += replies;
    }

    /// A query's client may not ask.
    pub(crate) fn denied(&mut self) {
        self.denied += 1;
    }

    /// A reply was cut for the rate limit.
    pub(crate) fn slipped(&mut self) {
        self.limited[0] += 1;
    }

    /// A reply was dropped for the rate limit.
    pub(crate) fn dropped(&mut self) {
        self.limited[1] += 1;
    }

    /// A query showed a cookie.
    pub(crate) fn cookie(&mut self, shown: Shown) {
        let at = match shown {
            Shown::Valid(_) => 0,
            Shown::New(_) => 1,
            Shown::Invalid(_) => 2,
            Shown::Malformed => 3,
        };
        self.cookies[at] += 1;
    }

    fn counts(&self) -> impl Iterator<Item = u32> {
        let others = [self.truncated, self.ignored, self.handed_over, self.send_failures, self.denied];
        let counts = self.queries.into_iter().chain(self.replies).chain(others);
        counts.chain(self.limited).chain(self.cookies)
    }
}

/// Counters by transport alone.
const OTHERS: usize = 5;
const CELLS: usize = TYPES.len() + Rcode::ALL.len() + OTHERS + LIMITED.len() + COOKIES.len();

/// The counters of one worker, on cache lines of their own. Written by its worker alone.
#[derive(Debug)]
#[repr(align(128))]
pub struct Cells([[AtomicU64; CELLS]; 2]);

impl Default for Cells {
    fn default() -> Self {
        Self(core::array::from_fn(|_| core::array::from_fn(|_| AtomicU64::new(0))))
    }
}

impl Cells {
    /// Adds a tally. Only the worker that owns the cells may call this: a load and a store, no bus lock.
    pub fn add(&self, transport: Transport, tally: &Tally) {
        for (cell, count) in self.0[transport as usize].iter().zip(tally.counts()).filter(|(_, n)| *n > 0) {
            cell.store(cell.load(Ordering::Relaxed) + u64::from(count), Ordering::Relaxed);
        }
    }
}

/// All workers' counters, as the registry collects them. Clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Shared>);

struct Shared {
    workers: Mutex<Vec<Arc<Cells>>>,
    queries: IntCounterVec,
    replies: IntCounterVec,
    others: [IntCounterVec; OTHERS],
    limited: IntCounterVec,
    cookies: IntCounterVec,
}

impl Metrics {
    /// Registers the metrics, once per process.
    ///
    /// # Errors
    /// When a metric of the same name is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let vec = |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let transport = &["transport"];
        let shared = Shared {
            workers: Mutex::default(),
            queries: vec(
                "portolan_dns_queries_total",
                "Queries read, by type asked for.",
                &["transport", "type"],
            )?,
            replies: vec(
                "portolan_dns_replies_total",
                "Replies written, by response code.",
                &["transport", "rcode"],
            )?,
            others: [
                vec("portolan_dns_truncated_total", "Replies with the TC bit.", transport)?,
                vec("portolan_dns_ignored_total", "Packets that are no query.", transport)?,
                vec(
                    "portolan_dns_handed_over_total",
                    "Queries for names outside our zones that the forwarder took.",
                    transport,
                )?,
                vec("portolan_dns_send_failures_total", "Replies the kernel did not take.", transport)?,
                vec("portolan_dns_denied_total", "Queries of clients that may not ask.", transport)?,
            ],
            limited: vec(
                "portolan_dns_rate_limited_total",
                "Replies cut or not sent for the rate limit.",
                &["transport", "action"],
            )?,
            cookies: vec(
                "portolan_dns_cookies_total",
                "Queries with a cookie, by what it was.",
                &["transport", "outcome"],
            )?,
        };
        let metrics = Self(Arc::new(shared));
        registry.register(Box::new(metrics.clone()))?;
        Ok(metrics)
    }

    /// New cells for one worker.
    #[must_use]
    pub fn worker(&self) -> Arc<Cells> {
        let cells = Arc::new(Cells::default());
        self.0.workers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&cells));
        cells
    }

    fn sums(&self) -> [[u64; CELLS]; 2] {
        let mut sums = [[0; CELLS]; 2];
        for cells in self.0.workers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            for (sum, cell) in sums.as_flattened_mut().iter_mut().zip(cells.0.as_flattened()) {
                *sum += cell.load(Ordering::Relaxed);
            }
        }
        sums
    }

    fn vecs(&self) -> impl Iterator<Item = &IntCounterVec> {
        let Shared { queries, replies, others, limited, cookies, .. } = &*self.0;
        [queries, replies].into_iter().chain(others).chain([limited, cookies])
    }
}

impl Collector for Metrics {
    fn desc(&self) -> Vec<&Desc> {
        self.vecs().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for ((_, transport), sums) in TRANSPORTS.iter().zip(self.sums()) {
            let mut sums = sums.into_iter();
            let set = |vec: &IntCounterVec, labels: &[&str], sum: u64| {
                let counter = vec.with_label_values(labels);
                counter.inc_by(sum.saturating_sub(counter.get()));
            };
            for ((_, name), sum) in TYPES.iter().zip(&mut sums) {
                set(&self.0.queries, &[transport, name], sum);
            }
            for (rcode, sum) in Rcode::ALL.iter().zip(&mut sums) {
                set(&self.0.replies, &[transport, rcode.as_str()], sum);
            }
            for (vec, sum) in self.0.others.iter().zip(&mut sums) {
                set(vec, &[transport], sum);
            }
            let labelled = LIMITED
                .map(|action| (&self.0.limited, action))
                .into_iter()
                .chain(COOKIES.map(|outcome| (&self.0.cookies, outcome)));
            for ((vec, label), sum) in labelled.zip(&mut sums) {
                set(vec, &[transport, label], sum);
            }
        }
        self.vecs().flat_map(Collector::collect).collect()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Metrics").field(&self.sums()).finish()
    }
}
