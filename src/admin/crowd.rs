//! Who is connected to one admin listener, and who has to go.
//!
//! ```text
//!            request head            body composed           body handed to the kernel
//!  ─► idle ───────────────► asked ───────────────► sending ────────────────────────────► idle ─► …
//!       │ crowded: the oldest first     │ too slow, crowded    │ too slow, crowded, no room
//!       └───────────────────────────────┴──────────────────────┴──► cut
//! ```
//!
//! A newcomer is never turned away for the sake of a connection that does nothing, so that connections which
//! somebody leaves open cannot keep probes and scrapers out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::IntCounterVec;
use tokio_util::sync::CancellationToken;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// It has not asked for anything, or has its answer.
    Idle,
    /// Its answer is being composed.
    Asked,
    /// Its answer is on the way.
    Sending,
}

/// One connection.
#[derive(Debug)]
struct Member {
    phase: Phase,
    since: Instant,
    cut: CancellationToken,
}

/// All connections of a listener.
#[derive(Debug)]
pub(super) struct Crowd {
    inside: Mutex<Inside>,
    max: usize,
    cuts: IntCounterVec,
}

#[derive(Debug, Default)]
struct Inside {
    members: HashMap<u64, Member>,
    next: u64,
}

/// A connection's place; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    crowd: Arc<Crowd>,
    id: u64,
    cut: CancellationToken,
}

impl Crowd {
    /// A crowd of at most `max`. Those who are cut are counted in `cuts`, by reason.
    pub(super) fn new(max: usize, cuts: IntCounterVec) -> Arc<Self> {
        Arc::new(Self { inside: Mutex::default(), max, cuts })
    }

    /// Gives a newcomer a place, if need be that of the one who has been idle for longest, or else at its request.
    pub(super) fn enter(self: &Arc<Self>, now: Instant) -> Seat {
        let mut inside = self.inside();
        while inside.members.len() >= self.max {
            let oldest = inside.members.iter().min_by_key(|(_, member)| {
                // Composing and sending are one here: what counts is for how long somebody has had its turn.
                (member.phase != Phase::Idle, member.since)
            });
            let Some(id) = oldest.map(|(id, _)| *id) else { break };
            self.cut(&mut inside, id, "crowded");
        }
        let (id, cut) = (inside.next, CancellationToken::new());
        inside.next += 1;
        inside.members.insert(id, Member { phase: Phase::Idle, since: now, cut: cut.clone() });
        Seat { crowd: Arc::clone(self), id, cut }
    }

    /// Cuts those who have been at one request for longer than `limit`.
    pub(super) fn cut_slow(&self, limit: Duration, now: Instant) {
        let mut inside = self.inside();
        let slow = |member: &Member| {
            member.phase != Phase::Idle && now.saturating_duration_since(member.since) > limit
        };
        let slow: Vec<u64> =
            inside.members.iter().filter(|(_, member)| slow(member)).map(|(id, _)| *id).collect();
        slow.into_iter().for_each(|id| self.cut(&mut inside, id, "slow"));
    }

    /// Cuts the one whose answer has been on the way for longest, to make room for another's.
    pub(super) fn cut_for_room(&self) {
        let mut inside = self.inside();
        let sending = inside.members.iter().filter(|(_, member)| member.phase == Phase::Sending);
        if let Some(id) = sending.min_by_key(|(_, member)| member.since).map(|(id, _)| *id) {
            self.cut(&mut inside, id, "room");
        }
    }

