//! Keeps a zone of this schema in step with the table.
//!
//! What a task's records are depends on the task, on its agent, and on whether its service names it. A change of a
//! service costs the tasks that differ; a change of an agent costs the tasks on it, which `on_agent` finds.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};
use portolan_table::{
    Admission, Agent, Changes, ClusterFact, Core, FactKey, Health, InstanceState, Member, Outside, Service,
    ServiceChange, ServiceName, SharedStr, SourceId,
};

use super::record::{self, Record, RecordData, Records, wire};
use super::{Profile, Settings};
use crate::zone::listed::{Data, Deltas, Listed, ListedWriter, Srv};

/// Records that are compared one by one.
const FEW: usize = 32;

/// Names one agent.
type AgentId = (SourceId, SharedStr);

/// What is kept of one zone beside the zone itself.
#[derive(Debug)]
pub(crate) struct Listing {
    settings: Arc<Settings>,
    /// Octets of the apex in wire form, root included.
    apex_len: usize,
    /// The zone's name, lower case.
    zone: Arc<str>,
    /// The sources shown.
    sources: Vec<SourceId>,
    /// The services that have tasks on an agent, with how many.
    on_agent: HashMap<AgentId, BTreeMap<ServiceName, u32>>,
    listed: ListedWriter,
}

/// The agents before or after a change.
struct Agents<'a> {
    core: &'a Core,
    /// What they were, of those that differ.
    before: Option<&'a HashMap<AgentId, Option<Arc<ClusterFact>>>>,
}

impl Agents<'_> {
    fn get(&self, id: &AgentId) -> Option<&Agent> {
        let fact = match self.before.and_then(|before| before.get(id)) {
            Some(before) => before.as_ref(),
            None => self.core.fact(id.0, &FactKey::Agent(id.1.clone())),
        };
        match &**fact? {
            ClusterFact::Agent(agent) => Some(agent),
            _ => None,
        }
    }
}

impl Listing {
    pub(crate) fn new(settings: &Arc<Settings>, zone: &Arc<str>, apex_len: usize) -> Self {
        Self {
            settings: Arc::clone(settings),
            apex_len,
            zone: Arc::clone(zone),
            sources: Vec::new(),
            on_agent: HashMap::new(),
            listed: ListedWriter::default(),
        }
    }

    /// The zone of a whole table.
    pub(crate) fn build(&mut self, core: &Core, sources: Vec<SourceId>) {
        self.sources = sources;
        self.on_agent.clear();
        let mut deltas = Deltas::default();
        let mut records = Records::new();
        record_own_name(&self.settings, &self.zone, &mut records);
        for (source, fact) in core.facts() {
            self.fact(source, fact, &mut records);
        }
        self.put(&mut records, 1, &mut deltas);
        let agents = Agents { core, before: None };
        for service in core.services() {
            for member in &service.members {
                self.count(&service.name, member, 1);
                self.member(service, member, &agents, 1, &mut deltas);
            }
        }
        self.listed = ListedWriter::default();
        self.listed.apply(deltas);
    }

    /// The zone as it stands, for readers.
    pub(crate) fn view(&mut self) -> Listed {
        self.listed.view()
    }

    /// Takes the zone to the table after `changes`. True if something that is answered differs.
    pub(crate) fn update(&mut self, core: &Core, changes: &Changes) -> bool {
        let mut deltas = Deltas::default();
        let mut records = Records::new();
        let mut before: HashMap<AgentId, Option<Arc<ClusterFact>>> = HashMap::new();
        for change in &changes.facts {
            for (fact, by) in [(&change.before, -1), (&change.after, 1)] {
                if let Some(fact) = fact {
                    self.fact(change.source, fact, &mut records);
                    self.put(&mut records, by, &mut deltas);
                }
            }
            if let FactKey::Agent(id) = &change.key {
                before.insert((change.source, id.clone()), change.before.clone());
            }
        }
        let old = Agents { core, before: Some(&before) };
        let new = Agents { core, before: None };
        for change in &changes.services {
            self.service(change, (&old, &new), &before, &mut deltas);
        }
        self.moved(core, changes, (&old, &new), &before, &mut deltas);
        self.listed.apply(deltas)
    }

