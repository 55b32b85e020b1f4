//! Which single apps and pods are to be read, and when: bursts folded, few at once, never the whole cluster.
//!
//! ```text
//!            want                 start (due, a place free)            done
//!   (none) ───────► waiting ────────────────────────────► in flight ───────► (none)
//!                     ▲  │ want: joins                      │ want: one more read after this one
//!                     └──┘                                  ▼
//!                     waiting, not before a short pause after the read in flight has ended
//! ```

use portolan_table::SharedStr;
use std::collections::HashMap;
use std::time::{Duration, Instant as Received};

use tokio::time::Instant;

/// Reads in flight at once.
pub(super) const READS_MAX: usize = 8;
/// Targets that may wait. When there are more, reading everything is cheaper.
const WAITING_MAX: usize = 4096;
/// Pause between two reads of one target, so that a burst costs the scheduler two reads and not one per event.
const PAUSE: Duration = Duration::from_millis(50);

/// Reads that repeat themselves come no closer together than this on average. With a resolver that is dead every app may
/// be among them.
const SPREAD: Duration = Duration::from_millis(20);

/// One thing to read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Target {
    /// An app or pod by its id. Which of the two is looked up when it is read.
    Service(SharedStr),
    /// All apps of a group.
    Group(SharedStr),
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    due: Instant,
    received: Option<Received>,
}

/// What is to be known of a read that has been answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Done {
    /// When its cause arrived, if it has one.
    pub(super) cause: Option<Received>,
    /// A list was asked for after it: the answer is the older word.
    pub(super) superseded: bool,
}

/// The plan of reads. Time comes in as an argument.
#[derive(Debug, Default)]
pub(super) struct Reads {
    waiting: HashMap<Target, Waiting>,
    in_flight: HashMap<Target, Done>,
    paused: HashMap<Target, Instant>,
    /// More was asked for than fits: everything is to be read.
    pub(super) overflow: bool,
}

impl Reads {
    /// Asks for a read at `due` or earlier. `received` is when its cause arrived, if a scheduler's event is its cause.
    pub(super) fn want(&mut self, target: Target, due: Instant, received: Option<Received>) {
        let due = self.paused.get(&target).map_or(due, |until| due.max(*until));
        if let Some(waiting) = self.waiting.get_mut(&target) {
            waiting.due = waiting.due.min(due);
            waiting.received = waiting.received.or(received);
        } else if self.waiting.len() < WAITING_MAX {
            self.waiting.insert(target, Waiting { due, received });
        } else {
            self.overflow = true;
        }
    }

    /// When to read something again that is unsettled: after `least`, or later the more reads wait.
    pub(super) fn spread(&self, least: Duration) -> Duration {
        least.max(SPREAD * self.waiting.len() as u32)
    }

    /// True if a read of this target has been sent and not been answered.
    pub(super) fn is_in_flight(&self, target: &Target) -> bool {
        self.in_flight.contains_key(target)
    }

    /// The next read to send now, with the arrival of its cause.
    pub(super) fn start(&mut self, now: Instant) -> Option<Target> {
        if self.in_flight.len() >= READS_MAX {
            return None;
        }
        let ready = self
            .waiting
            .iter()
            .filter(|(target, waiting)| waiting.due <= now && !self.in_flight.contains_key(target));
        let target = ready.min_by_key(|(_, waiting)| waiting.due)?.0.clone();
        let waiting = self.waiting.remove(&target)?;
        self.in_flight.insert(target.clone(), Done { cause: waiting.received, superseded: false });
        Some(target)
    }

    /// When [`Reads::start`] may have something next, if that is only a matter of time.
    pub(super) fn next_due(&self) -> Option<Instant> {
        if self.in_flight.len() >= READS_MAX {
            return None;
        }
        let free = self.waiting.iter().filter(|(target, _)| !self.in_flight.contains_key(target));
        free.map(|(_, waiting)| waiting.due).min()
    }

    /// The read has been answered.
    pub(super) fn done(&mut self, target: &Target, now: Instant) -> Done {
        self.paused.retain(|_, until| *until > now);
        self.paused.insert(target.clone(), now + PAUSE);
        if let Some(waiting) = self.waiting.get_mut(target) {
            waiting.due = waiting.due.max(now + PAUSE);
        }
        self.in_flight.remove(target).unwrap_or(Done { cause: None, superseded: true })
    }

    /// A list is asked for. What waits goes on beside it, as a list may take minutes, unless it was too much.
    pub(super) fn list_begins(&mut self) {
        if core::mem::take(&mut self.overflow) {
            self.waiting.clear();
        }
        for read in self.in_flight.values_mut() {
            read.superseded = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str) -> Target {
        Target::Service(name.into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_makes_one_read_and_one_more() {
        let mut reads = Reads::default();
        let now = Instant::now();
        for _ in 0..100 {
            reads.want(target("/a"), now, None);
        }
        assert_eq!(reads.start(now), Some(target("/a")));
        for _ in 0..100 {
            reads.want(target("/a"), now, None);
        }
        assert_eq!(reads.start(now), None, "one in flight");
        assert_eq!(reads.next_due(), None);
        reads.done(&target("/a"), now);
        assert_eq!(reads.start(now), None, "not at once after the last");
        let later = reads.next_due().unwrap();
        assert_eq!(reads.start(later), Some(target("/a")));
        reads.done(&target("/a"), later);
        assert_eq!(reads.next_due(), None, "nothing was asked for since");
    }

    #[tokio::test(start_paused = true)]
    async fn few_at_once_and_bounded_in_all() {
        let mut reads = Reads::default();
        let now = Instant::now();
        for number in 0..WAITING_MAX + 1 {
            reads.want(target(&format!("/{number}")), now, None);
        }
        assert!(reads.overflow);
        let started = core::iter::from_fn(|| reads.start(now)).count();
        assert_eq!(started, READS_MAX);
        reads.list_begins();
        assert!(!reads.overflow && reads.waiting.is_empty());
        reads.want(target("/a"), now, None);
        reads.list_begins();
        assert!(reads.waiting.contains_key(&target("/a")), "it need not wait for the list");
    }

    #[tokio::test(start_paused = true)]
    async fn many_that_are_unsettled_are_spread_over_time() {
        let mut reads = Reads::default();
        let (now, least) = (Instant::now(), Duration::from_secs(5));
        for number in 0..2000 {
            let due = now + reads.spread(least);
            reads.want(target(&format!("/{number}")), due, None);
        }
        let due = |after| reads.waiting.values().filter(|waiting| waiting.due <= now + after).count();
        assert_eq!(due(least), 251, "the first are not put off");
        assert!(due(Duration::from_secs(20)) <= 1001 && due(Duration::from_secs(40)) == 2000);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_cause_counts() {
        let mut reads = Reads::default();
        let (now, first) = (Instant::now(), Received::now());
        reads.want(target("/a"), now + PAUSE, Some(first));
        reads.want(target("/a"), now, Some(Received::now() + PAUSE));
        assert_eq!(reads.start(now), Some(target("/a")), "the earlier due time counts");
        assert_eq!(reads.done(&target("/a"), now), Done { cause: Some(first), superseded: false });
        reads.want(target("/b"), now, None);
        assert_eq!(reads.start(now), Some(target("/b")));
        reads.list_begins();
        assert!(reads.done(&target("/b"), now).superseded, "the list was asked for later");
    }
}
