//! One session on an engine: its events, and the containers that they are about.

use std::collections::HashMap;
use std::time::Duration;

use portolan_table::SharedStr;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::api::Api;
use super::containers::{Changed, Containers, Engine};
use super::wire::{Container, Event};
use crate::clock;
use crate::http::Lines;
use crate::source::{Sink, SourceError};
use crate::sources::telling::Telling;
use crate::sources::unwound;

/// Containers inspected at once.
const INSPECTED_MAX: usize = 8;
/// A container that was told to stop and has not by then is looked at again: it may ignore the signal.
const STOPS_WITHIN: Duration = Duration::from_secs(30);
/// An engine that says nothing for this long is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(10);

pub(super) const EVENT_TYPES: &[&str] = &["container", "network"];

struct Follower<'s> {
    api: Api,
    engine: Engine,
    containers: Containers,
    telling: Telling<'s>,
    /// When to look at a container again.
    due: HashMap<String, Instant>,
}

/// Lists and follows until something breaks.
pub(super) async fn follow(
    api: Api,
    engine: Engine,
    mut lines: Lines,
    refresh: Duration,
    sink: &Sink,
) -> Result<(), SourceError> {
    let (containers, telling, due) = (Containers::default(), Telling::new(sink), HashMap::new());
    let mut follower = Follower { api, engine, containers, telling, due };
    follower.list().await?;
    let mut list_due = Instant::now() + refresh.mul_f64(0.9 + fastrand::f64() / 5.0);
    loop {
        let now = Instant::now();
        let next = follower.due.values().copied().min().unwrap_or(list_due).min(list_due).min(now + SILENCE);
        // Both are cancel-safe.
        tokio::select! {
            line = lines.next(Duration::MAX) => match line? {
                Some(line) => follower.event(&line).await?,
                None => return Err(SourceError::Ended { place: format!("{}/events", follower.api.base) }),
            },
            () = sleep_until(next) => {
                let now = Instant::now();
                if now >= list_due {
                    follower.list().await?;
                    list_due = Instant::now() + refresh;
                }
                follower.look_again(now).await?;
            }
        }
    }
}

impl Follower<'_> {
    /// Everything anew. Events that come meanwhile wait in the stream and are about the same or later.
    async fn list(&mut self) -> Result<(), SourceError> {
        let listed = self.api.containers().await?;
        let mut ids: Vec<String> = listed.into_iter().map(|listed| listed.id).collect();
        let mut inspecting: JoinSet<(String, Result<Option<Container>, SourceError>)> = JoinSet::new();
        let (mut containers, mut problems) = (Containers::default(), Vec::new());
        loop {
            while inspecting.len() < INSPECTED_MAX
                && let Some(id) = ids.pop()
            {
                let api = self.api.clone();
                inspecting.spawn(async move {
                    let container = api.container(&id).await;
                    (id, container)
                });
            }
            let Some(inspected) = inspecting.join_next().await else { break };
            let (id, container) = unwound(inspected)?;
            match container {
                Ok(Some(container)) => {
                    problems.extend(containers.put(&container, &self.engine).err().map(|p| (place(&id), p)))
                }
                Ok(None) => {}
                Err(SourceError::Malformed { message, .. }) => problems.push((place(&id), message)),
                Err(error) => return Err(error),
            }
        }
        self.containers = containers;
        self.due.clear();
        self.telling.list(clock::now(), self.containers.services(), problems).await
    }

    async fn event(&mut self, line: &[u8]) -> Result<(), SourceError> {
        let received = clock::now();
        let event: Event = serde_json::from_slice(line).map_err(|error| SourceError::Malformed {
            place: format!("{}/events", self.api.base),
            message: error.to_string(),
        })?;
        let Some(actor) = event.actor else { return Ok(()) };
        match (&*event.kind, event.action.split(':').next().unwrap_or_default()) {
            ("container", "kill") => {
                let signal = actor.attribute("signal").unwrap_or("15");
                if let Some(changed) = self.containers.signalled(&actor.id, signal) {
                    self.due.insert(actor.id, Instant::now() + STOPS_WITHIN);
                    self.tell(received, changed).await?;
                }
                Ok(())
            }
            ("container", "die" | "destroy") => {
                self.due.remove(&actor.id);
                let changed = self.containers.remove(&actor.id);
                self.tell(received, changed).await
            }
            (
                "container",
                "start" | "restart" | "pause" | "unpause" | "rename" | "update" | "health_status",
            ) => self.inspect(received, &actor.id).await,
            ("network", "connect" | "disconnect") => match actor.attribute("container") {
                Some(id) => self.inspect(received, id).await,
                None => Ok(()),
            },
            _ => self.telling.alive(received).await,
        }
    }

    async fn inspect(&mut self, received: std::time::Instant, id: &str) -> Result<(), SourceError> {
        // On its way out: an inspection would say that it still runs.
        if self.due.contains_key(id) {
            return Ok(());
        }
        let changed = match self.api.container(id).await {
            Ok(Some(container)) => self.containers.put(&container, &self.engine),
            Ok(None) => Ok(self.containers.remove(id)),
            Err(SourceError::Malformed { message, .. }) => Err(message),
            Err(error) => return Err(error),
        };
        match changed {
            Ok(changed) => self.tell(received, changed).await,
            Err(problem) => self.telling.problem(received, place(id), problem).await,
        }
    }

    async fn look_again(&mut self, now: Instant) -> Result<(), SourceError> {
        let due: Vec<String> =
            self.due.iter().filter(|(_, due)| **due <= now).map(|(id, _)| id.clone()).collect();
        if due.is_empty() {
            // Nothing was heard: an engine that hangs says nothing either.
            self.api.info().await?;
            return self.telling.alive(clock::now()).await;
        }
        for id in due {
            self.due.remove(&id);
            self.inspect(clock::now(), &id).await?;
        }
        Ok(())
    }

    async fn tell(&mut self, received: std::time::Instant, changed: Changed) -> Result<(), SourceError> {
        for (key, service) in changed {
            self.telling.service(received, &key, service).await?;
        }
        self.telling.alive(received).await
    }
}

fn place(id: &str) -> SharedStr {
    format!("container {}", id.get(..12).unwrap_or(id)).into()
}
