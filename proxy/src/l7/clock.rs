//! Time limits without a timer per read: one coarse clock and one list of deadlines per worker.
//!
//! A connection owns a [`Timer`], which is a place in a dense list. Setting it is one store. A task of the
//! worker looks over the list every [`TICK`] and wakes the connections whose time is up; they ask
//! [`Timer::is_expired`] when they are polled. A limit is therefore never cut short, and overrun by two ticks
//! at most.

use core::cell::{Cell, RefCell};
use core::fmt;
use core::task::{Context, Waker};
use core::time::Duration;
use std::rc::Rc;
use std::time::Instant;

/// How often deadlines are looked at.
pub(crate) const TICK: Duration = Duration::from_millis(50);

const NEVER: u64 = u64::MAX;

/// The clock and the deadlines of one worker.
pub(crate) struct Clock {
    origin: Instant,
    now_ms: Cell<u64>,
    places: RefCell<Places>,
}

#[derive(Default)]
struct Places {
    deadlines: Vec<u64>,
    wakers: Vec<Option<Waker>>,
    busy: Vec<bool>,
    free: Vec<u32>,
}

impl Clock {
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self { origin: Instant::now(), now_ms: Cell::new(0), places: RefCell::default() })
    }

    /// Milliseconds since the worker began, as of the last tick.
    #[inline]
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    /// Takes the time and wakes whoever's time is up.
    pub(crate) fn tick(&self) {
        self.advance(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(NEVER - 1));
    }

    fn advance(&self, now_ms: u64) {
        self.now_ms.set(now_ms);
        let places = self.places.borrow();
        for (deadline, waker) in places.deadlines.iter().zip(&places.wakers) {
            if *deadline <= now_ms
                && let Some(waker) = waker
            {
                waker.wake_by_ref();
            }
        }
    }

    /// Wakes every connection, so that each sees that the worker drains.
    pub(crate) fn wake_all(&self) {
        for waker in self.places.borrow().wakers.iter().flatten() {
            waker.wake_by_ref();
        }
    }

    /// Wakes every connection with a request in progress, so that each looks after its endpoint.
    pub(crate) fn wake_busy(&self) {
        let places = self.places.borrow();
        let busy = places.wakers.iter().zip(&places.busy).filter(|(_, busy)| **busy);
        for waker in busy.filter_map(|(waker, _)| waker.as_ref()) {
            waker.wake_by_ref();
        }
    }

    /// A place in the list, without a deadline.
    pub(crate) fn timer(self: &Rc<Self>) -> Timer {
        let mut places = self.places.borrow_mut();
        let place = places.free.pop().unwrap_or_else(|| {
            places.deadlines.push(NEVER);
            places.wakers.push(None);
            places.busy.push(false);
            u32::try_from(places.deadlines.len() - 1).expect("connections are limited far below 2^32")
        });
        Timer { clock: Rc::clone(self), place: place as usize }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("now_ms", &self.now_ms).finish_non_exhaustive()
    }
}

/// A moment by a worker's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline(u64);

/// The deadline of one connection.
pub(crate) struct Timer {
    clock: Rc<Clock>,
    place: usize,
}

impl Timer {
    /// Names the task to wake. Once per task: a spawned task's waker stays the same.
    pub(crate) fn watch(&self, cx: &Context<'_>) {
        let mut places = self.clock.places.borrow_mut();
        match &mut places.wakers[self.place] {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            waker => *waker = Some(cx.waker().clone()),
        }
    }

    /// Sets the deadline to `limit` from now.
    #[inline]
    pub(crate) fn set(&self, limit: Duration) {
        // The clock may lag by a tick: without that tick a limit could be cut short.
        let limit = u64::try_from((limit + TICK).as_millis()).unwrap_or(NEVER / 2);
        self.clock.places.borrow_mut().deadlines[self.place] = self.clock.now_ms().saturating_add(limit);
    }

    /// The deadline, to be set again.
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline(self.clock.places.borrow().deadlines[self.place])
    }

    /// Sets a deadline that was set before: it went on running in between.
    pub(crate) fn resume(&self, deadline: Deadline) {
        self.clock.places.borrow_mut().deadlines[self.place] = deadline.0;
    }

    /// Takes the deadline away.
    pub(crate) fn stop(&self) {
        self.clock.places.borrow_mut().deadlines[self.place] = NEVER;
    }

    /// Says whether a request is in progress.
    #[inline]
    pub(crate) fn set_busy(&self, busy: bool) {
        self.clock.places.borrow_mut().busy[self.place] = busy;
    }

    /// True once the deadline has passed.
    #[inline]
    pub(crate) fn is_expired(&self) -> bool {
        self.clock.places.borrow().deadlines[self.place] <= self.clock.now_ms()
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let mut places = self.clock.places.borrow_mut();
        places.deadlines[self.place] = NEVER;
        places.wakers[self.place] = None;
        places.busy[self.place] = false;
        places.free.push(self.place as u32);
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Timer").field(&self.place).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_never_cut_short_and_a_place_is_used_again() {
        let clock = Clock::new();
        let timer = clock.timer();
        timer.set(Duration::from_millis(100));
        clock.advance(100);
        assert!(!timer.is_expired(), "the clock may have lagged when the limit was set");
        clock.advance(150);
        assert!(timer.is_expired());
        let place = timer.place;
        drop(timer);
        let again = clock.timer();
        assert_eq!(again.place, place);
        clock.advance(1_000_000);
        assert!(!again.is_expired(), "the deadline of the former owner is gone");
    }
}
