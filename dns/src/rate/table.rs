//! A fixed number of token buckets, found by hash.

/// Buckets that a key may stand in: one cache line and a half.
const WAYS: usize = 4;
/// Parts of a token: a thousandth of a thousandth, so that a millisecond's share of the lowest rate is not lost.
const TOKEN: u64 = 1_000_000;

/// How a bucket fills.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    /// Tokens a second, and most that are saved.
    pub(super) rate: u32,
    /// A worker's bucket fills with its part, but holds as much as any: a client's queries may all come here.
    pub(super) workers: u32,
}

/// One bucket. A hash of 64 bits under a random key is taken for the key itself.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    key: u64,
    credit: u64,
    filled: u32,
    used: bool,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Box<[Slot]>,
}

impl Table {
    /// Makes room for `entries`, rounded up to a power of two; what stood in a table of another size is forgotten.
    pub(super) fn resize(&mut self, entries: usize) {
        let len = if entries == 0 { 0 } else { entries.max(WAYS).next_power_of_two() };
        if len != self.slots.len() {
            self.slots = vec![Slot::default(); len].into();
        }
    }

    /// Takes a token from the bucket of `key`; false if there is none.
    #[inline]
    pub(super) fn take(&mut self, key: u64, bucket: Bucket, now: u32) -> bool {
        let Some(groups) = (self.slots.len() / WAYS).checked_sub(1) else { return true };
        let first = (key as usize & groups) * WAYS;
        let group = &mut self.slots[first..first + WAYS];
        let full = u64::from(bucket.rate) * TOKEN;
        let slot = match group.iter().position(|slot| slot.used && slot.key == key) {
            Some(at) => &mut group[at],
            None => {
                let slot = longest_silent(group, now);
                *slot = Slot { key, credit: full, filled: now, used: true };
                slot
            }
        };
        let share = u64::from(bucket.rate) * (TOKEN / 1000);
        let more = u64::from(now.wrapping_sub(slot.filled)) * share / u64::from(bucket.workers);
        slot.credit = (slot.credit + more).min(full);
        slot.filled = now;
        let Some(left) = slot.credit.checked_sub(TOKEN) else { return false };
        slot.credit = left;
        true
    }
}

fn longest_silent(group: &mut [Slot], now: u32) -> &mut Slot {
    let silence = |slot: &Slot| if slot.used { u64::from(now.wrapping_sub(slot.filled)) } else { u64::MAX };
    group.iter_mut().max_by_key(|slot| silence(slot)).expect("a group has slots")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(table: &mut Table, key: u64, bucket: Bucket, now: u32) -> usize {
        (0..1000).filter(|_| table.take(key, bucket, now)).count()
    }

    #[test]
    fn a_bucket_gives_its_rate_at_once_and_then_a_second() {
        let mut table = Table::default();
        table.resize(100);
        let bucket = Bucket { rate: 10, workers: 1 };
        assert_eq!(count(&mut table, 7, bucket, 0), 10);
        assert_eq!(count(&mut table, 7, bucket, 500), 5);
        assert_eq!(count(&mut table, 7, bucket, 60_000), 10, "no more is saved");
        let steps = (0..1000).filter(|ms| table.take(7, bucket, 60_000 + ms)).count();
        assert_eq!(steps, 9, "asked each millisecond it fills all the same");
    }

    #[test]
    fn one_of_many_workers_gives_its_part() {
        let mut table = Table::default();
        table.resize(4);
        let bucket = Bucket { rate: 1, workers: 64 };
        assert!(table.take(1, bucket, 0));
        let given = (1..=640_000).filter(|ms| table.take(1, bucket, *ms)).count();
        assert!((9..=10).contains(&given), "{given}");
    }

    #[test]
    fn time_may_wrap_and_a_full_table_forgets_the_longest_silent() {
        let mut table = Table::default();
        table.resize(1);
        let bucket = Bucket { rate: 1, workers: 1 };
        for key in 0..4 {
            assert!(table.take(key, bucket, u32::MAX - 10 + key as u32));
        }
        assert!(!table.take(3, bucket, u32::MAX));
        assert!(table.take(9, bucket, 5), "in place of 0");
        assert!(!table.take(1, bucket, 6) && !table.take(9, bucket, 7));
        assert!(table.take(0, bucket, 8), "it was forgotten, and is new");
    }

    #[test]
    fn without_room_nothing_is_limited() {
        assert_eq!(count(&mut Table::default(), 1, Bucket { rate: 1, workers: 1 }, 0), 1000);
    }
}
