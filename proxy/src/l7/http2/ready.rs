//! Which streams of a connection can go on: a bit each, set by whatever woke them, looked at by the one task.

use core::sync::atomic::{AtomicU64, Ordering};
use core::task::Waker;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Wake;

/// A set of small numbers.
#[derive(Debug)]
pub(super) struct Bits(Box<[u64]>);

impl Bits {
    pub(super) fn new(capacity: usize) -> Self {
        Self(vec![0; capacity.div_ceil(64)].into())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(super) fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(super) fn set(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    pub(super) fn clear(&mut self, at: usize) {
        self.0[at / 64] &= !(1 << (at % 64));
    }

    /// Moves all members to `other`.
    pub(super) fn move_to(&mut self, other: &mut Self) {
        for (from, to) in self.0.iter_mut().zip(&mut other.0) {
            *to |= core::mem::take(from);
        }
    }

    /// The first member from `start` on, or else from 0 on.
    pub(super) fn next(&self, start: usize) -> Option<usize> {
        let word = start / 64;
        let behind = self.0.get(word).map(|bits| bits & (u64::MAX << (start % 64)));
        if let Some(bits) = behind.filter(|bits| *bits != 0) {
            return Some(word * 64 + bits.trailing_zeros() as usize);
        }
        let count = self.0.len();
        (1..=count).map(|step| (word + step) % count).find(|at| self.0[*at] != 0).map(|at| {
            let bits = self.0[at];
            at * 64 + bits.trailing_zeros() as usize
        })
    }
}

/// What the wakers of the streams share with the task.
#[derive(Debug)]
pub(super) struct Ready {
    words: Box<[AtomicU64]>,
    task: Mutex<Option<Waker>>,
}

/// Wakes one stream.
struct OfStream {
    ready: Arc<Ready>,
    at: usize,
}

impl Ready {
    pub(super) fn new(capacity: usize) -> Arc<Self> {
        let words = (0..capacity.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { words, task: Mutex::new(None) })
    }

    /// The task to wake when the first stream becomes ready.
    pub(super) fn watch(&self, waker: &Waker) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *task {
            Some(known) if known.will_wake(waker) => {}
            task => *task = Some(waker.clone()),
        }
    }

    /// A waker for stream number `at`, to be kept: making it allocates.
    pub(super) fn waker(self: &Arc<Self>, at: usize) -> Waker {
        Waker::from(Arc::new(OfStream { ready: Arc::clone(self), at }))
    }

    /// Moves what became ready to `due`.
    pub(super) fn take(&self, due: &mut Bits) {
        for (word, due) in self.words.iter().zip(&mut due.0) {
            if word.load(Ordering::Relaxed) != 0 {
                *due |= word.swap(0, Ordering::AcqRel);
            }
        }
    }
}

impl Wake for OfStream {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let word = &self.ready.words[self.at / 64];
        // Whoever set the first bit has woken the task, which takes all bits when it runs.
        if word.fetch_or(1 << (self.at % 64), Ordering::AcqRel) == 0 {
            let task = self.ready.task.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(task) = &*task {
                task.wake_by_ref();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_round_and_round() {
        let mut bits = Bits::new(130);
        assert_eq!(bits.next(7), None);
        for at in [3, 64, 129] {
            bits.set(at);
        }
        assert_eq!([0, 3, 4, 65, 130].map(|start| bits.next(start).unwrap()), [3, 3, 64, 129, 3]);
        bits.clear(3);
        assert_eq!((bits.next(0), bits.count()), (Some(64), 2));
    }

    #[test]
    fn the_first_of_many_wakes_the_task_and_none_is_lost() {
        struct Count(AtomicU64);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (ready, mut due) = (Ready::new(100), Bits::new(100));
        let count = Arc::new(Count(AtomicU64::new(0)));
        ready.watch(&Waker::from(Arc::clone(&count)));
        let wakers: Vec<_> = (0..64).map(|at| ready.waker(at)).collect();
        for round in 1..4 {
            wakers.iter().for_each(Waker::wake_by_ref);
            assert_eq!(count.0.load(Ordering::Relaxed), round);
            ready.take(&mut due);
            assert_eq!(due.count(), 64);
        }
    }
}
