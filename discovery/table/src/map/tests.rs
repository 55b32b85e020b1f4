//! The map against a model, its counts, and who frees what. All of it runs under miri.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::hash::index_hash;

/// Miri is some hundred times slower.
const KEYS: u32 = if cfg!(miri) { 600 } else { 100_000 };

fn hash(key: u32) -> u64 {
    // A third of the keys share their low 32 bits, so that deep branches are met.
    if key.is_multiple_of(3) { u64::from(key) << 32 } else { index_hash(&key.to_le_bytes()) }
}

fn put(map: &mut ShardMap<(u32, u32), u8>, key: u32, value: u32) -> bool {
    map.insert(hash(key), Arc::new((key, value)), 0, |v, _| v.0 == key)
}

fn value(map: &Shards<(u32, u32), u8>, key: u32) -> Option<u32> {
    map.get(hash(key), |v, _| v.0 == key).map(|v| v.1)
}

#[test]
fn one_change_copies_one_path() {
    let mut map = ShardMap::new();
    for key in 0..KEYS {
        put(&mut map, key, 0);
    }
    assert_eq!(map.copied(), 0, "what no view reaches is changed in its place");
    let published = map.view();
    put(&mut map, 77, 1);
    let first = map.copied();
    assert!((1..=16).contains(&first), "{first} nodes copied");
    put(&mut map, 77, 2);
    assert_eq!(map.copied(), first, "the second change finds its shards unshared");
    assert_eq!(value(&published, 77), Some(0), "the published map is untouched");
    assert_eq!(value(&map.view(), 77), Some(2));
}

#[test]
fn what_two_versions_do_not_share_is_what_was_copied_between() {
    let mut map = ShardMap::new();
    for key in 0..KEYS {
        put(&mut map, key, 0);
    }
    let before = map.view();
    assert!(map.view().unshared(&before).is_empty());
    map.remove(hash(7), |v, _| v.0 == 7);
    put(&mut map, KEYS, 0);
    let after = map.view();
    let keys = |found: Vec<(&Arc<(u32, u32)>, u8)>| found.iter().map(|(v, _)| v.0).collect::<Vec<_>>();
    let (gone, come) = (keys(before.unshared(&after)), keys(after.unshared(&before)));
    assert!(gone.contains(&7) && come.contains(&KEYS) && !come.contains(&7));
    assert!(gone.len() < 500 && come.len() < 500, "{} and {}: one shard of many", gone.len(), come.len());
    assert_eq!(after.unshared(&Shards::default()).len(), after.len());
}

#[test]
fn removing_what_is_not_there_copies_nothing() {
    let mut map = ShardMap::new();
    put(&mut map, 1, 1);
    let _shared = map.view();
    assert!(!map.remove(hash(2), |v, _| v.0 == 2));
    assert!(!map.mark(hash(2), |v, _| v.0 == 2, |mark| *mark += 1));
    assert_eq!(map.copied(), 0);
}

#[test]
fn a_mark_changes_without_its_value() {
    let mut map = ShardMap::new();
    put(&mut map, 1, 7);
    let before = map.view();
    assert!(map.mark(hash(1), |v, _| v.0 == 1, |mark| *mark = 9));
    let after = map.view();
    let at = |map: &Shards<(u32, u32), u8>| {
        map.entry(hash(1), |v, _| v.0 == 1).map(|(v, mark)| (Arc::as_ptr(v), mark))
    };
    assert_eq!(at(&before).map(|(_, mark)| mark), Some(0));
    assert_eq!(at(&after).map(|(_, mark)| mark), Some(9));
    assert_eq!(at(&before).map(|(v, _)| v), at(&after).map(|(v, _)| v));
}

/// Counts how many of it there are.
struct Counted<'a>(u32, &'a AtomicI64);

