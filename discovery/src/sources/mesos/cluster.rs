//! A cluster across sessions: its state, and what is held when another master begins to lead.
//!
//! ```text
//!   snapshot of the master known ──────────────────────────────► it is the truth
//!   snapshot of another master, elected lately ──► settling: agents come back one by one
//!       task on an agent that is back and does not have it ───► gone
//!       task on an agent that the registry knows, not back ───► held, for recovery_time at most
//!       task on an agent that nobody knows, and frameworks ───► held, for settle_time
//! ```
//!
//! After a restart the catalog may hold tasks from the saved table, of which nothing is known here: while settling, lists
//! are then told as partial, so that they take nothing away.

use std::sync::Arc;
use std::time::{Duration, Instant as Received};

use bytes::Bytes;
use portolan_table::{ClusterFact, Contact, Masters};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::Instant;

use super::api::Leader;
use super::snapshot::{self, Snapshot};
use super::state::{Patience, State};
use super::task::Interned;
use super::wire;
use crate::clock;
use crate::hosts::{Hosts, Resolver};
use crate::source::{Change, Sink, SourceError};

/// An agent that is back tells of its tasks within this time; within the time to settle, if that is shorter.
const RETURN_TIME: Duration = Duration::from_secs(5);
/// An empty address is better than none for a master whose name is not known yet, but not for long: names are looked up
/// again after this.
pub(super) const NAMES_AGAIN: Duration = Duration::from_secs(60);

/// See the module's words.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    state: State,
    pub(super) resolver: Arc<Resolver>,
    /// The id of the master that told the state.
    master: Option<String>,
    settling: Option<Settling>,
    /// Agents that came back, and when what is still held on them is given up.
    returned: Vec<(portolan_table::SharedStr, Instant)>,
    /// The catalog holds something that the state does not know of.
    pub(super) is_resumed: bool,
    masters: Masters,
    told_held: usize,
}

/// How long a master that was just elected is not taken at its word.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patiences {
    pub(super) settle: Duration,
    pub(super) recovery: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Settling {
    missing_until: Instant,
    recovered_until: Instant,
    /// Nothing was known before: what is not listed is unknown, not gone.
    is_first: bool,
    return_time: Duration,
}

/// What a snapshot is read from.
pub(super) enum Document {
    State(Vec<u8>),
    Subscribed(Bytes),
}

impl Settling {
    fn patience(&self, now: Instant) -> Patience {
        Patience { recovered: now < self.recovered_until, missing: now < self.missing_until }
    }
}

impl Document {
    fn read(&self, names: &mut Interned) -> Result<Snapshot, String> {
        match self {
            Self::State(document) => snapshot::of_state(document, names),
            Self::Subscribed(record) => {
                let event: wire::Event<'_> =
                    serde_json::from_slice(record).map_err(|error| error.to_string())?;
                let subscribed = event.subscribed.ok_or("a stream that does not begin with SUBSCRIBED")?;
                Ok(snapshot::of_subscribed(&subscribed, names))
            }
        }
    }
}

impl Cluster {
    /// Takes in a whole snapshot of the master `leader` and tells all of it. `place` is where it came from, `listed`
    /// are the masters that are known. Returns the seconds between heartbeats, if it says.
    ///
    /// # Errors
    /// It cannot be read: nothing has changed. Or the catalog is gone.
    pub(super) async fn take(
        &mut self,
        document: Document,
        leader: Leader,
        listed: &[(String, u16)],
        patiences: Patiences,
        sink: &Sink,
        place: &str,
    ) -> Result<Option<f64>, SourceError> {
        let received = Received::now();
        let mut names = std::mem::take(&mut self.state.names);
        let read = spawn_blocking(move || {
            let snapshot = document.read(&mut names);
            (snapshot, names)
        });
        let (snapshot, names) = unwound(read.await)?;
        self.state.names = names;
        let snapshot =
            snapshot.map_err(|message| SourceError::Malformed { place: place.to_owned(), message })?;
        let heartbeat = snapshot.heartbeat;
        let leader = Leader {
            id: leader.id.or_else(|| snapshot.master.clone()).or_else(|| Some(place.to_owned())),
            elected: leader.elected.or(snapshot.elected),
            at: leader.at.or_else(|| told_leader(&snapshot)),
        };
        self.resolver.prepare(snapshot.agents.iter().map(|agent| agent.host.to_string()).collect()).await;
        let now = Instant::now();
        let patience = self.settle(&leader, &snapshot, patiences, now);
        self.master = leader.id;
        let changes = self.rebuild(snapshot, patience).await?;
        self.masters = self.name_masters(leader.at.as_ref(), listed);
        self.tell_list(received, changes, sink, now).await?;
        Ok(heartbeat)
    }

