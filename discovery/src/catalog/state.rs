//! What the catalog holds of one source.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use foldhash::fast::RandomState;
use portolan_table::{
    ClusterFact, FactKey, Instance, InstanceEndpoint, MergePolicy, ServiceName, ServiceSpec, SharedStr,
    SourceStatus, Standing,
};

use super::removal::Withheld;
use crate::config::SourceConfig;
use crate::source::Unread;

/// Problems kept for display, per source. More are counted only.
pub(crate) const PROBLEMS_MAX: usize = 100;

/// A table that may expire is saved this often within `stale_max`, whether it has changed or not.
const SAVES_PER_STALE_MAX: u32 = 4;

/// One service of one source.
#[derive(Debug)]
pub(crate) struct PartState {
    /// The definition.
    pub(crate) spec: Arc<ServiceSpec>,
    /// Its instances, sorted by id, each id once.
    pub(crate) instances: Vec<Arc<Instance>>,
}

impl PartState {
    /// Where the instance `id` is, or where it would go.
    pub(crate) fn find(&self, id: &str) -> Result<usize, usize> {
        self.instances.binary_search_by(|instance| (*instance.id).cmp(id))
    }

    /// Adds to `told`, the instances of the service as `spec` has it now, those held that could not be read.
    pub(super) fn keep_unread(&self, spec: &ServiceSpec, unread: &Unread, told: &mut Vec<Arc<Instance>>) {
        let ids: HashSet<SharedStr, RandomState> = told.iter().map(|instance| instance.id.clone()).collect();
        for instance in &self.instances {
            if ids.contains(&instance.id) || !unread.covers(&instance.id) {
                continue;
            }
            let mut kept = Arc::clone(instance);
            let has_port = |endpoint: &InstanceEndpoint| usize::from(endpoint.port_index) < spec.ports.len();
            if !kept.endpoints.iter().all(has_port) {
                Arc::make_mut(&mut kept).endpoints.retain(|endpoint| has_port(endpoint));
            }
            told.push(kept);
        }
    }
}

/// A list while it is being told.
#[derive(Debug, Default)]
pub(crate) enum List {
    /// None is open.
    #[default]
    None,
    /// What it tells is applied as it comes; the rest is swept at its end.
    Open {
        /// Services told.
        seen: HashSet<SharedStr, RandomState>,
        /// Nodes told.
        nodes: HashSet<SharedStr, RandomState>,
        /// Facts told.
        facts: HashSet<FactKey, RandomState>,
        /// Problems told.
        problems: BTreeMap<SharedStr, String>,
        /// Instances that it takes away, if it may take away more than is allowed unconfirmed.
        withheld: Option<Withheld>,
    },
}

impl List {
    /// Services of `state` that it has not told.
    pub(super) fn unnamed(&self, state: &SourceState) -> Vec<SharedStr> {
        let Self::Open { seen, .. } = self else { return Vec::new() };
        state.services.keys().filter(|key| !seen.contains(*key)).cloned().collect()
    }
}

