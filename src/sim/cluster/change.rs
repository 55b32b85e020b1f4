//! What clients ask for: create, update, scale, restart, delete, kill.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::definition::Definition;
use super::{Action, Cluster, Kind, Millis, Problem, Record, Task, VERSIONS_MAX, timestamp};

/// Why a change was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// 404.
    #[error("{0}")]
    NotFound(String),
    /// 409: there is one already.
    #[error("{0}")]
    Exists(String),
    /// 409: deployments hold it.
    #[error(
        "App is locked by one or more deployments. Override with the option '?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'."
    )]
    Locked(Vec<Arc<str>>),
    /// 422.
    #[error("Object is not valid")]
    Invalid(Vec<Problem>),
    /// 400.
    #[error("{0}")]
    Bad(String),
}

impl ChangeError {
    /// The 404 for an app or pod.
    #[must_use]
    pub fn no_such(kind: Kind, id: &str) -> Self {
        let what = if kind == Kind::App { "App" } else { "Pod" };
        Self::NotFound(format!("{what} '{id}' does not exist"))
    }
}

/// Who asks: what `api_post_event` tells.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// Its address.
    pub client: String,
    /// The path it asked.
    pub uri: String,
}

/// A change that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    /// The new version.
    pub version: Millis,
    /// The deployment that brings it about.
    pub deployment: Arc<str>,
}

impl Deployed {
    /// As clients see it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({"version": timestamp(self.version), "deploymentId": &*self.deployment})
    }
}

/// One update of one app or pod.
#[derive(Debug, Clone)]
pub struct Update {
    /// App or pod.
    pub kind: Kind,
    /// Which.
    pub id: String,
    /// The members to set.
    pub body: Map<String, Value>,
    /// Members not named keep their values.
    pub partial: bool,
    /// Tasks are replaced even if nothing changes.
    pub restart: bool,
}

impl Cluster {
    /// Creates an app or a pod.
    ///
    /// # Errors
    /// It exists, or the definition is wrong.
    pub fn create(
        &mut self,
        kind: Kind,
        body: Map<String, Value>,
        caller: &Caller,
    ) -> Result<Deployed, ChangeError> {
        let id = normal_id(body.get("id").and_then(Value::as_str).unwrap_or_default());
        if self.records.get(id.as_str()).is_some_and(|record| !record.removed) {
            return Err(ChangeError::Exists(format!("An app with id [{id}] already exists.")));
        }
        let update = Update { kind, id, body, partial: false, restart: false };
        self.update(vec![update], false, Some(caller))
    }

