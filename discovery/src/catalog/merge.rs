//! How the parts of one service name become one [`Service`]: a pure function.
//!
//! ```text
//! parts, one per source ──► policy: which parts count ──► members, judged ──► panic ──► ports and endpoints
//! ```
//!
//! The result depends on the parts alone, never on the order in which they arrived. Slots and the verdicts of
//! active checks are looked up through functions that are handed in.

use core::net::SocketAddr;
use std::collections::HashMap;
use std::sync::Arc;

use portolan_table::{
    Admission, AppProtocol, Endpoint, Health, Instance, InstanceState, Labels, Member, MergePolicy, Outside,
    Protocol, Service, ServiceName, ServicePort, ServiceSpec, Slot, SourceId,
};

/// What one source says about a service name. A source has at most one part of a name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    /// Who says it.
    pub(crate) source: SourceId,
    /// Lower goes first.
    pub(crate) priority: i32,
    /// The policy in force: the definition's own, else the source's.
    pub(crate) policy: MergePolicy,
    /// The definition.
    pub(crate) spec: &'a Arc<ServiceSpec>,
    /// The instances, sorted by id.
    pub(crate) instances: &'a [Arc<Instance>],
}

impl Part<'_> {
    fn is_isolated(&self) -> bool {
        self.policy == MergePolicy::Isolate
    }

    /// True if the part is not to be used while priority `level` is the one in force.
    fn is_held_back(&self, level: Option<i32>) -> bool {
        self.is_isolated() || level.is_some_and(|level| self.priority != level)
    }

    fn order(&self) -> (bool, i32, SourceId) {
        (self.is_isolated(), self.priority, self.source)
    }
}

/// What the merge looks up elsewhere.
pub(crate) trait Surroundings {
    /// The verdict of an active check on an instance, which goes before the scheduler's.
    fn verdict(&self, source: SourceId, instance: &str) -> Option<Health>;
    /// The slot of an endpoint. Every call is one hold.
    fn slot(&mut self, source: SourceId, instance: &str, protocol: Protocol, address: SocketAddr) -> Slot;
}

/// Merges `parts` into the service `name`. `level` is the priority that fail-over has chosen; `None` uses all.
pub(crate) fn merge(
    name: &ServiceName,
    mut parts: Vec<Part<'_>>,
    level: Option<i32>,
    around: &mut dyn Surroundings,
) -> Service {
    parts.sort_unstable_by_key(Part::order);
    let (mut ports, places) = merge_ports(&parts);
    let specs = parts.iter().map(|part| (part.source, Arc::clone(part.spec))).collect();
    let judged = judge(&parts, level, around);
    place_endpoints(&mut ports, &parts, &places, &judged, around);
    Service {
        name: name.clone(),
        ports: ports.into_iter().map(PortDraft::finish).collect(),
        members: judged.into_iter().map(|judged| judged.member).collect(),
        specs,
    }
}

/// A member and the part it comes from.
struct Judged {
    member: Member,
    part: usize,
}

/// All members in the order of source and id, with their admission.
fn judge(parts: &[Part<'_>], level: Option<i32>, around: &dyn Surroundings) -> Vec<Judged> {
    let mut by_source: Vec<usize> = (0..parts.len()).collect();
    by_source.sort_unstable_by_key(|&index| parts[index].source);
    let mut judged = Vec::with_capacity(parts.iter().map(|part| part.instances.len()).sum());
    for index in by_source {
        let part = &parts[index];
        for instance in part.instances {
            let instance = with_verdict(instance, around.verdict(part.source, &instance.id));
            let admission = Admission::of(&instance, part.spec);
            judged.push(Judged { member: Member { source: part.source, instance, admission }, part: index });
        }
    }
    let counted = count_once(parts, level, &judged);
    let panic = is_panic(&judged, &counted);
    for (judged, counted) in judged.iter_mut().zip(&counted) {
        judged.member.admission = decide(judged.member.admission, *counted, panic);
    }
    judged
}

/// The instance with the verdict in force: shared as it is, unless a checker says something else.
fn with_verdict(instance: &Arc<Instance>, verdict: Option<Health>) -> Arc<Instance> {
    match verdict {
        Some(health) if health != instance.health => {
            Arc::new(Instance { health, ..Instance::clone(instance) })
        }
        _ => Arc::clone(instance),
    }
}

/// How a member counts in its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    Yes,
    NotSelected,
    Duplicate,
}

