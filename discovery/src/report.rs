//! What is known about each source, for the admin API, `portolan sources` and the metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use portolan_table::{SharedStr, SourceId, Standing};
use serde::Serialize;

use crate::catalog::SourceState;
use crate::clock;

/// One source as `/api/v1/sources` shows it. Ages are seconds before the report was asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SourceReport {
    /// Its place in the configuration.
    pub id: SourceId,
    /// Its configured name.
    pub name: SharedStr,
    /// Its type as configured.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Where it stands.
    pub standing: Standing,
    /// Seconds since it stands there.
    pub standing_seconds: f64,
    /// Seconds since its last sign of life; `None` if there was none.
    pub age_seconds: Option<f64>,
    /// Its part of the table may be believed: a list was read or a saved one loaded.
    pub has_data: bool,
    /// Without its data unknown names are SERVFAIL and the node is not ready.
    pub required: bool,
    /// Services it holds.
    pub services: usize,
    /// Instances it holds.
    pub instances: usize,
    /// Why its last session ended; `None` while all is well.
    pub error: Option<ErrorReport>,
    /// Odd objects of its last list, and names that two of its services want. At most 100 of each.
    pub problems: Vec<ProblemReport>,
    /// Problems ever reported.
    pub problems_total: u64,
    /// Lists held back by `max_removal`.
    pub removals_held: u64,
    /// Instances that are kept although the scheduler does not list them: it was just elected.
    pub held: usize,
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ErrorReport {
    /// Its kind, as in `portolan_source_errors_total{kind=…}`.
    pub kind: &'static str,
    /// The error with its causes.
    pub message: String,
    /// Seconds since.
    pub age_seconds: f64,
}

/// Something odd in one object of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProblemReport {
    /// The key of the service, or another name for the place.
    pub place: SharedStr,
    /// What is wrong and what to do.
    pub message: String,
}

/// The reports as of the last batch of changes: the catalog task writes, everybody reads.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<BTreeMap<u16, Entry>>);

#[derive(Debug, Clone)]
struct Entry {
    report: SourceReport,
    since: Instant,
    confirmed: Option<Instant>,
    failed: Option<Instant>,
}

impl Ledger {
    /// Writes what has changed and forgets sources that are gone.
    pub(crate) fn write(&self, sources: &mut [SourceState]) {
        let gone = || self.lock().len() != sources.len();
        if !sources.iter().any(|state| state.report_due) && !gone() {
            return;
        }
        let mut entries = self.lock();
        entries.retain(|feed, _| sources.iter().any(|state| state.feed == *feed));
        for state in sources.iter_mut().filter(|state| state.report_due) {
            state.report_due = false;
            entries.insert(state.feed, Entry::of(state));
        }
    }

    /// All reports, in the order of the configuration.
    pub(crate) fn reports(&self) -> Vec<SourceReport> {
        let now = clock::now();
        let mut reports: Vec<_> = self.lock().values().map(|entry| entry.at(now)).collect();
        reports.sort_unstable_by_key(|report| report.id);
        reports
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u16, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn of(state: &SourceState) -> Self {
        let problems = state.problems.iter().map(|(place, message)| (place.clone(), message.clone()));
        let collisions =
            state.collisions.iter().map(|(name, message)| (name.as_str().into(), message.clone()));
        let report = SourceReport {
            id: state.config.id,
            name: state.config.name.clone(),
            kind: state.config.kind.as_str(),
            standing: state.standing,
            standing_seconds: 0.0,
            age_seconds: None,
            has_data: state.has_data,
            required: state.config.required,
            services: state.services.len(),
            instances: state.instances,
            error: state.error.as_ref().map(|(_, kind, message)| ErrorReport {
                kind,
                message: message.clone(),
                age_seconds: 0.0,
            }),
            problems: problems
                .chain(collisions)
                .map(|(place, message)| ProblemReport { place, message })
                .collect(),
            problems_total: state.problems_total,
            removals_held: state.removals_held,
            held: state.held,
        };
        let failed = state.error.as_ref().map(|(at, ..)| *at);
        Self { report, since: state.since, confirmed: state.confirmed, failed }
    }

    fn at(&self, now: Instant) -> SourceReport {
        let age = |at: Instant| now.saturating_duration_since(at).as_secs_f64();
        let mut report = self.report.clone();
        report.standing_seconds = age(self.since);
        report.age_seconds = self.confirmed.map(age);
        if let (Some(error), Some(failed)) = (&mut report.error, self.failed) {
            error.age_seconds = age(failed);
        }
        report
    }
}
