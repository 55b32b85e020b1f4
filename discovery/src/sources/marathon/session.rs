//! One session on an open stream: the loop that lists, listens, reads and tells.

use portolan_table::SharedStr;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant as Received};

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use super::Marathon;
use super::api::{Api, Listed, jittered};
use super::counts::{Before, Counts};
use super::known::Moment;
use super::reads::{Done, Target};
use super::replay::{Heard, Replay, asks_for_a_read};
use super::sse::{Item, Parser};
use super::state::State;
use super::wire;
use crate::http::Body;
use crate::source::{Change, Sink, SourceError};

/// Largest event. Plans in the full form of old Marathons hold whole groups.
const EVENT_LEN_MAX: usize = 16 * 1024 * 1024;
/// Apps on their way from the list to the loop.
const LISTED_MAX: usize = 64;
/// [`Change::Alive`] is told no more often.
const ALIVE_PAUSE: Duration = Duration::from_secs(5);
/// Full lists that events make necessary come no closer than this.
const LIST_PAUSE: Duration = Duration::from_secs(30);
/// An empty list after one that was not is asked for again after this.
const CONFIRM_AFTER: Duration = Duration::from_millis(1500);
/// Failed reads in a row that end the session.
const FAILURES_MAX: u32 = 3;
/// The first repetition of a failed read; doubles.
const READ_AGAIN: Duration = Duration::from_millis(500);
/// It doubles no more often.
const DOUBLINGS_MAX: u32 = 6;

struct Follower<'f> {
    api: Arc<Api>,
    sink: &'f Sink,
    state: State,
    parser: Parser,
    stream_idle: Duration,
    refresh: Duration,
    before: &'f mut Before,
    tasks: JoinSet<Answered>,
    list: Option<List>,
    synced: bool,
    failures: u32,
    heard: Instant,
    told_alive: Instant,
    last_list: Instant,
    refresh_due: Instant,
}

/// A full list on its way.
struct List {
    items: mpsc::Receiver<Listed>,
    result: oneshot::Receiver<Result<Counts, SourceError>>,
    /// Ends the task with this value.
    task: JoinSet<()>,
    replay: Replay,
    /// It is the second look at an empty cluster.
    confirming: bool,
}

struct Answered {
    target: Target,
    outcome: Result<Outcome, SourceError>,
}

enum Outcome {
    One(Option<Listed>),
    Group(Vec<Listed>),
}

enum Step {
    Chunk(Result<Option<bytes::Bytes>, SourceError>),
    Listed(Option<Listed>),
    Answered(Answered),
    Time,
}

/// Lists and follows until something breaks; says what.
pub(super) async fn follow(marathon: &mut Marathon, api: Api, mut stream: Body, sink: &Sink) -> SourceError {
    let now = Instant::now();
    let mut follower = Follower {
        api: Arc::new(api),
        sink,
        state: State::new(),
        parser: Parser::new(EVENT_LEN_MAX),
        stream_idle: marathon.stream_idle,
        refresh: marathon.refresh,
        before: &mut marathon.before,
        tasks: JoinSet::new(),
        list: None,
        synced: false,
        failures: 0,
        heard: now,
        told_alive: now,
        last_list: now,
        refresh_due: now,
    };
    match follower.run(&mut stream).await {
        Ok(()) => SourceError::Ended { place: follower.api.base.to_string() },
        Err(error) => error,
    }
}

