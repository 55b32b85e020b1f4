//! What the HTTP API gives away of a zone: all records (`/v1/axfr`), and by framework and task (`/v1/enumerate`).
//!
//! Both are made from the table on request, as text, since the program shows names that no query finds.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use portolan_table::{Agent, ClusterFact, Core, FactKey, Instance, Placement, Scheduler, SourceId};
use serde::Serialize;

use super::listing::{is_named, record_fact, record_member, record_own_name};
use super::record::{Record, RecordData, Records};
use super::{Profile, Settings};

/// `Records` of `/v1/axfr`.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Transfer {
    /// IPv4 addresses by name.
    #[serde(rename = "As")]
    pub a: BTreeMap<String, BTreeSet<String>>,
    /// IPv6 addresses by name.
    #[serde(rename = "AAAAs")]
    pub aaaa: BTreeMap<String, BTreeSet<String>>,
    /// `target:port` by name.
    #[serde(rename = "SRVs")]
    pub srv: BTreeMap<String, BTreeSet<String>>,
}

/// `/v1/enumerate`.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Enumerated {
    /// The frameworks, those without tasks too.
    pub frameworks: Vec<EnumeratedFramework>,
}

/// A framework and its named tasks.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct EnumeratedFramework {
    /// Its tasks.
    pub tasks: Vec<EnumeratedTask>,
    /// Its name as given.
    pub name: String,
}

/// A task and the records that are there because of it and no earlier one.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct EnumeratedTask {
    /// Its name as given.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its records.
    pub records: Vec<EnumeratedRecord>,
}

/// One record.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct EnumeratedRecord {
    /// The owner name; for PTR the task's name.
    pub name: String,
    /// An address, or `target:port`.
    pub host: String,
    /// `A`, `AAAA`, `SRV`, `PTR`.
    pub rtype: &'static str,
}

/// One cluster's part of the table, as one zone shows it.
struct Shown<'a> {
    core: &'a Core,
    zone: &'a str,
    settings: &'a Settings,
    sources: &'a [SourceId],
}

impl Transfer {
    /// All records of the zone `zone`.
    pub(crate) fn of(core: &Core, zone: &str, settings: &Settings, sources: &[SourceId]) -> Self {
        let shown = Shown { core, zone, settings, sources };
        let mut transfer = Self::default();
        let mut records = shown.apart_from_tasks();
        for (_, _, member) in shown.tasks() {
            records.extend(member);
        }
        for record in records {
            transfer.put(record, zone);
        }
        transfer
    }

    fn put(&mut self, record: Record, zone: &str) {
        let Some(EnumeratedRecord { name, host, rtype }) = shown_record(record, zone) else { return };
        let set = match rtype {
            "A" => &mut self.a,
            "AAAA" => &mut self.aaaa,
            "SRV" => &mut self.srv,
            _ => return,
        };
        set.entry(name).or_default().insert(host);
    }
}

impl Enumerated {
    /// The frameworks and tasks of the zone `zone`.
    pub(crate) fn of(core: &Core, zone: &str, settings: &Settings, sources: &[SourceId]) -> Self {
        let shown = Shown { core, zone, settings, sources };
        let mut seen: HashSet<Record> = shown.apart_from_tasks().into_iter().collect();
        let mut of_framework: BTreeMap<(SourceId, String), Vec<EnumeratedTask>> = BTreeMap::new();
        for (source, instance, records) in shown.tasks() {
            let Some(placement) = instance.placement.as_ref() else { continue };
            let definition = &placement.definition;
            let new = records.into_iter().filter(|record| seen.insert(record.clone()));
            let pointers = settings.profile == Profile::V0_8;
            let mut records: Vec<EnumeratedRecord> =
                new.filter_map(|record| shown_record(record, zone)).collect();
            records.retain(|record| pointers || record.rtype != "PTR");
            of_framework.entry((source, definition.scheduler_id.to_string())).or_default().push(
                EnumeratedTask {
                    name: definition.name.to_string(),
                    id: instance.correlation_key().to_string(),
                    records,
                },
            );
        }
        let frameworks = shown.schedulers().into_iter().map(|(source, scheduler)| EnumeratedFramework {
            tasks: of_framework.remove(&(source, scheduler.id.to_string())).unwrap_or_default(),
            name: scheduler.name.to_string(),
        });
        Self { frameworks: frameworks.collect() }
    }
}

