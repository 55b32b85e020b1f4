//! A hash-sharded, copy-on-write map: the structure under every index of a snapshot.
//!
//! ```text
//!            root (shared by old and new snapshot until one of them is changed)
//!      ┌──────┴───────┐
//!   branch[16]     branch[16]          four bits of the hash choose the child
//!   ┌──┴──┐           │
//! shard  shard      shard              at most 32 entries: (hash, value)
//! ```
//!
//! A clone shares everything. A change copies the branches on its way and the one shard it ends in, unless
//! this clone already owns them alone: a burst of changes copies each shard once. Nothing is ever resized as
//! a whole, so the cost of a change grows with the depth (log16) and not with the size.

use core::fmt;
use std::sync::Arc;

const BITS: u32 = 4;
const FAN_OUT: usize = 1 << BITS;
/// Entries a shard may hold before it is split by the next four bits.
const SHARD_LEN_MAX: usize = 32;
/// A branch whose children together hold no more than this is folded back into one shard.
const FOLD_LEN: usize = SHARD_LEN_MAX / 2;
/// Levels that 64 bits of hash can tell apart; below, a shard grows without limit (equal hashes).
const DEPTH_MAX: u32 = 64 / BITS;

/// A persistent map from a 64-bit hash, with equality left to the caller. Clone is O(1).
pub struct ShardMap<V> {
    root: Node<V>,
    len: usize,
    copied: u64,
}

/// One allocation each: a change makes, and a publication frees, one for each level and no more.
enum Node<V> {
    Empty,
    Branch(Arc<[Self; FAN_OUT]>),
    Shard(Arc<[(u64, V)]>),
}

impl<V: Clone> ShardMap<V> {
    /// An empty map.
    #[must_use]
    pub fn new() -> Self {
        Self { root: Node::Empty, len: 0, copied: 0 }
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Shards and branches copied by this map and the clones it descends from: what a change costs.
    #[must_use]
    pub fn copied(&self) -> u64 {
        self.copied
    }

    /// The value under `hash` for which `same` holds. No lock, no allocation.
    #[inline]
    pub fn get(&self, hash: u64, mut same: impl FnMut(&V) -> bool) -> Option<&V> {
        let mut node = &self.root;
        let mut path = hash;
        loop {
            match node {
                Node::Branch(children) => {
                    node = &children[(path & (FAN_OUT as u64 - 1)) as usize];
                    path >>= BITS;
                }
                Node::Shard(entries) => {
                    return entries.iter().find(|(h, v)| *h == hash && same(v)).map(|(_, v)| v);
                }
                Node::Empty => return None,
            }
        }
    }

    /// Puts `value` in, in place of the one for which `same` holds, which is returned.
    pub fn insert(&mut self, hash: u64, value: V, same: impl FnMut(&V) -> bool) -> Option<V> {
        let old = insert_at(&mut self.root, 0, hash, value, same, &mut self.copied);
        self.len += usize::from(old.is_none());
        old
    }

    /// Takes the value out for which `same` holds. Copies nothing if there is none.
    pub fn remove(&mut self, hash: u64, mut same: impl FnMut(&V) -> bool) -> Option<V> {
        self.get(hash, &mut same)?;
        let old = remove_at(&mut self.root, 0, hash, &mut same, &mut self.copied);
        self.len -= usize::from(old.is_some());
        old
    }

    /// All values, in the order of the structure: the same for the same content and hashes, otherwise arbitrary.
    pub fn iter(&self) -> impl Iterator<Item = &V> {
        Iter { stack: vec![(&self.root, 0)] }
    }
}

/// Gives a branch for writing, copying it first if another map shares it. The copy is counted.
fn own<'a, V: Clone>(
    children: &'a mut Arc<[Node<V>; FAN_OUT]>,
    copied: &mut u64,
) -> &'a mut [Node<V>; FAN_OUT] {
    *copied += u64::from(Arc::get_mut(children).is_none());
    Arc::make_mut(children)
}

fn insert_at<V: Clone>(
    node: &mut Node<V>,
    depth: u32,
    hash: u64,
    value: V,
    mut same: impl FnMut(&V) -> bool,
    copied: &mut u64,
) -> Option<V> {
    match node {
        Node::Empty => {
            *node = Node::Shard(Arc::new([(hash, value)]));
            None
        }
        Node::Branch(children) => {
            let child = &mut own(children, copied)[child(hash, depth)];
            insert_at(child, depth + 1, hash, value, same, copied)
        }
        Node::Shard(entries) => {
            *copied += u64::from(Arc::get_mut(entries).is_none());
            if let Some(at) = entries.iter().position(|(h, v)| *h == hash && same(v)) {
                return Some(core::mem::replace(&mut Arc::make_mut(entries)[at].1, value));
            }
            // A shard has its exact size: it is copied far more often than it grows.
            let grown = entries.iter().cloned().chain(core::iter::once((hash, value)));
            *node = match entries.len() >= SHARD_LEN_MAX && depth < DEPTH_MAX {
                true => split(grown.collect(), depth),
                false => Node::Shard(grown.collect()),
            };
            None
        }
    }
}

fn remove_at<V: Clone>(
    node: &mut Node<V>,
    depth: u32,
    hash: u64,
    same: &mut impl FnMut(&V) -> bool,
    copied: &mut u64,
) -> Option<V> {
    match node {
        Node::Empty => None,
        Node::Branch(children) => {
            let children = own(children, copied);
            let old = remove_at(&mut children[child(hash, depth)], depth + 1, hash, same, copied);
            if let Some(folded) = fold(children) {
                *node = folded;
            }
            old
        }
        Node::Shard(entries) => {
            let at = entries.iter().position(|(h, v)| *h == hash && same(v))?;
            *copied += u64::from(Arc::get_mut(entries).is_none());
            let old = entries[at].1.clone();
            // The last entry comes into the gap; of both halves the length is known, so this allocates once.
            let rest = entries[..at].iter().chain(entries[at + 1..].iter().rev()).cloned();
            *node = if entries.len() == 1 { Node::Empty } else { Node::Shard(rest.collect()) };
            Some(old)
        }
    }
}

