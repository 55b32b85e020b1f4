//! Follows the files of certificates, and gives tickets their keys. On the control side.

use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::files::Looks;
use super::{CertificateError, Certificates};
use crate::{Config, Proxy};

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
fn look(proxy: &Proxy, seen: Certificates) -> Certificates {
    look_with(proxy, seen, Certificates::read)
}

fn look_with(
    proxy: &Proxy,
    mut seen: Certificates,
    read: impl FnOnce(&Config) -> Result<Certificates, CertificateError>,
) -> Certificates {
    proxy.tls().rotate_tickets(Instant::now());
    let config = proxy.config();
    if !seen.differ(&config) {
        return seen;
    }
    // Somebody may be writing: what is half there now is whole in a moment.
    std::thread::sleep(LOOK / 4);
    let looks = Looks::at(&config);
    match read(&config) {
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
            seen.note(looks);
            seen
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{World, config};

    fn authority() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&key).unwrap().pem()
    }

    #[test]
    fn a_file_that_becomes_whole_while_it_is_read_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        std::fs::write(&file, authority()).unwrap();
        let mut config = config(Vec::new());
        config.upstream.tls.ca = Some(file.clone());
        let world = World::new(&config);
        let tls = config.upstream.tls.clone();
        let seen = Certificates::read(&config).unwrap();
        let proxy = Proxy::new(config, world.table.clone(), world.routes, &prometheus::Registry::new());
        proxy.certify(&seen);
        let before = proxy.tls().clients().policy(&tls);
        std::fs::write(&file, "half of it").unwrap();
        let seen = look_with(&proxy, seen, |config| {
            let refused = Certificates::read(config);
            assert!(refused.is_err());
            std::fs::write(&file, authority()).unwrap();
            refused
        });
        assert_eq!(proxy.tls().clients().policy(&tls), before, "that before stays in force");
        let seen = look(&proxy, seen);
        let after = proxy.tls().clients().policy(&tls);
        assert!(after.is_some() && after != before);
        // What was seen whole is not read again.
        look_with(&proxy, seen, |_| panic!("nothing has changed"));
    }
}