    /// Adds an app in the state it has after a long time: all tasks running, no events. For the first state only.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn found(&mut self, kind: Kind, body: Map<String, Value>) -> Result<(), ChangeError> {
        self.quiet = true;
        let done = self.create(kind, body, &Caller::default());
        self.quiet = false;
        done.map(|_| ())
    }

    /// Updates (or creates) some apps in one deployment. With `force`, deployments in the way are aborted. A `caller` makes `api_post_event`.
    ///
    /// # Errors
    /// As [`Self::create`], or an app is locked. Nothing is changed then.
    pub fn update(
        &mut self,
        updates: Vec<Update>,
        force: bool,
        caller: Option<&Caller>,
    ) -> Result<Deployed, ChangeError> {
        let mut plans = Vec::with_capacity(updates.len());
        for update in updates {
            plans.push(self.plan(update)?);
        }
        self.unlock(plans.iter().map(|(definition, _)| &*definition.id), force)?;
        let mut actions = Vec::with_capacity(plans.len());
        let mut version = self.now;
        for (definition, restart) in plans {
            version = version.max(definition.version);
            if let Some(caller) = caller {
                self.announce_change(&definition, caller, restart);
            }
            actions.push(self.store(definition, restart));
        }
        Ok(Deployed { version, deployment: self.deploy(actions, version) })
    }

    /// The definition an update leads to, unstored.
    fn plan(&mut self, update: Update) -> Result<(Definition, bool), ChangeError> {
        let id = normal_id(&update.id);
        let record = self.records.get(id.as_str()).filter(|record| !record.removed);
        if record.is_some_and(|record| record.definition.kind != update.kind) {
            return Err(ChangeError::Exists(format!("'{id}' is of another kind")));
        }
        let old = record.map(|record| Arc::clone(&record.definition));
        let mut body = match (&old, record.and_then(|record| rollback(record, &update.body))) {
            (_, Some(earlier)) => earlier.body.clone(),
            (Some(old), None) if update.partial => {
                let mut body = old.body.clone();
                body.extend(update.body);
                body
            }
            _ => update.body,
        };
        body.insert("id".into(), id.into());
        body.retain(|_, value| !value.is_null());
        let (now, ports) = (self.now, &mut self.service_ports);
        let mut definition =
            Definition::from_body(update.kind, body, old.as_deref(), now, &mut || ports.assign())
                .map_err(ChangeError::Invalid)?;
        if update.restart {
            definition.renew();
        }
        Ok((definition, update.restart))
    }

    /// Frees apps from the deployments that hold them.
    fn unlock<'a>(&mut self, apps: impl Iterator<Item = &'a str>, force: bool) -> Result<(), ChangeError> {
        let mut locks: Vec<Arc<str>> = apps
            .filter_map(|app| self.records.get(app)?.deployment.clone())
            .filter(|id| self.deployments.contains_key(id))
            .collect();
        locks.sort();
        locks.dedup();
        if !force && !locks.is_empty() {
            return Err(ChangeError::Locked(locks));
        }
        for id in locks {
            self.abort(&id, "The upgrade has been cancelled");
        }
        Ok(())
    }

    fn store(&mut self, definition: Definition, restart: bool) -> (Arc<str>, Kind, Action) {
        let (id, kind) = (Arc::clone(&definition.id), definition.kind);
        let definition = Arc::new(definition);
        self.service_ports.take(&definition);
        let fresh = || Record {
            definition: Arc::clone(&definition),
            tasks: Arc::default(),
            versions: std::collections::BTreeMap::new(),
            deployment: None,
            removed: false,
            failure: None,
            launch_after: 0,
        };
        let known = self.records.get(&id).is_some_and(|record| !record.removed);
        let record = self.records.entry(Arc::clone(&id)).or_insert_with(fresh);
        let same = record.definition.config_version == definition.config_version;
        record.versions.insert(definition.version, Arc::clone(&definition));
        while record.versions.len() > VERSIONS_MAX {
            record.versions.pop_first();
        }
        record.definition = definition;
        record.removed = false;
        let action = match (known, same && !restart) {
            (false, _) => Action::Start,
            (true, true) => Action::Scale,
            (true, false) => Action::Restart,
        };
        (id, kind, action)
    }

    fn announce_change(&mut self, definition: &Definition, caller: &Caller, restart: bool) {
        let known = self.records.get(&definition.id).is_some_and(|record| !record.removed);
        if definition.kind == Kind::Pod {
            let kind = if known { "pod_updated_event" } else { "pod_created_event" };
            return self.emit(kind, json!({"clientIp": caller.client, "uri": caller.uri}));
        }
        if !restart && !self.quiet {
            let body: Value = serde_json::from_str(&definition.to_json()).unwrap_or_default();
            let payload = json!({"clientIp": caller.client, "uri": caller.uri, "appDefinition": body});
            self.emit("api_post_event", payload);
        }
        if !known {
            let checks = definition.body.get("healthChecks").and_then(Value::as_array).cloned();
            for check in checks.unwrap_or_default() {
                let version = timestamp(definition.version);
                let payload = json!({"appId": &*definition.id, "version": version, "healthCheck": check});
                self.emit("add_health_check_event", payload);
            }
        }
    }

    /// Sets the count of an app.
    ///
    /// # Errors
    /// No such app, or it is locked.
    pub fn scale(&mut self, id: &str, instances: u32, force: bool) -> Result<Deployed, ChangeError> {
        let id = normal_id(id);
        let found = self.records.get(id.as_str()).filter(|record| !record.removed);
        let Some(definition) = found.map(|record| Arc::clone(&record.definition)) else {
            return Err(ChangeError::no_such(Kind::App, &id));
        };
        let mut body = Map::new();
        match definition.kind {
            Kind::App => body.insert("instances".into(), instances.into()),
            Kind::Pod => body.insert("scaling".into(), json!({"kind": "fixed", "instances": instances})),
        };
        let update = Update { kind: definition.kind, id, body, partial: true, restart: false };
        self.update(vec![update], force, None)
    }

    /// Replaces all tasks of an app by its upgrade strategy.
    ///
    /// # Errors
    /// No such app, or it is locked.
    pub fn restart(&mut self, id: &str, force: bool) -> Result<Deployed, ChangeError> {
        let id = normal_id(id);
        let found = self.records.get(id.as_str()).filter(|record| !record.removed);
        let Some(kind) = found.map(|record| record.definition.kind) else {
            return Err(ChangeError::no_such(Kind::App, &id));
        };
        self.update(vec![Update { kind, id, body: Map::new(), partial: true, restart: true }], force, None)
    }

    /// Takes apps or pods away: they are shown no longer, their tasks are killed.
    ///
    /// # Errors
    /// One does not exist, or is locked. Nothing is changed then.
    pub fn delete(
        &mut self,
        kind: Kind,
        ids: &[String],
        force: bool,
        caller: &Caller,
    ) -> Result<Deployed, ChangeError> {
        let ids: Vec<String> = ids.iter().map(|id| normal_id(id)).collect();
        for id in &ids {
            let of_kind = |record: &&Record| record.definition.kind == kind && !record.removed;
            self.records.get(id.as_str()).filter(of_kind).ok_or_else(|| ChangeError::no_such(kind, id))?;
        }
        self.unlock(ids.iter().map(String::as_str), force)?;
        let mut actions = Vec::with_capacity(ids.len());
        for id in &ids {
            let Some(record) = self.records.get_mut(id.as_str()) else { continue };
            record.removed = true;
            self.service_ports.release(&record.definition);
            actions.push((Arc::clone(&record.definition.id), kind, Action::Stop));
            if kind == Kind::Pod {
                self.emit("pod_deleted_event", json!({"clientIp": caller.client, "uri": caller.uri}));
            }
        }
        let version = self.now;
        Ok(Deployed { version, deployment: self.deploy(actions, version) })
    }

    /// Kills tasks. They are replaced, unless `scale`: then the counts of their apps shrink with them.
    /// Gives the tasks as they were, unknown ids left out, and the deployment of the shrinking.
    ///
    /// # Errors
    /// An app is locked (with `scale` only).
    pub fn kill(
        &mut self,
        ids: &[String],
        scale: bool,
        force: bool,
    ) -> Result<(Vec<Arc<Task>>, Option<Deployed>), ChangeError> {
        let tasks: Vec<Arc<Task>> = ids.iter().filter_map(|id| self.task(id)).collect();
        let mut deployed = None;
        if scale {
            deployed = self.shrink(&tasks, force)?;
        }
        for task in &tasks {
            self.start_kill(&task.app, task.number);
        }
        for task in &tasks {
            self.reconcile(&task.app);
        }
        Ok((tasks, deployed))
    }

    /// Lowers the counts of the tasks' apps, and kills exactly these tasks.
    fn shrink(&mut self, tasks: &[Arc<Task>], force: bool) -> Result<Option<Deployed>, ChangeError> {
        let mut fewer: std::collections::BTreeMap<Arc<str>, u32> = std::collections::BTreeMap::new();
        tasks.iter().for_each(|task| *fewer.entry(Arc::clone(&task.app)).or_default() += 1);
        if fewer.is_empty() {
            return Ok(None);
        }
        self.unlock(fewer.keys().map(|app| &**app), force)?;
        let mut updates = Vec::with_capacity(fewer.len());
        for (app, count) in &fewer {
            let Some(record) = self.records.get(app) else { continue };
            let instances = record.definition.instances.saturating_sub(*count);
            let mut body = Map::new();
            body.insert("instances".into(), instances.into());
            if record.definition.kind == Kind::Pod {
                body = Map::from_iter([(
                    "scaling".to_owned(),
                    json!({"kind": "fixed", "instances": instances}),
                )]);
            }
            let (kind, id) = (record.definition.kind, app.to_string());
            updates.push(Update { kind, id, body, partial: true, restart: false });
        }
        // First the kills, so that the smaller count finds nothing else to kill.
        for task in tasks {
            self.start_kill(&task.app, task.number);
        }
        self.update(updates, force, None).map(Some)
    }

    /// Takes a deployment off; unless `force`, its apps go back to the versions they had before.
    ///
    /// # Errors
    /// No such deployment.
    pub fn cancel(&mut self, id: &str, force: bool) -> Result<Option<Deployed>, ChangeError> {
        let gone = || ChangeError::NotFound(format!("DeploymentPlan '{id}' does not exist"));
        let deployment = self.abort(id, "The upgrade has been cancelled").ok_or_else(gone)?;
        if force {
            return Ok(None);
        }
        let mut updates = Vec::new();
        for (app, kind, _) in &deployment.actions {
            let Some(record) = self.records.get(app) else { continue };
            let before = record.versions.range(..record.definition.version).next_back();
            if let Some((_, before)) = before {
                let (id, body) = (app.to_string(), before.body.clone());
                updates.push(Update { kind: *kind, id, body, partial: false, restart: false });
            }
        }
        self.update(updates, true, None).map(Some)
    }

    /// Ends the wait of an app's launches. `false` when nothing waits.
    pub fn reset_delay(&mut self, id: &str) -> bool {
        let Some(record) = self.records.get_mut(id) else { return false };
        let waited = record.launch_after > self.now;
        record.launch_after = 0;
        self.reconcile(id);
        waited
    }

    /// Ids of the apps in a group and below.
    #[must_use]
    pub fn apps_below(&self, group: &str) -> Vec<String> {
        let prefix = format!("{}/", normal_id(group).trim_end_matches('/'));
        let below = self.images(Kind::App).filter(|image| image.definition.id.starts_with(&prefix));
        below.map(|image| image.definition.id.to_string()).collect()
    }
}

impl Definition {
    /// Makes this a new configuration although it says the same: its tasks are replaced.
    fn renew(&mut self) {
        self.config_version = self.version;
        self.json = self.render();
    }
}

/// The earlier definition a body of `{"version": …}` asks for.
fn rollback<'a>(record: &'a Record, body: &Map<String, Value>) -> Option<&'a Arc<Definition>> {
    let version = super::parse_timestamp(body.get("version")?.as_str()?)?;
    if body.len() > 1 { None } else { record.versions.get(&version) }
}

/// An id with exactly one slash before each segment.
pub(crate) fn normal_id(id: &str) -> String {
    let segments = id.split('/').filter(|segment| !segment.is_empty());
    segments.fold(String::new(), |path, segment| path + "/" + segment)
}
