//! What events said of services not long ago, to be held against answers that may be older.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use portolan_table::{InstanceState, SharedStr};
use tokio::time::Instant;

use super::known::is_task_of;
use super::word::InstanceWord;

/// How long an event's word stands against answers.
pub(super) const WORD_STANDS: Duration = Duration::from_secs(3);
/// Services with words of events that still stand.
const WORDS_MAX: usize = 16_384;
/// Words about one service's instances are looked through for old ones from this many on.
const INSTANCE_WORDS_KEPT: usize = 64;
/// Tasks that have ended whose ids are kept. An id is not given to another task.
const ENDED_KEPT: usize = 16_384;

/// See the module's words.
#[derive(Default)]
pub(super) struct Words {
    all: HashMap<SharedStr, Word>,
    ended: Ended,
    /// There were more than can be kept: only a list helps.
    pub(super) overflow: bool,
}

/// What events said of one service.
pub(super) struct Word {
    pub(super) until: Instant,
    /// The service is gone.
    pub(super) removed: bool,
    /// It has this version, or a later one.
    pub(super) version: Option<SharedStr>,
    pub(super) instances: Vec<InstanceWord>,
}

/// The last ids of tasks that have ended: far longer than a word stands, since an event may be repeated much later.
#[derive(Default)]
struct Ended {
    ids: HashSet<SharedStr>,
    order: VecDeque<SharedStr>,
}

impl Words {
    /// The word about a service, to be added to. One that is older than `since` has nothing to say any more.
    pub(super) fn of(&mut self, service: &SharedStr, since: Instant, now: Instant) -> &mut Word {
        if self.all.len() >= WORDS_MAX {
            self.all.retain(|_, word| word.until > since);
            if self.all.len() >= WORDS_MAX {
                self.all.clear();
                self.overflow = true;
            }
        }
        let new = || Word { until: now, removed: false, version: None, instances: Vec::new() };
        let word = self.all.entry(service.clone()).or_insert_with(new);
        if word.until <= since {
            *word = new();
        }
        word.until = now + WORD_STANDS;
        word
    }

    /// Notes what an event said of an instance.
    pub(super) fn say(&mut self, service: &SharedStr, told: InstanceWord, since: Instant, now: Instant) {
        if told.state == InstanceState::Terminal {
            self.ended.note(&told.id);
        }
        let word = self.of(service, since, now);
        if word.instances.len() >= INSTANCE_WORDS_KEPT {
            word.instances.retain(|told| told.until > since);
        }
        match word.instances.iter_mut().find(|before| before.id == told.id) {
            Some(before) => before.renew(told),
            None => word.instances.push(told),
        }
    }

    /// The word about a service, if it was said since.
    pub(super) fn standing(&self, service: &str, since: Instant) -> Option<&Word> {
        self.all.get(service).filter(|word| word.until > since)
    }

    /// True if a task was said to end or to have ended, so that it does not run by a mere repetition.
    pub(super) fn is_ending(&self, service: &str, task: &str, since: Instant) -> bool {
        let told = self.standing(service, since).into_iter().flat_map(|word| &word.instances);
        let ends = |told: &InstanceWord| {
            matches!(told.state, InstanceState::Terminal | InstanceState::Killing)
                && told.until > since
                && is_task_of(task, &told.id)
        };
        self.ended.ids.contains(task) || told.into_iter().any(ends)
    }

    /// Forgets what no longer stands.
    pub(super) fn forget_old(&mut self, now: Instant) {
        self.all.retain(|_, word| word.until > now);
    }
}

impl Ended {
    fn note(&mut self, id: &SharedStr) {
        if !self.ids.insert(id.clone()) {
            return;
        }
        self.order.push_back(id.clone());
        if self.order.len() > ENDED_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}
