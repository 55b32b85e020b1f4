//! Changes: they copy what a view reaches, and retire it.

use core::mem;
use std::sync::Arc;

use super::BITS;
use super::node::{Entry, FAN_OUT, Kind, Node};

/// Entries a shard may hold before it is split by the next six bits.
const SHARD_LEN_MAX: usize = 32;
/// A branch whose children together hold no more than this is folded back into one shard.
const FOLD_LEN: usize = SHARD_LEN_MAX / 2;
/// Levels that 64 bits of hash can tell apart; below, a shard grows without limit (equal hashes).
const DEPTH_MAX: u32 = 64_u32.div_ceil(BITS);
/// Room that is kept for what the next change retires: more than one change needs, so that it allocates nothing.
const KEPT_MAX: usize = 64;
/// Branches that are kept for the next change: those of a few paths.
const SPARE_MAX: usize = 16;

/// What views may still reach, but the map does not.
pub(super) struct Retired<T, C> {
    nodes: Vec<Node<T, C>>,
    values: Vec<Arc<T>>,
}

/// What a change needs besides the place it is made at.
pub(super) struct Writer<T, C: Copy> {
    /// Number of views taken: a node that was made since the latest is reached by none.
    pub(super) birth: u64,
    pub(super) copied: u64,
    pub(super) retired: Retired<T, C>,
    /// Branches out of use, for the next that are needed: a change makes as many as it retires, and an allocator joins
    /// and splits what it is given back, in cold memory.
    pub(super) spare: Vec<Node<T, C>>,
}

impl<T: Send + Sync, C: Copy> Writer<T, C> {
    /// Gives a node for writing, copying it first if a view reaches it.
    fn own(&mut self, node: &mut Node<T, C>) {
        // SAFETY: the map's own nodes are alive.
        let copy = unsafe {
            if node.birth() == Some(self.birth) {
                return;
            }
            match node.kind() {
                Kind::Empty => return,
                Kind::Branch(children) => match self.spare.pop() {
                    Some(spare) => spare.branch_again(self.birth, children),
                    None => Node::branch(self.birth, children),
                },
                Kind::Shard(entries) => {
                    Node::shard(self.birth, entries.len(), entries.iter().map(Entry::again))
                }
            }
        };
        self.replace(node, copy);
    }

    /// Keeps a value that left the map for as long as a view may reach it, however young its shard is. Before the first
    /// view there is nothing to keep it for.
    fn retire(&mut self, value: Arc<T>) {
        if self.birth > 1 {
            self.retired.values.push(value);
        }
    }

    /// Puts `new` in the place of a node that it holds the content of.
    fn replace(&mut self, node: &mut Node<T, C>, new: Node<T, C>) {
        let old = mem::replace(node, new);
        // SAFETY: the map's own nodes are alive.
        match unsafe { old.birth() } {
            None => {}
            // SAFETY: made since the latest view, so this was the only pointer to it.
            Some(birth) if birth == self.birth => unsafe { old.free() },
            Some(_) => {
                self.copied += 1;
                self.retired.nodes.push(old);
            }
        }
    }

    pub(super) fn insert(
        &mut self,
        node: &mut Node<T, C>,
        depth: u32,
        new: Entry<T, C>,
        mut same: impl FnMut(&T, C) -> bool,
    ) -> bool {
        // SAFETY: the map's own nodes are alive; what is read here is not used after a change.
        match unsafe { node.kind() } {
            Kind::Empty => {
                *node = Node::shard(self.birth, 1, core::iter::once(new));
                false
            }
            Kind::Branch(_) => {
                self.own(node);
                // SAFETY: a branch of our own.
                let children = unsafe { node.children_mut() };
                self.insert(&mut children[child(new.hash, depth)], depth + 1, new, same)
            }
            Kind::Shard(entries) => {
                if let Some(at) = entries.iter().position(|e| e.hash == new.hash && same(e.value(), e.mark)) {
                    self.own(node);
                    // SAFETY: a shard of our own.
                    let old = mem::replace(unsafe { &mut node.entries_mut()[at] }, new);
                    // SAFETY: of its copies, those in retired shards are never taken.
                    self.retire(unsafe { old.take() });
                    return true;
                }
                // A shard has its exact size: it is copied far more often than it grows.
                let len = entries.len() + 1;
                let grown = entries.iter().map(Entry::again).chain(core::iter::once(new));
                let grown = match len > SHARD_LEN_MAX && depth < DEPTH_MAX {
                    true => self.split(grown.collect(), depth),
                    false => Node::shard(self.birth, len, grown),
                };
                self.replace(node, grown);
                false
            }
        }
    }

