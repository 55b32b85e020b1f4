//! A hash-sharded, copy-on-write map: the structure under every index of a snapshot.
//!
//! ```text
//!  ShardMap (one writer)                     Shards (any number of readers, each one version)
//!     │ insert, remove                          │ get, iter
//!     ▼            root                         ▼
//!            ┌──────┴───────┐
//!         branch[64]     branch[64]             six bits of the hash choose the child
//!         ┌──┴──┐           │
//!       shard  shard      shard                 at most 32 entries: (hash, value, mark)
//! ```
//!
//! [`ShardMap::view`] gives readers the map as it stands. Later changes copy the branches on their way and the one
//! shard they end in, each once between two views, and leave what a view reaches untouched. Nothing is ever resized as
//! a whole, so the cost of a change grows with the depth (log64) and not with the size.
//!
//! # Who frees what
//!
//! Nodes have no reference counts: in a large map each count is a cold cache line, and a copy of one branch would write
//! to each of its children. What a change replaces is *retired* instead. It can be reached from the views taken before
//! and from none taken after, so it is freed once those are gone:
//!
//! ```text
//!  view 1 ──► retired between 1 and 2 ──► freed when view 1 is gone
//!  view 2 ──► retired between 2 and 3 ──► freed when views 1 and 2 are gone
//! ```
//!
//! The writer does that when it takes its next view, so a reader never pays for it. A view that is kept for long holds
//! back all that was retired since: readers let go of snapshots before they wait. A map that is dropped leaves all it
//! has to the last of its views.

#![expect(
    unsafe_code,
    reason = "sharing without counts, measured in benches/table.rs; see docs/adr/0001-shard-map.md"
)]

mod node;
mod read;
mod write;

use core::fmt;
use core::mem;
use core::ops::Deref;
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use node::{Entry, FAN_OUT, Node};
pub use read::{ShardTree, Shards};
use write::{Retired, Writer};

const BITS: u32 = FAN_OUT.trailing_zeros();

/// The writing end of a map from a 64-bit hash to values, with equality left to the caller. A *mark* is a small
/// value of the entry's own: to change it, the value need not be made anew.
pub struct ShardMap<T, C: Copy = ()> {
    tree: ShardTree<T, C>,
    writer: Writer<T, C>,
    heir: Arc<Heir<T, C>>,
    /// The latest view; as long as nothing changes, it is the map.
    latest: Shards<T, C>,
    changed: bool,
    /// By view, the oldest first: what was retired after it and before the next.
    waiting: VecDeque<Waiting<T, C>>,
}

/// Shared by all clones of one view: when no clone is left, the view is gone.
struct Life<T, C: Copy> {
    /// Keeps what the map leaves behind alive until the last view is gone.
    _heir: Arc<Heir<T, C>>,
}

/// Frees what is left of a map once map and views are gone.
struct Heir<T, C: Copy>(OnceLock<Left<T, C>>);

/// What a map has left.
struct Left<T, C> {
    root: Node<T, C>,
    retired: Vec<Retired<T, C>>,
}

/// What was retired after a view and before the next.
struct Waiting<T, C: Copy> {
    life: Arc<Life<T, C>>,
    retired: Retired<T, C>,
}

impl<T: Send + Sync, C: Copy> ShardMap<T, C> {
    /// An empty map.
    #[must_use]
    pub fn new() -> Self {
        let heir = Arc::new(Heir(OnceLock::new()));
        let life = Arc::new(Life { _heir: Arc::clone(&heir) });
        Self {
            tree: ShardTree::EMPTY,
            writer: Writer::default(),
            heir,
            latest: Shards::new(ShardTree::EMPTY, life),
            changed: false,
            waiting: VecDeque::new(),
        }
    }

    /// Shards and branches copied so far: what changes cost.
    #[must_use]
    pub fn copied(&self) -> u64 {
        self.writer.copied
    }

