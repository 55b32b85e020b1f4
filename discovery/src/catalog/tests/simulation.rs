//! Random sequences against a small model, on a clock of their own. A failure prints its seed; seeds that
//! once failed stay in [`SEEDS`].

use portolan_table::SharedStr;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Seeds run every time, beside the random ones.
const SEEDS: [u64; 4] = [0, 1, 42, 0x00c0_ffee];
const STEPS: usize = 400;
const SOURCES: u16 = 3;
const KEYS: usize = 5;
const IDS: usize = 4;

/// What one source holds, as simply as it can be said.
#[derive(Debug, Clone, Default)]
struct Model {
    services: BTreeMap<String, (String, BTreeMap<String, Instance>)>,
    /// Keys told in the list that is open.
    list: Option<Vec<String>>,
}

impl Model {
    fn put(&mut self, key: &str, name: &str, instances: &[Instance]) {
        let before = self.services.remove(key).map(|(_, instances)| instances).unwrap_or_default();
        let after = instances.iter().map(|told| (told.id.to_string(), remember(before.get(&*told.id), told)));
        self.services.insert(key.to_owned(), (name.to_owned(), after.collect()));
        if let Some(list) = &mut self.list {
            list.push(key.to_owned());
        }
    }
}

fn remember(before: Option<&Instance>, told: &Instance) -> Instance {
    let mut told = told.clone();
    if told.health == Health::Unknown {
        told.health = before.map_or(Health::Unknown, |before| before.health);
    }
    told
}

struct World {
    random: fastrand::Rng,
    rig: Rig,
    models: Vec<Model>,
}

impl World {
    fn new(seed: u64) -> Self {
        let sources = (0..SOURCES).map(|id| source(id, &format!("s{id}"))).collect();
        let models = vec![Model::default(); usize::from(SOURCES)];
        Self { random: fastrand::Rng::with_seed(seed), rig: Rig::new(sources), models }
    }

    fn instance(&mut self) -> Instance {
        let id = format!("i{}", self.random.usize(..IDS));
        let health = [Health::Unknown, Health::Healthy, Health::Unhealthy][self.random.usize(..3)];
        let mut instance = instance(&id, self.random.u8(..5), 8000, health);
        if self.random.u8(..4) == 0 {
            instance.state = InstanceState::Killing;
        }
        instance
    }

    fn step(&mut self) {
        let feed = self.random.u16(..SOURCES);
        let index = usize::from(feed);
        let key = format!("/k{}", self.random.usize(..KEYS));
        let service: SharedStr = key.as_str().into();
        match self.random.u8(..12) {
            0..=2 => {
                // Now and then the service has another name than before.
                let name = format!("n{}", self.random.usize(..KEYS));
                let told: BTreeMap<String, Instance> = (0..self.random.usize(..IDS))
                    .map(|_| self.instance())
                    .map(|instance| (instance.id.to_string(), instance))
                    .collect();
                let mut told: Vec<Instance> = told.into_values().collect();
                self.random.shuffle(&mut told);
                self.models[index].put(&key, &name, &told);
                self.rig.service(feed, spec(&key, &name), told);
            }
            3 | 4 => {
                let told = self.instance();
                if let Some((_, instances)) = self.models[index].services.get_mut(&key) {
                    let after = remember(instances.get(&*told.id), &told);
                    instances.insert(told.id.to_string(), after);
                }
                let change = Change::Instance { service, instance: Arc::new(told) };
                // Events come twice.
                self.rig.tell(feed, change.clone());
                self.rig.tell(feed, change);
            }
            5 => {
                let id = format!("i{}", self.random.usize(..IDS));
                if let Some((_, instances)) = self.models[index].services.get_mut(&key) {
                    instances.remove(&id);
                }
                self.rig.tell(feed, Change::RemoveInstance { service, id: id.as_str().into() });
            }
            6 => {
                self.models[index].services.remove(&key);
                if let Some(list) = &mut self.models[index].list {
                    list.retain(|told| *told != key);
                }
                self.rig.tell(feed, Change::RemoveService { service });
            }
            7 => {
                let id = format!("i{}", self.random.usize(..IDS));
                let health = [Health::Unknown, Health::Healthy, Health::Unhealthy][self.random.usize(..3)];
                let known = self.models[index].services.get_mut(&key).and_then(|(_, all)| all.get_mut(&id));
                if let Some(instance) = known.filter(|_| health != Health::Unknown) {
                    instance.health = health;
                }
                self.rig.tell(feed, Change::Health { service, id: id.as_str().into(), health });
            }
            8 => {
                self.models[index].list = Some(Vec::new());
                self.rig.tell(feed, Change::ListBegin);
            }
            9 => {
                if let Some(list) = self.models[index].list.take() {
                    self.models[index].services.retain(|key, _| list.contains(key));
                }
                self.rig.tell(feed, Change::ListComplete);
            }
            10 => {
                self.models[index].list = None;
                self.rig.tell(feed, lost());
            }
            _ => {
                let minutes = self.random.u64(..100);
                self.rig.pass(Duration::from_secs(60 * minutes));
            }
        }
    }

