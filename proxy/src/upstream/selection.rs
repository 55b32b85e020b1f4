//! One upstream in one worker: the choice of an endpoint.

use core::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use foldhash::fast::RandomState;
use portolan_table::{AppProtocol, Endpoint, Service, Slot, Snapshot};

use super::budget::Budget;
use super::cells::Cells;
use super::counters::Counters;
use super::{FORGET_AFTER_MS, Refusal, Worker};
use crate::balance::{Cursor, PortTable, Usual, below};
use crate::route::{Routes, Target};
use crate::{Balance, UpstreamConfig};

/// Proposals of the policy that are looked at before the neighbours of the last one are.
const TURNS: u32 = 16;
/// Neighbours that are looked at. Together with [`TURNS`] the limit of what one pick costs: where more than this
/// are ejected or full, the next request may be refused although somebody far off could take it.
const NEIGHBOURS: usize = 256;

/// State of one service port, as one rule's target names it, in one worker.
#[derive(Debug)]
pub(super) struct Upstream {
    target: Target,
    /// The policy, and a copy of this worker's own: its reference count is not shared with other workers.
    config: RefCell<(Arc<UpstreamConfig>, Rc<UpstreamConfig>)>,
    pub(super) worker: Rc<Worker>,
    cursor: Cursor,
    pub(super) budget: Budget,
    /// The version of the service that was used last. Weak, so that the publisher frees it and not a worker.
    version: RefCell<Weak<Service>>,
    /// How many endpoints were live in it.
    pub(super) live: Cell<usize>,
    /// Endpoints ejected or on trial.
    pub(super) suspended: RefCell<Vec<Slot>>,
    /// What peak EWMA holds a wait without an answer against.
    pub(super) usual: Cell<Usual>,
    /// Picks that are open.
    pub(super) open: Cell<usize>,
    used_at: Cell<u64>,
    presence: RefCell<Presence>,
}

/// Which endpoints were live at the last tick, kept while something is open to them.
#[derive(Debug, Default)]
struct Presence {
    of: Weak<Service>,
    /// `None`: not known since the service changed.
    live: Option<HashSet<Slot, RandomState>>,
    since: u64,
}

/// How an endpoint looks to a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// It may have it; so many are in flight.
    Takes(u32),
    /// It is ejected, or its trial is under way.
    Suspended,
    /// It failed this request before.
    Tried,
    /// It has as many in flight as it may.
    Full,
}

impl Upstream {
    pub(super) fn new(target: &Target, worker: Rc<Worker>) -> Self {
        let own = Rc::new(UpstreamConfig::clone(&target.config));
        Self {
            target: target.clone(),
            config: RefCell::new((Arc::clone(&target.config), own)),
            worker,
            cursor: Cursor::new(fastrand::u64(..)),
            budget: Budget::default(),
            version: RefCell::default(),
            live: Cell::new(0),
            suspended: RefCell::default(),
            usual: Cell::default(),
            open: Cell::new(0),
            used_at: Cell::new(0),
            presence: RefCell::default(),
        }
    }

    pub(super) fn key(&self) -> u64 {
        self.target.key
    }

    pub(super) fn service(&self) -> &str {
        self.target.service.as_str()
    }

    /// True if this is the state of `target`, whose policy it takes over if that is another now.
    #[inline]
    pub(super) fn is_of(&self, target: &Target) -> bool {
        if self.target.service != target.service || self.target.port != target.port {
            return false;
        }
        if !Arc::ptr_eq(&self.config.borrow().0, &target.config) {
            let own = Rc::new(UpstreamConfig::clone(&target.config));
            self.config.replace((Arc::clone(&target.config), own));
        }
        true
    }

    #[inline]
    pub(super) fn config(&self) -> Rc<UpstreamConfig> {
        Rc::clone(&self.config.borrow().1)
    }

    pub(super) fn cells(&self) -> &Cells {
        &self.worker.state.cells
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.worker.state.counters
    }

    /// Counts a request that begins.
    #[inline]
    pub(super) fn begin(&self, now: u64) {
        self.used_at.set(now);
        self.budget.request(now);
    }

    /// Chooses among the endpoints that are live in `snapshot`.
    pub(super) fn pick(
        &self,
        snapshot: &Snapshot,
        routes: &Routes,
        wish: &Wish<'_>,
    ) -> Result<(Endpoint, AppProtocol), Refusal> {
        let name = &self.target.service;
        let service = snapshot.service_hashed(self.target.service_hash, name).ok_or(Refusal::NoService)?;
        let port = service.port(self.target.port.as_deref()).ok_or(Refusal::NoPort)?;
        let live = port.live();
        if !core::ptr::eq(self.version.borrow().as_ptr(), Arc::as_ptr(service)) {
            self.follow(service, live);
        }
        if live.is_empty() {
            self.counters().no_endpoint.increment();
            return Err(Refusal::NoEndpoint);
        }
        let by_table = port.weighted || matches!(wish.config.balance, Balance::ConsistentHash(_));
        let table = by_table
            .then(|| routes.tables(self.target.service_hash, name))
            .flatten()
            .and_then(|t| t.port(service.ports.iter().position(|other| core::ptr::eq(other, port))?, live));
        let at = self.select(live, table, wish)?;
        Ok((live[at], port.app_protocol))
    }

