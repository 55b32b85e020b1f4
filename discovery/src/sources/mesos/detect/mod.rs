//! The masters of a cluster as ZooKeeper lists them.
//!
//! Each master keeps a node `json.info_<sequence>` with a description of itself below the path that all are given; the
//! lowest sequence leads. A task follows the list; whoever asks for it gets the last one known, so that losing ZooKeeper
//! loses nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::api::listens;
use super::wire::MasterInfo;
use crate::source::SourceError;
use crate::zookeeper::{Connection, Ensemble};

/// Changes are taken up no more often than this.
const PAUSE: Duration = Duration::from_millis(250);
/// The wait before ZooKeeper is tried again: doubles up to the last.
const AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// Masters that are listed.
const MASTERS_MAX: usize = 64;

/// Host and port of each master, the leader first.
pub(super) type Listed = Arc<[(String, u16)]>;

/// Follows the list of masters for as long as it lives.
#[derive(Debug)]
pub(super) struct Detector {
    found: watch::Receiver<Found>,
    _task: JoinSet<()>,
}

/// What is known.
#[derive(Debug, Clone, Default)]
struct Found {
    listed: Option<Listed>,
    /// Why ZooKeeper cannot be read at present.
    error: Option<String>,
}

impl Detector {
    /// Begins to follow what lies at `path`.
    pub(super) fn start(ensemble: Ensemble, path: String) -> Self {
        let (tell, found) = watch::channel(Found::default());
        let mut task = JoinSet::new();
        task.spawn(async move { follow(&ensemble, &path, &tell).await });
        Self { found, _task: task }
    }

    /// The masters, as soon as a list of them is known; an empty one is waited out as long as one that is not known.
    ///
    /// # Errors
    /// None is known within `limit`.
    pub(super) async fn masters(&mut self, limit: Duration) -> Result<Listed, SourceError> {
        let known = |found: &Found| found.listed.as_ref().is_some_and(|listed| !listed.is_empty());
        let waited = timeout(limit, self.found.wait_for(known)).await;
        if let Ok(Ok(found)) = &waited
            && let Some(listed) = &found.listed
        {
            return Ok(Arc::clone(listed));
        }
        drop(waited);
        let found = self.found.borrow();
        let cause =
            found.error.clone().unwrap_or_else(|| "no master is registered: there is no leader".to_owned());
        Err(SourceError::Connect { place: "zk://".to_owned(), cause: cause.into() })
    }

    /// Waits until another master leads than the first of `listed`. Cancel-safe.
    pub(super) async fn another_leads(&mut self, listed: &[(String, u16)]) {
        let another = |found: &Found| {
            let leader = found.listed.as_ref().and_then(|listed| listed.first());
            leader.is_some_and(|leader| Some(leader) != listed.first())
        };
        if self.found.wait_for(another).await.is_err() {
            // The task has ended: nothing will be known any more.
            core::future::pending::<()>().await;
        }
    }
}

async fn follow(ensemble: &Ensemble, path: &str, tell: &watch::Sender<Found>) {
    let mut wait = AGAIN.0;
    loop {
        let error = match ensemble.connect().await {
            Ok(mut connection) => match watch_on(&mut connection, path, tell, &mut wait).await {
                Ok(never) => match never {},
                Err(error) => error,
            },
            Err(error) => error,
        };
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        let text = format!("{error}{cause}");
        tracing::warn!(error = text, "ZooKeeper is lost; the masters last seen are kept");
        tell.send_modify(|found| found.error = Some(text));
        sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        wait = (wait * 2).min(AGAIN.1);
    }
}

async fn watch_on(
    connection: &mut Connection,
    path: &str,
    tell: &watch::Sender<Found>,
    wait: &mut Duration,
) -> Result<core::convert::Infallible, SourceError> {
    loop {
        let listed = list(connection, path).await?;
        *wait = AGAIN.0;
        tell.send_if_modified(|found| {
            // A leader that has just lost its node is still the best guess until another has one.
            let is_news = !listed.is_empty() && found.listed.as_deref() != Some(&*listed);
            if is_news || found.listed.is_none() {
                tracing::info!(leader = ?listed.first(), masters = listed.len(), "masters listed by ZooKeeper");
                found.listed = Some(Arc::clone(&listed));
            }
            let was_lost = found.error.take().is_some();
            is_news || was_lost
        });
        let next = Instant::now() + PAUSE;
        connection.changed().await?;
        // A change after a calm is taken up at once.
        sleep_until(next).await;
    }
}

async fn list(connection: &mut Connection, path: &str) -> Result<Listed, SourceError> {
    let children = connection.children(path).await?.unwrap_or_default();
    let mut nodes: Vec<(u32, String)> =
        children.iter().filter_map(|name| Some((sequence(name)?, format!("{path}/{name}")))).collect();
    nodes.sort_unstable();
    nodes.truncate(MASTERS_MAX);
    let paths: Vec<String> = nodes.into_iter().map(|(_, path)| path).collect();
    let contents = connection.contents(&paths).await?;
    let master = |(path, content): (&String, Option<Vec<u8>>)| {
        let content = content?;
        let listens = serde_json::from_slice::<MasterInfo<'_>>(&content).ok().and_then(|info| listens(&info));
        if listens.is_none() {
            tracing::warn!(node = path, "a master does not say where it listens; it is left out");
        }
        listens
    };
    Ok(paths.iter().zip(contents).filter_map(master).collect())
}

/// The sequence number of a master's node. Taken as unsigned: the counter goes on below zero after 2^31 nodes.
fn sequence(name: &str) -> Option<u32> {
    let number: i32 = name.strip_prefix("json.info_")?.parse().ok()?;
    Some(number.cast_unsigned())
}

#[cfg(test)]
mod tests;
