//! Nodes of the cluster: told by sources, and derived from the instances that run on them.
//!
//! An instance with a node name and a host address makes that node known; the node is gone with the last
//! such instance. What a source tells about a node goes before what is derived.

use core::net::IpAddr;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;
use portolan_table::{Instance, NodeFact, SharedStr};
use smallvec::SmallVec;

/// All nodes, with the names whose fact may have changed.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    derived: HashMap<SharedStr, Derived, RandomState>,
    told: HashMap<SharedStr, BTreeMap<u16, Arc<NodeFact>>, RandomState>,
    touched: HashSet<SharedStr, RandomState>,
}

/// What instances say about one node, each statement with the number of instances that make it.
#[derive(Debug, Default)]
struct Derived {
    addresses: SmallVec<[(IpAddr, u32); 1]>,
    places: SmallVec<[(Place, u32); 1]>,
}

/// Zone and region.
type Place = (Option<SharedStr>, Option<SharedStr>);

impl Nodes {
    /// Counts an instance in.
    pub(crate) fn add(&mut self, instance: &Instance) {
        let Some(node) = &instance.node else { return };
        let mut hosts = hosts(instance).peekable();
        if hosts.peek().is_none() {
            return;
        }
        if !self.derived.contains_key(node) {
            self.derived.insert(node.clone(), Derived::default());
        }
        let Some(derived) = self.derived.get_mut(node) else { return };
        let mut changed = false;
        for ip in hosts {
            changed |= count(&mut derived.addresses, ip);
        }
        changed |= count(&mut derived.places, (instance.zone.clone(), instance.region.clone()));
        if changed {
            self.touched.insert(node.clone());
        }
    }

    /// Counts an instance out that was counted in before.
    pub(crate) fn remove(&mut self, instance: &Instance) {
        let Some(node) = &instance.node else { return };
        let mut hosts = hosts(instance).peekable();
        if hosts.peek().is_none() {
            return;
        }
        let Some(derived) = self.derived.get_mut(node) else { return };
        let mut changed = false;
        for ip in hosts {
            changed |= discount(&mut derived.addresses, &ip);
        }
        changed |= discount(&mut derived.places, &(instance.zone.clone(), instance.region.clone()));
        if changed {
            if derived.addresses.is_empty() {
                self.derived.remove(node);
            }
            self.touched.insert(node.clone());
        }
    }

    /// Takes in what the source of `feed` tells about a node.
    pub(crate) fn tell(&mut self, feed: u16, fact: Arc<NodeFact>) {
        let name = fact.name.clone();
        let told = self.told.entry(name.clone()).or_default();
        if told.get(&feed) != Some(&fact) {
            told.insert(feed, fact);
            self.touched.insert(name);
        }
    }

    /// Forgets what the source of `feed` told about a node.
    pub(crate) fn untell(&mut self, feed: u16, name: &SharedStr) {
        let Some(told) = self.told.get_mut(name) else { return };
        if told.remove(&feed).is_some() {
            self.touched.insert(name.clone());
        }
        if told.is_empty() {
            self.told.remove(name);
        }
    }

    /// Names that the source of `feed` has told.
    pub(crate) fn told_by(&self, feed: u16) -> Vec<Arc<NodeFact>> {
        self.told.values().filter_map(|told| told.get(&feed)).cloned().collect()
    }

    /// Nodes touched since the last call, as they are now.
    pub(crate) fn take_touched(&mut self) -> Vec<(SharedStr, Option<Arc<NodeFact>>)> {
        let touched: Vec<_> = self.touched.drain().collect();
        touched.into_iter().map(|name| (name.clone(), self.fact(&name))).collect()
    }

    /// True if a node was touched since the last [`take_touched`](Self::take_touched).
    pub(crate) fn is_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    fn fact(&self, name: &SharedStr) -> Option<Arc<NodeFact>> {
        let derived = self.derived.get(name);
        let told = self.told.get(name);
        if derived.is_none() && told.is_none() {
            return None;
        }
        let told = || told.into_iter().flat_map(BTreeMap::values);
        let place = derived.and_then(|d| d.places.iter().map(|(place, _)| place).min());
        let mut addresses: SmallVec<[IpAddr; 1]> = told().flat_map(|fact| fact.addresses.clone()).collect();
        if addresses.is_empty() {
            addresses.extend(derived.into_iter().flat_map(|d| d.addresses.iter().map(|(ip, _)| *ip)));
        }
        addresses.sort_unstable();
        addresses.dedup();
        Some(Arc::new(NodeFact {
            name: name.clone(),
            addresses,
            zone: told().find_map(|fact| fact.zone.clone()).or_else(|| place?.0.clone()),
            region: told().find_map(|fact| fact.region.clone()).or_else(|| place?.1.clone()),
        }))
    }
}

