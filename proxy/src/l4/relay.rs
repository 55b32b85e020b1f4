//! A relay: two connections, octets both ways, and what ends it.

use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Instant;

use socket2::SockRef;
use tokio::io::AsyncWrite;

use super::flow::{Failed, Flow, Refused};
use super::pipe::Pipes;
use crate::stream::Stream;
use crate::upstream::{Departure, Picked};

/// Size of the scratch buffer in octets. A direction that fills it in one read is spliced from then on.
const SCRATCH: usize = 64 * 1024;

/// How long the last octets of a side that broke have to reach the other one before that is reset too.
const LAST_OCTETS: Duration = Duration::from_millis(500);

/// What the relays of one worker share: scratch buffer, pipes, the list that idle time-outs go by. For one thread.
#[derive(Debug)]
pub struct Relays {
    pub(super) scratch: RefCell<Box<[u8]>>,
    pub(super) pipes: Pipes,
    watches: RefCell<Vec<Rc<Watch>>>,
    /// Time of the last tick.
    now: Cell<Instant>,
}

/// What a tick sees of one relay.
#[derive(Debug)]
struct Watch {
    /// Place in the list.
    at: Cell<usize>,
    /// Who may end it; see [`Relays::end_all`].
    owner: u64,
    /// When something was moved last, by the clock of the ticks.
    active: Cell<Instant>,
    idle: Duration,
    departure: Option<Departure>,
    drain: Duration,
    end: Cell<Option<End>>,
    waker: RefCell<Option<Waker>>,
}

/// One relay to be.
#[derive(Debug)]
pub struct Tunnel<'a> {
    /// The client's side.
    pub downstream: Stream,
    /// The endpoint's side.
    pub upstream: Stream,
    /// Octets already read from the client, to be sent first.
    pub to_upstream: &'a [u8],
    /// Octets already read from the endpoint, to be sent first.
    pub to_downstream: &'a [u8],
    /// Without traffic either way for this long, it ends.
    pub idle: Duration,
    /// The endpoint, if it was picked: once it has left, the relay ends after `drain`.
    pub picked: Option<&'a Picked>,
    /// See `picked`.
    pub drain: Duration,
}

/// Why a relay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Both sides had closed.
    Closed,
    /// No traffic for too long.
    Idle,
    /// The endpoint left the table or the listener was stopped, and the time to drain was over.
    Drained,
    /// The client's side failed (reset, unreachable).
    Downstream,
    /// The endpoint's side failed.
    Upstream,
}

/// What a relay did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relayed {
    /// Octets from client to endpoint.
    pub up: u64,
    /// Octets from endpoint to client.
    pub down: u64,
    /// Why it ended.
    pub end: End,
}

impl Relays {
    /// Nothing open.
    #[must_use]
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            scratch: RefCell::new(vec![0; SCRATCH].into()),
            pipes: Pipes::default(),
            watches: RefCell::default(),
            now: Cell::new(tokio::time::Instant::now().into_std()),
        })
    }

    /// To be called about once a second, after [`Upstreams::tick`](crate::upstream::Upstreams::tick): ends relays
    /// that are idle for too long or whose endpoint left too long ago. The clock of idle time-outs is as coarse
    /// as these calls, which saves a timer per read.
    pub fn tick(&self, now: Instant) {
        self.now.set(now);
        for watch in &*self.watches.borrow() {
            if let Some(end) = watch.verdict(now) {
                watch.end(end);
            }
        }
    }

    /// Relays that are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.watches.borrow().len()
    }

    /// Ends all relays of one owner.
    pub(super) fn end_all(&self, owner: u64) {
        self.watches.borrow().iter().filter(|watch| watch.owner == owner).for_each(|w| w.end(End::Drained));
    }

    fn watch(self: &Rc<Self>, watch: Watch) -> Watched {
        let mut watches = self.watches.borrow_mut();
        watch.at.set(watches.len());
        let watch = Rc::new(watch);
        watches.push(Rc::clone(&watch));
        Watched { relays: Rc::clone(self), watch }
    }
}

impl Watch {
    fn verdict(&self, now: Instant) -> Option<End> {
        if now.saturating_duration_since(self.active.get()) >= self.idle {
            return Some(End::Idle);
        }
        let left_at = self.departure.as_ref()?.left_at()?;
        (now.saturating_duration_since(left_at) >= self.drain).then_some(End::Drained)
    }