/// A record in the words of `/v1/enumerate`.
fn shown_record(record: Record, zone: &str) -> Option<EnumeratedRecord> {
    let full = |name: &str| format!("{name}.{zone}.");
    let Record { owner, data } = record;
    Some(match data {
        RecordData::Address(ip) => EnumeratedRecord {
            name: full(&owner),
            host: ip.to_string(),
            rtype: if ip.is_ipv4() { "A" } else { "AAAA" },
        },
        RecordData::Srv(port, target) => {
            EnumeratedRecord { name: full(&owner), host: format!("{}:{port}", full(&target)), rtype: "SRV" }
        }
        RecordData::Pointer(ip) => {
            EnumeratedRecord { name: full(&owner), host: ip.to_string(), rtype: "PTR" }
        }
    })
}

impl<'a> Shown<'a> {
    fn apart_from_tasks(&self) -> Records {
        let mut records = Records::new();
        record_own_name(self.settings, self.zone, &mut records);
        for (source, fact) in self.core.facts() {
            if self.sources.contains(&source) {
                record_fact(fact, self.settings, &mut records);
            }
        }
        records
    }

    /// The named tasks, framework by framework, in the order in which they were told; each with its records.
    fn tasks(&self) -> Vec<(SourceId, Arc<Instance>, Records)> {
        let mut tasks = Vec::new();
        for service in self.core.services() {
            for member in &service.members {
                if self.sources.contains(&member.source) && is_named(service, member, self.settings) {
                    let mut records = Records::new();
                    record_member(member, |id| self.agent(id.0, &id.1), self.settings, &mut records);
                    if self.is_on_known_agent(member.source, member.instance.placement.as_deref()) {
                        tasks.push((member.source, Arc::clone(&member.instance), records));
                    }
                }
            }
        }
        let schedulers = self.schedulers();
        let places: HashMap<(SourceId, &str), usize> = schedulers
            .iter()
            .enumerate()
            .map(|(place, (source, scheduler))| ((*source, &*scheduler.id), place))
            .collect();
        let place = |source: SourceId, instance: &Instance| {
            let placement = instance.placement.as_ref();
            let framework = placement.map_or("", |placement| &*placement.definition.scheduler_id);
            let place = places.get(&(source, framework)).copied().unwrap_or(usize::MAX);
            (place, placement.map_or(u32::MAX, |placement| placement.order))
        };
        tasks.sort_by_cached_key(|(source, instance, _)| (place(*source, instance), instance.id.clone()));
        tasks
    }

    fn is_on_known_agent(&self, source: SourceId, placement: Option<&Placement>) -> bool {
        let agent = placement.and_then(|placement| self.agent(source, &placement.agent));
        agent.is_some_and(|agent| super::record::is_known(agent, self.settings))
    }

    fn agent(&self, source: SourceId, id: &portolan_table::SharedStr) -> Option<&'a Agent> {
        match &**self.core.fact(source, &FactKey::Agent(id.clone()))? {
            ClusterFact::Agent(agent) => Some(agent),
            _ => None,
        }
    }

    fn schedulers(&self) -> Vec<(SourceId, &'a Scheduler)> {
        let mut all: Vec<(SourceId, &Scheduler)> = self
            .core
            .facts()
            .filter(|(source, _)| self.sources.contains(source))
            .filter_map(|(source, fact)| match &**fact {
                ClusterFact::Scheduler(scheduler) => Some((source, scheduler)),
                _ => None,
            })
            .collect();
        all.sort_by_key(|(source, scheduler)| (*source, scheduler.order, &scheduler.id));
        all
    }
}