    /// Members by name as the models have them: of one source the smallest key, all sources together.
    fn expected(&self) -> BTreeMap<String, Vec<(u16, Instance)>> {
        let mut names: BTreeMap<String, Vec<(u16, Instance)>> = BTreeMap::new();
        for (feed, model) in self.models.iter().enumerate() {
            let mut taken = Vec::new();
            for (name, instances) in model.services.values() {
                if taken.contains(name) {
                    continue;
                }
                taken.push(name.clone());
                let feed = u16::try_from(feed).unwrap();
                let members = instances.values().map(|instance| (feed, instance.clone()));
                names.entry(name.clone()).or_default().extend(members);
            }
        }
        names
    }

    fn actual(&mut self) -> BTreeMap<String, Vec<(u16, Instance)>> {
        self.rig.flush();
        let member = |member: &portolan_table::Member| (member.source.0, Instance::clone(&member.instance));
        let core = self.rig.publisher.core();
        core.services().map(|s| (s.name.to_string(), s.members.iter().map(member).collect())).collect()
    }

    fn check(&mut self, seed: u64, step: usize) {
        assert_eq!(self.actual(), self.expected(), "seed {seed}, step {step}");
        let core = self.rig.publisher.core();
        let mut endpoints = std::collections::HashSet::new();
        let mut nodes = std::collections::BTreeSet::new();
        for service in core.services() {
            for member in &service.members {
                nodes.insert(member.instance.node.clone().unwrap());
            }
            for port in &service.ports {
                let live = usize::try_from(port.live).unwrap();
                for (index, endpoint) in port.endpoints.iter().enumerate() {
                    let member = &service.members[endpoint.member as usize];
                    assert_eq!(member.admission.is_in(), index < live, "seed {seed}, step {step}");
                    endpoints.insert((member.source, member.instance.id.clone(), endpoint.address));
                }
            }
        }
        assert_eq!(self.rig.catalog.slots.len(), endpoints.len(), "slots; seed {seed}, step {step}");
        // Services that lost their name to a smaller key still keep their nodes.
        for node in nodes {
            assert!(core.node(&node).is_some(), "node {node}; seed {seed}, step {step}");
        }
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for step in 0..STEPS {
        world.step();
        if world.random.u8(..3) == 0 {
            world.check(seed, step);
        }
    }
    world.check(seed, STEPS);
    // Everything that is told away is gone for good: nothing leaks.
    for feed in 0..SOURCES {
        world.rig.list(feed, vec![]);
    }
    world.rig.flush();
    assert_eq!(world.rig.publisher.core().service_count(), 0, "seed {seed}");
    assert_eq!(world.rig.publisher.core().nodes().count(), 0, "seed {seed}");
    assert!(world.rig.catalog.slots.is_empty(), "seed {seed}");
    assert!(world.rig.catalog.index.claims.is_empty(), "seed {seed}");
    assert!(world.rig.catalog.held.is_empty(), "seed {seed}");
}

#[test]
fn the_table_is_what_the_model_says() {
    let random = std::iter::repeat_with(|| fastrand::u64(..)).take(60);
    SEEDS.into_iter().chain(random).for_each(run);
}

/// Services of one source each, with everything that plays a part in a merge.
fn parts() -> impl Strategy<Value = Vec<(u16, ServiceSpec, Vec<Instance>)>> {
    let health = prop::sample::select(vec![Health::Unknown, Health::Healthy, Health::Unhealthy]);
    let state = prop::sample::select(vec![
        InstanceState::Staging,
        InstanceState::Running,
        InstanceState::Running,
        InstanceState::Killing,
    ]);
    let one = (0usize..6, 0u8..6, health, state, 0u16..3, any::<bool>());
    let one = one.prop_map(|(id, last, health, state, weight, correlated)| Instance {
        state,
        weight,
        correlation: correlated.then(|| format!("t{id}").into()),
        ..instance(&format!("i{id}"), last, 8000, health)
    });
    let policy = prop::sample::select(vec![None, Some(MergePolicy::Failover), Some(MergePolicy::Isolate)]);
    let part = (prop::collection::vec(one, 0..5), policy, any::<bool>(), any::<bool>());
    prop::collection::vec(part, 1..4).prop_map(|parts| {
        parts
            .into_iter()
            .enumerate()
            .map(|(index, (instances, merge, checks_defined, named))| {
                let mut spec = ServiceSpec { merge, checks_defined, ..spec(&format!("/k{index}"), "web") };
                if !named {
                    spec.ports[0].name = None;
                }
                let unique: BTreeMap<_, _> = instances.into_iter().map(|i| (i.id.to_string(), i)).collect();
                (u16::try_from(index).unwrap(), spec, unique.into_values().collect())
            })
            .collect()
    })
}

/// The service without its slots, which are identities of this process and not content.
fn content(rig: &mut Rig) -> Service {
    let mut service = Service::clone(&rig.get("web").unwrap());
    for port in &mut service.ports {
        for endpoint in &mut port.endpoints {
            endpoint.slot = portolan_table::Slot { index: 0, epoch: 0 };
        }
    }
    service
}

proptest! {
    #[test]
    fn merge_is_order_free_and_idempotent(parts in parts(), seed in any::<u64>()) {
        let sources = || {
            (0..4).map(|id| SourceConfig { priority: i32::from(id) / 2, ..source(id, &format!("s{id}")) }).collect()
        };
        let told = |order: &[usize]| {
            let mut rig = Rig::new(sources());
            for index in order {
                let (feed, spec, instances) = parts[*index].clone();
                rig.service(feed, spec, instances);
                // Told again, with the instances the other way round.
                let (feed, spec, mut instances) = parts[*index].clone();
                instances.reverse();
                rig.service(feed, spec, instances);
            }
            rig
        };
        let mut order: Vec<usize> = (0..parts.len()).collect();
        let mut first = told(&order);
        fastrand::Rng::with_seed(seed).shuffle(&mut order);
        let mut second = told(&order);
        let service = content(&mut first);
        prop_assert_eq!(&service, &content(&mut second));
        for (feed, spec, instances) in parts {
            first.service(feed, spec, instances);
        }
        prop_assert_eq!(first.flush(), None, "told once more, nothing changes");
        for port in &service.ports {
            let ids: Vec<_> = port.live().iter().map(|e| {
                service.members[e.member as usize].instance.correlation_key().clone()
            }).collect();
            let sources: Vec<_> = port.live().iter().map(|e| service.members[e.member as usize].source).collect();
            for (at, id) in ids.iter().enumerate() {
                let twice = (0..at).any(|before| ids[before] == *id && sources[before] != sources[at]);
                prop_assert!(!twice, "{} counts twice", id);
            }
        }
    }
}
