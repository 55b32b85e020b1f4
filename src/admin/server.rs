//! The admin HTTP server: accepts, bounds, and hands requests to the API.
//!
//! Three limits keep it small and in reach whatever clients do: on connections ([`Crowd`]), on answers that are
//! composed at once, and on the octets of answers that wait for their clients. Where a limit is hit, those go who
//! have had their turn for longest.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::access::Refusal;
use super::bind::Bound;
use super::crowd::{Crowd, Seat};
use super::reply::{Body, Reply, is_api, refused, text};
use super::{State, api, mesos_dns};

/// Connections open at once per admin listener. Scrapers and people; more take the places of the idle.
const CONNECTIONS_MAX: usize = 256;
/// Answers composed at once per lane. A whole table of 100,000 endpoints takes some tenths of a second, off
/// the runtime's threads: those apply what schedulers say.
const READS_MAX: usize = 2;
/// KiB of answers that wait for their clients per lane. An answer larger than that has all the room for itself.
const ROOM_KIB: u32 = 64 * 1024;
/// How long an answer waits for room before the oldest that is on its way gives up its own.
const ROOM_PATIENCE: Duration = Duration::from_millis(100);
/// What the HTTP library may buffer of an answer beyond the answer itself, and of a request head.
const BUFFER_MAX: usize = 64 * 1024;
/// From accept to the end of the first request head, and between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// From a request to the last octet of its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How often slow answers are looked for.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What a listener shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// Everything.
    All,
    /// Everything, and Mesos-DNS's API of the zone of this name.
    MesosDns(Arc<str>),
    /// `/metrics`, `/healthz` and `/readyz` alone.
    Metrics,
}

/// One listener at work.
struct Desk {
    state: Arc<State>,
    endpoint: Endpoint,
    /// Callers have shown who they are by getting here.
    trusted: bool,
    crowd: Arc<Crowd>,
    /// Scrapers do not queue behind those who read large tables.
    metrics: Lane,
    api: Lane,
}

/// The limits of one kind of answers.
struct Lane {
    reads: Arc<Semaphore>,
    room: Arc<Semaphore>,
}

/// Serves until `stop`, then finishes the requests in progress.
pub(crate) async fn serve(bound: Bound, endpoint: Endpoint, state: Arc<State>, stop: CancellationToken) {
    let desk = Arc::new(Desk {
        endpoint,
        trusted: matches!(bound, Bound::Unix(..)),
        crowd: Crowd::new(CONNECTIONS_MAX, state.cuts.clone()),
        metrics: Lane::new(),
        api: Lane::new(),
        state,
    });
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    loop {
        // Cancel-safe: accept loses no connection, join_next no result, tick no tick that matters.
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = bound.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = look.tick() => {
                desk.crowd.cut_slow(ANSWER_TIMEOUT, Instant::now());
                continue;
            }
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "admin listener cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let seat = Arc::new(desk.crowd.enter(Instant::now()));
        let (answering, asking) = (Arc::clone(&desk), Arc::clone(&seat));
        let service = service_fn(move |request| {
            let (desk, seat) = (Arc::clone(&answering), Arc::clone(&asking));
            async move { Ok::<_, Infallible>(desk.respond(seat, &request).await) }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(BUFFER_MAX);
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service));
        connections.spawn(async move {
            // Whoever is cut is dropped with its answer.
            tokio::select! {
                () = seat.cut() => tracing::debug!("admin connection cut"),
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, "admin connection ended");
                }
            }
        });
    }
    let _ = tokio::time::timeout(Duration::from_secs(2), graceful.shutdown()).await;
}

impl Desk {
    async fn respond(&self, seat: Arc<Seat>, request: &Request<Incoming>) -> Response<Body> {
        seat.ask(Instant::now());
        let (reply, room) = self.reply(request).await;
        seat.send();
        let (head, octets) = reply.into_parts();
        Response::from_parts(head, Body::new(octets, seat, room))
    }

    async fn reply(&self, request: &Request<Incoming>) -> (Reply, Option<OwnedSemaphorePermit>) {
        let path = request.uri().path();
        if let Endpoint::MesosDns(zone) = &self.endpoint
            && mesos_dns::is_asked(path)
        {
            return self.read_zone(zone, request).await;
        }
        if let Some(refusal) = self.refusal(request) {
            return (refusal, None);
        }
        if *request.method() == Method::POST {
            return (api::command(&self.state, path), None);
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            return (self.refuse(path, status, "GET and HEAD read, POST commands"), None);
        }
        let query = request.uri().query().unwrap_or_default();
        if matches!(path, "/healthz" | "/readyz") {
            return (api::read(&self.state, path, query), None);
        }
        self.read(path, query).await
    }

