//! Events that came while a list was read, to be applied once more after it: the list may be older than they are.

use std::collections::HashSet;
use std::time::Instant as Received;

use super::wire::{self, text};

/// Events kept.
const EVENTS_MAX: usize = 8192;
/// Octets of them.
const LEN_MAX: usize = 32 * 1024 * 1024;

/// An event with its arrival.
pub(super) struct Heard {
    pub(super) received: Received,
    pub(super) name: String,
    pub(super) data: Vec<u8>,
}

/// See the module's words.
#[derive(Default)]
pub(super) struct Replay {
    events: Vec<Heard>,
    len: usize,
    /// Some were left out: all is to be listed again.
    pub(super) overflow: bool,
}

impl Replay {
    pub(super) fn keep(&mut self, heard: Heard) {
        if self.events.len() < EVENTS_MAX && self.len < LEN_MAX {
            self.len += heard.data.len();
            self.events.push(heard);
        } else {
            self.overflow = true;
        }
    }

    /// The events in order; of the states that a task went through only the last, so that none that has ended
    /// runs once more.
    pub(super) fn into_events(self) -> Vec<Heard> {
        let mut told = HashSet::new();
        let last = |heard: &Heard| task_of(heard).is_none_or(|task| told.insert(task));
        let mut events: Vec<Heard> = self.events.into_iter().rev().filter(last).collect();
        events.reverse();
        events
    }
}

/// Whether the event does nothing but ask for a read.
pub(super) fn asks_for_a_read(name: &str) -> bool {
    matches!(name, "api_post_event" | "pod_created_event" | "pod_updated_event" | "group_change_success")
        || name.starts_with("deployment_")
}

/// Service and task, if the event tells a task's state.
fn task_of(heard: &Heard) -> Option<(String, String)> {
    let event: wire::Event<'_> = serde_json::from_slice(&heard.data).ok()?;
    let name = if heard.name.is_empty() { text(&event.event_type)? } else { &heard.name };
    if name != "status_update_event" {
        return None;
    }
    Some((text(&event.app_id)?.to_owned(), text(&event.task_id)?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_tasks_states_the_last_is_kept_and_the_order_of_all_stays() {
        let mut replay = Replay::default();
        let state = |app: &str, task: &str, state: &str| {
            format!(r#"{{"appId": "{app}", "taskId": "{task}", "taskStatus": "{state}"}}"#)
        };
        let told = [
            ("status_update_event", state("/a", "t", "TASK_RUNNING")),
            ("api_post_event", r#"{"appDefinition": {"id": "/a"}}"#.to_owned()),
            ("status_update_event", state("/a", "u", "TASK_RUNNING")),
            ("status_update_event", state("/a", "t", "TASK_KILLED")),
            ("status_update_event", "nonsense".to_owned()),
        ];
        for (name, data) in &told {
            let (name, data) = (name.to_string(), data.clone().into_bytes());
            replay.keep(Heard { received: Received::now(), name, data });
        }
        let events = replay.into_events();
        let kept: Vec<&[u8]> = events.iter().map(|heard| &*heard.data).collect();
        let wanted: Vec<&[u8]> = told[1..].iter().map(|(_, data)| data.as_bytes()).collect();
        assert_eq!(kept, wanted);
    }
}
