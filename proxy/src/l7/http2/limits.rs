//! The limits in time of a connection as a whole; streams have their own.

use core::time::Duration;

use crate::config::Timeouts;
use crate::l7::clock::{Deadline, Timer};

/// How long a client that drains is given to say that it knows, or to send what it was about to.
const DRAINED: Duration = Duration::from_millis(500);
/// How long streams go on once the client has half-closed; one that is gone looks the same.
const HALF_CLOSED: Duration = Duration::from_secs(1);
/// How long a connection without streams keeps the places of those it had.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a closed connection is read.
const LINGER: Duration = Duration::from_secs(2);

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// The first request.
    First,
    /// Another request, soon.
    Pause,
    /// Another request, some time.
    Idle,
    /// The rest of a frame or of a header block, with no stream open.
    Head,
    /// Its streams, which have limits of their own.
    Streams,
    /// The client, to take what is written.
    Write,
    /// Streams of a client that will send no more.
    HalfClosed,
    /// The answer to GOAWAY.
    Drained,
    /// The client's end.
    Closed,
    /// It is over.
    Nothing,
}

/// The limit that runs.
#[derive(Debug)]
pub(super) struct Limits {
    timer: Timer,
    waiting: Option<Waiting>,
    /// A wait for requests that something else interrupts, which is none.
    interrupted: Option<(Waiting, Deadline)>,
    has_received: bool,
    has_written: bool,
    has_served: bool,
    has_ended: bool,
}

impl Limits {
    pub(super) const fn new(timer: Timer) -> Self {
        Self {
            timer,
            waiting: None,
            interrupted: None,
            has_received: false,
            has_written: false,
            has_served: false,
            has_ended: false,
        }
    }

    /// Nothing was waited for yet.
    pub(super) const fn is_new(&self) -> bool {
        self.waiting.is_none()
    }

    /// A frame came as a whole.
    pub(super) fn received(&mut self) {
        self.has_received = true;
    }

    /// The client took octets.
    pub(super) fn wrote(&mut self) {
        self.has_written = true;
    }

    pub(super) fn serve(&mut self) {
        self.has_served = true;
        self.interrupted = None;
    }

    pub(super) const fn has_served(&self) -> bool {
        self.has_served
    }

    /// The client will send no more.
    pub(super) fn end(&mut self) {
        self.has_ended = true;
    }

    pub(super) const fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Lets the limit of what is waited for begin or go on; true if it is over.
    pub(super) fn is_over(&mut self, waiting: Waiting, timeouts: &Timeouts) -> bool {
        let has_received = core::mem::take(&mut self.has_received);
        let has_written = core::mem::take(&mut self.has_written);
        let has_moved = match waiting {
            Waiting::Head => has_received,
            // What a client sends does not excuse it from taking what it gets.
            Waiting::Write => has_written,
            // Frames that are no requests don't keep an idle connection open.
            _ => false,
        };
        let before = self.waiting.replace(waiting);
        if before != Some(waiting) || has_moved {
            self.change(before, waiting, timeouts);
        }
        self.timer.is_expired()
    }

    /// Frames in pieces, and answers to them, don't keep an idle connection open either: the limit of the wait that they
    /// interrupt runs on.
    fn change(&mut self, before: Option<Waiting>, waiting: Waiting, timeouts: &Timeouts) {
        let is_between = matches!(waiting, Waiting::Head | Waiting::Write);
        match before {
            Some(before @ (Waiting::First | Waiting::Pause | Waiting::Idle)) if is_between => {
                self.interrupted = Some((before, self.timer.deadline()));
            }
            _ if is_between => {}
            _ => {
                if let Some((_, deadline)) = self.interrupted.take().filter(|(wait, _)| *wait == waiting) {
                    return self.timer.resume(deadline);
                }
            }
        }
        self.begin(waiting, timeouts);
    }

    fn begin(&self, waiting: Waiting, timeouts: &Timeouts) {
        self.timer.set(match waiting {
            Waiting::First | Waiting::Head => timeouts.request_head,
            Waiting::Pause => timeouts.keep_alive.min(PAUSE),
            Waiting::Idle => timeouts.keep_alive.saturating_sub(PAUSE),
            Waiting::Write => timeouts.write_stall,
            Waiting::HalfClosed => HALF_CLOSED,
            Waiting::Drained => DRAINED,
            Waiting::Closed => LINGER,
            Waiting::Streams | Waiting::Nothing => return self.timer.stop(),
        });
    }
}
