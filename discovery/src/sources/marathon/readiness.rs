//! Which tasks of an app that is being deployed are not ready yet.

use std::collections::HashMap;

use portolan_table::Instance;

use super::convert::milliseconds;
use super::wire::{self, each, text};

/// The readiness checks of an app while a deployment runs them.
///
/// Marathon keeps results only while it checks. A task of this deployment for which there is none has not been asked
/// yet; an older one was ready long ago.
pub(super) struct Readiness<'a> {
    results: HashMap<&'a str, bool>,
    /// When the version that is deployed was made; `None` if nothing is being checked.
    since_ms: Option<u64>,
}

impl<'a> Readiness<'a> {
    pub(super) fn of(app: &'a wire::App<'_>, has_checks: bool) -> Self {
        if !has_checks || each(app.deployments.as_ref()).next().is_none() {
            return Self { results: HashMap::new(), since_ms: None };
        }
        let results = each(app.readiness_check_results.as_ref());
        let results = results.filter_map(|result| Some((text(&result.task_id)?, result.ready?))).collect();
        let since_ms = match milliseconds(text(&app.version)) {
            // Without a version no task is known to be new.
            0 => u64::MAX,
            since => since,
        };
        Self { results, since_ms: Some(since_ms) }
    }

    /// True if the running task still has to become ready.
    pub(super) fn waits_for(&self, task: &Instance) -> bool {
        let Some(since_ms) = self.since_ms else { return false };
        match self.results.get(&*task.id) {
            Some(ready) => !ready,
            None => task.started_ms >= since_ms,
        }
    }
}