/// Which members count. Of one task seen through several sources, the view that carries a verdict counts,
/// else the one of the source that goes first.
fn count_once(parts: &[Part<'_>], level: Option<i32>, judged: &[Judged]) -> Vec<Counted> {
    let selected = |judged: &Judged| !parts[judged.part].is_held_back(level);
    let mut counted: Vec<Counted> =
        judged.iter().map(|j| if selected(j) { Counted::Yes } else { Counted::NotSelected }).collect();
    if parts.iter().filter(|part| !part.is_held_back(level)).count() < 2 {
        return counted;
    }
    let rank = |j: &Judged| (j.member.instance.health == Health::Unknown, parts[j.part].order());
    let mut best: HashMap<&str, usize> = HashMap::with_capacity(judged.len());
    for (index, candidate) in judged.iter().enumerate().filter(|(_, j)| selected(j)) {
        best.entry(candidate.member.instance.correlation_key())
            .and_modify(|held| {
                if rank(candidate) < rank(&judged[*held]) {
                    *held = index;
                }
            })
            .or_insert(index);
    }
    for (index, candidate) in judged.iter().enumerate().filter(|(_, j)| selected(j)) {
        let winner = best[&**candidate.member.instance.correlation_key()];
        if judged[winner].member.source != candidate.member.source {
            counted[index] = Counted::Duplicate;
        }
    }
    counted
}

/// True if every running instance that could be reached is unhealthy, and there is one.
fn is_panic(judged: &[Judged], counted: &[Counted]) -> bool {
    let mut any = false;
    for (judged, counted) in judged.iter().zip(counted) {
        match judged.member.admission {
            _ if *counted != Counted::Yes => {}
            Admission::Out(Outside::Unhealthy) => any = true,
            Admission::In | Admission::Panic | Admission::Out(Outside::NoVerdict) => return false,
            Admission::Out(_) => {}
        }
    }
    any
}

/// A member that is out by itself keeps that reason; `NotSelected` and `Duplicate` are for those that would
/// be in.
fn decide(alone: Admission, counted: Counted, panic: bool) -> Admission {
    match (alone, counted) {
        (Admission::In, Counted::NotSelected) => Admission::Out(Outside::NotSelected),
        (Admission::In, Counted::Duplicate) => Admission::Out(Outside::Duplicate),
        (Admission::Out(Outside::Unhealthy), Counted::Yes) if panic => Admission::Panic,
        _ => alone,
    }
}

/// A port while its endpoints are collected.
struct PortDraft {
    port: ServicePort,
    live: Vec<Endpoint>,
    out: Vec<Endpoint>,
}

impl PortDraft {
    fn new(number: u16, protocol: Protocol) -> Self {
        let port = ServicePort {
            number,
            name: None,
            protocol,
            app_protocol: AppProtocol::Unknown,
            labels: Labels::default(),
            endpoints: Box::default(),
            live: 0,
            weighted: false,
        };
        Self { port, live: Vec::new(), out: Vec::new() }
    }

    fn finish(mut self) -> ServicePort {
        self.port.weighted = self.live.windows(2).any(|pair| pair[0].weight != pair[1].weight);
        self.port.live = u32::try_from(self.live.len()).unwrap_or(u32::MAX);
        self.live.extend(self.out);
        self.port.endpoints = self.live.into_boxed_slice();
        self.port
    }
}

/// The merged ports, and for each part which of them its own ports became. Two ports are one if they have the
/// same name and transport; a port without a name goes with the one at its index.
fn merge_ports(parts: &[Part<'_>]) -> (Vec<PortDraft>, Vec<Vec<usize>>) {
    let mut drafts: Vec<PortDraft> = Vec::new();
    let mut places = Vec::with_capacity(parts.len());
    for part in parts {
        let mut of_part: Vec<usize> = Vec::with_capacity(part.spec.ports.len());
        for (index, spec) in part.spec.ports.iter().enumerate() {
            let free = |at: &usize| !of_part.contains(at) && drafts[*at].port.protocol == spec.protocol;
            let by_name = (0..drafts.len())
                .filter(free)
                .find(|&at| spec.name.is_some() && drafts[at].port.name == spec.name);
            let by_index = || {
                Some(index)
                    .filter(|at| *at < drafts.len())
                    .filter(free)
                    .filter(|&at| spec.name.is_none() || drafts[at].port.name.is_none())
            };
            let at = by_name.or_else(by_index).unwrap_or_else(|| {
                drafts.push(PortDraft::new(spec.number, spec.protocol));
                drafts.len() - 1
            });
            complete_port(&mut drafts[at].port, spec);
            of_part.push(at);
        }
        places.push(of_part);
    }
    (drafts, places)
}

/// Fills in what a better part left open.
fn complete_port(port: &mut ServicePort, spec: &portolan_table::PortSpec) {
    if port.number == 0 {
        port.number = spec.number;
    }
    if port.name.is_none() {
        port.name.clone_from(&spec.name);
    }
    if port.app_protocol == AppProtocol::Unknown {
        port.app_protocol = spec.app_protocol;
    }
    if port.labels.is_empty() {
        port.labels = spec.labels.clone();
    }
}

fn place_endpoints(
    drafts: &mut [PortDraft],
    parts: &[Part<'_>],
    places: &[Vec<usize>],
    judged: &[Judged],
    around: &mut dyn Surroundings,
) {
    for (index, Judged { member, part }) in judged.iter().enumerate() {
        let Ok(index) = u32::try_from(index) else { break };
        for at in &member.instance.endpoints {
            // An index that leads nowhere is a source's mistake: nothing can be reached by it.
            let Some(&place) = places[*part].get(usize::from(at.port_index)) else { continue };
            let Some(address) = member.instance.addresses.get(usize::from(at.address_index)) else {
                continue;
            };
            let protocol = parts[*part].spec.ports[usize::from(at.port_index)].protocol;
            let socket = SocketAddr::new(address.ip, at.number);
            let endpoint = Endpoint {
                address: socket,
                member: index,
                slot: around.slot(member.source, &member.instance.id, protocol, socket),
                weight: member.instance.weight,
                provenance: address.provenance,
            };
            let draft = &mut drafts[place];
            if member.admission.is_in() { draft.live.push(endpoint) } else { draft.out.push(endpoint) }
        }
    }
}

/// What the parts of one priority can offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offer {
    /// The priority.
    pub(crate) level: i32,
    /// It has an instance that may get traffic.
    pub(crate) live: bool,
    /// It has a running one that is unhealthy.
    pub(crate) unhealthy: bool,
}

/// The offers of a name that fails over, best priority first; empty if it does not. One part with the policy
/// `failover` is enough: the others that are not isolated take their place by priority.
pub(crate) fn offers(parts: &[Part<'_>], around: &dyn Surroundings) -> Vec<Offer> {
    let mut offers: Vec<Offer> = Vec::new();
    if !parts.iter().any(|part| part.policy == MergePolicy::Failover) {
        return offers;
    }
    for part in parts.iter().filter(|part| !part.is_isolated()) {
        let at = offers.iter().position(|offer| offer.level == part.priority).unwrap_or_else(|| {
            offers.push(Offer { level: part.priority, live: false, unhealthy: false });
            offers.len() - 1
        });
        for instance in part.instances.iter().filter(|i| i.state == InstanceState::Running) {
            let instance = with_verdict(instance, around.verdict(part.source, &instance.id));
            match Admission::of(&instance, part.spec) {
                Admission::In | Admission::Panic => offers[at].live = true,
                Admission::Out(Outside::Unhealthy) => offers[at].unhealthy = true,
                Admission::Out(_) => {}
            }
        }
    }
    offers.sort_unstable_by_key(|offer| offer.level);
    offers
}