    /// Puts a value in, in place of the one for which `same` holds. True if there was one.
    pub fn insert(&mut self, hash: u64, value: Arc<T>, mark: C, same: impl FnMut(&T, C) -> bool) -> bool {
        self.changed = true;
        let replaced = self.writer.insert(&mut self.tree.root, 0, Entry::new(hash, value, mark), same);
        self.tree.len += usize::from(!replaced);
        replaced
    }

    /// Changes the mark of the value for which `same` holds. False, and nothing is copied, if there is none.
    pub fn mark(
        &mut self,
        hash: u64,
        mut same: impl FnMut(&T, C) -> bool,
        change: impl FnOnce(&mut C),
    ) -> bool {
        let there = self.get(hash, &mut same).is_some();
        if there {
            self.changed = true;
            self.writer.mark(&mut self.tree.root, hash, same, change);
        }
        there
    }

    /// Takes the value out for which `same` holds. False, and nothing is copied, if there is none.
    pub fn remove(&mut self, hash: u64, mut same: impl FnMut(&T, C) -> bool) -> bool {
        let there = self.get(hash, &mut same).is_some();
        if there {
            self.changed = true;
            self.tree.len -= 1;
            self.writer.remove(&mut self.tree.root, 0, hash, &mut same);
        }
        there
    }

    /// The map as it stands, for readers. Frees what the views that are gone have held back.
    pub fn view(&mut self) -> Shards<T, C> {
        if mem::take(&mut self.changed) {
            let life = Arc::new(Life { _heir: Arc::clone(&self.heir) });
            let next = Shards::new(self.tree.again(), life);
            let before = mem::replace(&mut self.latest, next);
            self.writer.birth += 1;
            let retired = mem::take(&mut self.writer.retired);
            self.waiting.push_back(Waiting { life: before.into_life(), retired });
        }
        self.collect();
        self.latest.clone()
    }

    /// Frees what only views could reach that are gone.
    fn collect(&mut self) {
        while let Some(Waiting { life, .. }) = self.waiting.front_mut()
            // Unlike `strong_count`, this is ordered after the last use by the view.
            && Arc::get_mut(life).is_some()
            && let Some(Waiting { mut retired, .. }) = self.waiting.pop_front()
        {
            // SAFETY: it was retired after this view. Earlier views are gone too (they stand before it in the queue),
            // and later ones never reached it.
            unsafe { retired.free(&mut self.writer.spare) };
            if self.writer.retired.is_new() {
                self.writer.retired = retired;
            }
        }
    }
}

impl<T, C: Copy> Deref for ShardMap<T, C> {
    type Target = ShardTree<T, C>;

    #[inline]
    fn deref(&self) -> &ShardTree<T, C> {
        &self.tree
    }
}

impl<T, C: Copy> Drop for ShardMap<T, C> {
    fn drop(&mut self) {
        let retired = self.waiting.drain(..).map(|waiting| waiting.retired);
        let retired = retired.chain([mem::take(&mut self.writer.retired)]).collect();
        // SAFETY: a spare branch is reached by nothing else.
        self.writer.spare.drain(..).for_each(|spare| unsafe { spare.free() });
        let left = self.heir.0.set(Left { root: self.tree.root, retired });
        debug_assert!(left.is_ok(), "a map is dropped once");
    }
}

impl<T, C: Copy> Drop for Heir<T, C> {
    fn drop(&mut self) {
        let Some(Left { root, retired }) = self.0.take() else { return };
        // SAFETY: the map is gone, and so is every view, which each hold their heir: nothing reaches these nodes. What
        // was retired is not in the tree, and no value is both.
        unsafe {
            root.free_all();
            let mut spare = Vec::new();
            retired.into_iter().for_each(|mut retired| retired.free(&mut spare));
            spare.into_iter().for_each(|spare| spare.free());
        }
    }
}

impl<T: Send + Sync, C: Copy> Default for ShardMap<T, C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, C: Copy> fmt::Debug for ShardMap<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardMap").field("len", &self.tree.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
