//! From touched names to a publication.

use core::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use portolan_table::{
    ChangeSet, Health, Protocol, Published, Publisher, Service, ServiceName, Slot, SlotRegistry, SourceId,
};

use super::checks::Checks;
use super::failover;
use super::merge::{Part, Surroundings, merge, offers};
use super::{Catalog, SourceState};

impl Catalog {
    /// Merges every touched name anew and publishes what differs. `None` if nothing does.
    pub(crate) fn flush(&mut self, publisher: &mut Publisher, now: Instant) -> Option<Published> {
        let mut set = ChangeSet::default();
        let mut replaced: Vec<Arc<Service>> = Vec::new();
        let mut names: Vec<ServiceName> = self.index.touched.drain().collect();
        names.sort_unstable();
        for name in names {
            let before = publisher.core().service(name.as_str()).cloned();
            let after = self.merged(&name, now);
            match after {
                Some(after) if before.as_deref() == Some(&after) => self.release(&after),
                Some(after) => {
                    set.upsert(Arc::new(after));
                    replaced.extend(before);
                }
                None => {
                    set.remove(name);
                    replaced.extend(before);
                }
            }
        }
        for (name, fact) in self.index.nodes.take_touched() {
            match fact {
                Some(fact) => set.upsert_node(fact),
                None => set.remove_node(name),
            }
        }
        for (source, key) in std::mem::take(&mut self.index.facts_touched) {
            let state = self.sources.iter().find(|state| state.config.id == source);
            match state.and_then(|state| state.facts.get(&key)) {
                Some(fact) => set.upsert_fact(source, Arc::clone(fact)),
                None => set.remove_fact(source, key),
            }
        }
        if std::mem::take(&mut self.sources_touched) {
            set.set_sources(self.sources.iter().map(SourceState::status).collect());
        }
        let published = publisher.apply(set);
        // Only now: a slot must not be given to another endpoint while the snapshot in force names it.
        for service in &replaced {
            self.release(service);
        }
        published
    }

    /// The merge of one name; `None` if nobody claims it.
    fn merged(&mut self, name: &ServiceName, now: Instant) -> Option<Service> {
        self.report_collisions(name);
        let parts = self.parts(name);
        if parts.is_empty() {
            self.held.remove(name);
            return None;
        }
        let mut around = Around { sources: &self.sources, checks: &self.index.checks, slots: &self.slots };
        let held = failover::choose(&offers(&parts, &around), self.held.get(name).copied(), now);
        let service = merge(name, parts, held.map(|held| held.level), &mut around);
        match held {
            Some(held) => self.held.insert(name.clone(), held),
            None => self.held.remove(name),
        };
        Some(service)
    }

    /// The parts of a name: of each source the one with the lexically smallest key.
    fn parts(&self, name: &ServiceName) -> Vec<Part<'_>> {
        let Some(claims) = self.index.claims.get(name) else { return Vec::new() };
        let mut parts = Vec::with_capacity(claims.len());
        for state in &self.sources {
            let winner = claims.iter().filter(|(feed, _)| *feed == state.feed).map(|(_, key)| key).min();
            let Some(part) = winner.and_then(|key| state.services.get(key)) else { continue };
            parts.push(Part {
                source: state.config.id,
                priority: state.config.priority,
                policy: state.policy(&part.spec),
                spec: &part.spec,
                instances: &part.instances,
            });
        }
        parts
    }

    /// Reports keys of one source that want the same name, and takes the report back when they no longer do.
    fn report_collisions(&mut self, name: &ServiceName) {
        let claims = self.index.claims.get(name);
        for state in &mut self.sources {
            let of_source = || claims.into_iter().flatten().filter(|(feed, _)| *feed == state.feed);
            if of_source().count() < 2 {
                if !state.collisions.is_empty() && state.collisions.remove(name).is_some() {
                    state.report_due = true;
                }
                continue;
            }
            let mut keys: Vec<&str> = of_source().map(|(_, key)| &**key).collect();
            keys.sort_unstable();
            let message = format!(
                "{} all have the name {name}; {} has it, give the others another",
                keys.join(", "),
                keys[0]
            );
            state.collide(name, message);
        }
    }

    fn release(&self, service: &Service) {
        for port in &service.ports {
            for endpoint in &port.endpoints {
                let member = &service.members[endpoint.member as usize];
                self.slots.release(member.source, &member.instance.id, port.protocol, endpoint.address);
            }
        }
    }
}

struct Around<'a> {
    sources: &'a [SourceState],
    checks: &'a Checks,
    slots: &'a SlotRegistry,
}

impl Surroundings for Around<'_> {
    fn verdict(&self, source: SourceId, instance: &str) -> Option<Health> {
        if self.checks.is_empty() {
            return None;
        }
        let feed = self.sources.iter().find(|state| state.config.id == source)?.feed;
        self.checks.verdict(feed, instance)
    }

    fn slot(&mut self, source: SourceId, instance: &str, protocol: Protocol, address: SocketAddr) -> Slot {
        self.slots.acquire(source, instance, protocol, address)
    }
}
