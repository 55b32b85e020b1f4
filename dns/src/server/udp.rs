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
use crate::forward::Access;
use crate::metrics::{Cells, Tally, Transport};
use crate::wire::{HEADER_LEN, OPT_LEN, Query, Rcode};

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
    access: Look<Access>,
    limits: Look<Limits>,
    tasks: TaskTracker,
}

impl SlowUdp {
    /// `port` is the one that the fast loop reads from, `cells` are its counters.
    pub(super) fn new(server: Arc<Server>, port: Rc<UdpPort>, cells: Arc<Cells>) -> Self {
        let access = RefCell::new(Cache::new(server.forwarder.access()));
        let limits = RefCell::new(Cache::new(Arc::clone(&server.limits)));
        Self { server, port, cells, access, limits, tasks: TaskTracker::new() }
    }

    /// Waits until nothing is in progress any more.
    pub(super) async fn finished(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn refuse_for_load(&self, query: &Query<'_>, peer: Peer) {
        let mut out = [0; HEADER_LEN + 255 + 4 + OPT_LEN];
        let terms = Terms { size_max: out.len(), udp_size: self.udp_size_max(), recursion_available: true };
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
        if self.tasks.len() >= IN_PROGRESS_MAX {
            self.refuse_for_load(query, peer);
            return true;
        }
        let (server, port, cells) =
            (Arc::clone(&self.server), Rc::clone(&self.port), Arc::clone(&self.cells));
        let packet = query.packet().to_vec();
        self.tasks.spawn_local(async move {
            let Some(reply) = server.handler.reply(&packet, peer.client, Protocol::Udp).await else { return };
            let mut tally = *reply.tally();
            tally.send_failures(port.send(&reply.packet, &peer).await.is_err().into());
            cells.add(Transport::Udp, &tally);
        });
        true
    }
}
