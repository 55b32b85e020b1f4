//! The nodes of a [`ShardMap`](super::ShardMap), and all that is unsafe about them: memory that several versions of a
//! map share without counting who shares it.
//!
//! A node is one allocation and is pointed at by plain pointers, so a copy of a branch touches the branch and none of
//! its children. Who may free a node, and when, is decided in [`super`].

use core::fmt;
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, offset_of};
use core::ptr::{self, NonNull};
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::sync::Arc;

/// Children of a branch.
pub(super) const FAN_OUT: usize = 64;

/// In place of a number of entries: a branch.
const BRANCH: u32 = u32::MAX;

/// What every node begins with.
#[repr(C)]
struct Head {
    birth: u64,
    /// Entries that follow; [`BRANCH`] for a branch.
    len: u32,
}

/// Layout of a branch.
#[repr(C)]
struct Branch<T, C> {
    head: Head,
    children: [Node<T, C>; FAN_OUT],
}

/// Layout of a shard of one entry; those of a longer one follow.
#[repr(C)]
struct Shard<T, C> {
    head: Head,
    first: Entry<T, C>,
}

/// One value with its hash and its mark.
pub(super) struct Entry<T, C> {
    pub(super) hash: u64,
    /// Owned by the map, once, however many shards hold a copy of the entry.
    value: ManuallyDrop<Arc<T>>,
    pub(super) mark: C,
}

/// A pointer to a node, or to none. Copies are the same node.
pub(super) struct Node<T, C>(*mut Head, PhantomData<Entry<T, C>>);

