//! What is asked of Marathon: its stream, its lists, single apps and pods.

use portolan_table::SharedStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{StatusCode, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::convert::{self, Context, Converted, Interned};
use super::counts::Counts;
use super::elements::{Elements, Place};
use super::pod::{self, Older};
use super::wire::{self, text};
use crate::hosts::Resolver;
use crate::http::{Answer, Base, Body, Client, Url, refused};
use crate::source::SourceError;

const JSON: &str = "application/json";
const APPS: &str = "/v2/apps?embed=apps.tasks&embed=apps.readiness";
const PODS: &str = "/v2/pods/::status";
/// The stream, with the types of events that matter here.
const EVENTS: &str = "/v2/events?plan-format=light&event_type=event_stream_attached\
    &event_type=api_post_event&event_type=status_update_event&event_type=health_status_changed_event\
    &event_type=instance_changed_event&event_type=instance_health_changed_event\
    &event_type=unhealthy_instance_kill_event&event_type=app_terminated_event\
    &event_type=pod_created_event&event_type=pod_updated_event&event_type=pod_deleted_event\
    &event_type=group_change_success&event_type=deployment_info&event_type=deployment_success";
/// Largest answer about one app or pod, by itself or in a list: some 80,000 tasks.
const ONE_LEN_MAX: usize = 64 * 1024 * 1024;
/// Largest answer that is not about tasks.
const SMALL_LEN_MAX: usize = 256 * 1024;
/// Older versions of one pod that are read.
const OLDER_MAX: usize = 8;
/// Complaints about one app that are passed on; more of them say no more.
const PROBLEMS_MAX: usize = 8;
/// What an id may hold that a path may not.
const PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'?').add(b'#').add(b'%').add(b'"').add(b'<').add(b'>');

/// One member of a Marathon cluster, for one session.
pub(super) struct Api {
    pub(super) client: Arc<Client>,
    pub(super) base: Base,
    pub(super) shared: Arc<Shared>,
    /// False once the cluster has said that it knows no pods.
    pods: AtomicBool,
}

/// What outlives a session.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) resolver: Resolver,
    pub(super) names: Interned,
    /// There was a pod.
    pods_known: AtomicBool,
}

/// An app or a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    App,
    Pod,
}

/// One app or pod as it was read.
pub(super) struct Found {
    pub(super) kind: Kind,
    pub(super) converted: Converted,
    pub(super) problems: Vec<String>,
}

/// One element of a list.
pub(super) enum Listed {
    /// It can be used.
    Found(Box<Found>),
    /// It cannot; its id, if that can be read, and why. `passing`: it may be readable soon.
    Bad { id: Option<String>, message: String, passing: bool },
}

impl Listed {
    /// The id of the app or pod, if it can be read.
    pub(super) fn key(&self) -> Option<SharedStr> {
        match self {
            Self::Found(found) => Some(found.converted.spec.key.clone()),
            Self::Bad { id, .. } => id.as_deref().map(Into::into),
        }
    }
}

/// The stream of the member at `base`, and the member that in fact serves it.
pub(super) async fn open_stream(
    client: &Client,
    base: &Base,
    members: &[Base],
) -> Result<(Base, Body), SourceError> {
    let mut at = base.clone();
    let mut url = at.url(EVENTS);
    let mut answer = client.get(&url, "text/event-stream").await?;
    if answer.status.is_redirection() {
        url = redirect(client, &answer, &url, base, members).await?;
        at = Base::of(&url, EVENTS).unwrap_or_else(|| at.clone());
        answer = client.get(&url, "text/event-stream").await?;
    }
    let answer = answer.success(&url)?;
    let kind = answer.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !kind.is_some_and(|kind| kind.starts_with("text/event-stream")) {
        return Err(malformed(&url, "not an event stream; is this a Marathon API?"));
    }
    Ok((at, answer.body))
}

/// Where a redirect leads, if credentials may go there: to a configured member, or to the leader that the member itself
/// names.
async fn redirect(
    client: &Client,
    answer: &Answer,
    from: &Url,
    base: &Base,
    members: &[Base],
) -> Result<Url, SourceError> {
    let location = answer.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    let Some(to) = location.and_then(|location| Url::parse(location).ok()) else {
        return Err(malformed(from, "a redirect without a usable Location"));
    };
    if members.iter().any(|member| member.origin == to.origin) {
        return Ok(to);
    }
    let leader = leader(client, base).await?;
    let same = leader.as_deref().is_some_and(|leader| to.origin.is_at(leader));
    // A cluster that is asked over TLS is not followed into clear text with credentials.
    if same && to.origin.tls == base.origin.tls { Ok(to) } else { Err(refused(from, answer.status)) }
}

async fn leader(client: &Client, base: &Base) -> Result<Option<String>, SourceError> {
    let url = base.url("/v2/leader");
    let answer = client.get(&url, JSON).await?;
    if answer.status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    let body = answer.success(&url)?.body.all(SMALL_LEN_MAX).await?;
    let leader: wire::Leader = parse(&url, &body)?;
    Ok(leader.leader)
}

