//! UDP queries that the fast loop does not answer itself: names that are not ours.

use core::cell::RefCell;
use core::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use hickory_server::net::xfer::Protocol;
use tokio_util::task::TaskTracker;

use super::{Limits, Server};
use crate::answer::{Terms, bare};
use crate::fast::{Peer, SlowPath, UdpPort};
use crate::gate::Gate;
use crate::metrics::{Cells, Tally, Transport};
use crate::networks::Networks;
use crate::wire::{HEADER_LEN, OPT_LEN, Query, Rcode, Request};

/// Queries of one worker and listener in progress at once. The forwarder has its own limit over all workers;
/// this one bounds the tasks.
const IN_PROGRESS_MAX: usize = 4096;

/// A worker's own look at what all share: it costs the fast loop no shared cache line while nothing changes.
type Look<T> = RefCell<Cache<Arc<ArcSwap<T>>, Arc<T>>>;

/// One worker's slow path for one UDP socket.
pub(super) struct SlowUdp {
    server: Arc<Server>,
    port: Rc<UdpPort>,
    cells: Arc<Cells>,
    access: Look<Networks>,
    limits: Look<Limits>,
    gate: Rc<RefCell<Gate>>,
    tasks: TaskTracker,
}

impl SlowUdp {
    /// `port` is the one that the fast loop reads from, `cells` are its counters.
    pub(super) fn new(
        server: Arc<Server>,
        port: Rc<UdpPort>,
        cells: Arc<Cells>,
        gate: Rc<RefCell<Gate>>,
    ) -> Self {
        let access = RefCell::new(Cache::new(server.forwarder.access()));
        let limits = RefCell::new(Cache::new(Arc::clone(&server.limits)));
        Self { server, port, cells, access, limits, gate, tasks: TaskTracker::new() }
    }

    /// Waits until nothing is in progress any more.
    pub(super) async fn finished(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Gives the query to the handler.
    fn start(&self, query: &Query<'_>, peer: Peer) {
        if self.tasks.len() >= IN_PROGRESS_MAX {
            return self.refuse_for_load(query, peer);
        }
        let (server, port) = (Arc::clone(&self.server), Rc::clone(&self.port));
        let (cells, gate) = (Arc::clone(&self.cells), Rc::clone(&self.gate));
        let packet = query.packet().to_vec();
        self.tasks.spawn_local(async move {
            let Some(mut reply) = server.handler.reply(&packet, peer.client, Protocol::Udp).await else {
                return;
            };
            let udp_size = server.limits.load().udp_size_max;
            let goes = match Request::read(&packet) {
                Request::Question(query) if !peer.known => {
                    reply.limit(&mut gate.borrow_mut(), &query, peer.client.ip(), udp_size)
                }
                _ => !reply.is_silence(),
            };
            let sent = if goes { port.send(&reply.packet, &peer).await } else { Ok(()) };
            let mut tally = *reply.tally();
            tally.send_failures(sent.is_err().into());
            cells.add(Transport::Udp, &tally);
        });
    }

    fn refuse_for_load(&self, query: &Query<'_>, peer: Peer) {
        let mut out = [0; HEADER_LEN + 255 + 4 + OPT_LEN];
        let terms = Terms { recursion_available: true, ..Terms::udp(out.len(), self.udp_size_max()) };
        let written = bare(query, Rcode::ServFail, &terms, &mut out);
        self.server.metrics.overload.inc();
        let mut tally = Tally::default();
        tally.reply(Rcode::ServFail, false);
        // Who floods us may lose the word that he does.
        tally.send_failures(self.port.try_send(&out[..written.len], &peer).is_err().into());
        self.cells.add(Transport::Udp, &tally);
    }
}

impl SlowPath for SlowUdp {
    fn udp_size_max(&self) -> u16 {
        self.limits.borrow_mut().load().udp_size_max
    }

    fn forwards(&self) -> bool {
        self.access.borrow_mut().load().is_open()
    }

    fn offers_recursion(&self, client: IpAddr) -> bool {
        self.access.borrow_mut().load().allows(client)
    }

    fn take(&self, query: &Query<'_>, peer: Peer) -> bool {
        // Who does not ask for recursion gets none (RFC 1035 §4.1.1), which also ends most loops.
        if !query.recursion_desired() || !self.offers_recursion(peer.client.ip()) {
            return false;
        }
        self.start(query, peer);
        true
    }

    fn take_special(&self, query: &Query<'_>, peer: Peer) -> bool {
        self.start(query, peer);
        true
    }
}