    fn end(&self, end: End) {
        self.end.set(Some(end));
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// A watch on the list, taken off when dropped.
struct Watched {
    relays: Rc<Relays>,
    watch: Rc<Watch>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut watches = self.relays.watches.borrow_mut();
        let at = self.watch.at.get();
        watches.swap_remove(at);
        if let Some(moved) = watches.get(at) {
            moved.at.set(at);
        }
    }
}

/// Moves octets both ways until both sides have closed, or one of the limits ends it. An end of one side is passed on
/// (half-close), a reset too. Cancel-safe in that dropping it closes both sides.
pub async fn relay(relays: &Rc<Relays>, tunnel: Tunnel<'_>) -> Relayed {
    relay_for(relays, tunnel, 0, |_, _| {}).await
}

/// [`relay`] for an owner who may end it; `moved` is told the octets moved up and down as they are.
pub(super) async fn relay_for(
    relays: &Rc<Relays>,
    tunnel: Tunnel<'_>,
    owner: u64,
    mut moved: impl FnMut(u64, u64),
) -> Relayed {
    let watched = relays.watch(Watch {
        at: Cell::new(0),
        owner,
        active: Cell::new(relays.now.get()),
        idle: tunnel.idle,
        departure: tunnel.picked.map(Picked::departure),
        drain: tunnel.drain,
        end: Cell::new(None),
        waker: RefCell::default(),
    });
    let may_splice = !tunnel.downstream.is_tls() && !tunnel.upstream.is_tls();
    let mut pair = Pair {
        up: Flow::new(tunnel.to_upstream, may_splice),
        down: Flow::new(tunnel.to_downstream, may_splice),
        downstream: tunnel.downstream,
        upstream: tunnel.upstream,
        watched,
    };
    let (end, manner) = poll_fn(|cx| pair.poll(cx, &mut moved)).await;
    if manner == Manner::ResetAfterLast {
        tokio::time::sleep(LAST_OCTETS).await;
    }
    pair.close(end, manner);
    Relayed { up: pair.up.moved, down: pair.down.moved, end }
}

/// How the side that is left is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    InOrder,
    /// An ordinary end would look as if all had been said.
    Reset,
    /// As well, but what the other side had said before it broke has just been passed on.
    ResetAfterLast,
}

impl Manner {
    /// After the end of what a side sent that takes no more.
    fn after(refused: Refused) -> Self {
        match refused {
            Refused::Finished => Self::InOrder,
            Refused::Broken => Self::ResetAfterLast,
        }
    }
}

struct Pair {
    up: Flow,
    down: Flow,
    downstream: Stream,
    upstream: Stream,
    watched: Watched,
}

impl Pair {
    fn poll(&mut self, cx: &mut Context<'_>, moved: &mut impl FnMut(u64, u64)) -> Poll<(End, Manner)> {
        let (relays, watch) = (&*self.watched.relays, &*self.watched.watch);
        if let Some(end) = watch.end.get() {
            return Poll::Ready((end, Manner::InOrder));
        }
        let before = (self.up.moved, self.down.moved);
        let ended = (self.up.ended(), self.down.ended());
        let up = self.up.poll(relays, &mut self.downstream, &mut self.upstream, cx);
        let down = self.down.poll(relays, &mut self.upstream, &mut self.downstream, cx);
        // Both, in any case.
        let passed = pass_end((&self.up, ended.0), &self.down, &mut self.upstream, cx)
            & pass_end((&self.down, ended.1), &self.up, &mut self.downstream, cx);
        let (up_moved, down_moved) = (self.up.moved - before.0, self.down.moved - before.1);
        if up_moved + down_moved > 0 {
            watch.active.set(relays.now.get());
            moved(up_moved, down_moved);
        }
        let ended = match judge(up, down) {
            Poll::Ready((_, Manner::InOrder)) if !passed => Poll::Pending,
            ended => ended,
        };
        if ended.is_pending() {
            let mut waker = watch.waker.borrow_mut();
            if waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
        }
        ended
    }

    fn close(&mut self, end: End, manner: Manner) {
        let other = match end {
            _ if manner == Manner::InOrder => return,
            End::Closed | End::Idle | End::Drained => return,
            End::Downstream => &self.upstream,
            End::Upstream => &self.downstream,
        };
        let _ = SockRef::from(other.socket()).set_linger(Some(Duration::ZERO));
    }
}

/// Whether the relay is over. A side that takes no more may still have said something: what it sent goes on to its
/// own end, which is near, since a socket that was reset gets nothing new.
fn judge(up: Poll<Result<(), Failed>>, down: Poll<Result<(), Failed>>) -> Poll<(End, Manner)> {
    use Poll::Ready;
    Ready(match (up, down) {
        (Ready(Err(Failed::From)), _) => (End::Downstream, Manner::Reset),
        (_, Ready(Err(Failed::From))) => (End::Upstream, Manner::Reset),
        (Ready(Err(Failed::To(_))), Ready(Err(Failed::To(_)))) => (End::Upstream, Manner::Reset),
        (Ready(Err(Failed::To(how))), Ready(Ok(()))) => (End::Upstream, Manner::after(how)),
        (Ready(Ok(())), Ready(Err(Failed::To(how)))) => (End::Downstream, Manner::after(how)),
        (Ready(Ok(())), Ready(Ok(()))) => (End::Closed, Manner::InOrder),
        (Poll::Pending, _) | (_, Poll::Pending) => return Poll::Pending,
    })
}

/// Passes the end of a direction on, which has just been seen or had been before. False while the closing message of
/// TLS waits to be sent. If the side that is to be told has gone already, its own direction will tell.
fn pass_end((flow, had_ended): (&Flow, bool), other: &Flow, to: &mut Stream, cx: &mut Context<'_>) -> bool {
    // Of a side that broke the end is none.
    if !flow.ended() || other.broke() {
        return true;
    }
    match to {
        Stream::Tls(_) => Pin::new(to).poll_shutdown(cx).is_ready(),
        Stream::Tcp(to) => {
            // The second end is passed on by closing both.
            if !had_ended && !other.ended() {
                let _ = SockRef::from(&*to).shutdown(Shutdown::Write);
            }
            true
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.up.release(&self.watched.relays);
        self.down.release(&self.watched.relays);
    }
}