impl Api {
    pub(super) fn new(client: Arc<Client>, base: Base, shared: Arc<Shared>) -> Self {
        Self { client, base, shared, pods: AtomicBool::new(true) }
    }

    /// Reads all apps and pods, giving each on as soon as it has arrived. Ends early if nobody listens.
    ///
    /// # Errors
    /// The list is not whole; what was given on stands by itself.
    pub(super) async fn list(&self, out: &mpsc::Sender<Listed>) -> Result<Counts, SourceError> {
        let apps = self.elements(APPS, Place::Member("apps"), Kind::App, out).await?;
        let pods_known = self.shared.pods_known.load(Ordering::Relaxed);
        match self.elements(PODS, Place::Root, Kind::Pod, out).await {
            Ok(pods) => {
                self.pods.store(true, Ordering::Relaxed);
                Ok(Counts { apps, pods: Some(pods) })
            }
            // Marathon before 1.4. Where there was a pod it is an error, of a proxy for instance.
            Err(SourceError::Status { status: 404 | 405, .. }) if !pods_known => {
                self.pods.store(false, Ordering::Relaxed);
                Ok(Counts { apps, pods: None })
            }
            Err(error) => Err(error),
        }
    }

    /// All apps of a group and the groups below it.
    pub(super) async fn group(&self, id: &str, out: &mpsc::Sender<Listed>) -> Result<usize, SourceError> {
        let group = utf8_percent_encode(id.trim_matches('/'), PATH);
        let target = format!("/v2/apps//{group}/*?embed=apps.tasks&embed=apps.readiness");
        self.elements(&target, Place::Member("apps"), Kind::App, out).await
    }

    async fn elements(
        &self,
        target: &str,
        place: Place,
        kind: Kind,
        out: &mpsc::Sender<Listed>,
    ) -> Result<usize, SourceError> {
        let url = self.base.url(target);
        let mut body = self.client.get(&url, JSON).await?.success(&url)?.body;
        let mut elements = Elements::new(place, ONE_LEN_MAX);
        let mut ready: Vec<Vec<u8>> = Vec::new();
        let (mut count, mut named) = (0, 0);
        while let Some(chunk) = body.chunk().await? {
            elements
                .push(&chunk, |element| ready.push(element.to_vec()))
                .map_err(|message| malformed(&url, message))?;
            for element in ready.drain(..) {
                let listed = match kind {
                    Kind::App => self.app(&element).await,
                    Kind::Pod => self.pod(&element).await?,
                };
                count += 1;
                named += usize::from(listed.key().is_some());
                if out.send(listed).await.is_err() {
                    return Err(SourceError::Stopping);
                }
            }
        }
        elements.finish().map_err(|message| malformed(&url, message))?;
        if count > 0 && named == 0 {
            return Err(malformed(&url, format!("none of its {count} elements has an id that can be read")));
        }
        Ok(count)
    }

    /// Reads one service by its id. `None` if there is none.
    ///
    /// # Errors
    /// The answer is not known. A 404 counts only if Marathon itself gave it.
    pub(super) async fn one(&self, id: &str, kind: Option<Kind>) -> Result<Option<Listed>, SourceError> {
        if kind != Some(Kind::Pod) {
            let found = self.one_app(id).await?;
            if found.is_some() || kind.is_some() || !self.pods.load(Ordering::Relaxed) {
                return Ok(found);
            }
        }
        let url = self.base.url(&format!("/v2/pods/{}::status", path(id)));
        let Some(body) = self.known(&url, id).await? else { return Ok(None) };
        about(id, self.pod(&body).await?, &url).map(Some)
    }

    async fn one_app(&self, id: &str) -> Result<Option<Listed>, SourceError> {
        let url = self.base.url(&format!("/v2/apps/{}?embed=app.tasks&embed=app.readiness", path(id)));
        let Some(body) = self.known(&url, id).await? else { return Ok(None) };
        let one: wire::OneApp<'_> = parse(&url, &body)?;
        about(id, self.app(one.app.get().as_bytes()).await, &url).map(Some)
    }

    /// The body of an answer, or `None` if `id` "does not exist" in Marathon's own words: anything else between it
    /// and us may answer 404, in JSON too.
    async fn known(&self, url: &Url, id: &str) -> Result<Option<Vec<u8>>, SourceError> {
        let answer = self.client.get(url, JSON).await?;
        if answer.status != StatusCode::NOT_FOUND {
            return answer.success(url)?.body.all(ONE_LEN_MAX).await.map(Some);
        }
        let status = answer.status;
        let body = answer.body.all(SMALL_LEN_MAX).await?;
        let told = serde_json::from_slice::<wire::Message<'_>>(&body).ok();
        let message = told.as_ref().and_then(|told| text(&told.message)).unwrap_or_default();
        let names_it = message.contains(id.trim_matches('/')) && message.contains("does not exist");
        if names_it { Ok(None) } else { Err(refused(url, status)) }
    }