    fn select(
        &self,
        live: &[Endpoint],
        table: Option<&PortTable>,
        wish: &Wish<'_>,
    ) -> Result<usize, Refusal> {
        let strict = !self.panics(wish.config);
        let mut last = 0;
        let mut spare = None;
        let mut full = false;
        let mut look = |at: usize| {
            let fit = self.fit(&live[at], wish, strict);
            match fit {
                Fit::Takes(_) => return true,
                Fit::Suspended => spare = Some(at),
                Fit::Tried => spare = spare.or(Some(at)),
                Fit::Full => full = true,
            }
            false
        };
        for turn in 0..TURNS {
            last = self.propose(live, table, wish, strict, turn);
            if look(last) {
                return Ok(last);
            }
        }
        for step in 1..=NEIGHBOURS.min(live.len()) {
            let at = (last + step) % live.len();
            if look(at) {
                return Ok(at);
            }
        }
        // Nobody is left but those who failed lately: better one of them than a refusal that is certain.
        if spare.is_none() && full {
            self.counters().saturated.increment();
        }
        spare.ok_or(Refusal::Saturated)
    }

    #[inline]
    fn propose(
        &self,
        live: &[Endpoint],
        table: Option<&PortTable>,
        wish: &Wish<'_>,
        strict: bool,
        turn: u32,
    ) -> usize {
        match (&wish.config.balance, table) {
            (Balance::ConsistentHash(_), Some(PortTable::Ring(ring))) => ring.at(wish.key, turn),
            (Balance::LeastRequest | Balance::PeakEwma, table) if live.len() > 1 => {
                self.of_two(live, table, wish, strict)
            }
            // A retry leaves the walk alone: taking a step of it, retries away from one bad endpoint of two would
            // bring every request to that one first.
            (_, Some(PortTable::Weights(weights))) if !wish.tried.is_empty() => weights.at(fastrand::u64(..)),
            (_, Some(PortTable::Weights(weights))) => self.cursor.next_weighted(weights),
            _ if !wish.tried.is_empty() => below(fastrand::u64(..), live.len()),
            _ => self.cursor.next(live.len()),
        }
    }

    #[inline]
    pub(super) fn fit(&self, endpoint: &Endpoint, wish: &Wish<'_>, strict: bool) -> Fit {
        let cell = self.cells().own(endpoint.slot);
        let in_flight = cell.in_flight();
        let until = cell.suspended_until();
        // After its time an endpoint gets one request at a time, until one succeeds.
        if until != 0 && strict && (wish.now < until || cell.on_trial()) {
            return Fit::Suspended;
        }
        if wish.tried.contains(&endpoint.slot) {
            return Fit::Tried;
        }
        let max = wish.config.in_flight_max;
        if max != 0 && in_flight >= max { Fit::Full } else { Fit::Takes(in_flight) }
    }

    /// Takes note of another version of the service.
    #[cold]
    fn follow(&self, service: &Arc<Service>, live: &[Endpoint]) {
        self.version.replace(Arc::downgrade(service));
        self.live.set(live.len());
        self.presence.borrow_mut().live = None;
        let mut suspended = self.suspended.borrow_mut();
        if suspended.is_empty() {
            return;
        }
        let live: HashSet<Slot, RandomState> = live.iter().map(|endpoint| endpoint.slot).collect();
        suspended.retain(|slot| {
            let stays = live.contains(slot);
            if !stays && let Some(cell) = self.cells().held(*slot) {
                // It was taken out by others; when they bring it back it starts afresh.
                cell.restore(0);
            }
            stays
        });
    }

    pub(super) fn out_of_use(&self, now: u64) -> bool {
        self.open.get() == 0 && now.saturating_sub(self.used_at.get()) > FORGET_AFTER_MS
    }

    /// Once a second: which endpoints are still live, if anything is open to them.
    pub(super) fn tick(&self, snapshot: &Snapshot, now: u64) {
        self.forget_restored();
        if self.open.get() == 0 {
            return;
        }
        let service = snapshot.service_hashed(self.target.service_hash, &self.target.service);
        let of = service.map_or_else(Weak::new, Arc::downgrade);
        let mut presence = self.presence.borrow_mut();
        if presence.live.is_some() && presence.of.ptr_eq(&of) {
            return;
        }
        let port = service.and_then(|service| service.port(self.target.port.as_deref()));
        let live = port.map_or(&[][..], |port| port.live());
        *presence =
            Presence { of, live: Some(live.iter().map(|endpoint| endpoint.slot).collect()), since: now };
    }

    /// Whether the endpoint was live at the last tick, and when that was; `None` if that is not known at present.
    pub(super) fn is_live(&self, slot: Slot) -> Option<Result<(), u64>> {
        let presence = self.presence.borrow();
        let live = presence.live.as_ref()?;
        Some(if live.contains(&slot) { Ok(()) } else { Err(presence.since) })
    }
}

/// What a request wants of an upstream.
pub(super) struct Wish<'a> {
    pub(super) config: &'a UpstreamConfig,
    pub(super) key: u64,
    pub(super) tried: &'a [Slot],
    pub(super) now: u64,
}
