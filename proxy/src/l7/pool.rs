//! Idle connections to endpoints, per worker: the one used last is used first, dead ones are not used.

use core::cell::RefCell;
use core::mem::MaybeUninit;
use core::net::SocketAddr;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;

use portolan_table::{Generation, Slot, Snapshot};

use super::clock::Clock;
use crate::config::UpstreamConfig;
use crate::stream::Stream;
use crate::tls::Policy;
use crate::upstream::Picked;

/// Idle connections over all endpoints of one worker.
const IDLE_MAX: usize = 16 * 1024;
/// How long connections beyond what is kept for an endpoint may be idle, in milliseconds.
const EXCESS_MS: u64 = 1_000;

/// Where a connection leads, and what it was made by: services with the same endpoint may believe others, or come as
/// somebody else; and what was believed when a connection was made may be no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Towards {
    address: SocketAddr,
    slot: Slot,
    policy: Policy,
}

impl Towards {
    pub(crate) const fn new(picked: &Picked, policy: Policy) -> Self {
        Self { address: picked.address, slot: picked.slot, policy }
    }

    /// Whether the endpoint is one of this service.
    pub(super) fn is_live(&self, snapshot: &Snapshot, service: &str) -> bool {
        let Some(service) = snapshot.service(service) else { return false };
        let mut live = service.ports.iter().flat_map(|port| port.live());
        live.any(|endpoint| endpoint.address == self.address && endpoint.slot == self.slot)
    }
}

/// The idle connections of one worker.
#[derive(Debug)]
pub(crate) struct Pool {
    clock: Rc<Clock>,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    endpoints: HashMap<Towards, Idles, foldhash::fast::RandomState>,
    count: usize,
    /// The generation that endpoints were last looked up in.
    seen: Generation,
}

#[derive(Debug)]
struct Idles {
    /// A service that the endpoint belongs to.
    service: Box<str>,
    /// How many are kept when they have been idle for a while.
    kept_max: usize,
    /// The one idle longest first.
    connections: Vec<Idle>,
}

#[derive(Debug)]
struct Idle {
    stream: Stream,
    since_ms: u64,
    expires_ms: u64,
}

impl Pool {
    pub(crate) fn new(clock: &Rc<Clock>) -> Self {
        Self { clock: Rc::clone(clock), state: RefCell::default() }
    }

    /// Idle connections at present.
    pub(crate) fn len(&self) -> usize {
        self.state.borrow().count
    }

    /// A live connection that leads there, if one is idle. With `surely` the kernel is asked, not only the last events:
    /// for a request that may not be sent twice.
    pub(crate) fn take(&self, towards: Towards, surely: bool) -> Option<Stream> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let connections = &mut state.endpoints.get_mut(&towards)?.connections;
        while let Some(mut idle) = connections.pop() {
            state.count -= 1;
            if idle.stream.is_quiet() && !(surely && has_ended(&idle.stream)) {
                return Some(idle.stream);
            }
        }
        None
    }

    /// Keeps a connection on which a response ended and another request may begin.
    pub(crate) fn put(&self, stream: Stream, picked: &Picked, service: &str, config: &UpstreamConfig) {
        let timeout = u64::try_from(config.idle_timeout.as_millis()).unwrap_or(u64::MAX);
        let since_ms = self.clock.now_ms();
        let expires_ms = since_ms.saturating_add(timeout);
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        if config.idle_connections_max == 0 || state.count >= IDLE_MAX {
            return;
        }
        // By what it was made by, whatever holds now.
        let towards = Towards::new(picked, stream.policy());
        let idles = state.endpoints.entry(towards).or_insert_with(|| Idles {
            service: service.into(),
            kept_max: 0,
            connections: Vec::new(),
        });
        // What is too much is judged at the next tick: many requests that end at once are no reason to close what the
        // next moment needs again.
        idles.kept_max = config.idle_connections_max;
        idles.connections.push(Idle { stream, since_ms, expires_ms });
        state.count += 1;
    }

    /// Closes what was idle for too long, what the endpoint closed, and what leads to endpoints that left.
    pub(crate) fn tick(&self, snapshot: &Snapshot) {
        let now_ms = self.clock.now_ms();
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let changed = core::mem::replace(&mut state.seen, snapshot.generation()) != snapshot.generation();
        let mut count = 0;
        state.endpoints.retain(|towards, idles| {
            if changed && !towards.is_live(snapshot, &idles.service) {
                return false;
            }
            let mut excess = idles.connections.len().saturating_sub(idles.kept_max);
            idles.connections.retain_mut(|idle| {
                // The ones idle longest come first, and are the likeliest to be closed soon.
                let is_excess = excess > 0 && now_ms.saturating_sub(idle.since_ms) >= EXCESS_MS;
                excess -= usize::from(is_excess);
                !is_excess && idle.expires_ms > now_ms && idle.stream.is_quiet()
            });
            count += idles.connections.len();
            !idles.connections.is_empty()
        });
        state.count = count;
    }
}

/// Asks the kernel whether something came that the reactor has not told yet.
fn has_ended(stream: &Stream) -> bool {
    let mut octet = [MaybeUninit::uninit()];
    let peeked = socket2::SockRef::from(stream.socket()).peek(&mut octet);
    !matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}
