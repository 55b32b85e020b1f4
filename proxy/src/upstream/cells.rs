//! What a worker knows about endpoints, one cell per slot, and the board it is read through.
//!
//! Only the worker writes its cells; the admin side reads them. They are atomics for that reason alone: relaxed
//! loads and stores, never a locked instruction. A reader may see the fields of one cell from two moments.
//! Chunks grow with the number of slots and never move, so a reader needs no lock either.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};
use core::time::Duration;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use portolan_table::Slot;

use super::counters::Counters;
use crate::balance::Estimate;
use crate::balance::steps::step;

/// Slots in the first chunk; each that follows has twice as many.
const FIRST_CHUNK: usize = 256;
/// Chunks, enough for every slot number there is.
const CHUNKS: usize = 32 - FIRST_CHUNK.trailing_zeros() as usize + 1;

/// One endpoint in one worker.
#[derive(Debug, Default)]
pub(super) struct EndpointCell {
    epoch: AtomicU32,
    /// Requests and connections in flight.
    in_flight: AtomicU32,
    /// Moving mean of the latency in microseconds; 0: none yet.
    latency_us: AtomicU32,
    /// Failures in a row.
    failures: AtomicU16,
    /// Ejections that count towards the next one's length.
    ejections: AtomicU8,
    /// A trial is under way: a request that was sent after the time of an ejection, to see.
    on_trial: AtomicBool,
    /// When the last ejection ended or will, in milliseconds of the board's clock, times two; plus one while the
    /// endpoint is suspended. 0: never ejected.
    away: AtomicU64,
    /// What peak EWMA believes about its latency: an [`Estimate`], the number as its bits.
    expected_us: AtomicU32,
    expected_at: AtomicU32,
}

/// Two cells to a cache line, so that no line is shared with another worker's memory.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([EndpointCell; 2]);

/// The cells of one worker.
#[derive(Debug)]
pub(super) struct Cells {
    chunks: [OnceLock<Box<[Line]>>; CHUNKS],
}

impl EndpointCell {
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    pub(super) fn set_in_flight(&self, count: u32) {
        self.in_flight.store(count, Relaxed);
    }

    pub(super) fn failures(&self) -> u16 {
        self.failures.load(Relaxed)
    }

    pub(super) fn set_failures(&self, count: u16) {
        self.failures.store(count, Relaxed);
    }

    pub(super) fn ejections(&self) -> u8 {
        self.ejections.load(Relaxed)
    }

    pub(super) fn on_trial(&self) -> bool {
        self.on_trial.load(Relaxed)
    }

    pub(super) fn set_on_trial(&self, is: bool) {
        self.on_trial.store(is, Relaxed);
    }

    /// 0: not suspended.
    pub(super) fn suspended_until(&self) -> u64 {
        let away = self.away.load(Relaxed);
        if away & 1 == 1 { away >> 1 } else { 0 }
    }

    pub(super) fn back_at(&self) -> u64 {
        self.away.load(Relaxed) >> 1
    }

    pub(super) fn suspend(&self, until: u64, ejections: u8) {
        self.away.store(until << 1 | 1, Relaxed);
        self.ejections.store(ejections, Relaxed);
    }

    pub(super) fn restore(&self, now: u64) {
        self.away.store(now << 1, Relaxed);
    }

    pub(super) fn estimate(&self) -> Estimate {
        let micros = f32::from_bits(self.expected_us.load(Relaxed));
        Estimate { micros, at: self.expected_at.load(Relaxed) }
    }

    pub(super) fn set_estimate(&self, estimate: Estimate) {
        self.expected_us.store(estimate.micros.to_bits(), Relaxed);
        self.expected_at.store(estimate.at, Relaxed);
    }

    /// Adds one latency to the moving mean, with a weight of an eighth.
    pub(super) fn add_latency(&self, latency: Duration) {
        let sample = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX).max(1);
        let mean = match self.latency_us.load(Relaxed) {
            0 => sample,
            mean => (mean - mean / 8).saturating_add(sample / 8).max(1),
        };
        self.latency_us.store(mean, Relaxed);
    }

    fn reset(&self, epoch: u32) {
        self.in_flight.store(0, Relaxed);
        self.latency_us.store(0, Relaxed);
        self.failures.store(0, Relaxed);
        self.ejections.store(0, Relaxed);
        self.on_trial.store(false, Relaxed);
        self.away.store(0, Relaxed);
        self.set_estimate(Estimate { micros: 0.0, at: 0 });
        self.epoch.store(epoch, Relaxed);
    }
}

impl Cells {
    fn new() -> Self {
        Self { chunks: [const { OnceLock::new() }; CHUNKS] }
    }

