//! A zone whose records are listed one by one: the index for schemas that reproduce another program's zone.
//!
//! Several things may ask for the same record (two tasks on one agent, one address of both): records are counted,
//! and a record goes with the last reason for it. Changes are gathered first and put in owner by owner, so that
//! what many tasks share (`slave`, the name of a large service) is copied once per publication.

use core::net::IpAddr;
use std::sync::Arc;

use foldhash::HashMap;
use portolan_table::{ShardMap, Shards, index_hash};
use smallvec::SmallVec;

/// Owner name → records, for readers. Names are relative to the apex, lower case, wire form without root. Clone is
/// O(1).
#[derive(Debug, Clone, Default)]
pub(crate) struct Listed {
    names: Shards<Node, u32>,
    reverse: Shards<Pointed>,
}

/// The same for the one who changes it. Each name is marked with the number of owner names directly below.
#[derive(Debug, Default)]
pub(crate) struct ListedWriter {
    names: ShardMap<Node, u32>,
    reverse: ShardMap<Pointed>,
}

/// One owner name.
#[derive(Debug)]
struct Node {
    name: Box<[u8]>,
    /// Without any, it is an empty non-terminal (RFC 8020 §2).
    sets: Sets,
}

/// The record sets of one name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sets {
    v4: Counted<[u8; 4]>,
    v6: Counted<[u8; 16]>,
    srv: Counted<Srv>,
}

/// One SRV record; priority and weight are the zone's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Srv {
    /// Relative to the apex; `None` where the target cannot be written down as a domain name.
    pub(crate) target: Option<Arc<[u8]>>,
    pub(crate) port: u16,
}

/// Values in order, each once, with the number of reasons for it.
#[derive(Debug, Clone)]
struct Counted<T> {
    values: Box<[T]>,
    /// Empty where every value has one reason.
    counts: Box<[u32]>,
}

impl<T> Default for Counted<T> {
    fn default() -> Self {
        Self { values: Box::default(), counts: Box::default() }
    }
}

/// The names of one address.
#[derive(Debug)]
struct Pointed {
    address: IpAddr,
    names: Counted<Arc<[u8]>>,
}

/// A record as a schema asks for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Data {
    V4([u8; 4]),
    V6([u8; 16]),
    Srv(Srv),
}

impl Data {
    /// An A or AAAA record.
    pub(crate) fn address(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self::V4(v4.octets()),
            IpAddr::V6(v6) => Self::V6(v6.octets()),
        }
    }
}

/// What is to change: reasons for records that came and went.
#[derive(Debug, Default)]
pub(crate) struct Deltas {
    names: HashMap<Vec<u8>, Changes>,
    reverse: HashMap<IpAddr, Renamings>,
}

/// What changes at a name.
type Changes = SmallVec<[(Data, i32); 2]>;
/// What changes among the names of an address.
type Renamings = SmallVec<[(Arc<[u8]>, i32); 1]>;

impl Deltas {
    /// `by` more reasons (or fewer) for a record.
    pub(crate) fn add(&mut self, owner: Vec<u8>, data: Data, by: i32) {
        self.names.entry(owner).or_default().push((data, by));
    }

    /// `by` more reasons (or fewer) why `address` goes by `name`.
    pub(crate) fn point(&mut self, address: IpAddr, name: Arc<[u8]>, by: i32) {
        self.reverse.entry(address).or_default().push((name, by));
    }
}

impl<T: Ord + Clone> Counted<T> {
    /// Itself with the changes applied; `None` if that makes no difference to the values or their reasons.
    fn changed(&self, changes: &mut [(T, i32)]) -> Option<Self> {
        if changes.is_empty() {
            return None;
        }
        changes.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut all: Vec<(T, u32)> = Vec::with_capacity(self.values.len() + changes.len());
        let mut old = self.values.iter().enumerate().map(|(at, value)| (value, self.count(at))).peekable();
        let mut differs = false;
        for group in changes.chunk_by(|(a, _), (b, _)| a == b) {
            let value = &group[0].0;
            while let Some((value, count)) = old.next_if(|(old, _)| *old < value) {
                all.push((value.clone(), count));
            }
            let before = old.next_if(|(old, _)| *old == value).map_or(0, |(_, count)| count);
            let by: i64 = group.iter().map(|(_, by)| i64::from(*by)).sum();
            let after = i64::from(before) + by;
            debug_assert!(after >= 0, "a reason that goes has come before");
            let after = u32::try_from(after.max(0)).unwrap_or(u32::MAX);
            differs |= after != before;
            if after > 0 {
                all.push((value.clone(), after));
            }
        }
        if !differs {
            return None;
        }
        all.extend(old.map(|(value, count)| (value.clone(), count)));
        let single = all.iter().all(|(_, count)| *count == 1);
        let counts = if single { Box::default() } else { all.iter().map(|(_, count)| *count).collect() };
        Some(Self { values: all.into_iter().map(|(value, _)| value).collect(), counts })
    }

    fn count(&self, at: usize) -> u32 {
        self.counts.get(at).copied().unwrap_or(1)
    }
}

impl Sets {
    /// Distinct addresses, sorted.
    #[inline]
    pub(crate) fn v4(&self) -> &[[u8; 4]] {
        &self.v4.values
    }

    #[inline]
    pub(crate) fn v6(&self) -> &[[u8; 16]] {
        &self.v6.values
    }

    /// Distinct SRV records, sorted.
    #[inline]
    pub(crate) fn srv(&self) -> &[Srv] {
        &self.srv.values
    }

    fn is_empty(&self) -> bool {
        self.v4.values.is_empty() && self.v6.values.is_empty() && self.srv.values.is_empty()
    }