    /// The tasks of a service that differ, those on agents that do included.
    fn service(
        &mut self,
        change: &ServiceChange,
        (old, new): (&Agents<'_>, &Agents<'_>),
        touched: &HashMap<AgentId, Option<Arc<ClusterFact>>>,
        deltas: &mut Deltas,
    ) {
        let (mut was, mut is) = (members(change.before.as_deref()), members(change.after.as_deref()));
        let named = |service: &Option<Arc<Service>>, member: &Member| {
            service.as_ref().is_some_and(|service| self.is_named(service, member))
        };
        let key = |member: &Member| (member.source, member.instance.id.clone());
        let mut steps: Vec<(&Member, i32)> = Vec::new();
        loop {
            match (was.split_first(), is.split_first()) {
                (None, None) => break,
                (Some((a, rest_a)), Some((b, rest_b))) if key(a) == key(b) => {
                    let same = (Arc::ptr_eq(&a.instance, &b.instance) || a.instance == b.instance)
                        && named(&change.before, a) == named(&change.after, b)
                        && !on(a).is_some_and(|agent| touched.contains_key(&agent));
                    if !same {
                        steps.extend([(a, -1), (b, 1)]);
                    }
                    (was, is) = (rest_a, rest_b);
                }
                (Some((a, rest)), b) if b.is_none_or(|(b, _)| key(a) < key(b)) => {
                    steps.push((a, -1));
                    was = rest;
                }
                (_, Some((b, rest))) => {
                    steps.push((b, 1));
                    is = rest;
                }
                (Some(_), None) => break,
            }
        }
        for (member, by) in steps {
            let (service, agents) = if by < 0 { (&change.before, old) } else { (&change.after, new) };
            self.count(&change.name, member, by);
            if let Some(service) = service {
                self.member(service, member, agents, by, deltas);
            }
        }
    }

    /// The tasks of services that are as they were, on agents that are not.
    fn moved(
        &self,
        core: &Core,
        changes: &Changes,
        (old, new): (&Agents<'_>, &Agents<'_>),
        touched: &HashMap<AgentId, Option<Arc<ClusterFact>>>,
        deltas: &mut Deltas,
    ) {
        if touched.is_empty() {
            return;
        }
        let changed: std::collections::HashSet<&ServiceName> =
            changes.services.iter().map(|change| &change.name).collect();
        let on_touched = touched.keys().filter_map(|agent| self.on_agent.get(agent));
        let services: std::collections::BTreeSet<&ServiceName> =
            on_touched.flat_map(BTreeMap::keys).filter(|name| !changed.contains(*name)).collect();
        for service in services.into_iter().filter_map(|name| core.service(name.as_str())) {
            for member in &service.members {
                if on(member).is_some_and(|agent| touched.contains_key(&agent)) {
                    self.member(service, member, old, -1, deltas);
                    self.member(service, member, new, 1, deltas);
                }
            }
        }
    }

    fn count(&mut self, service: &ServiceName, member: &Member, by: i32) {
        let Some(agent) = on(member).filter(|_| self.sources.contains(&member.source)) else { return };
        if by > 0 {
            *self.on_agent.entry(agent).or_default().entry(service.clone()).or_insert(0) += 1;
            return;
        }
        let Some(services) = self.on_agent.get_mut(&agent) else { return };
        if let Some(count) = services.get_mut(service) {
            *count -= 1;
            if *count == 0 {
                services.remove(service);
            }
        }
        if services.is_empty() {
            self.on_agent.remove(&agent);
        }
    }

    fn fact(&self, source: SourceId, fact: &ClusterFact, out: &mut Records) {
        if self.sources.contains(&source) {
            record_fact(fact, &self.settings, out);
        }
    }

    fn member(&self, service: &Service, member: &Member, agents: &Agents<'_>, by: i32, deltas: &mut Deltas) {
        if !self.sources.contains(&member.source) || !self.is_named(service, member) {
            return;
        }
        let mut records = Records::with_capacity(16);
        record_member(member, |id| agents.get(id), &self.settings, &mut records);
        self.put(&mut records, by, deltas);
    }

    fn is_named(&self, service: &Service, member: &Member) -> bool {
        is_named(service, member, &self.settings)
    }

