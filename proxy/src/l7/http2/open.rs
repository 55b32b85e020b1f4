//! Open streams: what each one waits for, and how one ends whose client takes nothing.
//!
//! ```text
//!            head of the response          all was taken
//!  ┌─────────┐              ┌────────┐ ───────────────────► ┌──────────┐
//!  │ Request ├─────────────►│ Client │                      │ Endpoint │
//!  └─────────┘              └───┬────┘ ◄─────────────────── └────┬─────┘
//!   limits of its own           │            content             │ limit response_body_idle: the reply breaks
//!                               └─ limit write_stall: RST_STREAM ┴─ the endpoint left: RST_STREAM
//! ```
//!
//! `hyper` does not ask for content while the client takes none, so nothing inside such a stream is polled that
//! could end it. The task of a stream is therefore looked at from outside: dropped, it resets the stream.

use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;
use std::rc::Rc;
use std::time::Instant;

use tokio::task::JoinSet;

use crate::l7::clock::Timer;
use crate::l7::origin::Origin;
use crate::upstream::Departure;

/// Streams of one connection, as far as its limits go.
#[derive(Default)]
pub(super) struct Streams {
    open: Cell<usize>,
    /// Grows with everything that moves on any stream.
    moved: Cell<u64>,
    /// The one opened last, until `hyper` has started its task.
    newest: Cell<Option<Rc<OpenStream>>>,
}

/// One open stream, from its head until its last octet is on its way.
pub(super) struct OpenStream {
    pub(super) origin: Rc<Origin>,
    /// The limit of what is waited for.
    pub(super) timer: Timer,
    streams: Rc<Streams>,
    waits: Cell<Waits>,
    ending: Cell<Ending>,
    /// The endpoint whose response is under way.
    departure: RefCell<Option<Departure>>,
    drain_round: Cell<u32>,
}

/// What a stream waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// For what there is before a response.
    Request,
    /// For the client to take what it was given.
    Client,
    /// For content of the endpoint.
    Endpoint,
}

/// How a stream ends if it ends now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// By the client, which gave up or took nothing.
    GivenUp,
    /// As it should.
    Whole,
    /// The endpoint broke off, or had to go.
    Broken,
}

impl Streams {
    pub(super) fn is_idle(&self) -> bool {
        self.open.get() == 0
    }

    pub(super) fn moved(&self) -> u64 {
        self.moved.get()
    }
}

impl OpenStream {
    pub(super) fn new(streams: &Rc<Streams>, origin: &Rc<Origin>) -> Rc<Self> {
        let timer = origin.worker.clock.timer();
        timer.set_busy(true);
        let this = Rc::new(Self {
            origin: Rc::clone(origin),
            timer,
            streams: Rc::clone(streams),
            waits: Cell::new(Waits::Request),
            ending: Cell::new(Ending::GivenUp),
            departure: RefCell::default(),
            drain_round: Cell::new(origin.worker.drain_round()),
        });
        streams.open.set(streams.open.get() + 1);
        streams.newest.set(Some(Rc::clone(&this)));
        this
    }

    /// Something moved.
    pub(super) fn moved(&self) {
        self.streams.moved.set(self.streams.moved.get().wrapping_add(1));
    }

    /// Begins the limit of what is waited for now.
    pub(super) fn enter(&self, waits: Waits) {
        self.waits.set(waits);
        let timeouts = &self.origin.worker.config().timeouts;
        match waits {
            Waits::Request => {}
            Waits::Client => self.timer.set(timeouts.write_stall),
            Waits::Endpoint => self.timer.set(timeouts.response_body_idle),
        }
    }

    pub(super) fn enter_if_other(&self, waits: Waits) {
        if self.waits.get() != waits {
            self.enter(waits);
        }
    }

    /// Names the endpoint that the response depends on, or that it depends on none any more.
    pub(super) fn depend_on(&self, endpoint: Option<Departure>) {
        self.departure.replace(endpoint);
    }

    pub(super) fn end(&self, ending: Ending) {
        self.ending.set(ending);
    }

    pub(super) fn ending(&self) -> Ending {
        self.ending.get()
    }

    /// Whether the endpoint left the table and the time its open requests get is over. Looked up once a round.
    pub(super) fn has_left(&self, left_at: impl FnOnce() -> Option<Instant>) -> bool {
        let worker = &self.origin.worker;
        let round = worker.drain_round();
        self.drain_round.replace(round) != round
            && left_at().is_some_and(|left| left.elapsed() >= worker.config().drain)
    }

    /// Whether the stream must end although its task would wait on.
    fn is_overdue(&self) -> bool {
        if self.waits.get() == Waits::Client && self.timer.is_expired() {
            self.end(Ending::GivenUp);
            return true;
        }
        let departure = self.departure.borrow();
        let has_left = departure.as_ref().is_some_and(|endpoint| self.has_left(|| endpoint.left_at()));
        if has_left {
            self.end(Ending::Broken);
        }
        has_left
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.streams.open.set(self.streams.open.get() - 1);
        self.moved();
    }
}

/// Runs the streams of one connection on the worker's own thread, and ends them with the connection.
#[derive(Clone)]
pub(super) struct OnThisThread {
    tasks: Rc<RefCell<JoinSet<()>>>,
    streams: Rc<Streams>,
}

impl OnThisThread {
    pub(super) fn new(streams: &Rc<Streams>) -> Self {
        Self { tasks: Rc::default(), streams: Rc::clone(streams) }
    }
}

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for OnThisThread {
    fn execute(&self, task: F) {
        let mut tasks = self.tasks.borrow_mut();
        while tasks.try_join_next().is_some() {}
        // `hyper` calls the service and starts the task of a stream without another one in between.
        match self.streams.newest.take() {
            Some(stream) => tasks.spawn_local(run(stream, task)),
            None => tasks.spawn_local(task),
        };
    }
}

/// The task of a stream, to its end or until it is overdue.
async fn run(stream: Rc<OpenStream>, task: impl Future<Output = ()>) {
    let mut task = pin!(task);
    poll_fn(|cx| {
        stream.timer.watch(cx);
        match task.as_mut().poll(cx) {
            Poll::Pending if stream.is_overdue() => Poll::Ready(()),
            polled => polled,
        }
    })
    .await;
}
