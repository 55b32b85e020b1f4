//! PTR records for exactly the addresses that are served.

use core::net::IpAddr;
use std::sync::Arc;

use portolan_table::{ShardMap, Shards, index_hash};
use smallvec::{SmallVec, smallvec};

use super::claims::Claims;
use super::entry::InstanceLabel;

/// Address → the names it goes by in one zone, for readers. Clone is O(1).
#[derive(Debug, Clone, Default)]
pub(crate) struct Reverse(Shards<Names>);

/// The same for the one who changes it.
#[derive(Debug, Default)]
pub(crate) struct ReverseWriter(ShardMap<Names>);

#[derive(Debug, Clone)]
struct Names {
    address: IpAddr,
    /// Sorted, with the number of claims on each.
    names: SmallVec<[(PtrName, Claims); 1]>,
}

/// What a PTR record points at, relative to the apex.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PtrName {
    /// `<label>.node`, for an address of the node's own.
    Node(Arc<[u8]>),
    /// `<label>.inst.<service>`, for an instance's own address.
    Instance(InstanceLabel, Arc<[u8]>),
}

impl PtrName {
    /// Octets of the name without zone and root.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Node(name) => name.len(),
            Self::Instance(label, owner) => 1 + label.len() + INST.len() + owner.len(),
        }
    }

    /// Writes the name into a buffer of exactly [`PtrName::len`] octets.
    pub(crate) fn write(&self, out: &mut [u8]) {
        match self {
            Self::Node(name) => out.copy_from_slice(name),
            Self::Instance(label, owner) => {
                out[0] = label.len() as u8;
                out[1..=label.len()].copy_from_slice(label);
                let (inst, rest) = out[1 + label.len()..].split_at_mut(INST.len());
                inst.copy_from_slice(INST);
                rest.copy_from_slice(owner);
            }
        }
    }
}

/// The label between an instance and its service.
pub(crate) const INST: &[u8] = b"\x04inst";

impl Reverse {
    /// The names of `address`; `None` if it is not served. No lock, no allocation.
    pub(crate) fn get(&self, address: IpAddr) -> Option<&[(PtrName, Claims)]> {
        self.0.get(hash(address), |names, ()| names.address == address).map(|names| &*names.names)
    }

    /// All addresses, in no order that means anything.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.0.iter().map(|(names, ())| names.address)
    }
}

impl ReverseWriter {
    /// The addresses as they stand, for readers.
    pub(crate) fn view(&mut self) -> Reverse {
        Reverse(self.0.view())
    }

    /// Reads on the way to `address`, to wait for memory once for many addresses.
    pub(crate) fn touch(&self, address: IpAddr) {
        self.0.touch(hash(address));
    }

    /// One more reason why `address` goes by `name`. True if it did not before.
    pub(crate) fn claim(&mut self, address: IpAddr, name: PtrName) -> bool {
        let (hash, same) = (hash(address), |names: &Names, ()| names.address == address);
        let Some(old) = self.0.get(hash, same) else {
            let names = Names { address, names: smallvec![(name, Claims::one())] };
            self.0.insert(hash, Arc::new(names), (), same);
            return true;
        };
        match old.place_of(&name) {
            Ok(at) => {
                old.names[at].1.add();
                false
            }
            Err(at) => {
                let mut names = Names::clone(old);
                names.names.insert(at, (name, Claims::one()));
                self.0.insert(hash, Arc::new(names), (), same);
                true
            }
        }
    }

    /// One reason less; with the last one the name goes, with the last name the address. True if it goes.
    pub(crate) fn release(&mut self, address: IpAddr, name: &PtrName) -> bool {
        let (hash, same) = (hash(address), |names: &Names, ()| names.address == address);
        let Some(old) = self.0.get(hash, same) else { return false };
        let Ok(at) = old.place_of(name) else { return false };
        if old.names[at].1.take() > 0 {
            return false;
        }
        let mut names = Names::clone(old);
        names.names.remove(at);
        if names.names.is_empty() {
            self.0.remove(hash, same);
        } else {
            self.0.insert(hash, Arc::new(names), (), same);
        }
        true
    }
}

impl Names {
    fn place_of(&self, name: &PtrName) -> Result<usize, usize> {
        self.names.binary_search_by(|(own, _)| own.cmp(name))
    }
}

fn hash(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(v4) => index_hash(&v4.octets()),
        IpAddr::V6(v6) => index_hash(&v6.octets()),
    }
}