    fn changed(&self, changes: Changes) -> Option<Self> {
        let (mut v4, mut v6, mut srv) = (Vec::new(), Vec::new(), Vec::new());
        for (data, by) in changes {
            match data {
                Data::V4(octets) => v4.push((octets, by)),
                Data::V6(octets) => v6.push((octets, by)),
                Data::Srv(record) => srv.push((record, by)),
            }
        }
        let (v4, v6, srv) = (self.v4.changed(&mut v4), self.v6.changed(&mut v6), self.srv.changed(&mut srv));
        if v4.is_none() && v6.is_none() && srv.is_none() {
            return None;
        }
        Some(Self {
            v4: v4.unwrap_or_else(|| self.v4.clone()),
            v6: v6.unwrap_or_else(|| self.v6.clone()),
            srv: srv.unwrap_or_else(|| self.srv.clone()),
        })
    }
}

/// What stands at a name.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Standing<'a> {
    Records(&'a Sets),
    /// Nothing, but there are names below.
    Empty,
}

impl Node {
    fn standing(&self) -> Standing<'_> {
        if self.sets.is_empty() { Standing::Empty } else { Standing::Records(&self.sets) }
    }
}

impl Listed {
    /// What stands at `name`. No lock, no allocation.
    #[inline]
    pub(crate) fn get(&self, name: &[u8]) -> Option<Standing<'_>> {
        self.names.get(index_hash(name), |node, _| *node.name == *name).map(|node| node.standing())
    }

    /// The names of `address`, sorted; `None` if it has none here.
    pub(crate) fn pointed(&self, address: IpAddr) -> Option<&[Arc<[u8]>]> {
        self.reverse.get(hash(address), |pointed, ()| pointed.address == address).map(|p| &*p.names.values)
    }

    /// Number of names, the empty ones included.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// All names that have records, in no order that means anything.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &Sets)> {
        self.names.iter().filter(|(node, _)| !node.sets.is_empty()).map(|(node, _)| (&*node.name, &node.sets))
    }

    /// The names that may differ from those of `other`. Costs as much as was copied between the two.
    pub(crate) fn apart_from<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a [u8]> {
        self.names.unshared(&other.names).into_iter().map(|(node, _)| &*node.name)
    }

    /// All addresses that have names, in no order that means anything.
    pub(crate) fn pointed_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.reverse.iter().map(|(pointed, ())| pointed.address)
    }
}

impl ListedWriter {
    /// The zone as it stands, for readers.
    pub(crate) fn view(&mut self) -> Listed {
        Listed { names: self.names.view(), reverse: self.reverse.view() }
    }

    /// Puts the changes in. True if something that is answered differs.
    pub(crate) fn apply(&mut self, deltas: Deltas) -> bool {
        let mut differs = false;
        for (name, changes) in deltas.names {
            differs |= self.change(&name, changes);
        }
        for (address, mut changes) in deltas.reverse {
            differs |= self.repoint(address, &mut changes);
        }
        differs
    }

    fn change(&mut self, name: &[u8], changes: Changes) -> bool {
        let hash = index_hash(name);
        let is_it = |node: &Node, _| *node.name == *name;
        let (none, old) = (Sets::default(), self.names.entry(hash, is_it));
        let below = old.map(|(_, below)| below);
        let Some(sets) = old.map_or(&none, |(node, _)| &node.sets).changed(changes) else { return false };
        if sets.is_empty() && below == Some(0) {
            self.names.remove(hash, is_it);
            self.leave(name);
            return true;
        }
        self.names.insert(hash, Arc::new(Node { name: name.into(), sets }), below.unwrap_or(0), is_it);
        if below.is_none() {
            self.join(name);
        }
        true
    }

    /// A name came to be: its parent has one more below it, and comes to be itself if it was not there.
    fn join(&mut self, name: &[u8]) {
        let mut name = name;
        while let Some(above) = parent(name) {
            let hash = index_hash(above);
            if self.names.mark(hash, |node, _| *node.name == *above, |below| *below += 1) {
                return;
            }
            self.names.insert(
                hash,
                Arc::new(Node { name: above.into(), sets: Sets::default() }),
                1,
                |_, _| false,
            );
            name = above;
        }
    }

    /// A name is gone: its parent has one less below it, and goes too if it is empty and that was the last.
    fn leave(&mut self, name: &[u8]) {
        let mut name = name;
        while let Some(above) = parent(name) {
            let hash = index_hash(above);
            let is_it = |node: &Node, _| *node.name == *above;
            let Some((node, below)) = self.names.entry(hash, is_it) else {
                debug_assert!(false, "the parent of every name is a name");
                return;
            };
            if below > 1 || !node.sets.is_empty() {
                self.names.mark(hash, is_it, |below| *below -= 1);
                return;
            }
            self.names.remove(hash, is_it);
            name = above;
        }
    }

    fn repoint(&mut self, address: IpAddr, changes: &mut [(Arc<[u8]>, i32)]) -> bool {
        let (hash, is_it) = (hash(address), |pointed: &Pointed, ()| pointed.address == address);
        let none = Counted::default();
        let before = self.reverse.get(hash, is_it).map_or(&none, |pointed| &pointed.names);
        let Some(names) = before.changed(changes) else { return false };
        if names.values.is_empty() {
            self.reverse.remove(hash, is_it);
        } else {
            self.reverse.insert(hash, Arc::new(Pointed { address, names }), (), is_it);
        }
        true
    }
}

/// The name without its first label; `None` at the apex.
fn parent(name: &[u8]) -> Option<&[u8]> {
    let rest = name.get(usize::from(*name.first()?) + 1..)?;
    (!rest.is_empty()).then_some(rest)
}

fn hash(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(v4) => index_hash(&v4.octets()),
        IpAddr::V6(v6) => index_hash(&v6.octets()),
    }
}