fn child(hash: u64, depth: u32) -> usize {
    ((hash >> (depth * BITS)) & (FAN_OUT as u64 - 1)) as usize
}

fn split<V: Clone>(entries: Vec<(u64, V)>, depth: u32) -> Node<V> {
    let mut shards: [Vec<(u64, V)>; FAN_OUT] = core::array::from_fn(|_| Vec::new());
    for entry in entries {
        shards[child(entry.0, depth)].push(entry);
    }
    let children = shards.map(|shard| match shard.len() {
        0 => Node::Empty,
        len if len > SHARD_LEN_MAX && depth + 1 < DEPTH_MAX => split(shard, depth + 1),
        _ => Node::Shard(shard.into()),
    });
    Node::Branch(Arc::new(children))
}

/// What a branch becomes that is small enough to be one shard again, or empty.
fn fold<V: Clone>(children: &[Node<V>; FAN_OUT]) -> Option<Node<V>> {
    let mut len = 0;
    for node in children {
        match node {
            Node::Branch(_) => return None,
            Node::Shard(entries) => len += entries.len(),
            Node::Empty => {}
        }
        if len > FOLD_LEN {
            return None;
        }
    }
    let mut all = Vec::with_capacity(len);
    for node in children {
        if let Node::Shard(entries) = node {
            all.extend_from_slice(entries);
        }
    }
    Some(if all.is_empty() { Node::Empty } else { Node::Shard(all.into()) })
}

struct Iter<'a, V> {
    stack: Vec<(&'a Node<V>, usize)>,
}

impl<'a, V> Iterator for Iter<'a, V> {
    type Item = &'a V;

    fn next(&mut self) -> Option<&'a V> {
        loop {
            let (node, at) = self.stack.last_mut()?;
            match node {
                Node::Branch(children) => match children.get(*at) {
                    Some(next) => {
                        *at += 1;
                        self.stack.push((next, 0));
                    }
                    None => drop(self.stack.pop()),
                },
                Node::Shard(entries) => match entries.get(*at) {
                    Some((_, value)) => {
                        *at += 1;
                        return Some(value);
                    }
                    None => drop(self.stack.pop()),
                },
                Node::Empty => drop(self.stack.pop()),
            }
        }
    }
}

impl<V> Clone for Node<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Empty => Self::Empty,
            Self::Branch(children) => Self::Branch(Arc::clone(children)),
            Self::Shard(entries) => Self::Shard(Arc::clone(entries)),
        }
    }
}

impl<V> Clone for ShardMap<V> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone(), len: self.len, copied: self.copied }
    }
}

impl<V: Clone> Default for ShardMap<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> fmt::Debug for ShardMap<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardMap").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::hash::index_hash;

    fn hash(key: u32) -> u64 {
        // A third of the keys share their low 32 bits, so that deep branches are met.
        if key.is_multiple_of(3) { u64::from(key) << 32 } else { index_hash(&key.to_le_bytes()) }
    }

    fn put(map: &mut ShardMap<(u32, u32)>, key: u32, value: u32) -> Option<(u32, u32)> {
        map.insert(hash(key), (key, value), |v| v.0 == key)
    }

    #[test]
    fn one_change_copies_one_path() {
        let mut map = ShardMap::new();
        for key in 0..100_000 {
            put(&mut map, key, 0);
        }
        let published = map.clone();
        let before = map.copied();
        put(&mut map, 77, 1);
        let first = map.copied() - before;
        assert!((1..=16).contains(&first), "{first} nodes copied");
        put(&mut map, 77, 2);
        assert_eq!(map.copied() - before, first, "the second change finds its shards unshared");
        assert_eq!(published.get(hash(77), |v| v.0 == 77), Some(&(77, 0)), "the published map is untouched");
        assert_eq!(map.get(hash(77), |v| v.0 == 77), Some(&(77, 2)));
    }

    #[test]
    fn removing_what_is_not_there_copies_nothing() {
        let mut map = ShardMap::new();
        put(&mut map, 1, 1);
        let shared = map.clone();
        assert_eq!(map.remove(hash(2), |v| v.0 == 2), None);
        assert_eq!(map.copied(), shared.copied());
    }

    proptest! {
        #[test]
        fn behaves_as_a_map(ops in prop::collection::vec((0u32..400, any::<u32>(), prop::bool::weighted(0.4)), 0..2000)) {
            let mut map = ShardMap::new();
            let mut model = BTreeMap::new();
            let mut kept = Vec::new();
            for (n, (key, value, remove)) in ops.into_iter().enumerate() {
                if n % 250 == 0 {
                    kept.push((map.clone(), model.clone()));
                }
                if remove {
                    let old = map.remove(hash(key), |v: &(u32, u32)| v.0 == key);
                    prop_assert_eq!(old.map(|v| v.1), model.remove(&key));
                } else {
                    prop_assert_eq!(put(&mut map, key, value).map(|v| v.1), model.insert(key, value));
                }
                prop_assert_eq!(map.len(), model.len());
            }
            kept.push((map, model));
            for (map, model) in kept {
                let all: BTreeMap<u32, u32> = map.iter().copied().collect();
                prop_assert_eq!(&all, &model);
                for (key, value) in model {
                    prop_assert_eq!(map.get(hash(key), |v| v.0 == key), Some(&(key, value)));
                }
            }
        }
    }
}