/// The state of one source.
#[derive(Debug)]
pub(crate) struct SourceState {
    /// The number its sessions use; never given to two sources of one process at the same time.
    pub(crate) feed: u16,
    /// What it is told to be.
    pub(crate) config: SourceConfig,
    /// Its services by native key.
    pub(crate) services: HashMap<SharedStr, PartState, RandomState>,
    /// What it says of its cluster.
    pub(crate) facts: HashMap<FactKey, Arc<ClusterFact>, RandomState>,
    /// Number of instances in `services`.
    pub(crate) instances: usize,
    /// The list being told.
    pub(crate) list: List,
    /// A complete list was held back by the removal guard; the next one decides.
    pub(crate) unconfirmed: bool,
    /// Where it stands.
    pub(crate) standing: Standing,
    /// Since when.
    pub(crate) since: Instant,
    /// A list was read or a saved one loaded.
    pub(crate) has_data: bool,
    /// The last sign of life. For a loaded table: when it was last confirmed, as far as the clock can tell.
    pub(crate) confirmed: Option<Instant>,
    /// The last session error: when, kind, text.
    pub(crate) error: Option<(Instant, &'static str, String)>,
    /// Odd objects by place, as of the last list.
    pub(crate) problems: BTreeMap<SharedStr, String>,
    /// Names that two of its keys want.
    pub(crate) collisions: BTreeMap<ServiceName, String>,
    /// Instances that its scheduler does not list at present.
    pub(crate) held: usize,
    /// Lists held back by the removal guard.
    pub(crate) removals_held: u64,
    /// Problems ever reported.
    pub(crate) problems_total: u64,
    /// Its content differs from what was last saved.
    pub(crate) unsaved: bool,
    /// It has become another source (other URLs, other paths) and has not listed since. Then all is saved anew,
    /// even if the list is the same: the table saved before cannot be loaded any more.
    pub(crate) resave: bool,
    /// When it was last handed out to be saved.
    pub(crate) saved: Option<Instant>,
    /// Its report must be written again.
    pub(crate) report_due: bool,
}

impl SourceState {
    pub(crate) fn new(feed: u16, config: SourceConfig, now: Instant) -> Self {
        Self {
            feed,
            config,
            services: HashMap::default(),
            facts: HashMap::default(),
            instances: 0,
            list: List::None,
            unconfirmed: false,
            standing: Standing::Unsynced,
            since: now,
            has_data: false,
            confirmed: None,
            error: None,
            problems: BTreeMap::new(),
            collisions: BTreeMap::new(),
            held: 0,
            removals_held: 0,
            problems_total: 0,
            unsaved: false,
            resave: false,
            saved: None,
            report_due: true,
        }
    }

    /// Sets the standing; true if that is another.
    pub(crate) fn stand(&mut self, standing: Standing, now: Instant) -> bool {
        if self.standing == standing {
            return false;
        }
        tracing::info!(source = %self.config.name, from = %self.standing, to = %standing, "source standing");
        self.standing = standing;
        self.since = now;
        self.report_due = true;
        true
    }

    /// Notes a sign of life.
    pub(crate) fn confirm(&mut self, at: Instant) {
        self.confirmed = Some(self.confirmed.map_or(at, |before| before.max(at)));
        self.report_due = true;
    }

    /// True if the saved table, though it holds the same, would be taken for much older than it is: a start
    /// must not let it expire because nothing has changed for long.
    pub(crate) fn is_saved_age_off(&self, now: Instant) -> bool {
        self.standing == Standing::Synced
            && self.config.stale_max.is_some_and(|max| {
                self.saved.is_none_or(|at| now.saturating_duration_since(at) >= max / SAVES_PER_STALE_MAX)
            })
    }

    /// Notes a problem of the source.
    pub(crate) fn problem(&mut self, place: &SharedStr, message: &str) {
        self.problems_total += 1;
        self.report_due = true;
        let known = self.problems.get(place).is_some_and(|known| known == message);
        if !known {
            tracing::warn!(source = %self.config.name, %place, %message, "problem in a source");
        }
        let keep = |problems: &mut BTreeMap<_, _>| {
            if problems.len() < PROBLEMS_MAX || problems.contains_key(place) {
                problems.insert(place.clone(), message.to_owned());
            }
        };
        if let List::Open { problems, .. } = &mut self.list {
            keep(problems);
        }
        keep(&mut self.problems);
    }

    /// Notes that two of its keys want one name.
    pub(crate) fn collide(&mut self, name: &ServiceName, message: String) {
        if self.collisions.get(name) == Some(&message) {
            return;
        }
        tracing::warn!(source = %self.config.name, %message, "problem in a source");
        self.problems_total += 1;
        self.report_due = true;
        if self.collisions.len() < PROBLEMS_MAX || self.collisions.contains_key(name) {
            self.collisions.insert(name.clone(), message);
        }
    }

    /// The policy for one of its services.
    pub(crate) fn policy(&self, spec: &ServiceSpec) -> MergePolicy {
        spec.merge.unwrap_or(self.config.merge)
    }

    /// What readers of a snapshot are told.
    pub(crate) fn status(&self) -> SourceStatus {
        SourceStatus {
            id: self.config.id,
            name: self.config.name.clone(),
            kind: self.config.kind.as_str(),
            standing: self.standing,
            required: self.config.required,
            has_data: self.has_data,
        }
    }
}
