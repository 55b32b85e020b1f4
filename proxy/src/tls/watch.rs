//! Follows the files of certificates, and gives tickets their keys. On the control side.

use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::Certificates;
use crate::Proxy;

/// How often the files are looked at: works on every file system and for every way to write.
const LOOK: Duration = Duration::from_secs(1);

/// Puts certificates in force whenever their files change, until `stop`. Files that cannot be used leave those before
/// in force, and are tried again when they change once more.
pub async fn watch(proxy: Arc<Proxy>, mut seen: Certificates, stop: CancellationToken) {
    loop {
        // Both arms are cancel-safe: a token and a timer.
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let of_task = Arc::clone(&proxy);
        // Reading is work for another thread: a directory can hold thousands.
        let looked = tokio::task::spawn_blocking(move || look(&of_task, seen)).await;
        match looked {
            Ok(now) => seen = now,
            Err(error) => {
                tracing::error!(%error, "certificates are followed no more");
                return;
            }
        }
    }
}

/// One look: what is known from now on.
fn look(proxy: &Proxy, mut seen: Certificates) -> Certificates {
    proxy.tls().rotate_tickets(Instant::now());
    let config = proxy.config();
    if !seen.differ(&config) {
        return seen;
    }
    // Somebody may be writing: what is half there now is whole in a moment.
    std::thread::sleep(LOOK / 4);
    match Certificates::read(&config) {
        Ok(read) => {
            // A reload in between has read for itself.
            if Arc::ptr_eq(&config, &proxy.config()) {
                proxy.certify(&read);
                tracing::info!("certificates read again");
            }
            read
        }
        Err(error) => {
            tracing::error!(%error, "certificates not read again; those before stay in force");
            seen.note(&config);
            seen
        }
    }
}
