//! The index of one zone: owner names that stand by themselves, and the empty names between them and the apex.

use std::sync::Arc;

use portolan_table::{ShardMap, index_hash};

use super::entry::{Part, PartKind, ServiceEntry};
use super::groups::Group;
use super::nodes::NodeEntry;

/// Owner name → what stands there. Names are relative to the apex, lower case, wire form without root.
/// Clone is O(1).
#[derive(Debug, Clone, Default)]
pub(crate) struct Names(ShardMap<Slot>);

/// One owner name. The name itself is not kept twice: what stands there knows it.
#[derive(Debug, Clone)]
struct Slot {
    /// Owner names directly below. A name with some below it exists, whatever becomes of its data.
    below: u32,
    /// For a service: which of its parts.
    part: u16,
    /// The part's group, so that an address query need not look at the part.
    group: u16,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    /// A service by its own name.
    Whole(Arc<ServiceEntry>),
    /// A service by another part's name.
    Service(Arc<ServiceEntry>),
    Node(Arc<NodeEntry>),
    /// An empty non-terminal (RFC 8020 §2); behind one pointer, to keep slots small.
    Empty(Arc<Box<[u8]>>),
}

/// What is found at a name.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Standing<'a> {
    /// A service, said in one of its ways: which part of it that is, and the part's group.
    Service(&'a ServiceEntry, PartRef),
    /// A node.
    Node(&'a NodeEntry),
    /// Nothing, but there are names below.
    Empty,
}

/// A part of a service's entry, and its group (of no meaning below `vip`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct PartRef {
    part: u16,
    group: u16,
}

impl PartRef {
    /// The part itself.
    #[inline]
    pub(crate) fn of(self, entry: &ServiceEntry) -> &Part {
        &entry.parts[usize::from(self.part)]
    }

    /// Its record sets; `None` for the way through the proxies.
    #[inline]
    pub(crate) fn group(self, entry: &ServiceEntry) -> Option<Group<'_>> {
        entry.numbered(self.group)
    }
}

impl Slot {
    #[inline]
    fn is(&self, name: &[u8]) -> bool {
        match &self.what {
            What::Whole(entry) => *entry.owner == *name,
            What::Service(entry) => {
                name.strip_prefix(&*entry.owner) == Some(&entry.parts[usize::from(self.part)].suffix)
            }
            What::Node(node) => *node.name == *name,
            What::Empty(own) => ***own == *name,
        }
    }
}

impl Names {
    /// What stands at `name`. No lock, no allocation.
    #[inline]
    pub(crate) fn get(&self, name: &[u8]) -> Option<Standing<'_>> {
        let slot = self.0.get(index_hash(name), |slot| slot.is(name))?;
        Some(match &slot.what {
            What::Whole(entry) | What::Service(entry) => {
                Standing::Service(entry, PartRef { part: slot.part, group: slot.group })
            }
            What::Node(node) => Standing::Node(node),
            What::Empty(_) => Standing::Empty,
        })
    }

    /// Puts a part of a service at `name`.
    pub(crate) fn put_service(&mut self, name: &[u8], entry: &Arc<ServiceEntry>, part: u16) {
        let said = &entry.parts[usize::from(part)];
        let what = match said.kind {
            PartKind::Whole => What::Whole(Arc::clone(entry)),
            _ => What::Service(Arc::clone(entry)),
        };
        self.put(name, what, PartRef { part, group: said.group });
    }

    /// Puts a node at its name.
    pub(crate) fn put_node(&mut self, node: NodeEntry) {
        let node = Arc::new(node);
        self.put(&node.name, What::Node(Arc::clone(&node)), PartRef { part: 0, group: 0 });
    }

    /// Number of names, the empty ones included.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// All names with what stands there, in no order that means anything.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Vec<u8>, Standing<'_>)> {
        self.0.iter().map(|slot| match &slot.what {
            What::Whole(entry) | What::Service(entry) => {
                let part = PartRef { part: slot.part, group: slot.group };
                ([&*entry.owner, &*part.of(entry).suffix].concat(), Standing::Service(entry, part))
            }
            What::Node(node) => (node.name.to_vec(), Standing::Node(node)),
            What::Empty(own) => (own.to_vec(), Standing::Empty),
        })
    }

    fn put(&mut self, name: &[u8], what: What, PartRef { part, group }: PartRef) {
        let hash = index_hash(name);
        let below = self.0.get(hash, |slot| slot.is(name)).map(|slot| slot.below);
        self.0.insert(hash, Slot { below: below.unwrap_or(0), part, group, what }, |slot| slot.is(name));
        if below.is_none() {
            self.count_above(name);
        }
    }

    /// Takes away what stands at `name`. The name stays, empty, while there are names below it.
    pub(crate) fn remove(&mut self, name: &[u8]) {
        let hash = index_hash(name);
        let Some(slot) = self.0.get(hash, |slot| slot.is(name)) else { return };
        if slot.below > 0 {
            let empty =
                Slot { below: slot.below, part: 0, group: 0, what: What::Empty(Arc::new(name.into())) };
            self.0.insert(hash, empty, |slot| slot.is(name));
            return;
        }
        self.0.remove(hash, |slot| slot.is(name));
        if let Some(above) = parent(name) {
            self.uncount(above);
        }
    }

    /// A name came to be: its parent has one more below it, and comes to be itself if it was not there.
    fn count_above(&mut self, name: &[u8]) {
        let mut name = name;
        while let Some(above) = parent(name) {
            let hash = index_hash(above);
            if let Some(mut slot) = self.0.get(hash, |slot| slot.is(above)).cloned() {
                slot.below += 1;
                self.0.insert(hash, slot, |slot| slot.is(above));
                return;
            }
            let empty = Slot { below: 1, part: 0, group: 0, what: What::Empty(Arc::new(above.into())) };
            self.0.insert(hash, empty, |_| false);
            name = above;
        }
    }

    /// A name below `name` is gone. An empty name with nothing below goes too.
    fn uncount(&mut self, name: &[u8]) {
        let hash = index_hash(name);
        let Some(mut slot) = self.0.get(hash, |slot| slot.is(name)).cloned() else {
            debug_assert!(false, "the parent of every name is a name");
            return;
        };
        slot.below -= 1;
        if slot.below > 0 || !matches!(slot.what, What::Empty(_)) {
            self.0.insert(hash, slot, |slot| slot.is(name));
            return;
        }
        self.0.remove(hash, |slot| slot.is(name));
        if let Some(above) = parent(name) {
            self.uncount(above);
        }
    }
}

/// The name without its first label; `None` at the apex.
fn parent(name: &[u8]) -> Option<&[u8]> {
    let rest = name.get(usize::from(*name.first()?) + 1..)?;
    (!rest.is_empty()).then_some(rest)
}
