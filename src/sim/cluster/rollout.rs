//! Deployments, and the one rule that moves every app towards its definition.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Cluster, Definition, Kind, Millis, Record, State, Task, Timer, timestamp};

/// What a deployment does to one app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A new app.
    Start,
    /// Another count.
    Scale,
    /// Another definition, or the same once more.
    Restart,
    /// The app goes away.
    Stop,
}

impl Action {
    /// As written in plans.
    #[must_use]
    pub const fn as_str(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Self::Start, Kind::App) => "StartApplication",
            (Self::Scale, Kind::App) => "ScaleApplication",
            (Self::Restart, Kind::App) => "RestartApplication",
            (Self::Stop, Kind::App) => "StopApplication",
            (Self::Start, Kind::Pod) => "StartPod",
            (Self::Scale, Kind::Pod) => "ScalePod",
            (Self::Restart, Kind::Pod) => "RestartPod",
            (Self::Stop, Kind::Pod) => "StopPod",
        }
    }
}

/// One deployment under way.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Its id.
    pub id: Arc<str>,
    /// Its version.
    pub version: Millis,
    /// What it does to whom.
    pub actions: Vec<(Arc<str>, Kind, Action)>,
}

impl Deployment {
    /// The light form of its plan: steps without the groups before and after.
    #[must_use]
    pub fn plan(&self) -> Value {
        json!({"id": &*self.id, "version": timestamp(self.version), "steps": [self.step()]})
    }

    /// Its only step, as plans and `deployment_info` show it.
    #[must_use]
    pub fn step(&self) -> Value {
        json!({ "actions": self.actions_json(false) })
    }

    fn actions_json(&self, readiness: bool) -> Vec<Value> {
        let action = |(id, kind, action): &(Arc<str>, Kind, Action)| {
            let target = if *kind == Kind::App { "app" } else { "pod" };
            let mut out = json!({"action": action.as_str(*kind), target: &**id});
            if readiness {
                out["readinessCheckResults"] = json!([]);
            }
            out
        };
        self.actions.iter().map(action).collect()
    }

    /// As `/v2/deployments` lists it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let of = |kind: Kind| -> Vec<&str> {
            self.actions.iter().filter(|(_, k, _)| *k == kind).map(|(id, ..)| &**id).collect()
        };
        json!({
            "id": &*self.id, "version": timestamp(self.version), "affectedApps": of(Kind::App),
            "affectedPods": of(Kind::Pod), "steps": [self.step()], "currentActions": self.actions_json(true),
            "currentStep": 1, "totalSteps": 1,
        })
    }
}

/// The next moves for one app.
#[derive(Debug, Default, PartialEq, Eq)]
struct Moves {
    launch: usize,
    kill: Vec<u64>,
}

impl Cluster {
    /// Moves an app one step towards its definition, as far as that is possible now. Called after every change of the app or of one of its tasks.
    pub(super) fn reconcile(&mut self, app: &str) {
        let Some((app, record)) = self.records.get_key_value(app) else { return };
        let app = Arc::clone(app);
        let mut moves = moves(record);
        if record.launch_after > self.now {
            moves.launch = 0;
        }
        for number in moves.kill {
            self.start_kill(&app, number);
        }
        for _ in 0..moves.launch {
            self.launch(&app);
        }
        self.settle(&app);
    }

    /// Tells a task to stop. It serves on for its grace period.
    pub(super) fn start_kill(&mut self, app: &Arc<str>, number: u64) {
        let Some(task) = self.record_task(app, number).filter(|task| task.state != State::Killing) else {
            return;
        };
        if task.state == State::Unreachable {
            self.remove_task(app, number, "TASK_KILLED", "Killed", false);
            return;
        }
        self.move_to(app, number, State::Killing);
        let after = self.timing.grace;
        self.step_later(app, number, State::Killing, after);
    }

