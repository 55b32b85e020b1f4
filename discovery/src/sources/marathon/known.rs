//! One service as a session knows it: what is needed to apply an event to it without asking.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant as Received;

use portolan_table::{Instance, InstanceState, SharedStr};
use tokio::time::Instant;

use super::api::Kind;
use super::convert::{Context, Converted, Interned, instance};
use super::wire::{self, text};
use crate::hosts::Hosts;
use crate::source::Unread;

/// What event application needs of a service.
pub(super) struct Known {
    pub(super) kind: Kind,
    pub(super) converted: Converted,
    /// Ids and states, sorted by id.
    pub(super) instances: Vec<(SharedStr, InstanceState)>,
}

/// Zone and region of an agent.
pub(super) type Domain = (Option<SharedStr>, Option<SharedStr>);

/// What is at hand while events are applied.
pub(super) struct Moment<'m> {
    pub(super) now: Instant,
    pub(super) received: Received,
    pub(super) hosts: &'m dyn Hosts,
    pub(super) names: &'m Interned,
}

impl Known {
    /// Takes over from `before` what could not be read this time.
    pub(super) fn keep_unread(&mut self, before: &Self, unread: &Unread) {
        let kept = before.instances.iter().filter(|(id, _)| unread.covers(id));
        let kept: Vec<_> = kept.filter(|(id, _)| self.position(id).is_err()).cloned().collect();
        self.instances.extend(kept);
        self.instances.sort_by(|a, b| a.0.cmp(&b.0));
    }

    /// Where a task is, or would be.
    pub(super) fn position(&self, id: &str) -> Result<usize, usize> {
        self.instances.binary_search_by(|(known, _)| (**known).cmp(id))
    }

    /// Positions of the tasks that `id` (a task's or an instance's) means.
    pub(super) fn of_instance(&self, id: &str) -> Vec<usize> {
        if let Ok(position) = self.position(id) {
            return vec![position];
        }
        let known = self.instances.iter().enumerate();
        known.filter(|(_, (task, _))| is_task_of(task, id)).map(|(position, _)| position).collect()
    }

    /// The instance that a status update describes, if it tells enough and the definition it runs is this. When it
    /// was started is not told: the update's own time is that of its last repetition.
    pub(super) fn built(
        &mut self,
        id: &str,
        event: &wire::Event<'_>,
        agents: &HashMap<SharedStr, Domain>,
        at: &Moment<'_>,
    ) -> Option<Arc<Instance>> {
        let version = text(&event.version)?;
        if self.converted.gated || !self.converted.versions.iter().any(|known| **known == *version) {
            return None;
        }
        let layout = self.converted.layout.clone()?;
        let task = wire::Task {
            id: event.task_id.clone(),
            host: event.host.clone(),
            state: event.task_status.clone(),
            version: event.version.clone(),
            ports: event.ports.clone(),
            ip_addresses: event.ip_addresses.clone(),
            ..wire::Task::default()
        };
        if !layout.is_told_by(&task) {
            return None;
        }
        let mut context = Context { hosts: at.hosts, names: at.names, problems: Vec::new() };
        let before = self.converted.unsettled;
        let built = instance(&task, &layout, &mut self.converted, &mut context);
        self.converted.unsettled = before;
        // A name that is not resolved yet: the read does that.
        let mut built = built.filter(|built| context.problems.is_empty() && *built.id == *id)?;
        if let Some((zone, region)) = built.node.as_ref().and_then(|node| agents.get(node)) {
            (built.zone, built.region) = (zone.clone(), region.clone());
        }
        Some(Arc::new(built))
    }
}

/// True if the task is (the, or a) task of the instance, in any of Marathon's forms: `<app>.<uuid>`,
/// `<app>.instance-<uuid>._app.<n>`, `<app>.marathon-<uuid>`, `<pod>.instance-<uuid>.<container>`.
pub(super) fn is_task_of(task: &str, instance: &str) -> bool {
    let split = instance.rsplit_once(".instance-").or_else(|| instance.rsplit_once(".marathon-"));
    let Some((app, uuid)) = split else { return task == instance };
    let Some(rest) = task.strip_prefix(app).and_then(|rest| rest.strip_prefix('.')) else { return false };
    let rest = rest.strip_prefix("instance-").or_else(|| rest.strip_prefix("marathon-")).unwrap_or(rest);
    rest.strip_prefix(uuid).is_some_and(|end| end.is_empty() || end.starts_with('.'))
}

/// The pod that an API call was about; nothing for the call that creates one, whose URI doesn't name it.
pub(super) fn pod_of(event: &wire::Event<'_>) -> Option<String> {
    let path = text(&event.uri)?.split('?').next()?;
    let id = path.strip_prefix("/v2/pods")?.trim_matches('/');
    (!id.is_empty() && !id.contains("::")).then(|| format!("/{id}"))
}
