//! What the tests stand on: nodes in this process, clients on raw sockets, fake schedulers, waiting.

pub(crate) mod apps;
pub(crate) mod dns;
pub(crate) mod http;
pub(crate) mod marathon;
pub(crate) mod mesos;
pub(crate) mod node;
pub(crate) mod program;
pub(crate) mod real_mesos;
pub(crate) mod refusing;
pub(crate) mod site;
pub(crate) mod zookeeper;

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

/// Longest wait for a condition. Far above what is expected: a loaded machine must not fail a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` gives something; fails with `what` after [`PATIENCE`].
pub(crate) async fn until<T, F, Fut>(what: &str, mut condition: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let waiting = async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(what, waiting).await
}

/// What `future` gives; fails with `what` after [`PATIENCE`].
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    let result = tokio::time::timeout(PATIENCE, future).await;
    result.unwrap_or_else(|_| panic!("waited in vain for: {what}"))
}

/// A runtime like the control side's.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    if let Ok(level) = std::env::var("PORTOLAN_LOG") {
        // For people who look for a fault; only the first test of a run starts it.
        let _ = tracing_subscriber::fmt().with_env_filter(level).try_init();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let output = runtime.block_on(future);
    runtime.shutdown_timeout(Duration::from_secs(1));
    output
}

/// The folder of shared cases beside the repository, if it is there. CI always has it.
pub(crate) fn shared() -> Option<PathBuf> {
    let beside = std::env::var_os("PORTOLAN_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let there = beside.join("fixtures").is_dir();
    assert!(there || std::env::var_os("CI").is_none(), "CI runs with the shared cases beside the repository");
    there.then_some(beside)
}
