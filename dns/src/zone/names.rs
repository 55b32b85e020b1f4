//! The index of one zone: owner names that stand by themselves, and the empty names between them and the apex.

use std::sync::Arc;

use portolan_table::{ShardMap, Shards, index_hash};

use super::entry::{Part, PartKind, ServiceEntry};
use super::groups::Group;
use super::nodes::NodeEntry;

/// Owner name → what stands there, for readers. Names are relative to the apex, lower case, wire form without root.
/// Clone is O(1).
#[derive(Debug, Clone, Default)]
pub(crate) struct Names(Shards<NameData, Mark>);

/// The same for the one who changes it.
#[derive(Debug, Default)]
pub(crate) struct NamesWriter(ShardMap<NameData, Mark>);

/// What stands at a name. The name itself is not kept twice: what stands there knows it.
#[derive(Debug)]
pub(crate) enum NameData {
    /// A service, by any of its names.
    Service(ServiceEntry),
    Node(NodeEntry),
    /// An empty non-terminal (RFC 8020 §2).
    Empty(Box<[u8]>),
}

/// What is known of one owner name beside what stands there.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// Owner names directly below. A name with some below it exists, whatever becomes of its data.
    below: u32,
    /// For a service: which of its parts; with [`Mark::SUFFIXED`] in all names but the service's own.
    part: u16,
    /// The part's group, so that an address query need not look at the part.
    group: u16,
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

impl Mark {
    /// Of a name that only has names below.
    const EMPTY: Self = Self { below: 0, part: 0, group: 0 };
    /// The name is more than the service's own: to compare it, the part has to be looked at. There are fewer parts.
    const SUFFIXED: u16 = 1 << 15;

    #[inline]
    fn part(self) -> PartRef {
        PartRef { part: self.part & !Self::SUFFIXED, group: self.group }
    }
}

impl NameData {
    #[inline]
    fn is(&self, mark: Mark, name: &[u8]) -> bool {
        match self {
            Self::Service(entry) if mark.part & Mark::SUFFIXED == 0 => *entry.owner == *name,
            Self::Service(entry) => name.strip_prefix(&*entry.owner) == Some(&mark.part().of(entry).suffix),
            Self::Node(node) => *node.name == *name,
            Self::Empty(own) => **own == *name,
        }
    }

    #[inline]
    fn standing(&self, mark: Mark) -> Standing<'_> {
        match self {
            Self::Service(entry) => Standing::Service(entry, mark.part()),
            Self::Node(node) => Standing::Node(node),
            Self::Empty(_) => Standing::Empty,
        }
    }

    fn name(&self, mark: Mark) -> Vec<u8> {
        match self {
            Self::Service(entry) => [&*entry.owner, &*mark.part().of(entry).suffix].concat(),
            Self::Node(node) => node.name.to_vec(),
            Self::Empty(own) => own.to_vec(),
        }
    }
}

impl Names {
    /// What stands at `name`. No lock, no allocation.
    #[inline]
    pub(crate) fn get(&self, name: &[u8]) -> Option<Standing<'_>> {
        let (data, mark) = self.0.entry(place(name), |data, mark| data.is(mark, name))?;
        Some(data.standing(mark))
    }

    /// Number of names, the empty ones included.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// All names with what stands there, in no order that means anything.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Vec<u8>, Standing<'_>)> {
        self.0.iter().map(|(data, mark)| (data.name(mark), data.standing(mark)))
    }

    /// The names at which something else stands than in `other`, or nothing there, with what stands here. Costs as
    /// much as the two differ. Equal content elsewhere in memory is not looked for.
    pub(super) fn apart_from<'a>(&'a self, other: &'a Self) -> Vec<(Vec<u8>, Standing<'a>)> {
        let differs = |(data, mark): (&'a Arc<NameData>, Mark)| {
            let name = data.name(mark);
            let there = other.0.entry(place(&name), |data, mark| data.is(mark, &name));
            let same = there.is_some_and(|(there, at)| match (&**there, &**data) {
                (NameData::Empty(_), NameData::Empty(_)) => true,
                _ => Arc::ptr_eq(there, data) && at.part == mark.part,
            });
            (!same).then(|| (name, data.standing(mark)))
        };
        self.0.unshared(&other.0).into_iter().filter_map(differs).collect()
    }
}

impl NamesWriter {
    /// The names as they stand, for readers.
    pub(crate) fn view(&mut self) -> Names {
        Names(self.0.view())
    }

    /// Reads on the way to `name`, to wait for memory once for many names.
    pub(crate) fn touch(&self, name: &[u8]) {
        self.0.touch(place(name));
    }