    async fn app(&self, element: &[u8]) -> Listed {
        let app: wire::App<'_> = match serde_json::from_slice(element) {
            Ok(app) => app,
            Err(error) => return bad(element, "an app", &error),
        };
        self.shared.resolver.prepare(hosts(app.tasks.iter().flatten(), "host")).await;
        self.found(Kind::App, element, |context| convert::app(&app, context))
    }

    async fn pod(&self, element: &[u8]) -> Result<Listed, SourceError> {
        let status: wire::PodStatus<'_> = match serde_json::from_slice(element) {
            Ok(status) => status,
            Err(error) => return Ok(bad(element, "a pod", &error)),
        };
        let older = match self.older(&status).await {
            Ok(older) => older,
            // Of this pod alone: it must not keep the rest from being read.
            Err(error @ (SourceError::Status { .. } | SourceError::Malformed { .. }))
                if !is_refusal(&error) =>
            {
                let message = format!("an older version of it cannot be read, what was known stays: {error}");
                return Ok(Listed::Bad { id: id_of(element), message, passing: true });
            }
            Err(error) => return Err(error),
        };
        self.shared.resolver.prepare(hosts(status.instances.iter().flatten(), "agentHostname")).await;
        Ok(self.found(Kind::Pod, element, |context| pod::pod(&status, &older, context)))
    }

    /// The specifications that instances run beside the present one. One that is gone is left out.
    async fn older(&self, status: &wire::PodStatus<'_>) -> Result<Older, SourceError> {
        let mut older = Older::new();
        let Some(id) = text(&status.id) else { return Ok(older) };
        for version in pod::older_versions(status).into_iter().take(OLDER_MAX) {
            let version_path = utf8_percent_encode(&version, PATH);
            let url = self.base.url(&format!("/v2/pods/{}::versions/{version_path}", path(id)));
            if let Some(body) = self.known(&url, id).await? {
                older.insert(version, body);
            }
        }
        Ok(older)
    }

    fn found(
        &self,
        kind: Kind,
        element: &[u8],
        convert: impl FnOnce(&mut Context<'_>) -> Result<Converted, String>,
    ) -> Listed {
        let mut context =
            Context { hosts: &self.shared.resolver, names: &self.shared.names, problems: Vec::new() };
        match convert(&mut context) {
            Ok(converted) => {
                self.shared.pods_known.fetch_or(kind == Kind::Pod, Ordering::Relaxed);
                let mut problems = context.problems;
                problems.sort_unstable();
                problems.dedup();
                problems.truncate(PROBLEMS_MAX);
                Listed::Found(Box::new(Found { kind, converted, problems }))
            }
            Err(message) => Listed::Bad { id: id_of(element), message, passing: false },
        }
    }
}

fn bad(element: &[u8], what: &str, error: &serde_json::Error) -> Listed {
    Listed::Bad { id: id_of(element), message: format!("{what} is left out: {error}"), passing: false }
}

/// The answer, if it is about the service that was asked for.
fn about(id: &str, listed: Listed, url: &Url) -> Result<Listed, SourceError> {
    let is_it = listed.key().is_some_and(|key| key.trim_start_matches('/') == id.trim_start_matches('/'));
    if is_it { Ok(listed) } else { Err(malformed(url, format!("the answer is not about {id}"))) }
}

/// True if the credentials are refused, which concerns the whole session.
fn is_refusal(error: &SourceError) -> bool {
    matches!(error, SourceError::Status { status: 401, .. })
}

/// The id of an object that is otherwise not understood.
fn id_of(element: &[u8]) -> Option<String> {
    let named: wire::Named<'_> = serde_json::from_slice(element).ok()?;
    text(&named.id).map(str::to_owned)
}

/// The agents' names in raw tasks or instances, each once.
fn hosts<'a>(raw: impl Iterator<Item = &'a &'a RawValue>, member: &str) -> Vec<String> {
    let host = |raw: &&RawValue| {
        let host: wire::Hosted<'_> = serde_json::from_str(raw.get()).ok()?;
        let host = if member == "host" { host.host } else { host.agent_hostname };
        text(&host).filter(|host| host.parse::<core::net::IpAddr>().is_err()).map(str::to_owned)
    };
    let mut names: Vec<String> = raw.filter_map(host).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn path(id: &str) -> impl core::fmt::Display + '_ {
    utf8_percent_encode(id.trim_start_matches('/'), PATH)
}

fn parse<'a, T: serde::Deserialize<'a>>(url: &Url, body: &'a [u8]) -> Result<T, SourceError> {
    serde_json::from_slice(body).map_err(|error| malformed(url, error.to_string()))
}

fn malformed(url: &Url, message: impl Into<String>) -> SourceError {
    SourceError::Malformed { place: url.to_string(), message: message.into() }
}

/// A length of time, up to a fifth longer or shorter: many edge nodes must not strike together.
pub(super) fn jittered(time: Duration) -> Duration {
    time.mul_f64(0.8 + 0.4 * fastrand::f64())
}
