//! One session with the master that leads: its stream, or, where it offers none, its state again and again.

use std::time::{Duration, Instant as Received};

use bytes::Bytes;
use http::StatusCode;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::Mesos;
use super::api::{Api, CLUSTER_LEN_MAX, Leader, Stream, jittered};
use super::cluster::{Cluster, Document, NAMES_AGAIN, Patiences, unwound};
use super::recordio::Records;
use super::snapshot::Framework;
use super::wire::{self, text};
use crate::http::Body;
use crate::source::{Change, Sink, SourceError};

/// This many missed heartbeats mean that the stream is dead.
const HEARTBEATS_MISSED: f64 = 3.0;
/// Masters before 1.5 send none: then the next full list shows whether it lives.
const IDLE_MAX: Duration = Duration::from_secs(15 * 60);
/// [`Change::Alive`] is told no more often.
const ALIVE_PAUSE: Duration = Duration::from_secs(5);
/// Snapshots that events make necessary come no closer than this.
const SNAPSHOT_PAUSE: Duration = Duration::from_secs(30);
/// Framework events are gathered for so long before schedulers' addresses are asked for.
const SCHEDULERS_PAUSE: Duration = Duration::from_millis(200);
/// A master that offers no stream is asked for it again after so many polls.
const POLLS_PER_SUBSCRIPTION: u32 = 20;

/// The session on a stream.
struct Follower<'f> {
    api: Api,
    sink: &'f Sink,
    cluster: &'f mut Cluster,
    patiences: Patiences,
    refresh: Duration,
    timeout: Duration,
    listed: Vec<(String, u16)>,
    /// No sign of life for this long: the stream is dead.
    idle: Duration,
    tasks: JoinSet<Answered>,
    told_alive: Instant,
    last_snapshot: Instant,
    refresh_due: Instant,
    names_due: Instant,
    schedulers_due: Option<Instant>,
}

/// What a task beside the stream brought.
enum Answered {
    Schedulers(Result<Vec<Framework>, SourceError>),
    Names,
    Subscription(Result<Stream, SourceError>),
}

/// A stream and what is left of its records.
struct Reader {
    api: Api,
    body: Body,
    records: Records,
}

enum Step {
    Chunk(Result<Option<Bytes>, SourceError>),
    Next(Result<Option<Bytes>, SourceError>),
    Answered(Answered),
    Time,
}

/// Follows the stream `body` of `api` until it breaks; says what.
pub(super) async fn follow(
    mesos: &mut Mesos,
    api: Api,
    body: Body,
    listed: Vec<(String, u16)>,
    sink: &Sink,
) -> SourceError {
    let now = Instant::now();
    let mut follower = Follower {
        sink,
        cluster: &mut mesos.cluster,
        patiences: mesos.patiences,
        refresh: mesos.refresh,
        timeout: mesos.timeout,
        listed,
        idle: mesos.timeout,
        tasks: JoinSet::new(),
        told_alive: now,
        last_snapshot: now,
        refresh_due: now + jittered(mesos.refresh),
        names_due: now,
        schedulers_due: None,
        api: api.clone(),
    };
    match follower.run(Reader::new(api, body)).await {
        Ok(()) => SourceError::Ended { place: follower.api.base.to_string() },
        Err(error) => error,
    }
}

impl Reader {
    fn new(api: Api, body: Body) -> Self {
        Self { api, body, records: Records::new(CLUSTER_LEN_MAX) }
    }
}

