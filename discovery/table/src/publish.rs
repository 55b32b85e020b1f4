//! The one writer of the table: takes change sets, builds views, swaps snapshots, frees old ones.

use core::any::Any;
use core::fmt;
use core::marker::PhantomData;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::SharedStr;
use crate::cluster::{ClusterFact, FactKey};
use crate::hash::index_hash;
use crate::map::ShardMap;
use crate::model::{NodeFact, SourceId, SourceStatus};
use crate::name::ServiceName;
use crate::service::Service;
use crate::snapshot::{Core, Generation, Snapshot, Table};

/// What one publication changes. Later entries for one name win.
#[derive(Debug, Default)]
pub struct ChangeSet {
    services: Vec<(ServiceName, Option<Arc<Service>>)>,
    nodes: Vec<(SharedStr, Option<Arc<NodeFact>>)>,
    facts: Vec<(SourceId, FactKey, Option<Arc<ClusterFact>>)>,
    sources: Option<Vec<SourceStatus>>,
}

impl ChangeSet {
    /// Puts a service in, or in place of its former self.
    pub fn upsert(&mut self, service: Arc<Service>) {
        self.services.push((service.name.clone(), Some(service)));
    }

    /// Takes a service out: its name will not exist.
    pub fn remove(&mut self, name: ServiceName) {
        self.services.push((name, None));
    }

    /// Puts a node in, or in place of its former self.
    pub fn upsert_node(&mut self, node: Arc<NodeFact>) {
        self.nodes.push((node.name.clone(), Some(node)));
    }

    /// Takes a node out.
    pub fn remove_node(&mut self, name: SharedStr) {
        self.nodes.push((name, None));
    }

    /// Puts a fact of a source's cluster in, or in place of its former self.
    pub fn upsert_fact(&mut self, source: SourceId, fact: Arc<ClusterFact>) {
        self.facts.push((source, fact.key(), Some(fact)));
    }

    /// Takes a fact of a source's cluster out.
    pub fn remove_fact(&mut self, source: SourceId, key: FactKey) {
        self.facts.push((source, key, None));
    }

    /// Sets the list of sources and their standing.
    pub fn set_sources(&mut self, sources: Vec<SourceStatus>) {
        self.sources = Some(sources);
    }
}

/// A service before and after. One of the two is there.
#[derive(Debug, Clone)]
pub struct ServiceChange {
    /// The service's name.
    pub name: ServiceName,
    /// What it was; `None` if it is new.
    pub before: Option<Arc<Service>>,
    /// What it is; `None` if it is gone.
    pub after: Option<Arc<Service>>,
}

/// A node before and after. One of the two is there.
pub type NodeChange = (Option<Arc<NodeFact>>, Option<Arc<NodeFact>>);

/// A fact of a source's cluster before and after. One of the two is there.
#[derive(Debug, Clone)]
pub struct FactChange {
    /// The source that tells it.
    pub source: SourceId,
    /// Its key.
    pub key: FactKey,
    /// What it was; `None` if it is new.
    pub before: Option<Arc<ClusterFact>>,
    /// What it is; `None` if it is gone.
    pub after: Option<Arc<ClusterFact>>,
}

/// What changed between the snapshot before and the one being built: only real changes, one per name.
#[derive(Debug, Default)]
pub struct Changes {
    /// Services that differ.
    pub services: Vec<ServiceChange>,
    /// Nodes that differ.
    pub nodes: Vec<NodeChange>,
    /// Facts of clusters that differ.
    pub facts: Vec<FactChange>,
    /// The list of sources or a standing differs.
    pub sources: bool,
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.services.is_empty() && self.nodes.is_empty() && self.facts.is_empty() && !self.sources
    }
}

/// Compiles a part of every snapshot: DNS answers, routes. Runs on the publishing task, so its work must be
/// in proportion to the changes.
pub trait ViewBuilder: Send + 'static {
    /// What readers find under the key.
    type View: Send + Sync + 'static;

    /// The view of a whole table: at start, and when the builder is replaced.
    fn build(&mut self, core: &Core) -> Self::View;

    /// The view after `changes`; `core` is the table with them. `None` if the view stays as it is.
    fn update(&mut self, view: &Self::View, core: &Core, changes: &Changes) -> Option<Self::View>;
}

