//! A source at work in a test, and a small catalog that believes what it tells.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portolan_table::{
    ClusterFact, FactKey, Health, Instance, InstanceState, MergePolicy, ServiceSpec, SourceId,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config::{SourceConfig, SourceKind};
use crate::source::{Change, Sink, Source, SourceError, Update};

/// `address:port` of an instance's endpoints, in order.
pub(super) fn endpoints(instance: &Instance) -> impl Iterator<Item = String> + '_ {
    instance.endpoints.iter().map(|endpoint| {
        SocketAddr::new(instance.addresses[usize::from(endpoint.address_index)].ip, endpoint.number)
            .to_string()
    })
}

/// A source of this kind, with nothing else out of the ordinary.
pub(super) fn config(kind: SourceKind, refresh: Duration, timeout: Duration) -> SourceConfig {
    SourceConfig {
        id: SourceId(0),
        name: "test".into(),
        kind,
        refresh,
        timeout,
        merge: MergePolicy::Union,
        priority: 0,
        required: true,
        stale_max: None,
        max_removal: 1.0,
    }
}

/// A service as it was told.
type Told = (Arc<ServiceSpec>, BTreeMap<String, Arc<Instance>>);

/// The changes of a source, put together as the contract of [`Change`] says.
#[derive(Default, Debug)]
pub(super) struct Model {
    pub(super) services: BTreeMap<String, Told>,
    listed: Option<Vec<String>>,
    pub(super) lists: usize,
    pub(super) alive: usize,
    pub(super) problems: Vec<(String, String)>,
    pub(super) errors: Vec<SourceError>,
    pub(super) facts: BTreeMap<FactKey, Arc<ClusterFact>>,
    listed_facts: Vec<FactKey>,
    /// Instances that are told although the scheduler does not list them.
    pub(super) held: usize,
    /// The last list was a partial one.
    pub(super) is_partial: bool,
}

impl Model {
    fn apply(&mut self, change: Change) {
        match change {
            Change::ListBegin => {
                self.listed = Some(Vec::new());
                self.listed_facts.clear();
            }
            Change::ListComplete => {
                let listed = self.listed.take().expect("a list that ends has begun");
                self.services.retain(|key, _| listed.contains(key));
                let facts = std::mem::take(&mut self.listed_facts);
                self.facts.retain(|key, _| facts.contains(key));
                self.lists += 1;
                self.is_partial = false;
            }
            Change::ListPartial { .. } => {
                self.listed = None;
                self.lists += 1;
                self.is_partial = true;
            }
            Change::Service { spec, instances } => {
                if let Some(listed) = &mut self.listed {
                    listed.push(spec.key.to_string());
                }
                let instances = instances.into_iter().map(|i| (i.id.to_string(), i)).collect();
                self.services.insert(spec.key.to_string(), (spec, instances));
            }
            Change::ServiceInPart { spec, mut instances, unread } => {
                let held = self.services.get(&*spec.key).into_iter().flat_map(|(_, all)| all.values());
                let told = |id: &str| instances.iter().any(|instance| *instance.id == *id);
                let kept: Vec<_> = held.filter(|i| unread.covers(&i.id) && !told(&i.id)).cloned().collect();
                instances.extend(kept);
                self.apply(Change::Service { spec, instances });
            }
            Change::RemoveService { service } => drop(self.services.remove(&*service)),
            Change::Instance { service, instance } => {
                if let Some((_, instances)) = self.services.get_mut(&*service) {
                    instances.insert(instance.id.to_string(), instance);
                }
            }
            Change::RemoveInstance { service, id } => {
                if let Some((_, instances)) = self.services.get_mut(&*service) {
                    instances.remove(&*id);
                }
            }
            Change::State { service, id, state } => self.edit(&service, &id, |i| i.state = state),
            Change::Health { service, id, health } => self.edit(&service, &id, |i| i.health = health),
            Change::Alive => self.alive += 1,
            Change::Problem { place, message } => self.problems.push((place.to_string(), message)),
            Change::Fact(fact) => {
                self.listed_facts.push(fact.key());
                self.facts.insert(fact.key(), fact);
            }
            Change::RemoveFact(key) => drop(self.facts.remove(&key)),
            Change::Held { instances } => self.held = instances,
            Change::Node(_) | Change::RemoveNode(_) | Change::Lost { .. } => {}
        }
    }

    fn edit(&mut self, service: &str, id: &str, edit: impl FnOnce(&mut Instance)) {
        if let Some(instance) = self.services.get_mut(service).and_then(|(_, all)| all.get_mut(id)) {
            edit(Arc::make_mut(instance));
        }
    }

    /// `address:port` of all endpoints of running instances, sorted.
    pub(super) fn endpoints(&self, service: &str) -> Vec<String> {
        let Some((_, instances)) = self.services.get(service) else { return Vec::new() };
        let running = instances.values().filter(|i| i.state == InstanceState::Running);
        let mut all: Vec<String> = running.flat_map(|i| endpoints(i)).collect();
        all.sort();
        all
    }

    pub(super) fn state(&self, service: &str, id: &str) -> Option<InstanceState> {
        Some(self.services.get(service)?.1.get(id)?.state)
    }

    pub(super) fn health(&self, service: &str, id: &str) -> Option<Health> {
        Some(self.services.get(service)?.1.get(id)?.health)
    }
}

/// A source whose sessions follow each other, and the model of what they told.
pub(super) struct Running {
    updates: mpsc::Receiver<Update>,
    errors: mpsc::Receiver<SourceError>,
    pub(super) model: Model,
    _task: JoinSet<()>,
}

impl Running {
    /// Runs sessions of `source`, one after the other.
    pub(super) fn start(mut source: Box<dyn Source>) -> Self {
        let (send, updates) = mpsc::channel(1024);
        let (tell, errors) = mpsc::channel(1024);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let sink = Sink::new(SourceId(0), send);
            loop {
                let error = source.session(&sink).await;
                if matches!(error, SourceError::Stopping) || tell.send(error).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Self { updates, errors, model: Model::default(), _task: task }
    }

    /// Takes updates until `wanted` holds.
    pub(super) async fn until(&mut self, what: &str, wanted: impl Fn(&Model) -> bool) {
        let waited = timeout(Duration::from_secs(60), async {
            while !wanted(&self.model) {
                tokio::select! {
                    Some(update) = self.updates.recv() => self.model.apply(update.change),
                    Some(error) = self.errors.recv() => self.model.errors.push(error),
                }
            }
        });
        if waited.await.is_err() {
            panic!("never came: {what}; {:#?}", self.model);
        }
    }

    /// Takes updates for a while, and checks `wanted` all the time.
    pub(super) async fn throughout(&mut self, time: Duration, what: &str, wanted: impl Fn(&Model) -> bool) {
        let end = tokio::time::Instant::now() + time;
        while let Ok(next) = tokio::time::timeout_at(end, async {
            tokio::select! {
                Some(update) = self.updates.recv() => Ok(update.change),
                Some(error) = self.errors.recv() => Err(error),
            }
        })
        .await
        {
            match next {
                Ok(change) => self.model.apply(change),
                Err(error) => self.model.errors.push(error),
            }
            assert!(wanted(&self.model), "no longer: {what}; {:#?}", self.model);
        }
    }

    pub(super) async fn synced(&mut self) {
        self.until("a first list", |model| model.lists > 0).await;
    }
}
