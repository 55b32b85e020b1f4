//! One session on a manager: events of services, nodes and local containers, and reading what they are about.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant as Received};

use portolan_table::SharedStr;
use tokio::time::{Instant, sleep_until};

use super::api::Api;
use super::swarm::{self, Nodes};
use super::wire::{Event, Service, Task};
use crate::clock;
use crate::config::Reach;
use crate::http::Lines;
use crate::source::{Change, Sink, SourceError};
use crate::sources::telling::{Services, Telling};

pub(super) const EVENT_TYPES: &[&str] = &["service", "node", "container"];
/// A service with tasks on their way is read this soon again, then less and less often.
const AGAIN: Duration = Duration::from_millis(50);
/// No less often than this, ...
const AGAIN_MAX: Duration = Duration::from_secs(1);
/// ... until it has been looked at for so long in vain.
const RESTLESS_MAX: Duration = Duration::from_secs(120);
/// Label of a task's container.
const SERVICE_ID: &str = "com.docker.swarm.service.id";

/// When a session looks by itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// All is told again.
    pub(super) refresh: Duration,
    /// All is read.
    pub(super) poll: Duration,
    /// What is read as a whole is told as a list, so that the removal guard can judge it.
    pub(super) guarded: bool,
}

struct Follower<'s> {
    api: Api,
    reach: Reach,
    sink: &'s Sink,
    telling: Telling<'s>,
    nodes: Nodes,
    /// Services to read, when, and since when they are read again and again.
    due: BTreeMap<String, Due>,
    /// What the latest reading of everything found odd, by service.
    problems: Vec<(SharedStr, String)>,
}

#[derive(Debug, Clone, Copy)]
struct Due {
    at: Instant,
    pause: Duration,
    since: Instant,
    /// What made it due, for the measure of convergence.
    received: Option<Received>,
}

/// Lists and follows until something breaks.
pub(super) async fn follow(
    api: Api,
    reach: Reach,
    mut lines: Lines,
    times: Times,
    sink: &Sink,
) -> Result<(), SourceError> {
    let (nodes, due) = (Nodes::new(), BTreeMap::new());
    let (telling, problems) = (Telling::new(sink), Vec::new());
    let mut follower = Follower { api, reach, sink, telling, nodes, due, problems };
    follower.read_all(true).await?;
    let mut poll_due = Instant::now() + times.poll;
    let mut list_due = Instant::now() + times.refresh.mul_f64(0.9 + fastrand::f64() / 5.0);
    loop {
        let next = follower.due.values().map(|due| due.at).min().unwrap_or(poll_due).min(poll_due);
        // Both are cancel-safe.
        tokio::select! {
            line = lines.next(Duration::MAX) => match line? {
                Some(line) => follower.event(&line)?,
                None => return Err(SourceError::Ended { place: format!("{}/events", follower.api.base) }),
            },
            () = sleep_until(next) => {
                let now = Instant::now();
                if now >= poll_due {
                    let is_list = times.guarded || now >= list_due;
                    follower.read_all(is_list).await?;
                    poll_due = Instant::now() + times.poll;
                    if is_list {
                        list_due = Instant::now() + times.refresh;
                    }
                }
                follower.read_due(now).await?;
            }
        }
    }
}

