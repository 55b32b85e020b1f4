//! The keys as they are known, and the services they make.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use portolan_table::{ServiceName, SharedStr};

use super::layout::{self, Entry};
use super::wire::{Event, KeyValue};
use crate::config::EtcdLayout;
use crate::hosts::Resolver;
use crate::sources::telling::{Service, Services};

/// Every key with what it means, and which keys make a service.
pub(super) struct Store {
    layout: EtcdLayout,
    prefix: String,
    resolver: Arc<Resolver>,
    entries: HashMap<SharedStr, Entry>,
    services: BTreeMap<ServiceName, BTreeSet<SharedStr>>,
}

/// What events have changed.
#[derive(Default)]
pub(super) struct Changed {
    /// Services as they are now; `None` for one that is gone.
    pub(super) services: Vec<(SharedStr, Option<Service>)>,
    pub(super) problems: Vec<(SharedStr, String)>,
}

impl Store {
    pub(super) fn new(layout: EtcdLayout, prefix: &str, resolver: Arc<Resolver>) -> Self {
        let (entries, services) = (HashMap::new(), BTreeMap::new());
        Self { layout, prefix: format!("{prefix}/"), resolver, entries, services }
    }

    /// Keys that are known.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Forgets everything and takes in a list.
    pub(super) async fn fill(&mut self, keys: Vec<KeyValue>) -> (Services, Vec<(SharedStr, String)>) {
        let mut before = core::mem::take(&mut self.entries);
        self.services.clear();
        let (mut services, mut problems) = (Services::new(), Vec::new());
        for kv in keys {
            let before = before.remove(&*String::from_utf8_lossy(&kv.key));
            problems.extend(self.put(&kv.key, &kv.value, before, &mut BTreeSet::new()));
        }
        self.resolve(self.services.keys()).await;
        for name in self.services.keys() {
            let Some(service) = self.build(name, &mut problems) else { continue };
            services.insert(name.as_str().into(), service);
        }
        problems.sort();
        (services, problems)
    }

    /// Takes in events in their order.
    pub(super) async fn apply(&mut self, events: Vec<Event>) -> Changed {
        let (mut touched, mut changed) = (BTreeSet::new(), Changed::default());
        for event in events {
            if event.is_deletion() {
                self.remove(&shown(&event.kv.key), &mut touched);
            } else {
                let before = self.remove(&shown(&event.kv.key), &mut touched);
                changed.problems.extend(self.put(&event.kv.key, &event.kv.value, before, &mut touched));
            }
        }
        self.resolve(touched.iter()).await;
        for name in touched {
            let service = self.build(&name, &mut changed.problems);
            changed.services.push((name.as_str().into(), service));
        }
        changed
    }

    /// Puts a value in that `before` was in the place of. If it cannot be used, what was there stays.
    fn put(
        &mut self,
        key: &[u8],
        value: &[u8],
        before: Option<Entry>,
        touched: &mut BTreeSet<ServiceName>,
    ) -> Option<(SharedStr, String)> {
        let shown = shown(key);
        let read = match shown.strip_prefix(&*self.prefix) {
            Some(rest) => layout::read(self.layout, rest, value),
            None => Entry::Ignored,
        };
        let problem = match &read {
            Entry::Wrong(message) => Some((shown.clone(), message.clone())),
            _ => None,
        };
        let entry = before.filter(|_| problem.is_some()).unwrap_or(read);
        for name in entry.names() {
            self.services.entry(name.clone()).or_default().insert(shown.clone());
            touched.insert(name.clone());
        }
        self.entries.insert(shown, entry);
        problem
    }

    fn remove(&mut self, key: &SharedStr, touched: &mut BTreeSet<ServiceName>) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        for name in entry.names() {
            touched.insert(name.clone());
            if let Some(keys) = self.services.get_mut(name) {
                keys.remove(key);
                if keys.is_empty() {
                    self.services.remove(name);
                }
            }
        }
        Some(entry)
    }

    fn of(&self, name: &ServiceName) -> impl Iterator<Item = (&SharedStr, &Entry)> {
        let keys = self.services.get(name).into_iter().flatten();
        keys.filter_map(|key| self.entries.get_key_value(key))
    }

    async fn resolve(&self, names: impl Iterator<Item = &ServiceName>) {
        let hosts = names.flat_map(|name| self.of(name)).filter_map(|(_, entry)| entry.host_name());
        let hosts: BTreeSet<String> = hosts.map(str::to_owned).collect();
        if !hosts.is_empty() {
            self.resolver.prepare(hosts.into_iter().collect()).await;
        }
    }

    fn build(&self, name: &ServiceName, problems: &mut Vec<(SharedStr, String)>) -> Option<Service> {
        self.services.get(name)?;
        let rest = |key: &SharedStr| key.strip_prefix(&*self.prefix).unwrap_or(key).to_owned();
        let entries = self.of(name).map(|(key, entry)| (rest(key), entry));
        let (service, wrong) = layout::service(self.layout, name, entries, &*self.resolver);
        problems.extend(wrong.into_iter().map(|message| (name.as_str().into(), message)));
        Some(service)
    }
}

/// A key as a text.
fn shown(key: &[u8]) -> SharedStr {
    String::from_utf8_lossy(key).into_owned().into()
}
