//! Active checks: for services that ask for them, every instance is tried from time to time.
//!
//! ```text
//!  table, config ─► who is to be checked ─► one prober per instance ─► good or bad ─► verdict when so many
//!  (on change)                              (tries, at most TRIES_MAX at once)        in a row agree ─► report
//! ```
//!
//! A verdict goes to the catalog and comes back as part of the table, so DNS and proxy see the same health. An
//! instance that is unhealthy stays in the table and goes on being checked. Runs on the control runtime; one
//! task owns all verdicts, the probers only tell it how a try went.

mod probe;
#[cfg(test)]
mod tests;
mod verdict;

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::HashMap;
use std::sync::Arc;

use portolan_table::{
    Admission, Core, Generation, Health, InstanceState, Outside, Protocol, Service, SharedStr, SourceId,
    Table,
};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use probe::Probe;
use verdict::Streak;

use crate::tls::{Clients, UpstreamTlsConfig};
use crate::{CheckConfig, Config};

/// Tries that run at once.
const TRIES_MAX: usize = 256;
/// Instances that are checked at most; those beyond keep the scheduler's verdict.
const PROBERS_MAX: usize = 20_000;
/// The table is looked at again no sooner than this, however fast it changes.
const FOLLOW_PAUSE: Duration = Duration::from_millis(100);

/// Source and native id of an instance.
type Identity = (SourceId, SharedStr);

/// What is to be tried.
#[derive(Debug, Clone, PartialEq)]
struct Aim {
    address: SocketAddr,
    check: CheckConfig,
    /// How TLS is spoken; `None` without.
    tls: Option<UpstreamTlsConfig>,
}

/// One instance that is checked.
struct Checked {
    aim: Aim,
    /// Tells the outcomes of this prober from those of one before it.
    number: u64,
    prober: AbortHandle,
    streak: Streak,
}

/// How a try went: whose, by which prober, well or not.
struct Outcome {
    identity: Identity,
    number: u64,
    good: bool,
}

/// Runs the checks that `config` asks for on the services of `table`, and follows both, until `stop`. On the control
/// runtime. Checks over TLS go by `clients`. `report` gets a verdict when it changes, and `None` when an instance is checked no more.
pub async fn run(
    table: Table,
    mut config: watch::Receiver<Arc<Config>>,
    mut generations: watch::Receiver<Generation>,
    clients: Clients,
    report: impl Fn(SourceId, SharedStr, Option<Health>) + Send,
    stop: CancellationToken,
) {
    let (outcomes, mut incoming) = mpsc::channel(1024);
    let mut checks = Checks {
        clients,
        report,
        outcomes,
        tries: Arc::new(Semaphore::new(TRIES_MAX)),
        probers: JoinSet::new(),
        checked: HashMap::new(),
        numbers: 0,
    };
    let mut next = tokio::time::Instant::now();
    let mut changed = true;
    loop {
        // All arms are cancel-safe: channels, a timer, a token.
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep_until(next), if changed => {
                changed = false;
                next = tokio::time::Instant::now() + FOLLOW_PAUSE;
                let config = Arc::clone(&config.borrow_and_update());
                generations.borrow_and_update();
                let wanted = wanted(&table.load(), &config);
                checks.follow(wanted);
            }
            Ok(()) = generations.changed(), if !changed => changed = true,
            Ok(()) = config.changed(), if !changed => changed = true,
            Some(outcome) = incoming.recv() => checks.note(outcome),
            Some(_) = checks.probers.join_next() => {}
        }
    }
    checks.probers.shutdown().await;
}

struct Checks<R> {
    clients: Clients,
    report: R,
    outcomes: mpsc::Sender<Outcome>,
    tries: Arc<Semaphore>,
    probers: JoinSet<()>,
    checked: HashMap<Identity, Checked>,
    numbers: u64,
}

impl<R: Fn(SourceId, SharedStr, Option<Health>)> Checks<R> {
    /// Starts and ends probers so that exactly what is wanted is checked.
    fn follow(&mut self, mut wanted: HashMap<Identity, Aim>) {
        self.checked.retain(|identity, checked| {
            let stays = wanted.contains_key(identity);
            if !stays {
                checked.prober.abort();
                if checked.streak.verdict().is_some() {
                    (self.report)(identity.0, identity.1.clone(), None);
                }
            }
            stays
        });
        wanted.retain(|identity, aim| self.checked.get(identity).is_none_or(|checked| checked.aim != *aim));
        for (identity, aim) in wanted {
            self.start(identity, aim);
        }
    }

    fn start(&mut self, identity: Identity, aim: Aim) {
        self.numbers += 1;
        let probe = Probe {
            aim: aim.clone(),
            clients: self.clients.clone(),
            identity: identity.clone(),
            number: self.numbers,
            outcomes: self.outcomes.clone(),
            tries: Arc::clone(&self.tries),
        };
        let prober = self.probers.spawn(probe.run());
        // Of an instance that is only checked in another way from now on, the verdict stands until the new
        // tries say otherwise.
        let mut streak = Streak::default();
        if let Some(before) = self.checked.remove(&identity) {
            before.prober.abort();
            streak = before.streak.anew();
        }
        self.checked.insert(identity, Checked { aim, number: self.numbers, prober, streak });
    }

    fn note(&mut self, outcome: Outcome) {
        let Some(checked) = self.checked.get_mut(&outcome.identity) else { return };
        if checked.number != outcome.number {
            return;
        }
        let check = &checked.aim.check;
        if let Some(verdict) = checked.streak.note(outcome.good, check.rise, check.fall) {
            let (source, instance) = outcome.identity;
            tracing::info!(%source, %instance, address = %checked.aim.address, verdict = verdict.as_str(), "check");
            (self.report)(source, instance, Some(verdict));
        }
    }
}

/// Every instance that is to be checked, and how.
fn wanted(core: &Core, config: &Config) -> HashMap<Identity, Aim> {
    let mut wanted = HashMap::new();
    for (name, own) in &config.services {
        if let (Some(check), Some(service)) = (&own.check, core.service(name.as_str())) {
            add(&mut wanted, service, check, &own.tls);
        }
    }
    if let Some(check) = &config.upstream.check {
        let mut services: Vec<_> = core
            .services()
            .filter(|service| !config.services.iter().any(|(name, _)| *name == service.name))
            .collect();
        // In a fixed order, so that the limit always leaves out the same.
        services.sort_by(|a, b| a.name.cmp(&b.name));
        services.into_iter().for_each(|service| add(&mut wanted, service, check, &config.upstream.tls));
    }
    wanted
}

/// Adds the running instances of `service`, each at its endpoint of the first TCP port.
fn add(wanted: &mut HashMap<Identity, Aim>, service: &Service, check: &CheckConfig, tls: &UpstreamTlsConfig) {
    let Some(port) = service.ports.iter().find(|port| port.protocol == Protocol::Tcp) else { return };
    let tls = tls.is_for(port.app_protocol).then_some(tls);
    for endpoint in &port.endpoints {
        let Some(member) = service.members.get(endpoint.member as usize) else { continue };
        let counted_elsewhere = member.admission == Admission::Out(Outside::Duplicate);
        if member.instance.state != InstanceState::Running || counted_elsewhere {
            continue;
        }
        if wanted.len() >= PROBERS_MAX {
            tracing::warn!(service = %service.name, limit = PROBERS_MAX, "too many instances to check");
            return;
        }
        wanted.entry((member.source, member.instance.id.clone())).or_insert_with(|| Aim {
            address: endpoint.address,
            check: check.clone(),
            tls: tls.cloned(),
        });
    }
}