/// What a node is.
pub(super) enum Kind<'a, T, C> {
    Empty,
    Branch(&'a [Node<T, C>; FAN_OUT]),
    Shard(&'a [Entry<T, C>]),
}

impl<T, C: Copy> Entry<T, C> {
    pub(super) fn new(hash: u64, value: Arc<T>, mark: C) -> Self {
        Self { hash, value: ManuallyDrop::new(value), mark }
    }

    #[inline]
    pub(super) fn value(&self) -> &Arc<T> {
        &self.value
    }

    /// The same entry a second time, for another shard. Of all copies, one alone may be [taken](Self::take).
    pub(super) fn again(&self) -> Self {
        // SAFETY: an entry owns nothing that a drop would release (the value is `ManuallyDrop`), so a second copy of
        // its bytes is harmless; it is only read until one copy is taken. `Arc` keeps its count behind the pointer.
        unsafe { ptr::read(self) }
    }

    /// The value, with ownership.
    ///
    /// # Safety
    /// No other copy of the entry is used or taken afterwards.
    pub(super) unsafe fn take(self) -> Arc<T> {
        ManuallyDrop::into_inner(self.value)
    }
}

impl<T, C: Copy> Node<T, C> {
    pub(super) const EMPTY: Self = Self(ptr::null_mut(), PhantomData);

    pub(super) fn branch(birth: u64, children: &[Self; FAN_OUT]) -> Self {
        let head = Head { birth, len: BRANCH };
        Self(Box::into_raw(Box::new(Branch { head, children: *children })).cast(), PhantomData)
    }

    /// Makes a branch of one that is not used any more.
    ///
    /// # Safety
    /// The node is a branch, alive, and reached by nobody else.
    pub(super) unsafe fn branch_again(self, birth: u64, children: &[Self; FAN_OUT]) -> Self {
        // SAFETY: by contract. `children` are another node's, as this one is reached by nobody.
        unsafe {
            (*self.0).birth = birth;
            (*self.0.cast::<Branch<T, C>>()).children = *children;
        }
        self
    }

    /// A shard of `len` entries; of none, there is no node.
    ///
    /// # Panics
    /// If there are fewer entries than `len`.
    pub(super) fn shard(birth: u64, len: usize, mut entries: impl Iterator<Item = Entry<T, C>>) -> Self {
        if len == 0 {
            return Self::EMPTY;
        }
        assert!(len < BRANCH as usize, "a shard is small: it grows only by equal hashes");
        let layout = shard_layout::<T, C>(len);
        // SAFETY: the layout holds a head and is not empty.
        let Some(node) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        let node = node.as_ptr();
        // SAFETY: the allocation is aligned for, and long enough for, the head and `len` entries. A panic of the
        // iterator leaks the allocation and nothing else: no entry owns its value.
        unsafe {
            node.cast::<Head>().write(Head { birth, len: len as u32 });
            let first = node.byte_add(offset_of!(Shard<T, C>, first)).cast::<Entry<T, C>>();
            for at in 0..len {
                first.add(at).write(entries.next().expect("the caller counted the entries"));
            }
        }
        Self(node.cast(), PhantomData)
    }

    /// True if both are the same node, or none. While a view holds a node, no other has its address.
    pub(super) fn is(self, other: Self) -> bool {
        self.0 == other.0
    }

    /// What the node is.
    ///
    /// # Safety
    /// The node is not freed, and not changed, during `'a`.
    #[inline]
    pub(super) unsafe fn kind<'a>(self) -> Kind<'a, T, C> {
        // SAFETY: by contract the node is alive; its head says which layout it was made with.
        unsafe {
            match self.0.as_ref() {
                None => Kind::Empty,
                Some(head) if head.len == BRANCH => Kind::Branch(&(*self.0.cast::<Branch<T, C>>()).children),
                Some(head) => Kind::Shard(core::slice::from_raw_parts(self.first(), head.len as usize)),
            }
        }
    }

    /// When it was made; `None` for no node.
    ///
    /// # Safety
    /// The node is not freed.
    pub(super) unsafe fn birth(self) -> Option<u64> {
        // SAFETY: by contract the node is alive.
        unsafe { self.0.as_ref().map(|head| head.birth) }
    }

    /// The children of a branch, for writing.
    ///
    /// # Safety
    /// The node is a branch, alive, and reached by nobody else during `'a`.
    pub(super) unsafe fn children_mut<'a>(self) -> &'a mut [Self; FAN_OUT] {
        // SAFETY: by contract.
        unsafe { &mut (*self.0.cast::<Branch<T, C>>()).children }
    }

    /// True if the node is a branch.
    ///
    /// # Safety
    /// The node is not freed.
    pub(super) unsafe fn is_branch(self) -> bool {
        // SAFETY: by contract.
        unsafe { self.0.as_ref().is_some_and(|head| head.len == BRANCH) }
    }

    /// The entries of a shard, for writing.
    ///
    /// # Safety
    /// The node is a shard, alive, and reached by nobody else during `'a`.
    pub(super) unsafe fn entries_mut<'a>(self) -> &'a mut [Entry<T, C>] {
        // SAFETY: by contract.
        unsafe { core::slice::from_raw_parts_mut(self.first(), (*self.0).len as usize) }
    }

    /// Frees the node alone: not what is below, and no value.
    ///
    /// # Safety
    /// The node is not used afterwards, nor any copy of the pointer.
    pub(super) unsafe fn free(self) {
        // SAFETY: by contract; each layout is the one that the node was made with.
        unsafe {
            match self.0.as_ref().map(|head| head.len) {
                None => {}
                Some(BRANCH) => drop(Box::from_raw(self.0.cast::<Branch<T, C>>())),
                Some(len) => dealloc(self.0.cast(), shard_layout::<T, C>(len as usize)),
            }
        }
    }

    /// Frees the node, all below it, and the values.
    ///
    /// # Safety
    /// As [`free`](Self::free), for all of these.
    pub(super) unsafe fn free_all(self) {
        // SAFETY: by contract; what is read is read before it is freed.
        unsafe {
            match self.kind() {
                Kind::Empty => {}
                Kind::Branch(children) => children.iter().for_each(|child| child.free_all()),
                Kind::Shard(entries) => entries.iter().for_each(|entry| drop(entry.again().take())),
            }
            self.free();
        }
    }

    fn first(self) -> *mut Entry<T, C> {
        self.0.wrapping_byte_add(offset_of!(Shard<T, C>, first)).cast()
    }
}

fn shard_layout<T, C>(len: usize) -> Layout {
    let entries = Layout::array::<Entry<T, C>>(len).expect("a shard is small");
    let (layout, first) = Layout::new::<Head>().extend(entries).expect("a shard is small");
    debug_assert_eq!(
        first,
        offset_of!(Shard<T, C>, first),
        "entries begin where a shard of one has its first"
    );
    layout.pad_to_align()
}

impl<T, C> Clone for Node<T, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, C> Copy for Node<T, C> {}

impl<T, C> fmt::Debug for Node<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Node").field(&self.0).finish()
    }
}

// SAFETY: a node is memory that its map shares between threads: values are read by all (`Sync`) and dropped by any
// (`Send`), marks are copied.
unsafe impl<T: Send + Sync, C: Send + Sync> Send for Node<T, C> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync, C: Send + Sync> Sync for Node<T, C> {}