    /// Records as the index takes them. Names that cannot be asked for are left out.
    fn put(&self, records: &mut Records, by: i32, deltas: &mut Deltas) {
        // A task asks for a record once, however often it is made: its two names may be one.
        dedup(records);
        // A task's records have a few targets among them.
        let mut targets: Vec<(String, Option<Arc<[u8]>>)> = Vec::new();
        for Record { owner, data } in records.drain(..) {
            let Some(owner) = wire(&owner, self.apex_len) else { continue };
            match data {
                RecordData::Address(ip) => deltas.add(owner, Data::address(ip), by),
                RecordData::Pointer(ip) => {
                    if self.settings.reverse && self.settings.profile == Profile::V0_8 {
                        deltas.point(ip, owner.into(), by);
                    }
                }
                RecordData::Srv(port, target) => {
                    let known =
                        targets.iter().find(|(text, _)| *text == target).map(|(_, made)| made.clone());
                    let target = known.unwrap_or_else(|| {
                        let made = wire(&target, self.apex_len).map(Arc::from);
                        targets.push((target, made.clone()));
                        made
                    });
                    // Where the RFCs are followed, a record that cannot be sent is none.
                    if target.is_some() || self.settings.is_strict() {
                        deltas.add(owner, Data::Srv(Srv { target, port }), by);
                    }
                }
            }
        }
    }
}

/// Of equal records one is left. A task has a dozen, of which it takes less to compare all than to sort them.
fn dedup(records: &mut Records) {
    if records.len() > FEW {
        records.sort_unstable();
        records.dedup();
        return;
    }
    let mut at = 0;
    while at < records.len() {
        let (before, rest) = records.split_at(at);
        if before.contains(&rest[0]) {
            records.swap_remove(at);
        } else {
            at += 1;
        }
    }
}

fn members(service: Option<&Service>) -> &[Member] {
    service.map_or(&[], |service| &service.members)
}

/// The agent that a task is on.
fn on(member: &Member) -> Option<AgentId> {
    Some((member.source, member.instance.placement.as_ref()?.agent.clone()))
}

/// True if the task is in answers: it runs, and its checks do not speak against it. Mesos-DNS does not know of checks.
pub(super) fn is_named(service: &Service, member: &Member, settings: &Settings) -> bool {
    let instance = &*member.instance;
    if instance.state != InstanceState::Running || instance.placement.is_none() {
        return false;
    }
    if settings.ignore_health || settings.is_strict() {
        return true;
    }
    match member.admission {
        Admission::In | Admission::Panic => true,
        Admission::Out(Outside::Unhealthy | Outside::NoVerdict | Outside::NotRunning | Outside::Ending) => {
            false
        }
        // What its ports, weight or other sources have to do with traffic is no matter of its name.
        Admission::Out(Outside::NotSelected | Outside::Duplicate | Outside::Unreachable) => {
            let spec = service.specs.iter().find(|(source, _)| *source == member.source);
            match instance.health {
                Health::Healthy => true,
                Health::Unhealthy => false,
                Health::Unknown => !spec.is_some_and(|(_, spec)| spec.checks_defined),
            }
        }
    }
}

/// The records of a task that is named; none while its agent is not known.
pub(super) fn record_member<'a>(
    member: &Member,
    agent: impl Fn(&AgentId) -> Option<&'a Agent>,
    settings: &Settings,
    out: &mut Records,
) {
    let Some(placement) = &member.instance.placement else { return };
    let id = (member.source, placement.agent.clone());
    if let Some(agent) = agent(&id).filter(|agent| record::is_known(agent, settings)) {
        record::task(&member.instance, placement, agent, settings, out);
    }
}

/// The records of what is neither task nor this server.
pub(super) fn record_fact(fact: &ClusterFact, settings: &Settings, out: &mut Records) {
    match fact {
        ClusterFact::Masters(masters) => record::masters(masters, out),
        ClusterFact::Agent(agent) => record::agent(agent, settings, out),
        ClusterFact::Scheduler(scheduler) => record::scheduler(scheduler, settings, out),
    }
}

/// The records of the name that the SOA gives to this server, if it is one of the zone's.
pub(super) fn record_own_name(settings: &Settings, zone: &str, out: &mut Records) {
    let name = settings.soa_mname.to_ascii_lowercase();
    let Some(own) = name.strip_suffix(zone).and_then(|rest| rest.strip_suffix('.')) else { return };
    for ip in &settings.addresses {
        out.push(Record { owner: own.to_owned(), data: RecordData::Address(*ip) });
    }
}