impl<'a> Counted<'a> {
    fn new(key: u32, alive: &'a AtomicI64) -> Arc<Self> {
        alive.fetch_add(1, Ordering::SeqCst);
        Arc::new(Self(key, alive))
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn values_go_with_the_last_view_that_reaches_them() {
    let alive = AtomicI64::new(0);
    let count = || alive.load(Ordering::SeqCst);
    let mut map: ShardMap<Counted<'_>> = ShardMap::new();
    let put = |map: &mut ShardMap<_>, key| {
        map.insert(hash(key), Counted::new(key, &alive), (), |v: &Counted<'_>, ()| v.0 == key);
    };
    for key in 0..500 {
        put(&mut map, key);
    }
    let first = map.view();
    for key in 0..100 {
        put(&mut map, key);
    }
    let second = map.view();
    for key in 0..500 {
        map.remove(hash(key), |v, ()| v.0 == key);
    }
    assert_eq!(count(), 600, "what the views reach is kept");
    drop(second);
    drop(map.view());
    assert_eq!(count(), 600, "the first view holds back what was retired after it");
    drop(first);
    drop(map.view());
    assert_eq!(count(), 0);
    put(&mut map, 1);
    let last = map.view();
    put(&mut map, 1);
    drop(map);
    assert_eq!(count(), 2);
    assert_eq!(last.len(), 1);
    drop(last);
    assert_eq!(count(), 0, "the last view frees what the map left");
}

#[test]
fn before_the_first_view_nothing_is_kept() {
    let alive = AtomicI64::new(0);
    let mut map: ShardMap<Counted<'_>> = ShardMap::new();
    for _ in 0..1000 {
        map.insert(hash(1), Counted::new(1, &alive), (), |v, ()| v.0 == 1);
    }
    assert_eq!(alive.load(Ordering::SeqCst), 1);
    map.remove(hash(1), |v, ()| v.0 == 1);
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

#[test]
fn readers_see_whole_versions_while_the_writer_goes_on() {
    let rounds = if cfg!(miri) { 40 } else { 5_000 };
    let mut map: ShardMap<(u32, u32)> = ShardMap::new();
    let keys = 100;
    let put_all = |map: &mut ShardMap<_>, round| {
        for key in 0..keys {
            map.insert(hash(key), Arc::new((key, round)), (), |v: &(u32, u32), ()| v.0 == key);
        }
        map.view()
    };
    let current = arc_swap::ArcSwap::from_pointee(put_all(&mut map, 0));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let view = current.load();
                    let of = |key| view.get(hash(key), |v, ()| v.0 == key).map(|v| v.1);
                    let round = of(0);
                    assert!(round.is_some());
                    assert!((1..keys).all(|key| of(key) == round), "all values are of one version");
                }
            });
        }
        for round in 1..rounds {
            current.store(Arc::new(put_all(&mut map, round)));
        }
        done.store(true, Ordering::Relaxed);
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 256 }, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn behaves_as_a_map(ops in prop::collection::vec((0u32..400, any::<u32>(), prop::bool::weighted(0.4)), 0..2000)) {
        let mut map = ShardMap::new();
        let mut model = BTreeMap::new();
        let mut kept = Vec::new();
        for (n, (key, new, remove)) in ops.into_iter().enumerate() {
            if n % 250 == 0 {
                kept.push((map.view(), model.clone()));
            }
            if n % 600 == 0 {
                kept.remove(0);
            }
            if remove {
                let there = map.remove(hash(key), |v: &(u32, u32), _| v.0 == key);
                prop_assert_eq!(there, model.remove(&key).is_some());
            } else {
                prop_assert_eq!(put(&mut map, key, new), model.insert(key, new).is_some());
            }
            prop_assert_eq!(map.len(), model.len());
        }
        kept.push((map.view(), model));
        for (map, model) in kept {
            let all: BTreeMap<u32, u32> = map.iter().map(|(v, _)| **v).collect();
            prop_assert_eq!(&all, &model);
            for (key, expected) in model {
                prop_assert_eq!(value(&map, key), Some(expected));
            }
        }
    }
}