    /// The node at `name`.
    pub(crate) fn node(&self, name: &[u8]) -> Option<&NodeEntry> {
        match &**self.0.get(place(name), |data, mark| data.is(mark, name))? {
            NameData::Node(node) => Some(node),
            _ => None,
        }
    }

    /// Puts a part of a service at `name`. `data` is the service.
    pub(crate) fn put_service(&mut self, name: &[u8], data: &Arc<NameData>, part: u16) {
        let NameData::Service(entry) = &**data else { return };
        let said = &entry.parts[usize::from(part)];
        let part = if said.kind == PartKind::Whole { part } else { part | Mark::SUFFIXED };
        self.put(name, Arc::clone(data), Mark { below: 0, part, group: said.group });
    }

    /// Puts a node at its name.
    pub(crate) fn put_node(&mut self, node: NodeEntry) {
        let name = node.name.clone();
        self.put(&name, Arc::new(NameData::Node(node)), Mark::EMPTY);
    }

    fn put(&mut self, name: &[u8], data: Arc<NameData>, mark: Mark) {
        let hash = place(name);
        let below = self.below(hash, name);
        let mark = Mark { below: below.unwrap_or(0), ..mark };
        self.0.insert(hash, data, mark, |data, mark| data.is(mark, name));
        if below.is_none() {
            self.count_above(name);
        }
    }

    fn below(&self, hash: u64, name: &[u8]) -> Option<u32> {
        let (_, mark) = self.0.entry(hash, |data, mark| data.is(mark, name))?;
        Some(mark.below)
    }

    /// Takes away what stands at `name`. The name stays, empty, while there are names below it.
    pub(crate) fn remove(&mut self, name: &[u8]) {
        let hash = place(name);
        let Some(below) = self.below(hash, name) else { return };
        if below > 0 {
            let empty = Arc::new(NameData::Empty(name.into()));
            self.0.insert(hash, empty, Mark { below, ..Mark::EMPTY }, |data, mark| data.is(mark, name));
            return;
        }
        self.0.remove(hash, |data, mark| data.is(mark, name));
        if let Some(above) = parent(name) {
            self.uncount(above);
        }
    }

    /// A name came to be: its parent has one more below it, and comes to be itself if it was not there.
    fn count_above(&mut self, name: &[u8]) {
        let mut name = name;
        while let Some(above) = parent(name) {
            let hash = place(above);
            if self.0.mark(hash, |data, mark| data.is(mark, above), |mark| mark.below += 1) {
                return;
            }
            let empty = Arc::new(NameData::Empty(above.into()));
            self.0.insert(hash, empty, Mark { below: 1, ..Mark::EMPTY }, |_, _| false);
            name = above;
        }
    }

    /// A name below `name` is gone. An empty name with nothing below goes too.
    fn uncount(&mut self, name: &[u8]) {
        let hash = place(name);
        let Some((data, mark)) = self.0.entry(hash, |data, mark| data.is(mark, name)) else {
            debug_assert!(false, "the parent of every name is a name");
            return;
        };
        if mark.below > 1 || !matches!(**data, NameData::Empty(_)) {
            self.0.mark(hash, |data, mark| data.is(mark, name), |mark| mark.below -= 1);
            return;
        }
        self.0.remove(hash, |data, mark| data.is(mark, name));
        if let Some(above) = parent(name) {
            self.uncount(above);
        }
    }
}

/// Where a name is kept: a service's names by source and through the proxies beside its own, so that a change of the
/// service copies one path of the index and not one for each. There are few sources; fault domains may be many, and
/// are kept by themselves. Any function of the name will do here, as long as few names share a place.
#[inline]
fn place(name: &[u8]) -> u64 {
    let service = match name.strip_suffix(b"\x03vip") {
        Some(service) => Some(service),
        None => name.strip_suffix(b"\x03src").and_then(without_last_label),
    };
    index_hash(service.filter(|service| !service.is_empty()).unwrap_or(name))
}

/// `None` if there are no labels.
fn without_last_label(name: &[u8]) -> Option<&[u8]> {
    let mut start = 0;
    loop {
        let next = start + 1 + usize::from(*name.get(start)?);
        if next >= name.len() {
            return Some(&name[..start]);
        }
        start = next;
    }
}

/// The name without its first label; `None` at the apex.
fn parent(name: &[u8]) -> Option<&[u8]> {
    let rest = name.get(usize::from(*name.first()?) + 1..)?;
    (!rest.is_empty()).then_some(rest)
}
