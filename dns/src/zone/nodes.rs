//! Nodes by their labels, counted: a node is named by its own fact and by every instance that runs on it.
//!
//! Names of nodes that become one label are kept apart, so that the answer is one node's and not a mixture.

use core::net::IpAddr;
use portolan_table::SharedStr;

use smallvec::SmallVec;

use super::claims::Claims;
use super::names::NamesWriter;
use super::schema::NodeName;

/// A cluster node, or this edge.
#[derive(Debug, Clone)]
pub(crate) struct NodeEntry {
    /// `<label>.node` in wire form.
    pub(crate) name: Box<[u8]>,
    /// The nodes whose label this is, sorted by name; more than one is a collision.
    pub(crate) holders: SmallVec<[Holder; 1]>,
}

/// A node that goes by a label.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    /// Its name as given, in lower case.
    pub(crate) given: SharedStr,
    /// It is this edge, which keeps its label.
    pub(crate) edge: bool,
    /// Claims on the name alone.
    pub(crate) claims: Claims,
    /// Sorted, with the number of claims on each.
    pub(crate) addresses: SmallVec<[(IpAddr, Claims); 2]>,
}

impl NodeEntry {
    /// The one node that is answered: this edge, or else the first by name.
    pub(crate) fn holder(&self) -> Option<&Holder> {
        self.holders.iter().find(|holder| holder.edge).or(self.holders.first())
    }

    /// Its addresses.
    pub(crate) fn addresses(&self) -> &[(IpAddr, Claims)] {
        self.holder().map_or(&[], |holder| &holder.addresses)
    }

    fn place_of(&self, given: &str) -> Result<usize, usize> {
        self.holders.binary_search_by(|holder| (*holder.given).cmp(given))
    }
}

impl Holder {
    fn place_of(&self, address: IpAddr) -> Result<usize, usize> {
        self.addresses.binary_search_by_key(&address, |(own, _)| *own)
    }

    /// Counts what is claimed. False, and nothing is counted, if one of the addresses is not there yet.
    fn count(&self, node: &NodeName) -> bool {
        let known = |address: &IpAddr| self.place_of(*address).is_ok();
        if !node.addresses.iter().all(known) {
            return false;
        }
        self.claims.add();
        for at in node.addresses.iter().flat_map(|address| self.place_of(*address)) {
            self.addresses[at].1.add();
        }
        true
    }

    /// Counts what is released. False, and nothing is counted, if a name or an address would have no reason left.
    fn uncount(&self, node: &NodeName) -> bool {
        let times = |address: IpAddr| node.addresses.iter().filter(|own| **own == address).count();
        let stays = |(address, claims): &(IpAddr, Claims)| claims.count() as usize > times(*address);
        if self.claims.count() < 2 || !self.addresses.iter().all(stays) {
            return false;
        }
        self.claims.take();
        for at in node.addresses.iter().flat_map(|address| self.place_of(*address)) {
            self.addresses[at].1.take();
        }
        true
    }
}

/// What a claim or its release did.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claimed {
    /// A name or an address came or went, and not a count alone.
    pub(super) seen: bool,
    /// Several nodes go by the name, or went by it before.
    pub(super) several: bool,
}

/// One more reason for a node's name.
pub(super) fn claim_node(names: &mut NamesWriter, node: &NodeName, edge: bool) -> Claimed {
    let entry = names.node(&node.name);
    let holder = entry.and_then(|entry| Some((entry, entry.place_of(&node.given).ok()?)));
    if let Some((entry, at)) = holder
        && entry.holders[at].count(node)
    {
        return Claimed { seen: false, several: entry.holders.len() > 1 };
    }
    let none = || NodeEntry { name: node.name.as_slice().into(), holders: SmallVec::new() };
    let mut entry = entry.cloned().unwrap_or_else(none);
    let holder = match entry.place_of(&node.given) {
        Ok(at) => {
            entry.holders[at].claims.add();
            &mut entry.holders[at]
        }
        Err(at) => {
            let given = node.given.clone();
            entry
                .holders
                .insert(at, Holder { given, edge, claims: Claims::one(), addresses: SmallVec::new() });
            &mut entry.holders[at]
        }
    };
    for address in &node.addresses {
        match holder.place_of(*address) {
            Ok(at) => holder.addresses[at].1.add(),
            Err(at) => holder.addresses.insert(at, (*address, Claims::one())),
        }
    }
    let several = entry.holders.len() > 1;
    names.put_node(entry);
    Claimed { seen: true, several }
}

/// One reason less; with the last one the name goes.
pub(super) fn release_node(names: &mut NamesWriter, node: &NodeName) -> Claimed {
    let nothing = Claimed { seen: false, several: false };
    let Some(entry) = names.node(&node.name) else { return nothing };
    let several = entry.holders.len() > 1;
    let Ok(at) = entry.place_of(&node.given) else { return Claimed { several, ..nothing } };
    if entry.holders[at].uncount(node) {
        return Claimed { seen: false, several };
    }
    let mut entry = entry.clone();
    let holder = &mut entry.holders[at];
    for address in &node.addresses {
        if let Ok(at) = holder.place_of(*address)
            && holder.addresses[at].1.take() == 0
        {
            holder.addresses.remove(at);
        }
    }
    if holder.claims.take() == 0 {
        entry.holders.remove(at);
    }
    if entry.holders.is_empty() {
        names.remove(&node.name);
    } else {
        names.put_node(entry);
    }
    Claimed { seen: true, several }
}