/// Names the view of one builder in every snapshot.
pub struct ViewKey<T> {
    index: usize,
    view: PhantomData<fn() -> T>,
}

impl<T> ViewKey<T> {
    pub(crate) const fn index(self) -> usize {
        self.index
    }
}

impl<T> Clone for ViewKey<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for ViewKey<T> {}

impl<T> fmt::Debug for ViewKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ViewKey").field(&self.index).finish()
    }
}

/// A [`ViewBuilder`] with its type taken away.
trait AnyBuilder: Send {
    fn build(&mut self, core: &Core) -> Arc<dyn Any + Send + Sync>;
    fn update(
        &mut self,
        view: &dyn Any,
        core: &Core,
        changes: &Changes,
    ) -> Option<Arc<dyn Any + Send + Sync>>;
}

impl<B: ViewBuilder> AnyBuilder for B {
    fn build(&mut self, core: &Core) -> Arc<dyn Any + Send + Sync> {
        Arc::new(ViewBuilder::build(self, core))
    }

    fn update(
        &mut self,
        view: &dyn Any,
        core: &Core,
        changes: &Changes,
    ) -> Option<Arc<dyn Any + Send + Sync>> {
        let view = view.downcast_ref().expect("a view is only built by the builder at its index");
        Some(Arc::new(ViewBuilder::update(self, view, core, changes)?))
    }
}

/// What a publication did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The new generation.
    pub generation: Generation,
    /// Services that differ from the generation before.
    pub services: usize,
    /// Shards and branches of the service index that were copied.
    pub shards_copied: u64,
}

/// Owner of the table. One task has it; readers have [`Table`]s.
pub struct Publisher {
    table: Table,
    services: ShardMap<Service>,
    nodes: ShardMap<NodeFact>,
    /// Marked with the source that tells them.
    facts: ShardMap<ClusterFact, SourceId>,
    /// What readers see, or will at the next swap, of the maps.
    core: Core,
    builders: Vec<Box<dyn AnyBuilder>>,
    views: Vec<Arc<dyn Any + Send + Sync>>,
    generation: Generation,
    /// Snapshots that were replaced and may still be read. Freed here, so that no reader pays for it.
    retired: Vec<Arc<Snapshot>>,
}

impl Publisher {
    /// An empty table, generation 0, which knows no sources: nothing in it is complete or ready by itself.
    #[must_use]
    pub fn new() -> Self {
        let (mut services, mut nodes, mut facts) = (ShardMap::new(), ShardMap::new(), ShardMap::new());
        let core = Core {
            services: services.view(),
            nodes: nodes.view(),
            facts: facts.view(),
            sources: Arc::default(),
        };
        let first = Snapshot { generation: Generation(0), core: core.clone(), views: Box::default() };
        Self {
            table: Table(Arc::new(ArcSwap::from_pointee(first))),
            services,
            nodes,
            facts,
            core,
            builders: Vec::new(),
            views: Vec::new(),
            generation: Generation(0),
            retired: Vec::new(),
        }
    }

    /// A handle for readers.
    #[must_use]
    pub fn table(&self) -> Table {
        self.table.clone()
    }

    /// Adds a view to every snapshot from now on; the key finds it there.
    pub fn add_view<B: ViewBuilder>(&mut self, mut builder: B) -> ViewKey<B::View> {
        self.views.push(AnyBuilder::build(&mut builder, &self.core));
        self.builders.push(Box::new(builder));
        self.swap();
        ViewKey { index: self.builders.len() - 1, view: PhantomData }
    }

    /// Puts another builder in the place of `key` (a reloaded configuration) and builds its view anew.
    pub fn replace_view<B: ViewBuilder>(&mut self, key: ViewKey<B::View>, mut builder: B) -> Generation {
        self.views[key.index] = AnyBuilder::build(&mut builder, &self.core);
        self.builders[key.index] = Box::new(builder);
        self.swap();
        self.generation
    }

