//! Zones for secondaries: whole (RFC 5936), as differences (RFC 1995), and word that there is something new (RFC 1996).
//!
//! ```text
//!  table ─► Journal::follow ─┬─ the version that is given away, one snapshot
//!            (blocking)      ├─ differences from the versions before, bounded
//!                            └─ notices ─► notifier ─► NOTIFY to each secondary, until it answers
//!  AXFR, IXFR ─► may it? ─► follow ─► Outlet: messages, signed ─► channel ─► the connection
//! ```
//!
//! What is transferred is what is answered: the records of every owner name are asked of [`crate::answer::answer`],
//! so a schema has nothing to do for it, and a secondary says what we say. It gets every record of a name; the
//! rotation and the choice that fits a datagram are its own. A zone that still lacks a source is not given away:
//! unknown is not empty.
//!
//! All of it is the business of blocking threads and of the control side. A worker only relays finished messages.

mod follow;
mod journal;
mod message;
mod metrics;
mod notify;
mod outlet;
mod records;

use core::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use portolan_table::{Table, ViewKey};
use prometheus::Registry;
use tokio::sync::{Notify, mpsc};

pub(crate) use follow::follow;
pub use journal::Difference;
use journal::{Held, Journal};
pub use metrics::METRICS;
use metrics::{Kind, Metrics};
use outlet::Outlet;
pub use records::{Record, records_of};

use crate::config::{Config, Transfer};
use crate::networks::Networks;
use crate::tsig::{Key, Keys, Signer};
use crate::wire::{self, Query, Rcode, rtype};
use crate::zone::Zones;

/// Messages made and not yet written; a slow secondary holds no more than these.
const MESSAGES_AHEAD: usize = 2;

/// What the configuration says of transfers.
#[derive(Debug)]
struct Rules {
    config: Transfer,
    allow: Networks,
    /// Signs notifications.
    key: Option<Arc<Key>>,
}

impl Rules {
    fn new(config: &Config, keys: &Keys) -> Self {
        let transfer = config.transfer.clone();
        let key = transfer.keys.first().and_then(|name| keys.named(name)).cloned();
        Self { allow: Networks::new(&transfer.allow), key, config: transfer }
    }

    /// True if the client at this address, who signed with this key, may have zones.
    fn allow(&self, client: IpAddr, key: Option<&str>) -> bool {
        let keys = &self.config.keys;
        if keys.is_empty() {
            return self.allow.allows(client);
        }
        let signed = key.is_some_and(|key| keys.iter().any(|known| **known == *key));
        signed && (!self.allow.is_open() || self.allow.allows(client))
    }
}

/// The transfers of a server.
#[derive(Debug)]
pub(crate) struct Transfers {
    table: Table,
    view: ViewKey<Zones>,
    rules: ArcSwap<Rules>,
    /// There are other rules.
    reconfigured: Notify,
    journal: Journal,
    open: AtomicUsize,
    metrics: Metrics,
}

/// A request for a zone that was read and whose signature was checked.
#[derive(Debug)]
pub(crate) struct Request {
    /// The message, without a signature.
    pub(crate) packet: Vec<u8>,
    pub(crate) client: IpAddr,
    pub(crate) signer: Option<Signer>,
    /// Over UDP: the whole reply is one message of at most so many octets, signature and cookie not counted.
    pub(crate) datagram: Option<usize>,
}

/// The messages of a reply, as they are made: signed, each without its length.
pub(crate) type Messages = mpsc::Receiver<Vec<u8>>;

