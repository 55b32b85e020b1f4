//! The one shared state, and the task that lets its time pass.

use core::sync::atomic::Ordering;
use core::time::Duration;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::prelude::{BASE64_STANDARD, Engine};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cluster::{Cluster, Kind, Launcher, Millis};
use super::fault::{Faults, Leader};
use super::hub::Hub;
use super::stats::Stats;
use super::{SimConfig, StartError, Step};

/// Longest sleep of the driver: also the resolution of the rate of change.
const TICK: Duration = Duration::from_millis(20);

/// Shared by the API, the control interface, the driver and the library.
#[derive(Debug)]
pub(crate) struct World {
    cluster: Mutex<Cluster>,
    faults: Mutex<Faults>,
    pub(crate) hub: Hub,
    pub(crate) stats: Stats,
    pub(crate) address: SocketAddr,
    /// The `Authorization` header every request must carry.
    pub(crate) authorization: Option<String>,
    pub(crate) heartbeat: Duration,
    pub(crate) version: String,
    clock: Clock,
    /// Something is due sooner than the driver thinks.
    wake: Notify,
    churn: Mutex<Churn>,
}

/// Wall time that does not jump: read once, then carried on by the monotonic clock.
#[derive(Debug, Clone, Copy)]
struct Clock {
    start: Instant,
    epoch: Millis,
}

impl Clock {
    fn now(&self) -> Millis {
        self.epoch + u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX / 2)
    }
}

/// Changes by themselves.
#[derive(Debug, Default)]
struct Churn {
    per_second: f64,
    owed: f64,
    last: Option<Instant>,
    made: u64,
}

impl World {
    pub(crate) fn new(
        config: &SimConfig,
        address: SocketAddr,
        launcher: Box<dyn Launcher>,
    ) -> Result<Arc<Self>, StartError> {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let clock = Clock { start: Instant::now(), epoch: u64::try_from(epoch).unwrap_or(0) };
        let mut cluster = Cluster::new(&config.cluster, launcher, clock.now());
        let apps = config.apps.iter().map(|body| (Kind::App, body));
        for (kind, body) in apps.chain(config.pods.iter().map(|body| (Kind::Pod, body))) {
            let id = body.get("id").map(ToString::to_string).unwrap_or_default();
            cluster.found(kind, body.clone()).map_err(|error| StartError::Definition(id, error))?;
        }
        Ok(Arc::new(Self {
            cluster: Mutex::new(cluster),
            faults: Mutex::default(),
            hub: Hub::new(config.outstanding),
            stats: Stats::default(),
            address,
            authorization: config.credentials.as_ref().map(|(user, password)| {
                format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
            }),
            heartbeat: config.heartbeat,
            version: config.version.clone(),
            clock,
            wake: Notify::new(),
            churn: Mutex::default(),
        }))
    }

    /// Looks at the cluster, or changes it; what happened goes to the readers of events before anyone else sees the cluster.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut Cluster) -> R) -> R {
        let mut cluster = lock(&self.cluster);
        cluster.advance(self.clock.now());
        let due = cluster.next_due();
        let result = work(&mut cluster);
        self.publish(&mut cluster);
        if cluster.next_due() != due {
            self.wake.notify_one();
        }
        result
    }

    fn publish(&self, cluster: &mut Cluster) {
        let events = cluster.take_events();
        self.stats.emitted.fetch_add(events.len() as u64, Ordering::Relaxed);
        if self.faults(|faults| faults.stream) == super::fault::Stream::Live {
            self.hub.publish(&events);
        }
    }

    /// Looks at the faults, or changes them.
    pub(crate) fn faults<R>(&self, work: impl FnOnce(&mut Faults) -> R) -> R {
        work(&mut lock(&self.faults))
    }

    /// Who leads at this moment.
    pub(crate) fn leader(&self) -> Leader {
        self.faults(|faults| {
            if matches!(&faults.leader, Leader::Nobody { until, .. } if *until <= Instant::now()) {
                faults.leader = Leader::Us;
            }
            faults.leader.clone()
        })
    }

    /// The leader goes: streams end, results of the leader's own checks are forgotten.
    pub(crate) fn lose_leader(&self, next: Leader, forget_health: bool) {
        self.faults(|faults| faults.leader = next);
        self.hub.cut_all();
        if forget_health {
            self.with(Cluster::change_leader);
        }
    }

    /// Sets how many changes a second happen by themselves; 0 for none.
    pub(crate) fn set_rate(&self, per_second: f64) {
        let mut churn = lock(&self.churn);
        *churn = Churn { per_second, last: Some(Instant::now()), made: churn.made, owed: 0.0 };
        self.wake.notify_one();
    }

    /// Changes made by the rate so far.
    pub(crate) fn changes_made(&self) -> u64 {
        lock(&self.churn).made
    }

    /// Changes owed since the last call.
    fn owed(&self) -> u64 {
        let mut churn = lock(&self.churn);
        let now = Instant::now();
        let since = churn.last.replace(now).map_or(Duration::ZERO, |last| now - last);
        churn.owed = (churn.owed + since.as_secs_f64() * churn.per_second).min(churn.per_second.max(1.0));
        let whole = churn.owed.floor();
        churn.owed -= whole;
        churn.made += whole as u64;
        whole as u64
    }

    fn is_churning(&self) -> bool {
        lock(&self.churn).per_second > 0.0
    }
}

/// One change by itself: mostly a killed task (and with it its successor), sometimes a verdict.
fn change_something(cluster: &mut Cluster) {
    let Some(task) = cluster.any_task() else { return };
    let sick = task.verdict.as_ref().is_some_and(|verdict| !verdict.alive);
    if sick {
        cluster.set_health(&task.id, true, false);
    } else if task.verdict.is_some() && task.number % 4 == 0 {
        cluster.set_health(&task.id, false, false);
    } else {
        // Without scaling nothing can be locked, so nothing can be refused.
        let _ = cluster.kill(&[task.id.to_string()], false, false);
    }
}

/// Lets the cluster's time pass until told to stop.
pub(crate) async fn drive(world: Arc<World>, stop: CancellationToken) {
    loop {
        let owed = if world.is_churning() { world.owed() } else { 0 };
        let due = world.with(|cluster| {
            (0..owed).for_each(|_| change_something(cluster));
            cluster.next_due()
        });
        let wait = due.map(|due| Duration::from_millis(due.saturating_sub(world.clock.now()).max(1)));
        let wait = match (wait, world.is_churning()) {
            (wait, true) => wait.unwrap_or(TICK).min(TICK),
            (Some(wait), false) => wait,
            (None, false) => Duration::from_secs(3600),
        };
        // Both other arms may be dropped at any time: a timer, and a permit that is kept until asked for.
        tokio::select! {
            () = stop.cancelled() => return,
            () = world.wake.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Does the steps of a scenario, each at its time.
pub(crate) async fn follow(world: Arc<World>, steps: Vec<Step>, stop: CancellationToken) {
    let start = Instant::now();
    for step in steps {
        // Both may be dropped at any time.
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep_until(start + step.at) => {}
        }
        if let Err(status) = super::api::act(&world, &step) {
            tracing::warn!(what = step.what, status, "a step of the scenario was refused");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while the lock was held has been reported already; the state stays usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
