//! Keeps the journal in step with the table, and has secondaries told.

use std::sync::Arc;
use std::time::SystemTime;

use portolan_table::Generation;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Transfers, notify};

/// Lists of notices that wait for the notifier; it takes them as they come.
const NOTICES_AHEAD: usize = 4;

/// Follows the table until `stop`. On the control runtime. A change is taken at once if there was none for
/// `notify_delay`, else at its end: a storm costs one difference and one notification in that time.
pub(crate) async fn follow(
    transfers: Arc<Transfers>,
    mut generations: watch::Receiver<Generation>,
    stop: CancellationToken,
) {
    let (sender, notices) = mpsc::channel(NOTICES_AHEAD);
    let notifier = notify::run(Arc::clone(&transfers), notices, stop.clone());
    let follower = async {
        let (mut next, mut changed) = (Instant::now(), true);
        loop {
            // All arms are cancel-safe: a token, a timer, a watch, a permit.
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep_until(next), if changed => {
                    changed = false;
                    generations.borrow_and_update();
                    next = Instant::now() + transfers.rules.load().config.notify_delay;
                    if take_over(&transfers, &sender).await.is_none() {
                        break;
                    }
                }
                Ok(()) = generations.changed(), if !changed => changed = true,
                () = transfers.reconfigured.notified(), if !changed => changed = true,
            }
        }
        drop(sender);
    };
    tokio::join!(follower, notifier);
}

/// One step; `None` when the notifier has ended.
async fn take_over(
    transfers: &Arc<Transfers>,
    sender: &mpsc::Sender<Vec<super::journal::Notice>>,
) -> Option<()> {
    // Who gives no zone away keeps no journal, nor the generation that it would hold on to.
    if !transfers.rules.load().config.is_wanted() {
        transfers.forget();
        return Some(());
    }
    let blocking = Arc::clone(transfers);
    let followed = tokio::task::spawn_blocking(move || {
        blocking.follow();
        blocking.journal.take_notices()
    });
    match followed.await {
        Ok(notices) if notices.is_empty() => Some(()),
        Ok(notices) => sender.send(notices).await.ok(),
        Err(error) => {
            tracing::error!(%error, "differences of zones cannot be taken");
            Some(())
        }
    }
}

/// The time of day for signatures.
pub(super) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
