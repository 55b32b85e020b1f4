//! HTTP/2 to endpoints: connections that carry the requests of many clients, one pool per worker.
//!
//! ```text
//!  exchange ─ HTTP/1.1 text ─► SharedStream ─┐                       ┌─► driver (one task) ─► endpoint
//!                                            ├─► Core: session, out ─┤
//!  exchange ◄─ HTTP/1.1 text ─ SharedStream ◄┘   and a mail per stream└─◄ events
//! ```
//! To an exchange, one stream looks like a connection of its own to an endpoint that speaks HTTP/1.1: so the same
//! code judges, retries, limits and relays, whatever is spoken on either side. The text is written and read in memory
//! and costs less than a second way of doing all that would.
//!
//! An endpoint gets another connection when all it has are full. A connection that is told to go away opens no more
//! streams; what the endpoint did not take on is known to be safe to send again ([`SharedStream::was_refused`]).

mod clothes;
mod driver;
mod mail;
mod outbox;
mod state;
mod stream;
#[cfg(test)]
mod tests;

use core::cell::{Cell, RefCell};
use core::time::Duration;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use portolan_table::{Generation, Snapshot};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::buffer::Stock;
use super::clock::Clock;
use super::pool::Towards;
use crate::metrics::WorkerCells;
use crate::stream::Dial;
use driver::Driver;
use state::Core;
pub(crate) use stream::SharedStream;

/// Connections to one endpoint at once.
const CONNECTIONS_MAX: usize = 16;
/// After so much silence the kernel asks whether the endpoint is still there, and how it goes on.
const PROBE_AFTER: Duration = Duration::from_secs(10);
const PROBE_EVERY: Duration = Duration::from_secs(5);
const PROBES: u32 = 3;

/// What connections to endpoints go by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// Without requests a connection is closed after this long.
    pub(crate) idle: Duration,
    /// A write that makes no progress ends the connection.
    pub(crate) stall: Duration,
    /// Octets of a response head.
    pub(crate) head_max: usize,
}

/// The shared connections of one worker.
#[derive(Debug)]
pub(crate) struct Multiplex {
    clock: Rc<Clock>,
    stock: Rc<Stock>,
    cells: Arc<WorkerCells>,
    groups: RefCell<HashMap<Towards, Group, foldhash::fast::RandomState>>,
    /// They end with the worker.
    drivers: RefCell<JoinSet<()>>,
    seen: Cell<Generation>,
}

/// The connections to one endpoint.
#[derive(Debug)]
struct Group {
    service: Box<str>,
    cores: Vec<Rc<RefCell<Core>>>,
    connecting: usize,
    /// A connection was made, or could not be.
    changed: Rc<Notify>,
}

impl Group {
    fn new(service: &str) -> Self {
        Self { service: service.into(), cores: Vec::new(), connecting: 0, changed: Rc::new(Notify::new()) }
    }

    fn open(&mut self) -> Option<SharedStream> {
        self.cores.retain(|core| !core.borrow().is_leaving());
        self.cores.iter().find(|core| core.borrow().has_place()).map(SharedStream::new)
    }
}

impl Multiplex {
    pub(crate) fn new(clock: &Rc<Clock>, stock: &Rc<Stock>, cells: &Arc<WorkerCells>) -> Rc<Self> {
        Rc::new(Self {
            clock: Rc::clone(clock),
            stock: Rc::clone(stock),
            cells: Arc::clone(cells),
            groups: RefCell::default(),
            drivers: RefCell::default(),
            seen: Cell::default(),
        })
    }

    /// A stream on a connection that is there.
    pub(crate) fn take(&self, towards: Towards) -> Option<SharedStream> {
        self.groups.borrow_mut().get_mut(&towards)?.open()
    }

    /// A stream on a connection that is made for it, or by somebody else meanwhile. Dropped, it leaves nothing behind.
    pub(crate) async fn connect(
        self: Rc<Self>,
        towards: Towards,
        dial: &Dial,
        service: Box<str>,
        terms: Terms,
    ) -> io::Result<SharedStream> {
        loop {
            let changed = {
                let mut groups = self.groups.borrow_mut();
                let group = groups.entry(towards).or_insert_with(|| Group::new(&service));
                if let Some(stream) = group.open() {
                    return Ok(stream);
                }
                let is_enough = group.cores.len() + group.connecting >= CONNECTIONS_MAX;
                (group.connecting > 0 || is_enough).then(|| Rc::clone(&group.changed))
            };
            match changed {
                // With all connections full this also waits; the limits of the request bound it.
                Some(changed) => changed.notified().await,
                None => self.open(towards, dial, terms).await?,
            }
        }
    }

    async fn open(&self, towards: Towards, dial: &Dial, terms: Terms) -> io::Result<()> {
        let attempt = Attempt::new(self, towards);
        self.cells.connects.add(1);
        let stream = dial.open().await?;
        watch(stream.socket(), terms.stall);
        let core = Core::new(&terms, stream.is_tls(), &attempt.changed, &self.stock);
        let core = Rc::new(RefCell::new(core));
        let driver = Driver::new(Rc::clone(&core), stream, (&self.clock, &self.stock), terms);
        self.drivers.borrow_mut().spawn_local(driver.drive());
        if let Some(group) = self.groups.borrow_mut().get_mut(&towards) {
            group.cores.push(core);
        }
        Ok(())
    }

    /// Lets go of what leads to endpoints that left, and of connections that ended.
    pub(crate) fn tick(&self, snapshot: &Snapshot) {
        while self.drivers.borrow_mut().try_join_next().is_some() {}
        let changed = self.seen.replace(snapshot.generation()) != snapshot.generation();
        self.groups.borrow_mut().retain(|towards, group| {
            let is_gone = changed && !towards.is_live(snapshot, &group.service);
            if is_gone {
                group.cores.iter().for_each(|core| core.borrow_mut().retire());
            }
            group.cores.retain(|core| !core.borrow().is_leaving());
            group.connecting > 0 || !(is_gone || group.cores.is_empty())
        });
    }
}

/// Has the kernel find out, as far as it can, that nobody is there any more: it would go on for a quarter of an hour
/// where octets are not acknowledged, and for ever where none are on their way. Asking by PING was refused: endpoints
/// of gRPC end connections on which they are asked more often than every few minutes.
fn watch(socket: &TcpStream, stall: Duration) {
    let socket = SockRef::from(socket);
    let probes = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY).with_retries(PROBES);
    // Without, requests still have limits of their own.
    let _ = socket.set_tcp_keepalive(&probes);
    let _ = socket.set_tcp_user_timeout(Some(stall));
}

/// A connection in the making. Whatever becomes of it, those that wait for it are told.
struct Attempt<'m> {
    multiplex: &'m Multiplex,
    towards: Towards,
    changed: Rc<Notify>,
}

impl<'m> Attempt<'m> {
    fn new(multiplex: &'m Multiplex, towards: Towards) -> Self {
        let mut groups = multiplex.groups.borrow_mut();
        let group = groups.entry(towards).or_insert_with(|| Group::new(""));
        group.connecting += 1;
        Self { multiplex, towards, changed: Rc::clone(&group.changed) }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(group) = self.multiplex.groups.borrow_mut().get_mut(&self.towards) {
            group.connecting -= 1;
        }
        self.changed.notify_waiters();
    }
}