    pub(super) fn mark(
        &mut self,
        node: &mut Node<T, C>,
        hash: u64,
        mut same: impl FnMut(&T, C) -> bool,
        change: impl FnOnce(&mut C),
    ) {
        let (mut node, mut depth) = (node, 0);
        loop {
            self.own(node);
            // SAFETY: the node is our own; what is read is not used after a change.
            match unsafe { node.kind() } {
                Kind::Empty => return,
                Kind::Branch(_) => {
                    // SAFETY: a branch of our own.
                    node = &mut unsafe { node.children_mut() }[child(hash, depth)];
                    depth += 1;
                }
                Kind::Shard(_) => {
                    // SAFETY: a shard of our own.
                    let entries = unsafe { node.entries_mut() };
                    let entry = entries.iter_mut().find(|e| e.hash == hash && same(e.value(), e.mark));
                    if let Some(entry) = entry {
                        change(&mut entry.mark);
                    }
                    return;
                }
            }
        }
    }

    pub(super) fn remove(
        &mut self,
        node: &mut Node<T, C>,
        depth: u32,
        hash: u64,
        same: &mut impl FnMut(&T, C) -> bool,
    ) {
        // SAFETY: the map's own nodes are alive; what is read here is not used after a change.
        match unsafe { node.kind() } {
            Kind::Empty => {}
            Kind::Branch(_) => {
                self.own(node);
                // SAFETY: a branch of our own.
                let children = unsafe { node.children_mut() };
                self.remove(&mut children[child(hash, depth)], depth + 1, hash, same);
                self.fold(node);
            }
            Kind::Shard(entries) => {
                let at = entries.iter().position(|e| e.hash == hash && same(e.value(), e.mark));
                let Some(at) = at else { return };
                // SAFETY: of its copies, this one is not put into the new shard, and the others are in retired ones.
                let old = unsafe { entries[at].again().take() };
                // The last entry comes into the gap.
                let rest = entries[..at].iter().chain(entries[at + 1..].iter().rev()).map(Entry::again);
                let rest = Node::shard(self.birth, entries.len() - 1, rest);
                self.replace(node, rest);
                self.retire(old);
            }
        }
    }

    fn split(&self, entries: Vec<Entry<T, C>>, depth: u32) -> Node<T, C> {
        let mut shards: [Vec<Entry<T, C>>; FAN_OUT] = core::array::from_fn(|_| Vec::new());
        for entry in entries {
            shards[child(entry.hash, depth)].push(entry);
        }
        let children = shards.map(|shard| match shard.len() {
            len if len > SHARD_LEN_MAX && depth + 1 < DEPTH_MAX => self.split(shard, depth + 1),
            len => Node::shard(self.birth, len, shard.into_iter()),
        });
        Node::branch(self.birth, &children)
    }

    /// Makes one shard of a branch of our own that has become small enough.
    fn fold(&mut self, node: &mut Node<T, C>) {
        // SAFETY: the map's own nodes are alive; what is read here is not used after a change.
        let Kind::Branch(children) = (unsafe { node.kind() }) else { return };
        let mut len = 0;
        for child in children {
            // SAFETY: as above.
            match unsafe { child.kind() } {
                Kind::Branch(_) => return,
                Kind::Shard(entries) => len += entries.len(),
                Kind::Empty => {}
            }
            if len > FOLD_LEN {
                return;
            }
        }
        let mut children = *children;
        // SAFETY: as above.
        let entries = children.iter().flat_map(|child| unsafe { entries_of(*child) });
        let folded = Node::shard(self.birth, len, entries.map(Entry::again));
        self.replace(node, folded);
        for child in &mut children {
            self.replace(child, Node::EMPTY);
        }
    }
}

/// The entries of a shard; none of anything else.
///
/// # Safety
/// As [`Node::kind`].
unsafe fn entries_of<'a, T: 'a, C: Copy + 'a>(node: Node<T, C>) -> &'a [Entry<T, C>] {
    // SAFETY: by contract.
    if let Kind::Shard(entries) = unsafe { node.kind() } { entries } else { &[] }
}

fn child(hash: u64, depth: u32) -> usize {
    ((hash >> (depth * BITS)) & (FAN_OUT as u64 - 1)) as usize
}

impl<T, C: Copy> Retired<T, C> {
    /// True if it has never held anything.
    pub(super) fn is_new(&self) -> bool {
        self.nodes.capacity() + self.values.capacity() == 0
    }

    /// Frees all; some branches become spare ones instead.
    ///
    /// # Safety
    /// Nothing reaches the nodes any more.
    pub(super) unsafe fn free(&mut self, spare: &mut Vec<Node<T, C>>) {
        for node in self.nodes.drain(..) {
            // SAFETY: by contract.
            unsafe {
                if node.is_branch() && spare.len() < SPARE_MAX {
                    spare.push(node);
                } else {
                    node.free();
                }
            }
        }
        self.values.clear();
        self.nodes.shrink_to(KEPT_MAX);
        self.values.shrink_to(KEPT_MAX);
    }
}

impl<T, C> Default for Retired<T, C> {
    fn default() -> Self {
        Self { nodes: Vec::new(), values: Vec::new() }
    }
}

impl<T, C: Copy> Default for Writer<T, C> {
    fn default() -> Self {
        Self { birth: 1, copied: 0, retired: Retired::default(), spare: Vec::new() }
    }
}