impl Follower<'_> {
    /// Reads everything and tells it, as a list or as what differs.
    async fn read_all(&mut self, is_list: bool) -> Result<(), SourceError> {
        let nodes = swarm::nodes(self.api.nodes().await?);
        let wire = self.api.services().await?;
        let tasks = self.api.tasks(None).await?;
        let received = clock::now();
        let mut by_service: BTreeMap<&str, Vec<&Task>> = BTreeMap::new();
        for task in &tasks {
            by_service.entry(&task.service).or_default().push(task);
        }
        let (mut services, mut problems) = (Services::new(), Vec::new());
        for service in &wire {
            let tasks = by_service.get(&*service.id).map(Vec::as_slice).unwrap_or_default();
            match swarm::service(service, tasks, &nodes, self.reach) {
                Ok(read) => drop(services.insert((&*service.id).into(), read)),
                Err(problem) => problems.push((place(service), problem)),
            }
            if !swarm::is_settled(tasks) {
                self.want(&service.id, None);
            }
        }
        if is_list {
            // Nodes are part of the list: the first of its changes must come before them.
            self.telling.begin(received).await?;
            for node in nodes.values() {
                self.sink.send(received, Change::Node(node.fact())).await?;
            }
            self.problems.clone_from(&problems);
            self.telling.rest_of_list(received, services, problems).await?;
        } else {
            self.tell_nodes(received, &nodes).await?;
            // A mistake in a label takes nothing away.
            for (key, _) in &problems {
                services.extend(self.telling.told(key).cloned().map(|held| (key.clone(), held)));
            }
            for (key, problem) in problems.iter().filter(|problem| !self.problems.contains(problem)) {
                self.telling.problem(received, key.clone(), problem.clone()).await?;
            }
            self.problems = problems;
            self.telling.difference(received, services).await?;
        }
        self.nodes = nodes;
        Ok(())
    }

    async fn tell_nodes(&self, received: Received, nodes: &Nodes) -> Result<(), SourceError> {
        for (id, node) in &self.nodes {
            if nodes.get(id).is_none_or(|now| now.name != node.name) {
                self.sink.send(received, Change::RemoveNode(node.name.clone())).await?;
            }
        }
        for (id, node) in nodes {
            if self.nodes.get(id) != Some(node) {
                self.sink.send(received, Change::Node(node.fact())).await?;
            }
        }
        Ok(())
    }

    fn event(&mut self, line: &[u8]) -> Result<(), SourceError> {
        let received = clock::now();
        let event: Event = serde_json::from_slice(line).map_err(|error| SourceError::Malformed {
            place: format!("{}/events", self.api.base),
            message: error.to_string(),
        })?;
        let Some(actor) = event.actor else { return Ok(()) };
        match (&*event.kind, event.action.split(':').next().unwrap_or_default()) {
            ("service", _) => self.want(&actor.id, Some(received)),
            ("container", "start" | "die" | "kill" | "health_status" | "destroy") => {
                if let Some(service) = actor.attribute(SERVICE_ID) {
                    self.want(service, Some(received));
                }
            }
            // Its tasks, whichever those are, are on the move.
            ("node", _) => self.want(ALL, Some(received)),
            _ => {}
        }
        Ok(())
    }

    /// The service is read at once, and again until it has settled.
    fn want(&mut self, service: &str, received: Option<Received>) {
        let now = Instant::now();
        let due = Due { at: now, pause: AGAIN, since: now, received };
        let known = self.due.entry(service.to_owned()).or_insert(due);
        if received.is_some() {
            *known = Due { received: known.received.or(received), ..due };
        }
    }

    async fn read_due(&mut self, now: Instant) -> Result<(), SourceError> {
        let due: BTreeSet<String> =
            self.due.iter().filter(|(_, due)| due.at <= now).map(|(service, _)| service.clone()).collect();
        for service in due {
            let Some(due) = self.due.remove(&service) else { continue };
            let settled = match &*service {
                ALL => {
                    self.read_all(false).await?;
                    now.duration_since(due.since) > AGAIN_MAX * 10
                }
                id => self.read(id, due.received.unwrap_or_else(clock::now)).await?,
            };
            if !settled && now.duration_since(due.since) < RESTLESS_MAX {
                let (pause, received) = ((due.pause * 2).min(AGAIN_MAX), None);
                let next = Due { at: Instant::now() + due.pause, pause, received, ..due };
                self.due.entry(service).or_insert(next);
            }
        }
        Ok(())
    }

    /// Reads one service and tells what has changed; true if nothing of it is on its way.
    async fn read(&mut self, id: &str, received: Received) -> Result<bool, SourceError> {
        let key: SharedStr = id.into();
        let Some(service) = self.api.service(id).await? else {
            self.telling.service(received, &key, None).await?;
            return Ok(true);
        };
        let tasks = self.api.tasks(Some(id)).await?;
        let tasks: Vec<&Task> = tasks.iter().collect();
        match swarm::service(&service, &tasks, &self.nodes, self.reach) {
            Ok(read) => self.telling.service(received, &key, Some(read)).await?,
            Err(problem) => self.telling.problem(received, place(&service), problem).await?,
        }
        Ok(swarm::is_settled(&tasks))
    }
}

/// In place of a service: all of them. No id is empty.
const ALL: &str = "";

/// The key under which the service is held, so that what is told of it stays.
fn place(service: &Service) -> SharedStr {
    (&*service.id).into()
}