    fn cut(&self, inside: &mut Inside, id: u64, reason: &'static str) {
        if let Some(member) = inside.members.remove(&id) {
            member.cut.cancel();
            self.cuts.with_label_values(&[reason]).inc();
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Resolves when the connection has to go. Cancel-safe.
    pub(super) async fn cut(&self) {
        self.cut.cancelled().await;
    }

    /// A request is there.
    pub(super) fn ask(&self, now: Instant) {
        self.change(|member| (member.phase, member.since) = (Phase::Asked, now));
    }

    /// Its answer is ready to be sent. The time of the request counts on.
    pub(super) fn send(&self) {
        self.change(|member| member.phase = Phase::Sending);
    }

    /// The answer is with the kernel.
    pub(super) fn rest(&self, now: Instant) {
        self.change(|member| (member.phase, member.since) = (Phase::Idle, now));
    }

    fn change(&self, change: impl FnOnce(&mut Member)) {
        if let Some(member) = self.crowd.inside().members.get_mut(&self.id) {
            change(member);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.crowd.inside().members.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Opts;

    use super::*;

    fn crowd(max: usize) -> Arc<Crowd> {
        Crowd::new(max, IntCounterVec::new(Opts::new("cuts", "cuts"), &["reason"]).unwrap())
    }

    fn cut(seats: &[&Seat]) -> Vec<bool> {
        seats.iter().map(|seat| seat.cut.is_cancelled()).collect()
    }

    #[test]
    fn a_newcomer_takes_the_place_of_the_longest_idle() {
        let (crowd, t) = (crowd(3), Instant::now());
        let at = |seconds| t + Duration::from_secs(seconds);
        let (first, second, third) = (crowd.enter(t), crowd.enter(at(1)), crowd.enter(at(2)));
        first.ask(at(3));
        let fourth = crowd.enter(at(4));
        assert_eq!(cut(&[&first, &second, &third, &fourth]), [false, true, false, false]);
        first.send();
        first.rest(at(5));
        let _fifth = crowd.enter(at(6));
        assert_eq!(cut(&[&first, &third, &fourth]), [false, true, false]);
        assert_eq!(crowd.cuts.with_label_values(&["crowded"]).get(), 2);
    }

    #[test]
    fn where_all_are_busy_the_oldest_request_goes() {
        let (crowd, t) = (crowd(2), Instant::now());
        let (first, second) = (crowd.enter(t), crowd.enter(t));
        second.ask(t);
        first.ask(t + Duration::from_secs(1));
        second.send();
        let _third = crowd.enter(t + Duration::from_secs(2));
        assert_eq!(cut(&[&first, &second]), [false, true]);
    }

    #[test]
    fn a_place_is_free_once_it_is_left() {
        let (crowd, t) = (crowd(1), Instant::now());
        drop(crowd.enter(t));
        let next = crowd.enter(t);
        assert!(!next.cut.is_cancelled() && crowd.inside().members.len() == 1);
        drop(next);
        assert!(crowd.inside().members.is_empty());
    }

    #[test]
    fn slow_answers_are_cut_and_idle_connections_are_not() {
        let (crowd, t) = (crowd(9), Instant::now());
        let (idle, asked, sending, late) = (crowd.enter(t), crowd.enter(t), crowd.enter(t), crowd.enter(t));
        let limit = Duration::from_secs(30);
        asked.ask(t);
        sending.ask(t);
        sending.send();
        late.ask(t + limit);
        crowd.cut_slow(limit, t + limit);
        assert_eq!(cut(&[&idle, &asked, &sending, &late]), [false; 4], "up to the limit");
        crowd.cut_slow(limit, t + limit + Duration::from_secs(1));
        assert_eq!(cut(&[&idle, &asked, &sending, &late]), [false, true, true, false]);
    }

    #[test]
    fn room_is_made_by_whoever_has_been_sending_for_longest() {
        let (crowd, t) = (crowd(9), Instant::now());
        let (asked, first, second) = (crowd.enter(t), crowd.enter(t), crowd.enter(t));
        asked.ask(t);
        for (seat, seconds) in [(&second, 2), (&first, 1)] {
            seat.ask(t + Duration::from_secs(seconds));
            seat.send();
        }
        crowd.cut_for_room();
        assert_eq!(cut(&[&asked, &first, &second]), [false, true, false]);
    }
}