    /// Applies a change set. `None`, and no new generation, if it changes nothing.
    pub fn apply(&mut self, set: ChangeSet) -> Option<Published> {
        let copied = self.services.copied();
        let changes = self.change_core(set);
        if changes.is_empty() {
            return None;
        }
        for (builder, view) in self.builders.iter_mut().zip(&mut self.views) {
            if let Some(next) = builder.update(&**view, &self.core, &changes) {
                *view = next;
            }
        }
        self.swap();
        Some(Published {
            generation: self.generation,
            services: changes.services.len(),
            shards_copied: self.services.copied() - copied,
        })
    }

    /// Frees replaced snapshots that nobody reads any more; returns how many are still read.
    pub fn collect(&mut self) -> usize {
        self.retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
        self.retired.len()
    }

    /// The table as it will next be published.
    #[must_use]
    pub fn core(&self) -> &Core {
        &self.core
    }

    fn change_core(&mut self, set: ChangeSet) -> Changes {
        let mut changes = Changes::default();
        let mut seen = std::collections::HashSet::new();
        for (name, after) in set.services.into_iter().rev() {
            if seen.insert(name.clone()) {
                changes.services.extend(self.change_service(name, after));
            }
        }
        changes.services.reverse();
        let mut seen = std::collections::HashSet::new();
        for (name, after) in set.nodes.into_iter().rev() {
            if seen.insert(name.clone()) {
                changes.nodes.extend(self.change_node(&name, after));
            }
        }
        changes.nodes.reverse();
        let mut seen = std::collections::HashSet::new();
        for (source, key, after) in set.facts.into_iter().rev() {
            if seen.insert((source, key.clone())) {
                changes.facts.extend(self.change_fact(source, key, after));
            }
        }
        changes.facts.reverse();
        self.core.services = self.services.view();
        self.core.nodes = self.nodes.view();
        self.core.facts = self.facts.view();
        if let Some(sources) = set.sources
            && *sources != *self.core.sources
        {
            self.core.sources = sources.into();
            changes.sources = true;
        }
        changes
    }

    fn change_service(&mut self, name: ServiceName, after: Option<Arc<Service>>) -> Option<ServiceChange> {
        let services = &mut self.services;
        let hash = name.index_hash();
        let before = services.get(hash, |s, ()| s.name == name).cloned();
        if before == after {
            return None;
        }
        match &after {
            Some(service) => services.insert(hash, Arc::clone(service), (), |s, ()| s.name == name),
            None => services.remove(hash, |s, ()| s.name == name),
        };
        Some(ServiceChange { name, before, after })
    }

    fn change_node(&mut self, name: &str, after: Option<Arc<NodeFact>>) -> Option<NodeChange> {
        let nodes = &mut self.nodes;
        let hash = index_hash(name.as_bytes());
        let before = nodes.get(hash, |n, ()| *n.name == *name).cloned();
        if before == after {
            return None;
        }
        match &after {
            Some(node) => nodes.insert(hash, Arc::clone(node), (), |n, ()| *n.name == *name),
            None => nodes.remove(hash, |n, ()| *n.name == *name),
        };
        Some((before, after))
    }

    fn change_fact(
        &mut self,
        source: SourceId,
        key: FactKey,
        after: Option<Arc<ClusterFact>>,
    ) -> Option<FactChange> {
        let hash = key.index_hash(source);
        let is_it = |fact: &ClusterFact, of: SourceId| of == source && fact.is(&key);
        let before = self.facts.get(hash, is_it).cloned();
        if before == after {
            return None;
        }
        match &after {
            Some(fact) => self.facts.insert(hash, Arc::clone(fact), source, is_it),
            None => self.facts.remove(hash, is_it),
        };
        Some(FactChange { source, key, before, after })
    }

    fn swap(&mut self) {
        self.generation.0 += 1;
        let next = Snapshot {
            generation: self.generation,
            core: self.core.clone(),
            views: self.views.iter().map(Arc::clone).collect(),
        };
        let old = self.table.0.swap(Arc::new(next));
        debug_assert!(old.generation < self.generation, "generations only grow");
        self.retired.push(old);
        self.collect();
    }
}

impl Default for Publisher {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("generation", &self.generation).finish_non_exhaustive()
    }
}
