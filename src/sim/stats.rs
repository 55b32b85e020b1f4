//! What clients have asked: so that a test can count what one change costs the scheduler.

use core::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

/// Kinds of requests that are counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The list of apps.
    Apps,
    /// One app.
    App,
    /// Lists of tasks.
    Tasks,
    /// Pods.
    Pods,
    /// Groups.
    Groups,
    /// Event streams opened.
    Events,
    /// Changes by any other method than GET.
    Changes,
    /// Anything else.
    Other,
}

const KINDS: [(Asked, &str); 8] = [
    (Asked::Apps, "apps"),
    (Asked::App, "app"),
    (Asked::Tasks, "tasks"),
    (Asked::Pods, "pods"),
    (Asked::Groups, "groups"),
    (Asked::Events, "events"),
    (Asked::Changes, "changes"),
    (Asked::Other, "other"),
];

/// The counts since start or the last reset.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    asked: [AtomicU64; KINDS.len()],
    pub(crate) emitted: AtomicU64,
}

impl Stats {
    pub(crate) fn count(&self, kind: Asked) {
        self.asked[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn asked(&self, kind: Asked) -> u64 {
        self.asked[kind as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn reset(&self) {
        self.asked.iter().chain([&self.emitted]).for_each(|cell| cell.store(0, Ordering::Relaxed));
    }

    pub(crate) fn to_json(&self) -> Value {
        let asked: serde_json::Map<_, _> =
            KINDS.iter().map(|(kind, name)| ((*name).to_owned(), json!(self.asked(*kind)))).collect();
        json!({
            "requests": asked,
            "events": self.emitted.load(Ordering::Relaxed),
        })
    }
}
