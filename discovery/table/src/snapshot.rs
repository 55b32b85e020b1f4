//! The immutable image of the catalog, and how readers get at it.

use core::any::Any;
use core::fmt;
use core::ops::Deref;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use serde::Serialize;

use crate::cluster::{ClusterFact, FactKey};
use crate::hash::index_hash;
use crate::map::Shards;
use crate::model::{NodeFact, SourceId, SourceStatus};
use crate::name::ServiceName;
use crate::publish::ViewKey;
use crate::service::Service;

/// The number of a snapshot. Grows by one with every publication; local to one process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The part of a snapshot that every reader shares. Cloning is O(1).
#[derive(Debug, Clone, Default)]
pub struct Core {
    pub(crate) services: Shards<Service>,
    pub(crate) nodes: Shards<NodeFact>,
    /// Marked with the source that tells them.
    pub(crate) facts: Shards<ClusterFact, SourceId>,
    pub(crate) sources: Arc<[SourceStatus]>,
}

impl Core {
    /// The service of this name (lower case, no dot at the end). No lock, no allocation.
    #[inline]
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.get(index_hash(name.as_bytes()), |service, ()| service.name.as_str() == name)
    }

    /// The service of this name, whose [`index_hash`](ServiceName::index_hash) the caller has kept. No lock, no allocation.
    #[inline]
    #[must_use]
    pub fn service_hashed(&self, hash: u64, name: &ServiceName) -> Option<&Arc<Service>> {
        self.services.get(hash, |service, ()| service.name == *name)
    }

    /// All services, in no order that means anything.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.iter().map(|(service, ())| service)
    }

    /// Number of services.
    #[must_use]
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// The node of this name, as its scheduler writes it.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Arc<NodeFact>> {
        self.nodes.get(index_hash(name.as_bytes()), |node, ()| *node.name == *name)
    }

    /// All nodes, in no order that means anything.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<NodeFact>> {
        self.nodes.iter().map(|(node, ())| node)
    }

    /// A fact of one source's cluster.
    #[must_use]
    pub fn fact(&self, source: SourceId, key: &FactKey) -> Option<&Arc<ClusterFact>> {
        self.facts.get(key.index_hash(source), |fact, of| of == source && fact.is(key))
    }

    /// The facts of all clusters, in no order that means anything.
    pub fn facts(&self) -> impl Iterator<Item = (SourceId, &Arc<ClusterFact>)> {
        self.facts.iter().map(|(fact, source)| (source, fact))
    }

    /// All sources, in the order of the configuration.
    #[must_use]
    pub fn sources(&self) -> &[SourceStatus] {
        &self.sources
    }

    /// One source.
    #[must_use]
    pub fn source(&self, id: SourceId) -> Option<&SourceStatus> {
        self.sources.iter().find(|source| source.id == id)
    }

    /// True if every required source has data, so that a name which is not here does not exist.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.sources.iter().all(|source| source.has_data || !source.required)
    }
}

/// One generation of the routing table.
pub struct Snapshot {
    pub(crate) generation: Generation,
    pub(crate) core: Core,
    pub(crate) views: Box<[Arc<dyn Any + Send + Sync>]>,
}

impl Snapshot {
    /// Its number.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// What a data thread compiled for itself when this generation was published. No lock, no allocation.
    #[inline]
    #[must_use]
    pub fn view<T: Any + Send + Sync>(&self, key: ViewKey<T>) -> &T {
        self.views[key.index()]
            .downcast_ref()
            .expect("a key is only made by the publisher that holds its view")
    }
}

impl Deref for Snapshot {
    type Target = Core;
    fn deref(&self) -> &Core {
        &self.core
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("generation", &self.generation)
            .field("services", &self.core.service_count())
            .finish_non_exhaustive()
    }
}

/// Readers' handle on the routing table. Clones are cheap and see the same table.
#[derive(Clone)]
pub struct Table(pub(crate) Arc<ArcSwap<Snapshot>>);

impl Table {
    /// The current snapshot, for use until the next await. No lock, no allocation.
    #[inline]
    #[must_use]
    pub fn load(&self) -> SnapshotGuard {
        SnapshotGuard(self.0.load())
    }

    /// The current snapshot, to keep. Costs a reference count that all threads share: not for the data path.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Table").field(&self.load().generation()).finish()
    }
}

/// A borrowed snapshot. Must not live across an await: it would keep an old generation alive.
pub struct SnapshotGuard(Guard<Arc<Snapshot>>);

impl Deref for SnapshotGuard {
    type Target = Snapshot;
    #[inline]
    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

impl fmt::Debug for SnapshotGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