    /// Decides how far the snapshot is trusted.
    fn settle(
        &mut self,
        leader: &Leader,
        snapshot: &Snapshot,
        patiences: Patiences,
        now: Instant,
    ) -> Patience {
        let is_another = leader.id.is_none() || leader.id != self.master;
        let is_first = self.state.is_empty() && !self.is_resumed;
        let recovers = snapshot.agents.iter().any(|agent| agent.standing == snapshot::Standing::Recovered);
        if is_another {
            // By the master's clock and ours, which may differ: it can only make us wait for nothing.
            let wall = clock::wall_ms() as f64 / 1000.0;
            let led = leader.elected.map_or(0.0, |elected| (wall - elected).max(0.0));
            let led = Duration::try_from_secs_f64(led).unwrap_or(Duration::MAX);
            // At a first start there is nothing to hold; what an old or unknown election lists is all there is.
            let waits = if is_first { recovers && leader.elected.is_some() } else { true };
            let is_new = led < patiences.recovery.max(patiences.settle) && waits;
            self.settling = is_new.then(|| Settling {
                missing_until: now + patiences.settle,
                recovered_until: now + patiences.recovery.saturating_sub(led).max(patiences.settle),
                is_first,
                return_time: patiences.settle.min(RETURN_TIME),
            });
            if is_new {
                tracing::info!(
                    master = leader.id,
                    "another master leads: what it does not list is held for a while"
                );
            }
        }
        if self.settling.is_none() {
            self.is_resumed = false;
        }
        self.state.is_partial = self.settling.is_some_and(|settling| self.is_resumed || settling.is_first);
        match &self.settling {
            Some(settling) => settling.patience(now),
            None => Patience { recovered: false, missing: false },
        }
    }

    /// Puts the new state in the place of the old, off the runtime's threads: it may be a large cluster.
    async fn rebuild(&mut self, snapshot: Snapshot, patience: Patience) -> Result<Vec<Change>, SourceError> {
        let before = std::mem::take(&mut self.state);
        // If this is dropped on its way, the catalog knows more than we do.
        let was_resumed = std::mem::replace(&mut self.is_resumed, true);
        let resolver = Arc::clone(&self.resolver);
        let built = spawn_blocking(move || {
            let mut state = State::of(snapshot, before, patience);
            let changes = state.list(&*resolver);
            state.names.sweep();
            (state, changes)
        });
        let (state, changes) = unwound(built.await)?;
        (self.state, self.is_resumed) = (state, was_resumed);
        Ok(changes)
    }

    async fn tell_list(
        &mut self,
        received: Received,
        changes: Vec<Change>,
        sink: &Sink,
        now: Instant,
    ) -> Result<(), SourceError> {
        sink.send(received, Change::ListBegin).await?;
        sink.send(received, Change::Fact(Arc::new(ClusterFact::Masters(self.masters.clone())))).await?;
        for change in changes {
            sink.send(received, change).await?;
        }
        self.told_held = self.state.held();
        sink.send(received, Change::Held { instances: self.told_held }).await?;
        let end = match self.settling {
            Some(settling) if self.state.is_partial => Change::ListPartial { synced: !settling.is_first },
            _ => Change::ListComplete,
        };
        sink.send(received, end).await?;
        self.give_up(sink, now).await
    }

