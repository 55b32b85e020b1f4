//! How a service becomes names: the face of a zone schema.

use core::hash::Hash;
use core::net::IpAddr;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use portolan_table::{NodeFact, Service, SharedStr, SourceId, SourceStatus, sanitise_label};

use super::entry::{Part, ServiceEntry};
use super::report::{Problem, ProblemKind};
use super::reverse::PtrName;
use crate::wire::push_label;

/// Names of fault domains and ports that are kept for all services: more than clusters have.
const WORDS_MAX: usize = 10_000;

/// A pure function from one service (or node) to names and what stands there. Called for the services that
/// changed and for nothing else, before and after: the difference is the change of the zone.
pub(crate) trait Schema {
    /// The names of a service. `None` if the zone does not show it.
    fn service(&self, service: &Service, context: &Context) -> Option<ServiceNames>;

    /// The names of a node: one per label it goes by.
    fn node(&self, node: &NodeFact, context: &Context) -> Option<NodeName>;
}

/// What one service puts into a zone.
#[derive(Debug, Default)]
pub(crate) struct ServiceNames {
    /// What stands behind all its names.
    pub(crate) entry: Option<ServiceEntry>,
    /// Owner names relative to the apex, each with the part of the entry it stands for; sorted.
    pub(crate) names: Vec<OwnName>,
    /// Addresses served, with the name each goes by.
    pub(crate) reverse: Vec<(IpAddr, PtrName)>,
    /// Nodes that the service's instances tell of: label and address.
    pub(crate) nodes: Vec<NodeName>,
    /// What cannot be served as wished.
    pub(crate) problems: Vec<Problem>,
}

/// An owner name relative to the apex, and the part of the entry that it stands for.
pub(crate) type OwnName = (Vec<u8>, u16);

/// The name of a node and its addresses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeName {
    /// `<label>.node` in wire form.
    pub(crate) name: Vec<u8>,
    /// The name as its source gives it, in lower case: host names have no case.
    pub(crate) given: SharedStr,
    /// Its addresses.
    pub(crate) addresses: Vec<IpAddr>,
}

/// What a schema knows beside the service.
#[derive(Debug, Default)]
pub(crate) struct Context {
    /// Octets of the apex in wire form, root included.
    pub(crate) apex_len: usize,
    /// The sources this zone shows; sorted by id.
    pub(crate) sources: Vec<Source>,
    /// Sources without names of their own.
    pub(crate) problems: Vec<Problem>,
    /// Labels shown in TXT records.
    pub(crate) txt_labels: Vec<Arc<str>>,
    /// Suffixes that many services share.
    pub(crate) whole: Arc<[u8]>,
    pub(crate) vip: Arc<[u8]>,
    /// The same for what is found on the way: names of fault domains and ports.
    words: Shared<u8>,
    /// The ways to say a name, which are the same for most services.
    parts: Shared<Part>,
}

/// Lists of which there is one copy, however many hold it.
#[derive(Debug)]
struct Shared<T>(Mutex<HashSet<Arc<[T]>>>);

impl<T: Hash + Eq + Clone> Shared<T> {
    /// The one copy of `list`. When many are known already, it is a copy of its own.
    fn of(&self, list: &[T]) -> Arc<[T]> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(list) {
            return Arc::clone(known);
        }
        let list: Arc<[T]> = list.into();
        if known.len() < WORDS_MAX {
            known.insert(Arc::clone(&list));
        }
        list
    }
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// One source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) id: SourceId,
    pub(crate) name: SharedStr,
    /// `<name>.src` in wire form; `None` if that is none or another source's.
    pub(crate) suffix: Option<Arc<[u8]>>,
}

impl Context {
    /// The context of a zone that shows the sources named in `shown`, or all if none is named.
    pub(crate) fn new(
        apex_len: usize,
        sources: &[SourceStatus],
        shown: &[Arc<str>],
        txt_labels: &[Arc<str>],
    ) -> Self {
        let shown = |name: &str| shown.is_empty() || shown.iter().any(|shown| **shown == *name);
        let mut sources: Vec<Source> = sources
            .iter()
            .filter(|source| shown(&source.name))
            .map(|source| Source { id: source.id, name: source.name.clone(), suffix: None })
            .collect();
        sources.sort_by_key(|source| source.id);
        let mut problems = Vec::new();
        for at in 0..sources.len() {
            let name = sources[at].name.clone();
            let suffix = suffix(&name).filter(|suffix| {
                !sources[..at].iter().any(|earlier| earlier.suffix.as_ref() == Some(suffix))
            });
            if suffix.is_none() {
                let label = sanitise_label(&name).unwrap_or_default();
                problems.push(Problem::new(&name, ProblemKind::SourceLabel, &label));
            }
            sources[at].suffix = suffix;
        }
        Self {
            apex_len,
            sources,
            problems,
            txt_labels: txt_labels.to_vec(),
            whole: Arc::from([]),
            vip: Arc::from(&b"\x03vip"[..]),
            words: Shared::default(),
            parts: Shared::default(),
        }
    }

    /// `<label>.zone`, one copy for all services.
    pub(crate) fn zone_suffix(&self, label: &str) -> Arc<[u8]> {
        let mut suffix = Vec::with_capacity(label.len() + 6);
        push_label(&mut suffix, label.as_bytes());
        push_label(&mut suffix, b"zone");
        self.shared(&suffix)
    }

    /// One copy of `word` for all services.
    pub(crate) fn shared(&self, word: &[u8]) -> Arc<[u8]> {
        self.words.of(word)
    }

    /// One copy of `parts` for all services that have the same.
    pub(crate) fn shared_parts(&self, parts: &[Part]) -> Arc<[Part]> {
        self.parts.of(parts)
    }

    /// The source, if the zone shows it.
    pub(crate) fn source(&self, id: SourceId) -> Option<&Source> {
        let at = self.sources.binary_search_by_key(&id, |source| source.id).ok()?;
        Some(&self.sources[at])
    }
}

/// `<label>.src` of a source's name.
fn suffix(name: &str) -> Option<Arc<[u8]>> {
    let mut suffix = Vec::new();
    push_label(&mut suffix, sanitise_label(name)?.as_bytes());
    push_label(&mut suffix, b"src");
    Some(suffix.into())
}