    /// Why the caller may not ask for this here at all.
    fn refusal(&self, request: &Request<Incoming>) -> Option<Reply> {
        let path = request.uri().path();
        if !self.trusted {
            let access = self.state.access.load();
            if let Err(refusal) = access.check(request.method(), request.uri(), request.headers()) {
                return Some(self.refuse(path, status(refusal), reason(refusal)));
            }
        }
        let hidden =
            self.endpoint == Endpoint::Metrics && !matches!(path, "/metrics" | "/healthz" | "/readyz");
        hidden.then(|| {
            let shown = "this listener shows /metrics, /healthz and /readyz";
            self.refuse(path, StatusCode::NOT_FOUND, shown)
        })
    }

    /// Mesos-DNS's API. By whatever name a client finds it, it is answered: so it was with the program, and what is
    /// read is no secret in the cluster.
    async fn read_zone(
        &self,
        zone: &Arc<str>,
        request: &Request<Incoming>,
    ) -> (Reply, Option<OwnedSemaphorePermit>) {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return (text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed"), None);
        }
        let (state, zone) = (Arc::clone(&self.state), Arc::clone(zone));
        let (path, takes_json) = (request.uri().path().to_owned(), mesos_dns::takes_json(request.headers()));
        self.compose(&self.api, request.uri().path(), move || {
            mesos_dns::read(&state, &zone, &path, takes_json)
        })
        .await
    }

    async fn read(&self, path: &str, query: &str) -> (Reply, Option<OwnedSemaphorePermit>) {
        let (state, asked, query) = (Arc::clone(&self.state), path.to_owned(), query.to_owned());
        let lane = if path == "/metrics" { &self.metrics } else { &self.api };
        self.compose(lane, path, move || api::read(&state, &asked, &query)).await
    }

    /// Composes an answer off the runtime's threads, and finds room for it.
    async fn compose(
        &self,
        lane: &Lane,
        path: &str,
        read: impl FnOnce() -> Reply + Send + 'static,
    ) -> (Reply, Option<OwnedSemaphorePermit>) {
        // Never closed; and without a permit the answer would still be right. It goes along into the work, which
        // goes on when the client has left.
        let permit = Arc::clone(&lane.reads).acquire_owned().await;
        let work = tokio::task::spawn_blocking(move || (read(), permit));
        match work.await {
            // The permit is given back only when the answer has its room: no more answers than that wait for it.
            Ok((reply, _permit)) => {
                let room = lane.room_for(reply.body(), &self.crowd).await;
                (reply, room)
            }
            Err(error) => {
                tracing::error!(%error, "an admin answer failed");
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                (self.refuse(path, status, "the answer failed; see the log"), None)
            }
        }
    }

    fn refuse(&self, path: &str, status: StatusCode, why: &'static str) -> Reply {
        if is_api(path) {
            return refused(status, self.state.table.load().generation(), why);
        }
        text(status, format!("{why}\n"))
    }
}

impl Lane {
    fn new() -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self { reads: semaphore(READS_MAX), room: semaphore(ROOM_KIB as usize) }
    }

    /// Waits until the octets fit in beside those that wait for other clients, at the expense of the slowest.
    async fn room_for(&self, octets: &Bytes, crowd: &Crowd) -> Option<OwnedSemaphorePermit> {
        let wanted = u32::try_from(octets.len() / 1024 + 1).unwrap_or(u32::MAX).min(ROOM_KIB);
        loop {
            let room = Arc::clone(&self.room).acquire_many_owned(wanted);
            match tokio::time::timeout(ROOM_PATIENCE, room).await {
                Ok(room) => return room.ok(),
                Err(_) => crowd.cut_for_room(),
            }
        }
    }
}

const fn status(refusal: Refusal) -> StatusCode {
    match refusal {
        Refusal::Host => StatusCode::MISDIRECTED_REQUEST,
        Refusal::Token => StatusCode::FORBIDDEN,
    }
}

const fn reason(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Host => {
            "this Host is not known here; use an address, localhost, the node's name, or add it to [admin] allowed_hosts"
        }
        Refusal::Token => {
            "changes need the Unix socket or 'Authorization: Bearer' with the token of [admin] token_file"
        }
    }
}