/// The addresses of the instance's node, each once: an instance may list one twice.
fn hosts(instance: &Instance) -> impl Iterator<Item = IpAddr> + '_ {
    let all = &instance.addresses;
    all.iter().enumerate().filter(|(_, a)| a.is_of_host()).filter_map(move |(index, a)| {
        let earlier = all[..index].iter().any(|b| b.is_of_host() && b.ip == a.ip);
        (!earlier).then_some(a.ip)
    })
}

/// True if `value` is new.
fn count<T: PartialEq, const N: usize>(counts: &mut SmallVec<[(T, u32); N]>, value: T) -> bool
where
    [(T, u32); N]: smallvec::Array<Item = (T, u32)>,
{
    if let Some((_, count)) = counts.iter_mut().find(|(held, _)| *held == value) {
        *count += 1;
        return false;
    }
    counts.push((value, 1));
    true
}

/// True if that was the last `value`.
fn discount<T: PartialEq, const N: usize>(counts: &mut SmallVec<[(T, u32); N]>, value: &T) -> bool
where
    [(T, u32); N]: smallvec::Array<Item = (T, u32)>,
{
    let Some(at) = counts.iter().position(|(held, _)| held == value) else { return false };
    counts[at].1 -= 1;
    let last = counts[at].1 == 0;
    if last {
        counts.swap_remove(at);
    }
    last
}

#[cfg(test)]
mod tests {
    use portolan_table::{Address, Provenance};

    use super::*;

    fn on(node: &str, ip: &str, zone: Option<&str>) -> Instance {
        let mut instance = Instance::running(format!("i-{node}-{ip}"));
        instance.node = Some(node.into());
        instance.zone = zone.map(Into::into);
        instance.addresses.push(Address::new(
            ip.parse().unwrap(),
            portolan_table::Network::Host,
            Provenance::NodeAddress,
        ));
        instance
    }

    fn now(nodes: &mut Nodes, name: &str) -> Option<Option<Arc<NodeFact>>> {
        nodes.take_touched().into_iter().find(|(n, _)| &**n == name).map(|(_, fact)| fact)
    }

    #[test]
    fn a_node_lives_as_long_as_its_last_instance() {
        let mut nodes = Nodes::default();
        nodes.add(&on("n1", "10.0.0.1", Some("a")));
        assert_eq!(now(&mut nodes, "n1").unwrap().unwrap().zone.as_deref(), Some("a"));
        nodes.add(&on("n1", "10.0.0.1", Some("a")));
        assert!(!nodes.is_touched(), "the second instance says nothing new");
        nodes.remove(&on("n1", "10.0.0.1", Some("a")));
        assert!(!nodes.is_touched());
        nodes.remove(&on("n1", "10.0.0.1", Some("a")));
        assert_eq!(now(&mut nodes, "n1"), Some(None));
        assert!(nodes.derived.is_empty());
    }

    #[test]
    fn what_is_told_goes_before_what_is_derived() {
        let mut nodes = Nodes::default();
        nodes.add(&on("n1", "10.0.0.1", Some("a")));
        let told = NodeFact {
            name: "n1".into(),
            addresses: SmallVec::from_iter(["10.9.9.9".parse().unwrap()]),
            zone: None,
            region: Some("r".into()),
        };
        nodes.tell(7, Arc::new(told));
        let fact = now(&mut nodes, "n1").unwrap().unwrap();
        assert_eq!((fact.addresses.len(), fact.addresses[0]), (1, "10.9.9.9".parse().unwrap()));
        assert_eq!((fact.zone.as_deref(), fact.region.as_deref()), (Some("a"), Some("r")));
        nodes.untell(7, &"n1".into());
        assert_eq!(
            now(&mut nodes, "n1").unwrap().unwrap().addresses[0],
            "10.0.0.1".parse::<IpAddr>().unwrap()
        );
        assert!(nodes.told.is_empty());
    }
}