    /// The cell of `slot`, as new if another endpoint had it before. Allocates when a chunk is first used. For the
    /// worker that owns the cells.
    #[inline]
    pub(super) fn own(&self, slot: Slot) -> &EndpointCell {
        step();
        let (chunk, at) = place(slot.index);
        let lines = self.chunks[chunk].get_or_init(|| {
            core::iter::repeat_with(Line::default).take((FIRST_CHUNK << chunk) / 2).collect()
        });
        let cell = &lines[at / 2].0[at % 2];
        if cell.epoch.load(Relaxed) != slot.epoch {
            cell.reset(slot.epoch);
        }
        cell
    }

    /// The cell of `slot` if the endpoint still has it.
    #[inline]
    pub(super) fn held(&self, slot: Slot) -> Option<&EndpointCell> {
        step();
        let (chunk, at) = place(slot.index);
        let cell = &self.chunks[chunk].get()?.get(at / 2)?.0[at % 2];
        (cell.epoch.load(Relaxed) == slot.epoch).then_some(cell)
    }
}

/// Chunk and place in it.
#[inline]
fn place(index: u32) -> (usize, usize) {
    let shifted = index as usize + FIRST_CHUNK;
    let chunk = (shifted.ilog2() - FIRST_CHUNK.ilog2()) as usize;
    (chunk, shifted - (FIRST_CHUNK << chunk))
}

/// What all workers' cells and counters are read through.
#[derive(Debug)]
pub struct Board {
    base: Instant,
    pub(super) workers: Box<[Arc<WorkerState>]>,
}

/// What one worker writes and others read.
#[derive(Debug)]
pub(super) struct WorkerState {
    pub(super) cells: Cells,
    pub(super) counters: Counters,
}

/// One endpoint as the workers see it, put together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EndpointState {
    /// Requests and connections in flight.
    pub in_flight: u32,
    /// Failures in a row, of the worker that saw most.
    pub failures: u32,
    /// Workers that have ejected it at present.
    pub ejected_by: u32,
    /// Longest time until one of them tries it again.
    pub ejected_for: Option<Duration>,
    /// Mean latency over the workers that know one, moving.
    pub latency: Option<Duration>,
}

impl Board {
    /// A board for this many workers.
    #[must_use]
    pub fn new(workers: usize) -> Arc<Self> {
        let worker = || Arc::new(WorkerState { cells: Cells::new(), counters: Counters::default() });
        Arc::new(Self {
            base: Instant::now(),
            workers: core::iter::repeat_with(worker).take(workers).collect(),
        })
    }

    /// What the workers know about the endpoint at `slot`. All zero if none has used it.
    #[must_use]
    pub fn endpoint(&self, slot: Slot, now: Instant) -> EndpointState {
        let now = self.millis(now);
        let (mut state, mut latency_us, mut known) = (EndpointState::default(), 0u64, 0u64);
        for cell in self.workers.iter().filter_map(|worker| worker.cells.held(slot)) {
            state.in_flight = state.in_flight.saturating_add(cell.in_flight());
            state.failures = state.failures.max(u32::from(cell.failures()));
            let left = cell.suspended_until().saturating_sub(now);
            if left > 0 {
                state.ejected_by += 1;
                state.ejected_for = state.ejected_for.max(Some(Duration::from_millis(left)));
            }
            let latency = u64::from(cell.latency_us.load(Relaxed));
            latency_us += latency;
            known += u64::from(latency > 0);
        }
        state.latency = latency_us.checked_div(known).map(Duration::from_micros);
        state
    }

    /// Milliseconds since the board was made. Never 0, which stands for "never".
    pub(super) fn millis(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.base).as_millis() as u64 + 1
    }

    pub(super) fn instant(&self, millis: u64) -> Instant {
        self.base + Duration::from_millis(millis.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_number_has_a_place_of_its_own() {
        let mut next = 0;
        for chunk in 0..4 {
            for at in 0..FIRST_CHUNK << chunk {
                assert_eq!(place(next), (chunk, at));
                next += 1;
            }
        }
        assert_eq!(place(u32::MAX).0, CHUNKS - 1);
    }

    #[test]
    fn two_cells_fill_a_cache_line() {
        assert_eq!((size_of::<EndpointCell>(), size_of::<Line>()), (32, 64));
    }

    #[test]
    fn a_slot_with_another_epoch_is_another_endpoint() {
        let cells = Cells::new();
        let (old, new) = (Slot { index: 300, epoch: 0 }, Slot { index: 300, epoch: 1 });
        cells.own(old).set_in_flight(3);
        cells.own(old).suspend(99, 2);
        assert_eq!(cells.held(old).unwrap().in_flight(), 3);
        let cell = cells.own(new);
        assert_eq!((cell.in_flight(), cell.suspended_until(), cell.ejections()), (0, 0, 0));
        assert!(cells.held(old).is_none());
    }
}
