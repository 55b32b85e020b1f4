//! One session on a member: list, watch, and list again when the watch cannot go on or it is time.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::api::{Api, COMPACTED};
use super::store::Store;
use super::wire::{KeyValue, Line};
use crate::clock;
use crate::http::Lines;
use crate::source::{Sink, SourceError};
use crate::sources::telling::Telling;

/// A watch that is silent for this long is checked.
pub(super) const SILENCE: Duration = Duration::from_secs(10);
/// Events that a check has found out about must come within this.
const PATIENCE: Duration = Duration::from_secs(3);

/// When a session looks by itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// All is listed again.
    pub(super) refresh: Duration,
    /// A silent watch is checked.
    pub(super) silence: Duration,
}

/// Why a watch was left.
enum Left {
    Compacted,
    Refresh,
}

/// Follows until something breaks.
pub(super) async fn follow(
    api: &Api,
    mut store: Store,
    mut listed: (Vec<KeyValue>, u64),
    times: Times,
    sink: &Sink,
) -> Result<(), SourceError> {
    let mut telling = Telling::new(sink);
    loop {
        let (keys, revision) = listed;
        let received = clock::now();
        let (services, problems) = store.fill(keys).await;
        telling.list(received, services, problems).await?;
        let due = Instant::now() + times.refresh.mul_f64(0.9 + fastrand::f64() / 5.0);
        match watch(api, &mut store, &mut telling, revision, due, times.silence).await? {
            Left::Compacted => tracing::info!(member = %api.base, "the watch was overtaken by compaction"),
            Left::Refresh => {}
        }
        listed = relist(api).await?;
    }
}

/// Lists; once more if the revision was compacted between two pages.
async fn relist(api: &Api) -> Result<(Vec<KeyValue>, u64), SourceError> {
    match api.list().await {
        Err(SourceError::Status { status: COMPACTED, .. }) => api.list().await,
        listed => listed,
    }
}

async fn watch(
    api: &Api,
    store: &mut Store,
    telling: &mut Telling<'_>,
    revision: u64,
    due: Instant,
    silence_max: Duration,
) -> Result<Left, SourceError> {
    let mut lines = api.watch(revision + 1).await?;
    loop {
        let silence = silence_max.min(due.saturating_duration_since(Instant::now()));
        match timeout(silence, lines.next(silence_max * 2)).await {
            Ok(line) => {
                let ended = || SourceError::Ended { place: format!("{}/v3/watch", api.base) };
                let line = line?.ok_or_else(ended)?;
                if let Some(left) = take(api, store, telling, &line).await? {
                    return Ok(left);
                }
            }
            Err(_) if Instant::now() >= due => return Ok(Left::Refresh),
            Err(_) => {
                if let Some(left) = check(api, store, telling, &mut lines).await? {
                    return Ok(left);
                }
            }
        }
    }
}

/// Takes in one line of the watch, which holds the events of a revision or a few.
async fn take(
    api: &Api,
    store: &mut Store,
    telling: &mut Telling<'_>,
    line: &[u8],
) -> Result<Option<Left>, SourceError> {
    let received = clock::now();
    let line: Line = serde_json::from_slice(line).map_err(|error| SourceError::Malformed {
        place: format!("{}/v3/watch", api.base),
        message: error.to_string(),
    })?;
    if let Some(failure) = line.error {
        return Err(api.failure(503, &failure.message));
    }
    let Some(watched) = line.result else { return Ok(None) };
    if watched.canceled {
        return match watched.compact_revision {
            0 => Err(api.failure(503, &watched.cancel_reason)),
            _ => Ok(Some(Left::Compacted)),
        };
    }
    let changed = store.apply(watched.events).await;
    for (key, message) in changed.problems {
        telling.problem(received, key, message).await?;
    }
    for (key, service) in changed.services {
        telling.service(received, &key, service).await?;
    }
    telling.alive(received).await?;
    Ok(None)
}

/// Asks how many keys there are. If it is another number than is known, the events that tell of it must come soon.
async fn check(
    api: &Api,
    store: &mut Store,
    telling: &mut Telling<'_>,
    lines: &mut Lines,
) -> Result<Option<Left>, SourceError> {
    let asked = Instant::now();
    let counted = api.count().await?;
    while usize::try_from(counted).is_ok_and(|counted| counted != store.len()) {
        let left = PATIENCE.saturating_sub(asked.elapsed());
        let Ok(line) = timeout(left, lines.next(PATIENCE * 2)).await else {
            tracing::warn!(member = %api.base, "keys have changed and the watch does not tell");
            let place = format!("{}/v3/watch", api.base);
            return Err(SourceError::Idle { place, seconds: PATIENCE.as_secs() });
        };
        let Some(line) = line? else {
            return Err(SourceError::Ended { place: format!("{}/v3/watch", api.base) });
        };
        if let Some(left) = take(api, store, telling, &line).await? {
            return Ok(Some(left));
        }
    }
    telling.alive(clock::now()).await?;
    Ok(None)
}
