//! Nodes by their labels, counted: a node is named by its own fact and by every instance that runs on it.
//!
//! Names of nodes that become one label are kept apart, so that the answer is one node's and not a mixture.

use core::net::IpAddr;
use portolan_table::SharedStr;

use smallvec::SmallVec;

use super::names::NamesWriter;
use super::schema::NodeName;

/// A cluster node, or this edge.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NodeEntry {
    /// `<label>.node` in wire form.
    pub(crate) name: Box<[u8]>,
    /// The nodes whose label this is, sorted by name; more than one is a collision.
    pub(crate) holders: SmallVec<[Holder; 1]>,
}

/// A node that goes by a label.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Holder {
    /// Its name as given, in lower case.
    pub(crate) given: SharedStr,
    /// It is this edge, which keeps its label.
    pub(crate) edge: bool,
    /// Claims on the name alone.
    pub(crate) claims: u32,
    /// Sorted, with the number of claims on each.
    pub(crate) addresses: SmallVec<[(IpAddr, u32); 2]>,
}

impl NodeEntry {
    /// The one node that is answered: this edge, or else the first by name.
    pub(crate) fn holder(&self) -> Option<&Holder> {
        self.holders.iter().find(|holder| holder.edge).or(self.holders.first())
    }

    /// Its addresses.
    pub(crate) fn addresses(&self) -> &[(IpAddr, u32)] {
        self.holder().map_or(&[], |holder| &holder.addresses)
    }
}

/// One more reason for a node's name. True if several nodes go by it.
pub(super) fn claim_node(names: &mut NamesWriter, node: &NodeName, edge: bool) -> bool {
    let none = || NodeEntry { name: node.name.as_slice().into(), holders: SmallVec::new() };
    let mut entry = names.node(&node.name).cloned().unwrap_or_else(none);
    let at = entry.holders.binary_search_by(|holder| holder.given.cmp(&node.given)).unwrap_or_else(|at| {
        let given = node.given.clone();
        entry.holders.insert(at, Holder { given, edge, claims: 0, addresses: SmallVec::new() });
        at
    });
    let holder = &mut entry.holders[at];
    holder.claims += 1;
    for address in &node.addresses {
        match holder.addresses.binary_search_by_key(address, |(a, _)| *a) {
            Ok(at) => holder.addresses[at].1 += 1,
            Err(at) => holder.addresses.insert(at, (*address, 1)),
        }
    }
    let several = entry.holders.len() > 1;
    names.put_node(entry);
    several
}

/// One reason less; with the last one the name goes. True if several nodes went by it before.
pub(super) fn release_node(names: &mut NamesWriter, node: &NodeName) -> bool {
    let Some(mut entry) = names.node(&node.name).cloned() else { return false };
    let several = entry.holders.len() > 1;
    let Ok(at) = entry.holders.binary_search_by(|holder| holder.given.cmp(&node.given)) else {
        return several;
    };
    let holder = &mut entry.holders[at];
    holder.claims = holder.claims.saturating_sub(1);
    for address in &node.addresses {
        if let Ok(at) = holder.addresses.binary_search_by_key(address, |(a, _)| *a) {
            holder.addresses[at].1 -= 1;
            if holder.addresses[at].1 == 0 {
                holder.addresses.remove(at);
            }
        }
    }
    if holder.claims == 0 {
        entry.holders.remove(at);
    }
    if entry.holders.is_empty() {
        names.remove(&node.name);
    } else {
        names.put_node(entry);
    }
    several
}