impl Transfers {
    pub(crate) fn new(
        config: &Config,
        keys: &Keys,
        table: Table,
        view: ViewKey<Zones>,
        registry: &Registry,
    ) -> prometheus::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            table,
            view,
            rules: ArcSwap::from_pointee(Rules::new(config, keys)),
            reconfigured: Notify::new(),
            journal: Journal::default(),
            open: AtomicUsize::new(0),
            metrics: Metrics::new(registry)?,
        }))
    }

    pub(crate) fn reconfigure(&self, config: &Config, keys: &Keys) {
        self.rules.store(Arc::new(Rules::new(config, keys)));
        self.reconfigured.notify_one();
    }

    /// Makes the reply to a request, on a blocking thread. An error is to be answered with its code, signed all the
    /// same, and comes with the signer for that.
    ///
    /// Cancel-safe: a reply that nobody waits for any more is not made to its end.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        request: Request,
    ) -> Result<Messages, (Rcode, Option<Signer>)> {
        let key = request.signer.as_ref().map(Signer::key);
        if !self.rules.load().allow(request.client, key) {
            self.metrics.refused();
            tracing::debug!(client = %request.client, key, "zone transfer refused");
            return Err((Rcode::Refused, request.signer));
        }
        let Some(place) = Place::take(self) else {
            self.metrics.overload();
            return Err((Rcode::ServFail, request.signer));
        };
        let (sink, messages) = mpsc::channel(MESSAGES_AHEAD);
        let prepared = tokio::task::spawn_blocking(move || (place.0.prepare(&request), place, request));
        // A panic is a bug, and of this request alone.
        let Ok((held, place, mut request)) = prepared.await else { return Err((Rcode::ServFail, None)) };
        let signer = request.signer.take();
        let held = match held {
            Ok(held) => held,
            Err(rcode) => return Err((rcode, signer)),
        };
        tokio::task::spawn_blocking(move || {
            let outlet = Outlet::new(sink, signer, request.datagram);
            place.0.give(&request, held, outlet);
            drop(place);
        });
        Ok(messages)
    }

    /// What there is to give.
    fn prepare(&self, request: &Request) -> Result<Held, Rcode> {
        let wire::Request::Question(query) = wire::Request::read(&request.packet) else {
            return Err(Rcode::FormErr);
        };
        let have = match query.qtype() {
            rtype::IXFR => Some(query.authority_serial().ok_or(Rcode::FormErr)?),
            _ => None,
        };
        self.follow();
        self.journal.held(query.name().octets(), have)
    }

    /// Makes and sends the messages.
    fn give(&self, request: &Request, held: Held, mut outlet: Outlet) {
        let wire::Request::Question(query) = wire::Request::read(&request.packet) else { return };
        let kind = match held {
            Held::Current(soa) => outlet.current(&query, &soa).map(|()| Kind::Current),
            Held::Differences(soa, differences) => {
                outlet.differences(&query, &soa, &differences).map(|()| Kind::Differences)
            }
            Held::Whole(soa, zones) => outlet.whole(&query, &soa, &zones).map(|()| Kind::Whole),
        };
        self.metrics.octets(outlet.octets());
        let zone = wire::name_to_text(query.name().octets());
        match kind {
            Ok(kind) => {
                self.metrics.given(kind);
                tracing::info!(zone, client = %request.client, kind = kind.as_str(), octets = outlet.octets(), "zone transferred");
            }
            Err(outlet::Broken) => {
                self.metrics.broken();
                tracing::info!(zone, client = %request.client, octets = outlet.octets(), "zone transfer broken off");
            }
        }
    }

    /// Takes over what the table holds now. Costs as much as it differs from what was taken before.
    fn follow(&self) {
        let zones = || self.table.load().view(self.view).clone();
        self.journal.follow(zones, self.rules.load().config.journal_max);
        self.measure();
    }

    /// Forgets what was given away, when nothing is any more.
    fn forget(&self) {
        self.journal.forget();
        self.measure();
    }

    fn measure(&self) {
        let (differences, octets) = self.journal.size();
        self.metrics.journal(differences, octets);
    }
}

/// A transfer among those that may be at once.
#[derive(Debug)]
struct Place(Arc<Transfers>);

impl Place {
    fn take(transfers: &Arc<Transfers>) -> Option<Self> {
        let max = transfers.rules.load().config.transfers_max;
        let more = |open: usize| (open < max).then_some(open + 1);
        transfers.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        transfers.metrics.open(1);
        Some(Self(Arc::clone(transfers)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.open(-1);
    }
}

/// True for the types that ask for zones.
pub(crate) fn is_wanted(query: &Query<'_>, over_udp: bool) -> bool {
    match query.qtype() {
        rtype::IXFR => true,
        // RFC 5936 §4.2 knows none over UDP.
        rtype::AXFR => !over_udp,
        _ => false,
    }
}