impl Follower<'_> {
    async fn run(&mut self, stream: &mut Body) -> Result<(), SourceError> {
        self.begin_list(Duration::ZERO, Replay::default()).await?;
        loop {
            self.start_reads();
            let timer = self.next_time();
            let idle = self.stream_idle.saturating_sub(self.heard.elapsed());
            // All arms are cancel-safe: a chunk, an item or an answer that is not taken stays where it is.
            let step = tokio::select! {
                chunk = stream.stream_chunk(idle) => Step::Chunk(chunk),
                listed = next_listed(&mut self.list) => Step::Listed(listed),
                Some(answered) = self.tasks.join_next() => Step::Answered(unwound(answered)?),
                () = sleep_until(timer) => Step::Time,
            };
            match step {
                Step::Chunk(Ok(Some(chunk))) => self.chunk(&chunk).await?,
                Step::Chunk(Ok(None)) => return Ok(()),
                Step::Chunk(Err(SourceError::Idle { place, .. })) => {
                    return Err(SourceError::Idle { place, seconds: self.stream_idle.as_secs() });
                }
                Step::Chunk(Err(error)) => return Err(error),
                Step::Listed(Some(listed)) => {
                    let changes = self.state.take_listed(listed, Instant::now());
                    self.tell(Received::now(), changes).await?;
                }
                Step::Listed(None) => self.end_list().await?,
                Step::Answered(answered) => self.answered(answered).await?,
                Step::Time => {}
            }
            self.plan().await?;
        }
    }

    /// Starts a full list when it is time for one.
    async fn plan(&mut self) -> Result<(), SourceError> {
        let now = Instant::now();
        self.state.groups_due(now);
        self.state.list_wanted |=
            self.state.reads.overflow || core::mem::take(&mut self.state.words.overflow);
        let wanted = self.state.list_wanted && now >= self.last_list + LIST_PAUSE;
        if self.list.is_none() && (wanted || now >= self.refresh_due) {
            self.begin_list(Duration::ZERO, Replay::default()).await?;
        }
        Ok(())
    }

    /// When there is something to do even if nothing arrives.
    fn next_time(&mut self) -> Instant {
        let now = Instant::now();
        let mut next = self.state.groups_due(now).unwrap_or(now + LIST_PAUSE);
        if self.list.is_none() {
            next = next.min(self.refresh_due);
            if self.state.list_wanted || self.state.reads.overflow {
                next = next.min(self.last_list + LIST_PAUSE);
            }
        }
        self.state.reads.next_due().map_or(next, |due| next.min(due))
    }

    async fn begin_list(&mut self, pause: Duration, replay: Replay) -> Result<(), SourceError> {
        self.sink.send(Received::now(), Change::ListBegin).await?;
        self.state.list_begins(Instant::now());
        self.list = Some(self.list_after(pause, replay));
        Ok(())
    }

    fn list_after(&self, pause: Duration, replay: Replay) -> List {
        let (send, items) = mpsc::channel(LISTED_MAX);
        let (tell, result) = oneshot::channel();
        let api = Arc::clone(&self.api);
        let mut task = JoinSet::new();
        task.spawn(async move {
            sleep(pause).await;
            let listed = api.list(&send).await;
            // Nobody waits for it any more: the session has ended.
            let _ = tell.send(listed);
        });
        List { items, result, task, replay, confirming: pause > Duration::ZERO }
    }

    /// The list has given all it has: whole or cut off.
    async fn end_list(&mut self) -> Result<(), SourceError> {
        let Some(mut list) = self.list.take() else { return Ok(()) };
        let counts = match (&mut list.result).await {
            Ok(counts) => counts?,
            Err(_) => match list.task.join_next().await {
                Some(ended) => return unwound(ended),
                None => return Err(SourceError::Stopping),
            },
        };
        if self.before.doubts(&counts) && !list.confirming {
            tracing::warn!(member = %self.api.base, ?counts, "empty list after one that was not: asking again");
            self.begin_list(jittered(CONFIRM_AFTER), list.replay).await?;
            return Ok(());
        }
        let now = Instant::now();
        let end = self.state.list_ends(now);
        self.tell(Received::now(), vec![end]).await?;
        self.before.note(&counts);
        self.synced = true;
        (self.last_list, self.told_alive) = (now, now);
        self.refresh_due = now + jittered(self.refresh);
        self.state.list_wanted |= list.replay.overflow;
        self.api.shared.names.sweep();
        for heard in list.replay.into_events() {
            self.apply(&heard).await?;
        }
        Ok(())
    }

    async fn chunk(&mut self, chunk: &[u8]) -> Result<(), SourceError> {
        let received = Received::now();
        self.heard = Instant::now();
        self.parser.push(chunk);
        while let Some(item) = self.parser.next() {
            match item {
                Item::Heartbeat => {}
                Item::Oversize => {
                    self.state.list_wanted = true;
                    let message =
                        format!("an event above {EVENT_LEN_MAX} octets was left out; all is listed anew");
                    let place: SharedStr = "/v2/events".into();
                    self.tell(received, vec![Change::Problem { place, message }]).await?;
                }
                Item::Event { name, data } => self.heard(Heard { received, name, data }).await?,
            }
        }
        if self.synced && self.told_alive.elapsed() >= ALIVE_PAUSE {
            self.told_alive = Instant::now();
            self.tell(received, vec![Change::Alive]).await?;
        }
        Ok(())
    }

    /// Takes an event. During a list it is applied now, in the first list only if it concerns something known (what
    /// is not listed yet would be read one by one), and after the list again.
    async fn heard(&mut self, heard: Heard) -> Result<(), SourceError> {
        if self.list.is_none() {
            return self.apply(&heard).await;
        }
        let concerns = || serde_json::from_slice(&heard.data).is_ok_and(|event| self.state.concerns(&event));
        if self.synced || concerns() {
            self.apply(&heard).await?;
        }
        // Once synced, what the event asks for is read beside the list.
        if let Some(list) = self.list.as_mut().filter(|_| !self.synced || !asks_for_a_read(&heard.name)) {
            list.replay.keep(heard);
        }
        Ok(())
    }

    async fn apply(&mut self, heard: &Heard) -> Result<(), SourceError> {
        // Very old Marathons put several documents into one event.
        let documents = serde_json::Deserializer::from_slice(&heard.data).into_iter::<wire::Event<'_>>();
        let mut changes = Vec::new();
        for event in documents {
            let at = Moment {
                now: Instant::now(),
                received: heard.received,
                hosts: &self.api.shared.resolver,
                names: &self.api.shared.names,
            };
            match event {
                Ok(event) => changes.extend(self.state.event(&heard.name, &event, &at)),
                Err(error) => {
                    let message = format!("an event of type {:?} is left out: {error}", heard.name);
                    changes.push(Change::Problem { place: "/v2/events".into(), message });
                    // What it was about is not known.
                    self.state.list_wanted = true;
                    break;
                }
            }
        }
        self.tell(heard.received, changes).await
    }

    fn start_reads(&mut self) {
        while let Some(target) = self.state.reads.start(Instant::now()) {
            let api = Arc::clone(&self.api);
            let kind = match &target {
                Target::Service(id) => self.state.kind(id),
                Target::Group(_) => None,
            };
            self.tasks.spawn(async move {
                let outcome = match &target {
                    Target::Service(id) => api.one(id, kind).await.map(Outcome::One),
                    Target::Group(id) => read_group(&api, id).await.map(Outcome::Group),
                };
                Answered { target, outcome }
            });
        }
    }

    async fn answered(&mut self, Answered { target, outcome }: Answered) -> Result<(), SourceError> {
        let now = Instant::now();
        let Done { cause, superseded } = self.state.reads.done(&target, now);
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => return self.read_failed(target, cause, error),
        };
        self.failures = 0;
        if superseded {
            // A list was asked for later and tells the same or more.
            return Ok(());
        }
        let mut changes = Vec::new();
        match (outcome, &target) {
            (Outcome::One(Some(listed)), _) => changes = self.state.take_read(listed, now),
            (Outcome::One(None), Target::Service(id) | Target::Group(id)) => {
                changes = self.state.absent(id, now);
            }
            (Outcome::Group(listed), Target::Service(id) | Target::Group(id)) => {
                let found: Option<HashSet<SharedStr>> = listed.iter().map(Listed::key).collect();
                changes.extend(listed.into_iter().flat_map(|listed| self.state.take_read(listed, now)));
                // With a nameless one among them, what is gone is not known.
                changes.extend(found.into_iter().flat_map(|found| self.state.group_read(id, &found)));
            }
        }
        self.tell(cause.unwrap_or_else(Received::now), changes).await
    }

    /// Asks again a little later, and gives the session up when that doesn't help. Not during a list: a member that
    /// is slow to give it would never come to its end.
    fn read_failed(
        &mut self,
        target: Target,
        cause: Option<Received>,
        error: SourceError,
    ) -> Result<(), SourceError> {
        self.failures += 1;
        let hopeless = matches!(error, SourceError::Status { status: 401, .. } | SourceError::Stopping);
        if hopeless || (self.failures >= FAILURES_MAX && self.list.is_none()) {
            return Err(error);
        }
        tracing::debug!(%error, ?target, "read failed, to be repeated");
        let pause = READ_AGAIN * 2u32.pow(self.failures.saturating_sub(1).min(DOUBLINGS_MAX));
        self.state.reads.want(target, Instant::now() + jittered(pause), cause);
        Ok(())
    }

    async fn tell(&self, received: Received, changes: Vec<Change>) -> Result<(), SourceError> {
        for change in changes {
            self.sink.send(received, change).await?;
        }
        Ok(())
    }
}

/// What a task has given. A panic goes on here, so that the supervisor reports it and starts the source anew.
fn unwound<T>(ended: Result<T, JoinError>) -> Result<T, SourceError> {
    ended.map_err(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => SourceError::Stopping,
    })
}

/// The next app of the list; `None` at its end. Waits for ever without a list.
async fn next_listed(list: &mut Option<List>) -> Option<Listed> {
    match list {
        Some(list) => list.items.recv().await,
        None => core::future::pending().await,
    }
}

async fn read_group(api: &Api, id: &str) -> Result<Vec<Listed>, SourceError> {
    let (send, mut items) = mpsc::channel(LISTED_MAX);
    let reading = async {
        let send = send;
        api.group(id, &send).await
    };
    let collecting = async {
        let mut all = Vec::new();
        while let Some(listed) = items.recv().await {
            all.push(listed);
        }
        all
    };
    let (count, all) = tokio::join!(reading, collecting);
    count.map(|_| all)
}