impl Follower<'_> {
    async fn run(&mut self, first: Reader) -> Result<(), SourceError> {
        let mut reader = first;
        let record = loop {
            let chunk = reader.body.stream_chunk(self.timeout).await?;
            let Some(chunk) = chunk else { return Ok(()) };
            reader.records.push(&chunk);
            if let Some(record) = self.subscribed(&mut reader)? {
                break record;
            }
        };
        // A master that does not tell who it is leads all the same: it gave the stream.
        let leader = self.api.leader().await.unwrap_or_default();
        self.take(record, leader).await?;
        let mut next: Option<Reader> = None;
        let mut heard = Instant::now();
        loop {
            self.read(&mut reader).await?;
            self.plan(next.is_some());
            let timer = self.next_time();
            let idle = self.idle.saturating_sub(heard.elapsed());
            // All arms are cancel-safe: a chunk or an answer that is not taken stays where it is.
            let step = tokio::select! {
                chunk = reader.body.stream_chunk(idle) => Step::Chunk(chunk),
                chunk = next_chunk(&mut next, self.timeout) => Step::Next(chunk),
                Some(answered) = self.tasks.join_next() => Step::Answered(unwound(answered)?),
                () = sleep_until(timer) => Step::Time,
            };
            match step {
                Step::Chunk(Ok(Some(chunk))) => {
                    heard = Instant::now();
                    reader.records.push(&chunk);
                }
                Step::Chunk(Ok(None)) => return Ok(()),
                Step::Chunk(Err(SourceError::Idle { place, .. })) => {
                    return Err(SourceError::Idle { place, seconds: self.idle.as_secs() });
                }
                Step::Chunk(Err(error)) => return Err(error),
                Step::Next(chunk) => {
                    if let Some(new) = self.take_next(chunk, &mut next).await? {
                        (reader, heard) = (new, Instant::now());
                    }
                }
                Step::Answered(Answered::Subscription(stream)) => next = self.second(stream),
                Step::Answered(answered) => self.answered(answered).await?,
                Step::Time => self.cluster.give_up(self.sink, Instant::now()).await?,
            }
        }
    }

    /// The first record of a stream, once it is there. Mesos 1.5.0 may send a heartbeat before it.
    fn subscribed(&self, reader: &mut Reader) -> Result<Option<Bytes>, SourceError> {
        while let Some(record) = reader.records.next().map_err(|message| self.malformed(message))? {
            let begin = &record[..record.len().min(64)];
            if !begin.windows(11).any(|window| window == b"\"HEARTBEAT\"") {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    async fn take(&mut self, record: Bytes, leader: Leader) -> Result<(), SourceError> {
        let place = self.api.base.url("/api/v1").to_string();
        let document = Document::Subscribed(record);
        let heartbeat =
            self.cluster.take(document, leader, &self.listed, self.patiences, self.sink, &place).await?;
        let heartbeat = heartbeat.filter(|seconds| seconds.is_finite() && *seconds > 0.0);
        let idle =
            heartbeat.and_then(|seconds| Duration::try_from_secs_f64(seconds * HEARTBEATS_MISSED).ok());
        self.idle = idle.unwrap_or(IDLE_MAX).min(IDLE_MAX);
        let now = Instant::now();
        (self.last_snapshot, self.told_alive) = (now, now);
        self.refresh_due = now + jittered(self.refresh);
        self.names_due = now;
        self.schedulers_due = Some(now);
        Ok(())
    }

    /// Takes in the records that have arrived.
    async fn read(&mut self, reader: &mut Reader) -> Result<(), SourceError> {
        let received = Received::now();
        let mut any = false;
        while let Some(record) = reader.records.next().map_err(|message| self.malformed(message))? {
            any = true;
            if self.cluster.hear(&record, received, self.sink).await? {
                self.schedulers_due.get_or_insert(Instant::now() + SCHEDULERS_PAUSE);
            }
        }
        if any && self.told_alive.elapsed() >= ALIVE_PAUSE {
            self.told_alive = Instant::now();
            self.sink.send(received, Change::Alive).await?;
        }
        Ok(())
    }

    /// Starts what it is time for.
    fn plan(&mut self, is_renewing: bool) {
        let now = Instant::now();
        if self.cluster.takes_want() {
            self.refresh_due = self.refresh_due.min(self.last_snapshot + SNAPSHOT_PAUSE);
        }
        if now >= self.refresh_due && !is_renewing {
            // A whole list beside the stream would not tell which events it knows already; another stream does.
            self.refresh_due = now + jittered(self.refresh);
            let api = self.api.clone();
            self.tasks.spawn(async move { Answered::Subscription(api.subscribe().await) });
        }
        if self.schedulers_due.is_some_and(|due| now >= due) {
            self.schedulers_due = None;
            let api = self.api.clone();
            self.tasks.spawn(async move { Answered::Schedulers(api.schedulers().await) });
        }
        if now >= self.names_due {
            self.look_up();
        }
    }

    /// The stream that is to take the place of this one. Without one, this one goes on.
    fn second(&self, stream: Result<Stream, SourceError>) -> Option<Reader> {
        match stream {
            Ok(Stream::Open(api, body)) => Some(Reader::new(api, body)),
            Ok(Stream::Refused(_, status)) => {
                tracing::debug!(%status, "no second stream");
                None
            }
            Err(error) => {
                tracing::debug!(%error, "no second stream");
                None
            }
        }
    }

    fn look_up(&mut self) {
        self.names_due = Instant::now() + NAMES_AGAIN;
        let (resolver, names) = (std::sync::Arc::clone(&self.cluster.resolver), self.cluster.hosts());
        self.tasks.spawn(async move {
            resolver.prepare(names).await;
            Answered::Names
        });
    }

    fn next_time(&self) -> Instant {
        let now = Instant::now();
        let due = self.cluster.next_due(now).into_iter().chain(self.schedulers_due);
        due.fold(self.refresh_due.min(self.names_due), Instant::min)
    }

    /// A chunk of the stream that is to take the place of this one: it does as soon as its snapshot is there. If it
    /// fails before, nothing is lost.
    async fn take_next(
        &mut self,
        chunk: Result<Option<Bytes>, SourceError>,
        next: &mut Option<Reader>,
    ) -> Result<Option<Reader>, SourceError> {
        let (Some(mut reader), Ok(Some(chunk))) = (next.take(), chunk) else { return Ok(None) };
        reader.records.push(&chunk);
        match self.subscribed(&mut reader)? {
            None => {
                *next = Some(reader);
                Ok(None)
            }
            Some(record) => {
                // By now another master may lead, and have it.
                self.api = reader.api.clone();
                let leader = self.api.leader().await.unwrap_or_default();
                self.take(record, leader).await?;
                Ok(Some(reader))
            }
        }
    }

    async fn answered(&mut self, answered: Answered) -> Result<(), SourceError> {
        match answered {
            Answered::Schedulers(Ok(told)) => {
                self.cluster.take_schedulers(told, self.sink).await?;
                self.look_up();
                Ok(())
            }
            Answered::Schedulers(Err(error)) => {
                let message = format!("addresses of framework schedulers are not known: {error}");
                self.sink.send(Received::now(), Change::Problem { place: "frameworks".into(), message }).await
            }
            Answered::Names => self.cluster.retell_names(self.sink).await,
            Answered::Subscription(_) => Ok(()),
        }
    }

    fn malformed(&self, message: String) -> SourceError {
        super::api::malformed(&self.api.base.url("/api/v1"), message)
    }
}

async fn next_chunk(next: &mut Option<Reader>, idle: Duration) -> Result<Option<Bytes>, SourceError> {
    match next {
        Some(reader) => reader.body.stream_chunk(idle).await,
        None => core::future::pending().await,
    }
}

/// Polls `/state` of `api`, which refused the stream with `status`, until that fails or a stream is worth another try.
pub(super) async fn poll(
    mesos: &mut Mesos,
    api: Api,
    status: Option<StatusCode>,
    listed: Vec<(String, u16)>,
    sink: &Sink,
) -> SourceError {
    tracing::info!(master = %api.base, ?status, every = ?mesos.poll, "no event stream: polling the state");
    match poll_on(mesos, &api, &listed, sink).await {
        Ok(()) => SourceError::Ended { place: api.base.to_string() },
        Err(error) => error,
    }
}

async fn poll_on(
    mesos: &mut Mesos,
    api: &Api,
    listed: &[(String, u16)],
    sink: &Sink,
) -> Result<(), SourceError> {
    let mut polls = 0;
    loop {
        let (from, document) = leading_state(api).await?;
        let place = from.base.url("/state").to_string();
        let document = Document::State(document);
        mesos.cluster.take(document, Leader::default(), listed, mesos.patiences, sink, &place).await?;
        polls += 1;
        if polls >= POLLS_PER_SUBSCRIPTION && matches!(api.subscribe().await, Ok(Stream::Open(..))) {
            return Ok(());
        }
        polls %= POLLS_PER_SUBSCRIPTION;
        let due = Instant::now() + jittered(mesos.poll);
        mesos.cluster.resolver.prepare(mesos.cluster.hosts()).await;
        mesos.cluster.retell_names(sink).await?;
        while Instant::now() < due {
            let next = mesos.cluster.next_due(Instant::now()).map_or(due, |next| next.min(due));
            sleep_until(next).await;
            mesos.cluster.give_up(sink, Instant::now()).await?;
        }
    }
}

/// The state as the leader tells it. Old masters answer for themselves without leading, and name the leader inside; one
/// that cannot be reached leaves what there is.
async fn leading_state(api: &Api) -> Result<(Api, Vec<u8>), SourceError> {
    let (from, document) = api.state().await?;
    let elsewhere = {
        let head: Result<wire::Answering<'_>, _> = serde_json::from_slice(&document);
        head.ok().and_then(|head| {
            let (own, leader) = (text(&head.pid)?, text(&head.leader)?);
            (own != leader).then(|| super::snapshot::listens_at(leader))?
        })
    };
    let Some((host, port)) = elsewhere else { return Ok((from, document)) };
    let leader = Api { client: std::sync::Arc::clone(&from.client), base: from.base.with_host(&host, port) };
    match leader.state().await {
        Ok(told) => Ok(told),
        Err(error) => {
            tracing::debug!(%error, "the leader that a master names is not reached; its own state is taken");
            Ok((from, document))
        }
    }
}