    /// Puts a new task on an agent.
    fn launch(&mut self, app: &Arc<str>) {
        let Some(definition) = self.records.get(app).map(|record| Arc::clone(&record.definition)) else {
            return;
        };
        self.launched += 1;
        let number = self.launched;
        // Round the agents from a random start, so that no two agents hold the same apps.
        let at = self.ids.rng().usize(..self.agents.len());
        let agent = Arc::clone(&self.agents[at]);
        let instance = self.ids.instance(app, self.now);
        let placement = match self.launcher.place(&definition, &agent, number) {
            Ok(placement) => placement,
            Err(message) => return self.launch_failed(app, &message),
        };
        let id = match definition.containers.first() {
            Some(container) => format!("{instance}.{container}.1").into(),
            None => format!("{instance}._app.1").into(),
        };
        let task = Arc::new(Task {
            number,
            id: Arc::clone(&id),
            instance,
            app: Arc::clone(app),
            agent,
            ports: placement.ports,
            address: placement.address,
            state: State::Staging,
            since: self.now,
            staged_at: self.now,
            started_at: None,
            version: definition.config_version,
            verdict: None,
            held: false,
            ready: !definition.readiness,
            checks: u8::try_from(definition.checks.len()).unwrap_or(u8::MAX),
        });
        self.index.insert(id, (Arc::clone(app), number));
        if let Some(record) = self.records.get_mut(app) {
            Arc::make_mut(&mut record.tasks).push(Arc::clone(&task));
        }
        if self.quiet {
            self.born_running(app, number, &definition);
            return;
        }
        self.announce(&task, State::Staging.status(), State::Staging.condition(), "");
        let after = self.timing.staging;
        self.step_later(app, number, State::Staging, after);
    }

    fn launch_failed(&mut self, app: &Arc<str>, message: &str) {
        tracing::warn!(app = %app, message, "task could not be placed");
        let backoff = self.timing.backoff;
        if let Some(record) = self.records.get_mut(app) {
            record.launch_after = self.now + backoff;
        }
        self.timer(backoff, Timer::Reconcile { app: Arc::clone(app) });
    }

    /// A task of the first state: it has been running, ready and healthy for a while.
    fn born_running(&mut self, app: &str, number: u64, definition: &Definition) {
        let now = self.now;
        if let Some(task) = self.task_mut(app, number) {
            task.state = State::Running;
            task.started_at = Some(now);
            task.ready = true;
        }
        if let Some(task) = self.record_task(app, number) {
            self.launcher.start(&task, definition);
        }
        if definition.is_checked() {
            self.judge(&app.into(), number, true, 0);
        }
    }

    /// Ends the app, or its deployment, when nothing is left to do.
    fn settle(&mut self, app: &Arc<str>) {
        let Some(record) = self.records.get(app) else { return };
        if record.removed && record.tasks.is_empty() {
            let id = record.deployment.clone();
            let kind = record.definition.kind;
            let checks = record.definition.checks.len();
            self.records.remove(app);
            if kind == Kind::App {
                for _ in 0..checks {
                    self.emit("remove_health_check_event", json!({ "appId": &**app }));
                }
                self.emit("app_terminated_event", json!({ "appId": &**app }));
            }
            self.finish(id);
        } else if record.deployment.is_some() && is_settled(record) {
            let id = record.deployment.clone();
            self.finish(id);
        }
    }

    /// Ends a deployment once all of its apps are settled.
    fn finish(&mut self, id: Option<Arc<str>>) {
        let Some(deployment) = id.and_then(|id| self.deployments.get(&id)) else { return };
        let open = |app: &Arc<str>| self.records.get(app).is_some_and(|r| r.removed || !is_settled(r));
        if deployment.actions.iter().any(|(app, ..)| open(app)) {
            return;
        }
        let deployment = deployment.clone();
        self.deployments.remove(&deployment.id);
        for (app, ..) in &deployment.actions {
            if let Some(record) = self.records.get_mut(app) {
                record.deployment.take_if(|id| *id == deployment.id);
            }
        }
        let (plan, step) = (deployment.plan(), deployment.step());
        self.emit("deployment_step_success", json!({"plan": plan, "currentStep": step}));
        self.emit("deployment_success", json!({"id": &*deployment.id, "plan": plan}));
    }

