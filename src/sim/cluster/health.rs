//! Verdicts: what checks say, what the control interface makes them say, and what a leader change forgets.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Cluster, Failure, State, Task, Timer, Verdict, timestamp};

impl Cluster {
    /// The first check result of a task that has started.
    pub(super) fn first_result(&mut self, app: &Arc<str>, number: u64) {
        let pending = |task: &&mut Task| task.state == State::Running && task.verdict.is_none() && !task.held;
        if self.task_mut(app, number).filter(pending).is_some() {
            self.judge(app, number, true, 0);
            self.reconcile(app);
        }
    }

    /// Sets a verdict and says so when it is new.
    pub(super) fn judge(&mut self, app: &Arc<str>, number: u64, alive: bool, failures: u32) {
        let now = self.now;
        let Some(task) = self.task_mut(app, number) else { return };
        let before = task.verdict.as_ref().map(|verdict| verdict.alive);
        let old = task.verdict.take();
        let first_success = old.as_ref().and_then(|v| v.first_success).or(alive.then_some(now));
        let last_success = if alive { Some(now) } else { old.as_ref().and_then(|v| v.last_success) };
        let last_failure = if alive { old.and_then(|v| v.last_failure) } else { Some(now) };
        task.verdict = Some(Verdict { alive, failures, first_success, last_success, last_failure });
        task.checks = task.checks.max(1);
        self.launcher.set_healthy(number, alive);
        let Some(task) = self.record_task(app, number) else { return };
        if !alive {
            let check = self.check_of(app);
            self.emit(
                "failed_health_check_event",
                json!({"appId": &**app, "taskId": &*task.instance, "healthCheck": check}),
            );
        }
        if before != Some(alive) {
            let version = timestamp(task.version);
            self.emit(
                "health_status_changed_event",
                json!({"appId": &**app, "instanceId": &*task.instance, "version": version, "alive": alive}),
            );
            self.emit(
                "instance_health_changed_event",
                json!({
                    "instanceId": &*task.instance, "runSpecId": &**app, "healthy": alive, "runSpecVersion": version,
                }),
            );
        }
    }

    fn check_of(&self, app: &str) -> Value {
        let body = self.records.get(app).map(|record| &record.definition.body);
        body.and_then(|body| body.get("healthChecks")?.get(0)).cloned().unwrap_or_else(|| json!({}))
    }

    /// Makes a task's checks fail (`alive` false; it stays so until told otherwise) or succeed again.
    /// With `kill` the failures go on until the task is killed for them. `false` when there is no such task.
    pub fn set_health(&mut self, id: &str, alive: bool, kill: bool) -> bool {
        let Some((app, number)) = self.locate(id) else { return false };
        if let Some(task) = self.task_mut(&app, number) {
            task.held = !alive;
        }
        let most = self.records.get(&app).map_or(3, |record| record.definition.failures_max);
        let failures = match (alive, kill) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => most.max(1),
        };
        self.judge(&app, number, alive, failures);
        if kill && !alive {
            self.kill_unhealthy(&app, number);
        }
        self.reconcile(&app);
        true
    }

    fn kill_unhealthy(&mut self, app: &Arc<str>, number: u64) {
        let Some(task) = self.record_task(app, number) else { return };
        self.emit(
            "unhealthy_instance_kill_event",
            json!({
                "appId": &**app, "taskId": &*task.id, "instanceId": &*task.instance,
                "version": timestamp(task.version), "reason": "503 Service Unavailable",
                "host": task.agent.host, "slaveId": task.agent.id,
            }),
        );
        self.start_kill(app, number);
    }

    /// Takes away all results of a task, as if it had never been probed. `false` when there is no such task.
    pub fn forget_health(&mut self, id: &str) -> bool {
        let Some((app, number)) = self.locate(id) else { return false };
        self.task_mut(&app, number).is_some_and(|task| {
            task.verdict = None;
            task.held = true;
            true
        })
    }

    /// A task's program ends by itself: it fails at once and is replaced after the back-off. `false` when there is
    /// no such task.
    pub fn crash(&mut self, id: &str) -> bool {
        let Some((app, number)) = self.locate(id) else { return false };
        let Some(task) = self.record_task(&app, number) else { return false };
        self.remove_task(&app, number, "TASK_FAILED", "Failed", true);
        let (now, backoff) = (self.now, self.timing.backoff);
        if let Some(record) = self.records.get_mut(&app) {
            let message = "Command exited with status 1".to_owned();
            record.failure = Some(Arc::new(Failure { task, status: "TASK_FAILED", message, at: now }));
            record.launch_after = now + backoff;
        }
        self.timer(backoff, Timer::Reconcile { app: Arc::clone(&app) });
        self.reconcile(&app);
        true
    }

    /// An agent is lost or comes back: its running tasks become unreachable, or run again. Gives how many.
    pub fn set_agent(&mut self, host: &str, reachable: bool) -> usize {
        let (from, to) = match reachable {
            true => (State::Unreachable, State::Running),
            false => (State::Running, State::Unreachable),
        };
        let tasks = self.records.values().flat_map(|record| record.tasks.iter());
        let here = tasks.filter(|task| task.agent.host == host && task.state == from);
        let moved: Vec<_> = here.map(|task| (Arc::clone(&task.app), task.number)).collect();
        for (app, number) in &moved {
            self.move_to(app, *number, to);
            self.reconcile(app);
        }
        moved.len()
    }

    /// A new leader: results of Marathon's own checks are forgotten until each task is probed again.
    pub fn change_leader(&mut self) {
        let held_by_leader = self.records.values().filter(|r| r.definition.is_checked_by_leader());
        let tasks = held_by_leader.flat_map(|record| record.tasks.iter()).filter(|task| !task.held);
        let forget: Vec<_> = tasks.map(|task| (Arc::clone(&task.app), task.number)).collect();
        for (app, number) in forget {
            if let Some(task) = self.task_mut(&app, number) {
                task.verdict = None;
            }
            let after = self.varied(self.timing.healthy * 4);
            self.timer(after, Timer::Check { app, number });
        }
        let (framework, master) = (self.framework().to_owned(), "10.0.0.5:5050");
        self.emit("scheduler_registered_event", json!({"frameworkId": framework, "master": master}));
    }
}
