//! Driving a simulation from the same process: what `/sim/` offers, as calls.

use core::time::Duration;
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::time::Instant;

use super::cluster::{Caller, ChangeError, Cluster, Deployed, Image, Kind, Task, Update};
use super::fault::{Fault, Faults, Leader, Scope, Stream};
use super::stats::Asked;
use super::world::World;

/// A handle on a running simulation.
#[derive(Debug, Clone)]
pub struct Control {
    pub(super) world: Arc<World>,
}

impl Control {
    /// The apps as they are now, by id.
    #[must_use]
    pub fn apps(&self) -> Vec<Image> {
        self.world.with(|cluster| cluster.images(Kind::App).collect())
    }

    /// One app as it is now.
    #[must_use]
    pub fn app(&self, id: &str) -> Option<Image> {
        self.world.with(|cluster| cluster.image(Kind::App, id))
    }

    /// Creates an app, or updates the members named.
    ///
    /// # Errors
    /// The definition is wrong or the app is locked.
    pub fn put(&self, id: &str, body: Map<String, Value>) -> Result<Deployed, ChangeError> {
        let update = Update { kind: Kind::App, id: id.to_owned(), body, partial: true, restart: false };
        let caller = Caller { client: "127.0.0.1".to_owned(), uri: format!("/v2/apps{id}") };
        self.world.with(|cluster| cluster.update(vec![update], true, Some(&caller)))
    }

    /// Takes an app away.
    ///
    /// # Errors
    /// No such app.
    pub fn delete(&self, id: &str) -> Result<Deployed, ChangeError> {
        self.world.with(|cluster| cluster.delete(Kind::App, &[id.to_owned()], true, &Caller::default()))
    }

    /// Sets the count of an app.
    ///
    /// # Errors
    /// No such app.
    pub fn scale(&self, id: &str, instances: u32) -> Result<Deployed, ChangeError> {
        self.world.with(|cluster| cluster.scale(id, instances, true))
    }

    /// Replaces all tasks of an app by its upgrade strategy.
    ///
    /// # Errors
    /// No such app, or it is being deployed.
    pub fn deploy(&self, id: &str) -> Result<Deployed, ChangeError> {
        self.world.with(|cluster| cluster.restart(id, false))
    }

    /// Whether any deployment is under way.
    #[must_use]
    pub fn is_deploying(&self) -> bool {
        self.world.with(|cluster| cluster.deployments().next().is_some())
    }

    /// Kills one task; it is replaced. Gives it as it was.
    #[must_use]
    pub fn kill(&self, task: &str) -> Option<Arc<Task>> {
        let killed = self.world.with(|cluster| cluster.kill(&[task.to_owned()], false, false));
        killed.ok()?.0.pop()
    }

    /// A task fails by itself. `false` when there is no such task.
    #[must_use]
    pub fn crash(&self, task: &str) -> bool {
        self.world.with(|cluster| cluster.crash(task))
    }

    /// Sets what a task's checks say: failing until told otherwise, or well again. `false` when there is no such task.
    #[must_use]
    pub fn set_health(&self, task: &str, alive: bool) -> bool {
        self.world.with(|cluster| cluster.set_health(task, alive, false))
    }

    /// Sets how API requests of a scope are spoiled from now on.
    pub fn fault(&self, fault: Fault, scope: Scope) {
        self.world.faults(|faults| (faults.api, faults.until) = (Some((fault, scope)), None));
    }

    /// Sets what the event stream does.
    pub fn stream(&self, stream: Stream) {
        self.world.faults(|faults| faults.stream = stream);
    }

    /// Closes all event streams.
    pub fn close_streams(&self) {
        self.world.hub.cut_all();
    }

    /// Ends all event streams in the middle of an event.
    pub fn tear_streams(&self) {
        self.world.hub.tear_all(&super::api::half_an_event(&self.world));
    }

    /// Nobody leads for this long: streams end, requests get 503.
    pub fn lose_leader(&self, time: Duration) {
        let until = Instant::now() + time;
        self.world.lose_leader(Leader::Nobody { until, status: 503 }, true);
    }

    /// Another process leads from now on: streams are redirected, requests passed on.
    pub fn follow(&self, leader: String) {
        self.world.lose_leader(Leader::Other(leader), true);
    }

    /// Everything is right again.
    pub fn clear(&self) {
        self.world.faults(|faults| *faults = Faults::default());
    }

    /// Changes that happen by themselves, per second; 0 for none.
    pub fn rate(&self, per_second: f64) {
        self.world.set_rate(per_second);
    }

    /// How often this was asked since the start or the last reset.
    #[must_use]
    pub fn asked(&self, kind: Asked) -> u64 {
        self.world.stats.asked(kind)
    }

    /// Sets all counts back.
    pub fn reset_counts(&self) {
        self.world.stats.reset();
    }

    /// Number of open event streams.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.world.hub.len()
    }

    /// Anything else that the cluster offers. The cluster is locked meanwhile: be short.
    pub fn with<R>(&self, work: impl FnOnce(&mut Cluster) -> R) -> R {
        self.world.with(work)
    }
}