    /// Begins a deployment of these actions.
    pub(super) fn deploy(&mut self, actions: Vec<(Arc<str>, Kind, Action)>, version: Millis) -> Arc<str> {
        let id: Arc<str> = self.ids.random().into();
        let deployment = Deployment { id: Arc::clone(&id), version, actions };
        for (app, ..) in &deployment.actions {
            if let Some(record) = self.records.get_mut(app) {
                record.deployment = Some(Arc::clone(&id));
            }
        }
        if let Some((app, ..)) = deployment.actions.first() {
            let group =
                app.rsplit_once('/').map_or("/", |(parent, _)| if parent.is_empty() { "/" } else { parent });
            self.emit("group_change_success", json!({"groupId": group, "version": timestamp(version)}));
        }
        self.emit("deployment_info", json!({"plan": deployment.plan(), "currentStep": deployment.step()}));
        let apps: Vec<_> = deployment.actions.iter().map(|(app, ..)| Arc::clone(app)).collect();
        self.deployments.insert(Arc::clone(&id), deployment);
        for app in apps {
            self.reconcile(&app);
        }
        id
    }

    /// Takes a deployment off, as a newer forced one or a client does. The apps stay as they are.
    pub(super) fn abort(&mut self, id: &str, reason: &str) -> Option<Deployment> {
        let deployment = self.deployments.remove(id)?;
        for (app, ..) in &deployment.actions {
            if let Some(record) = self.records.get_mut(app) {
                record.deployment.take_if(|current| **current == *id);
            }
        }
        let plan = deployment.plan();
        let step = deployment.step();
        self.emit("deployment_step_failure", json!({"plan": plan, "currentStep": step}));
        self.emit("deployment_failed", json!({"id": &*deployment.id, "plan": plan, "reason": reason}));
        Some(deployment)
    }
}

/// Whether an app is as its definition wants it.
fn is_settled(record: &Record) -> bool {
    let current = |task: &Arc<Task>| task.version == record.definition.config_version && task.is_serving();
    record.tasks.len() == record.definition.instances as usize && record.tasks.iter().all(current)
}

/// What to do next for an app, from its tasks alone.
fn moves(record: &Record) -> Moves {
    let definition = &record.definition;
    let wanted = if record.removed { 0 } else { definition.instances as usize };
    let (old, new): (Vec<&Task>, Vec<&Task>) = record
        .tasks
        .iter()
        .map(AsRef::as_ref)
        .filter(|task| task.state != State::Killing)
        .partition(|task| task.version != definition.config_version);
    let total = record.tasks.len();
    if record.removed || (old.is_empty() && new.len() >= wanted) {
        let surplus = (old.len() + new.len()).saturating_sub(wanted);
        let order = order_of_killing(old.iter().chain(&new).copied(), definition.oldest_first);
        return Moves { launch: 0, kill: order.take(surplus).collect() };
    }
    if old.is_empty() {
        // A killed task counts until it is gone: its replacement follows it.
        return Moves { launch: wanted.saturating_sub(total), kill: Vec::new() };
    }
    let launch = definition.capacity().saturating_sub(total).min(wanted.saturating_sub(new.len()));
    Moves { launch, kill: old_to_kill(definition, &old, &new) }
}

/// Old tasks that may go now without fewer than the floor being left; those that serve nobody first.
fn old_to_kill(definition: &Definition, old: &[&Task], new: &[&Task]) -> Vec<u64> {
    let serving = |tasks: &[&Task]| tasks.iter().filter(|task| task.is_serving()).count();
    let mut spare = (serving(old) + serving(new)).saturating_sub(definition.healthy_floor());
    let mut order: Vec<_> = old.to_vec();
    order.sort_by_key(|task| (task.is_serving(), task.number));
    let mut kill = Vec::new();
    for task in order {
        if !task.is_serving() {
            kill.push(task.number);
        } else if spare > 0 {
            spare -= 1;
            kill.push(task.number);
        }
    }
    kill
}

fn order_of_killing<'a>(
    tasks: impl Iterator<Item = &'a Task>,
    oldest_first: bool,
) -> impl Iterator<Item = u64> {
    let mut order: Vec<_> = tasks.map(|task| (task.is_serving(), task.number)).collect();
    // Those that serve nobody go first; then by age.
    order
        .sort_by_key(|(serving, number)| (*serving, if oldest_first { *number } else { u64::MAX - *number }));
    order.into_iter().map(|(_, number)| number)
}
