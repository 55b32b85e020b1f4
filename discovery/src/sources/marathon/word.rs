//! What events said of an instance, held against answers that may be older.

use std::sync::Arc;

use portolan_table::{Health, Instance, InstanceState, SharedStr};
use tokio::time::Instant;

/// The last that events said of one instance.
pub(super) struct InstanceWord {
    pub(super) until: Instant,
    pub(super) id: SharedStr,
    pub(super) state: InstanceState,
    pub(super) health: Option<Health>,
    pub(super) instance: Option<Arc<Instance>>,
}

/// How an answer and an event's word go together.
pub(super) enum Agreement {
    /// The answer says the same, or something later.
    Agrees,
    /// The answer said otherwise and was put right.
    Overruled,
    /// The answer lacks what the event announced, and nothing can stand in for it.
    Missing,
}

impl InstanceWord {
    /// Takes up a later word about the same instance.
    pub(super) fn renew(&mut self, later: Self) {
        (self.until, self.state) = (later.until, later.state);
        self.health = later.health.or(self.health);
        self.instance = later.instance.or(self.instance.take());
    }

    /// Puts the word over what was read, at `read` in `instances`.
    pub(super) fn apply(&self, read: Option<usize>, instances: &mut Vec<Arc<Instance>>) -> Agreement {
        let ended = self.state == InstanceState::Terminal;
        let Some(position) = read else {
            return match (&self.instance, self.state) {
                (Some(instance), InstanceState::Running) => {
                    let mut instance = Instance::clone(instance);
                    instance.health = self.health.unwrap_or(instance.health);
                    instances.push(Arc::new(instance));
                    Agreement::Overruled
                }
                (None, InstanceState::Running) if self.health.is_none() => Agreement::Missing,
                _ => Agreement::Agrees,
            };
        };
        let read = &instances[position];
        if ended {
            let over = read.state != InstanceState::Terminal;
            instances.remove(position);
            return if over { Agreement::Overruled } else { Agreement::Agrees };
        }
        let state = if later(self.state, read.state) { self.state } else { read.state };
        let health = self.health.filter(|_| read.health != Health::Unknown).unwrap_or(read.health);
        if state == read.state && health == read.health {
            return Agreement::Agrees;
        }
        instances[position] = Arc::new(Instance { state, health, ..Instance::clone(read) });
        Agreement::Overruled
    }
}

/// True if a task said to be in state `told` cannot have been read in state `read` afterwards.
fn later(told: InstanceState, read: InstanceState) -> bool {
    use InstanceState::{Killing, Running, Staging, Starting, Unreachable};
    matches!(
        (told, read),
        (Killing, Staging | Starting | Running) | (Unreachable, Running) | (Running, Unreachable)
    )
}
