//! Reading: one version of a map, and the way through it.

use core::fmt;
use core::ops::Deref;
use std::sync::Arc;

use super::node::{Entry, FAN_OUT, Kind, Node};
use super::{BITS, Life, ShardMap};

/// What is read of a [`ShardMap`] and of its versions, both of which lead here. There is no other way to one, and it
/// cannot be taken out: as long as it is borrowed, what it reaches is alive (the map has it, or the version holds on to
/// its life) and does not change (the map is not borrowed for writing, a version never changes).
pub struct ShardTree<T, C: Copy = ()> {
    pub(super) root: Node<T, C>,
    pub(super) len: usize,
}

/// One version of a [`ShardMap`], for reading. Clone is O(1).
pub struct Shards<T, C: Copy = ()> {
    tree: ShardTree<T, C>,
    life: Arc<Life<T, C>>,
}

impl<T, C: Copy> ShardTree<T, C> {
    pub(super) const EMPTY: Self = Self { root: Node::EMPTY, len: 0 };

    /// The same tree, for one more version.
    pub(super) fn again(&self) -> Self {
        Self { root: self.root, len: self.len }
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

    /// The value under `hash` for which `same` holds. No lock, no allocation.
    #[inline]
    pub fn get(&self, hash: u64, same: impl FnMut(&T, C) -> bool) -> Option<&Arc<T>> {
        Some(self.entry(hash, same)?.0)
    }

    /// The same with the mark. No lock, no allocation.
    #[inline]
    pub fn entry(&self, hash: u64, same: impl FnMut(&T, C) -> bool) -> Option<(&Arc<T>, C)> {
        // SAFETY: see the type.
        unsafe { find(self.root, hash, same) }
    }

    /// Reads the path to what is kept under `hash`, and of that the first word. In a large map each step waits for memory;
    /// several paths read one after the other, before they are needed, wait together.
    #[inline]
    pub fn touch(&self, hash: u64) {
        core::hint::black_box(self.get(hash, |_, _| true).map(Arc::strong_count));
    }

    /// The values, with their marks, in those parts of the map that are not shared with `other`: all that may differ, and
    /// their neighbours in the same shards. Costs as much as was copied between the two.
    #[must_use]
    pub fn unshared<'a>(&'a self, other: &'a Self) -> Vec<(&'a Arc<T>, C)> {
        let mut found = Vec::new();
        // SAFETY: see the type, for both.
        unsafe { unshared(self.root, other.root, &mut found) };
        found
    }

    /// All entries, in an order that means nothing.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<T>, C)> {
        // SAFETY: see the type.
        unsafe { Iter::new(self.root) }
    }
}

impl<T, C: Copy> Shards<T, C> {
    pub(super) fn new(tree: ShardTree<T, C>, life: Arc<Life<T, C>>) -> Self {
        Self { tree, life }
    }

    pub(super) fn into_life(self) -> Arc<Life<T, C>> {
        self.life
    }
}

impl<T, C: Copy> Deref for Shards<T, C> {
    type Target = ShardTree<T, C>;

    #[inline]
    fn deref(&self) -> &ShardTree<T, C> {
        &self.tree
    }
}

/// # Safety
/// What `node` reaches is not freed, and not changed, during `'a`.
#[inline]
unsafe fn find<'a, T: 'a, C: Copy + 'a>(
    mut node: Node<T, C>,
    hash: u64,
    mut same: impl FnMut(&T, C) -> bool,
) -> Option<(&'a Arc<T>, C)> {
    let mut path = hash;
    loop {
        // SAFETY: by contract.
        match unsafe { node.kind::<'a>() } {
            Kind::Branch(children) => {
                node = children[(path & (FAN_OUT as u64 - 1)) as usize];
                path >>= BITS;
            }
            Kind::Shard(entries) => {
                let entry = entries.iter().find(|e| e.hash == hash && same(e.value(), e.mark))?;
                return Some((entry.value(), entry.mark));
            }
            Kind::Empty => return None,
        }
    }
}

/// # Safety
/// What both nodes reach is not freed, and not changed, during `'a`.
unsafe fn unshared<'a, T: 'a, C: Copy + 'a>(
    node: Node<T, C>,
    other: Node<T, C>,
    found: &mut Vec<(&'a Arc<T>, C)>,
) {
    if node.is(other) {
        return;
    }
    // SAFETY: by contract.
    unsafe {
        match (node.kind(), other.kind()) {
            (Kind::Branch(own), Kind::Branch(others)) => {
                own.iter().zip(others).for_each(|(own, other)| unshared(*own, *other, found));
            }
            _ => found.extend(Iter::new(node)),
        }
    }
}

struct Iter<'a, T, C> {
    branches: Vec<core::slice::Iter<'a, Node<T, C>>>,
    entries: core::slice::Iter<'a, Entry<T, C>>,
}

impl<T, C: Copy> Iter<'_, T, C> {
    /// # Safety
    /// What `root` reaches is not freed, and not changed, during `'a`.
    unsafe fn new(root: Node<T, C>) -> Self {
        let mut iter = Self { branches: Vec::new(), entries: [].iter() };
        iter.enter(root);
        iter
    }

    fn enter(&mut self, node: Node<T, C>) {
        // SAFETY: by the contract of `new`.
        match unsafe { node.kind() } {
            Kind::Branch(children) => self.branches.push(children.iter()),
            Kind::Shard(entries) => self.entries = entries.iter(),
            Kind::Empty => {}
        }
    }
}

impl<'a, T, C: Copy> Iterator for Iter<'a, T, C> {
    type Item = (&'a Arc<T>, C);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.entries.next() {
                return Some((entry.value(), entry.mark));
            }
            match self.branches.last_mut()?.next() {
                Some(node) => self.enter(*node),
                None => drop(self.branches.pop()),
            }
        }
    }
}

impl<T, C: Copy> Clone for Shards<T, C> {
    fn clone(&self) -> Self {
        Self { tree: self.tree.again(), life: Arc::clone(&self.life) }
    }
}

impl<T: Send + Sync, C: Copy> Default for Shards<T, C> {
    fn default() -> Self {
        ShardMap::new().view()
    }
}

impl<T, C: Copy> fmt::Debug for Shards<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shards").field("len", &self.len).finish_non_exhaustive()
    }
}

impl<T, C: Copy> fmt::Debug for ShardTree<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardTree").field("len", &self.len).finish_non_exhaustive()
    }
}