    /// Takes in one event. True if the schedulers' addresses should be asked for.
    pub(super) async fn hear(
        &mut self,
        record: &[u8],
        received: Received,
        sink: &Sink,
    ) -> Result<bool, SourceError> {
        let event: wire::Event<'_> = match serde_json::from_slice(record) {
            Ok(event) => event,
            Err(error) => {
                self.state.wants_snapshot = true;
                let message = format!("an event is not understood, all is listed anew: {error}");
                sink.send(received, Change::Problem { place: "/api/v1".into(), message }).await?;
                return Ok(false);
            }
        };
        let mut returned = Vec::new();
        self.state.apply(&event, &mut returned);
        // Nothing is held for agents of a cluster that has settled.
        if let Some(settling) = &self.settling {
            let due = Instant::now() + settling.return_time;
            self.returned.extend(returned.into_iter().map(|agent| (agent, due)));
        }
        let frameworks = event.framework_added.is_some() || event.framework_updated.is_some();
        self.tell(received, sink).await?;
        Ok(frameworks)
    }

    /// Tells what has changed.
    async fn tell(&mut self, received: Received, sink: &Sink) -> Result<(), SourceError> {
        for change in self.state.changes(&*self.resolver) {
            sink.send(received, change).await?;
        }
        if self.told_held != self.state.held() {
            self.told_held = self.state.held();
            sink.send(received, Change::Held { instances: self.told_held }).await?;
        }
        Ok(())
    }

    /// Takes in where schedulers listen.
    pub(super) async fn take_schedulers(
        &mut self,
        told: Vec<snapshot::Framework>,
        sink: &Sink,
    ) -> Result<(), SourceError> {
        self.state.take_pids(told);
        self.tell(Received::now(), sink).await
    }

    /// Tells anew what goes by names, which have been looked up.
    pub(super) async fn retell_names(&mut self, sink: &Sink) -> Result<(), SourceError> {
        self.state.retell_names();
        let masters = self.with_addresses(&self.masters);
        if masters != self.masters {
            self.masters = masters.clone();
            sink.send(Received::now(), Change::Fact(Arc::new(ClusterFact::Masters(masters)))).await?;
        }
        self.tell(Received::now(), sink).await
    }

    /// Names to be looked up.
    pub(super) fn hosts(&self) -> Vec<String> {
        let (mut names, schedulers) = self.state.hosts();
        names.extend(schedulers);
        names.extend(self.masters.leader.iter().chain(&self.masters.listed).map(|at| at.host.to_string()));
        names
    }

    /// Gives up what has been held for long enough. A settled cluster is listed whole.
    pub(super) async fn give_up(&mut self, sink: &Sink, now: Instant) -> Result<(), SourceError> {
        let back = self.returned.extract_if(.., |(_, due)| *due <= now);
        for (agent, _) in back.collect::<Vec<_>>() {
            self.state.release(&agent);
        }
        if let Some(settling) = self.settling {
            let patience = settling.patience(now);
            if !patience.missing {
                self.state.give_up(patience);
            }
            if !patience.missing && (!patience.recovered || !self.state.has_recovered()) {
                return self.settled(sink, now).await;
            }
        }
        self.tell(Received::now(), sink).await
    }

    async fn settled(&mut self, sink: &Sink, now: Instant) -> Result<(), SourceError> {
        self.settling = None;
        self.is_resumed = false;
        tracing::info!(master = self.master, "the cluster has settled");
        if std::mem::take(&mut self.state.is_partial) {
            let changes = self.state.list(&*self.resolver);
            return Box::pin(self.tell_list(Received::now(), changes, sink, now)).await;
        }
        self.tell(Received::now(), sink).await
    }

    /// When [`give_up`](Self::give_up) has something to do next.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let returned = self.returned.iter().map(|(_, due)| *due).min();
        let settling = self.settling.map(|settling| {
            let (missing, recovered) = (settling.missing_until, settling.recovered_until);
            // What the registry holds may all have come back by any event.
            if now < missing { missing } else { recovered.min(now + settling.return_time) }
        });
        returned.into_iter().chain(settling).min()
    }

    /// True, once, if only a snapshot can complete what was heard.
    pub(super) fn takes_want(&mut self) -> bool {
        std::mem::take(&mut self.state.wants_snapshot)
    }

    fn name_masters(&self, leader: Option<&(String, u16)>, listed: &[(String, u16)]) -> Masters {
        let contact = |(host, port): &(String, u16)| Contact {
            host: host.as_str().into(),
            addresses: Default::default(),
            port: *port,
        };
        let masters = Masters { leader: leader.map(contact), listed: listed.iter().map(contact).collect() };
        self.with_addresses(&masters)
    }

    fn with_addresses(&self, masters: &Masters) -> Masters {
        let resolve = |at: &Contact| Contact {
            addresses: match at.host.parse() {
                Ok(ip) => [ip].into_iter().collect(),
                Err(_) => self.resolver.addresses(&at.host),
            },
            ..at.clone()
        };
        Masters {
            leader: masters.leader.as_ref().map(resolve),
            listed: masters.listed.iter().map(resolve).collect(),
        }
    }
}

fn told_leader(snapshot: &Snapshot) -> Option<(String, u16)> {
    let (host, port) = snapshot::listens_at(snapshot.leader.as_deref()?)?;
    Some((host.to_string(), port))
}

/// What a task gave; a panic in it goes on here, and a task that was stopped means that all is stopping.
pub(super) fn unwound<T>(joined: Result<T, JoinError>) -> Result<T, SourceError> {
    match joined {
        Ok(value) => Ok(value),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(SourceError::Stopping),
        },
    }
}
