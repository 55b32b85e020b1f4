//! Follows one kind of object: lists it page by page, then watches from the list's version.
//!
//! ```text
//!   list ──► watch ──► ADDED MODIFIED DELETED BOOKMARK …  ──► end, or silence: watch again from the last version
//!    ▲                        │ 410: the version is gone
//!    └────────────────────────┘
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant as Received};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::wire::{Bare, Event, Meta, Node, Page, Service, Slice, Status};
use crate::clock;
use crate::http::{Answer, Base, Client, Lines, Url, from_json, refused};
use crate::source::SourceError;

const JSON: &str = "application/json";
/// Objects of one page.
const PAGE: u32 = 500;
/// Largest page, and largest object of a watch.
pub(super) const ANSWER_LEN_MAX: usize = 256 * 1024 * 1024;
const EVENT_LEN_MAX: usize = 16 * 1024 * 1024;
const STATUS_LEN_MAX: usize = 64 * 1024;
/// The API ends a watch after this.
const WATCH_TIME: Duration = Duration::from_secs(290);
/// Bookmarks come about every minute. A watch without any sign for this long is opened anew from where it was.
pub(super) const SILENCE: Duration = Duration::from_secs(80);
/// A watch that ends at once is not opened again before this.
const PAUSE: Duration = Duration::from_millis(500);
/// HTTP's word for a version that is too old.
const GONE: u16 = 410;

/// What is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Resource {
    Services,
    Slices,
    Nodes,
}

/// One object.
#[derive(Debug)]
pub(super) enum Object {
    Service(Service),
    Slice(Slice),
    Node(Node),
}

/// What a reflector has seen.
#[derive(Debug)]
pub(super) enum Seen {
    ListBegins,
    Put(Object),
    /// The object of this key is gone.
    Gone(String),
    /// The object of this key cannot be read: what is held of it stays.
    Odd(String, String),
    ListEnds,
    /// What was seen still stands.
    Alive,
}

/// Who has seen what, and when it was received.
pub(super) struct Sight {
    pub(super) of: usize,
    pub(super) received: Received,
    pub(super) seen: Seen,
}

/// Follows one kind of object in one namespace, or in all.
pub(super) struct Reflector {
    pub(super) number: usize,
    pub(super) client: Arc<Client>,
    pub(super) base: Base,
    pub(super) resource: Resource,
    pub(super) namespace: Option<String>,
    pub(super) selector: Option<String>,
    pub(super) refresh: Duration,
    pub(super) silence: Duration,
    pub(super) out: mpsc::Sender<Sight>,
}

/// The key of an object within its kind.
pub(super) fn key(meta: &Meta) -> String {
    if meta.namespace.is_empty() { meta.name.clone() } else { format!("{}/{}", meta.namespace, meta.name) }
}

impl Resource {
    fn path(self, namespace: Option<&str>) -> String {
        let (group, plural) = match self {
            Self::Services => ("/api/v1", "services"),
            Self::Slices => ("/apis/discovery.k8s.io/v1", "endpointslices"),
            Self::Nodes => ("/api/v1", "nodes"),
        };
        match namespace.filter(|_| self != Self::Nodes) {
            Some(namespace) => {
                format!("{group}/namespaces/{}/{plural}", utf8_percent_encode(namespace, NON_ALPHANUMERIC))
            }
            None => format!("{group}/{plural}"),
        }
    }

    fn read(self, text: &str) -> Result<Object, serde_json::Error> {
        Ok(match self {
            Self::Services => Object::Service(serde_json::from_str(text)?),
            Self::Slices => Object::Slice(serde_json::from_str(text)?),
            Self::Nodes => Object::Node(serde_json::from_str(text)?),
        })
    }
}

/// Why a watch was left.
enum Left {
    /// It ended in order, or was silent.
    Ended,
    /// All must be listed.
    List,
}

impl Reflector {
    /// Follows until something breaks.
    pub(super) async fn run(self) -> Result<(), SourceError> {
        loop {
            let mut version = self.list().await?;
            let due = Instant::now() + self.refresh.mul_f64(0.9 + fastrand::f64() / 5.0);
            loop {
                let begun = Instant::now();
                match self.watch(&mut version, due).await? {
                    Left::List => break,
                    Left::Ended if begun.elapsed() < PAUSE => sleep(PAUSE).await,
                    Left::Ended => {}
                }
            }
        }
    }

    /// Lists everything and gives the version to watch from.
    async fn list(&self) -> Result<String, SourceError> {
        self.tell(clock::now(), Seen::ListBegins).await?;
        let mut next: Option<String> = None;
        loop {
            let mut query = format!("limit={PAGE}");
            if let Some(next) = &next {
                query.push_str(&format!("&continue={}", utf8_percent_encode(next, NON_ALPHANUMERIC)));
            }
            let url = self.url(&query);
            let answer = self.ask(&url).await;
            let body = match answer {
                // The pages took longer than the API keeps their version: from the beginning.
                Err(SourceError::Status { status: GONE, .. }) if next.is_some() => {
                    next = None;
                    self.tell(clock::now(), Seen::ListBegins).await?;
                    continue;
                }
                answer => answer?.body.all(ANSWER_LEN_MAX).await?,
            };
            let received = clock::now();
            let page: Page = from_json(&url, &body)?;
            for item in page.items.into_iter().flatten() {
                self.put(received, item.get()).await?;
            }
            next = page.metadata.next.filter(|next| !next.is_empty());
            if next.is_none() {
                self.tell(received, Seen::ListEnds).await?;
                return Ok(page.metadata.resource_version);
            }
        }
    }

    async fn watch(&self, version: &mut String, due: Instant) -> Result<Left, SourceError> {
        let url = self.url(&format!(
            "watch=1&allowWatchBookmarks=true&timeoutSeconds={}&resourceVersion={version}",
            WATCH_TIME.as_secs()
        ));
        let answer = match self.ask(&url).await {
            Err(SourceError::Status { status: GONE, .. }) => return Ok(Left::List),
            answer => answer?,
        };
        let mut lines = Lines::new(answer.body, EVENT_LEN_MAX);
        loop {
            let left = due.saturating_duration_since(Instant::now());
            let Ok(line) = timeout(self.silence.min(left), lines.next(self.silence * 2)).await else {
                return Ok(if Instant::now() >= due { Left::List } else { Left::Ended });
            };
            let Some(line) = line? else { return Ok(Left::Ended) };
            let received = clock::now();
            let event: Event = from_json(&url, &line)?;
            let text = event.object.get();
            if event.kind == "ERROR" {
                return self.error(&url, text);
            }
            let bare: Bare =
                serde_json::from_str(text).map_err(|error| malformed(&url, error.to_string()))?;
            if !bare.metadata.resource_version.is_empty() {
                version.clone_from(&bare.metadata.resource_version);
            }
            match &*event.kind {
                "ADDED" | "MODIFIED" => self.put(received, text).await?,
                "DELETED" => self.tell(received, Seen::Gone(key(&bare.metadata))).await?,
                _ => self.tell(received, Seen::Alive).await?,
            }
        }
    }

    fn error(&self, url: &Url, text: &str) -> Result<Left, SourceError> {
        let status: Status = serde_json::from_str(text).map_err(|error| malformed(url, error.to_string()))?;
        if status.code == GONE {
            tracing::info!(resource = %url, "the watch is too old: listing again");
            return Ok(Left::List);
        }
        let hint = format!(": {}", status.message);
        Err(SourceError::Status { place: url.to_string(), status: status.code, hint })
    }

    async fn put(&self, received: Received, text: &str) -> Result<(), SourceError> {
        let seen = match self.resource.read(text) {
            Ok(object) => Seen::Put(object),
            Err(error) => match serde_json::from_str::<Bare>(text) {
                Ok(bare) => Seen::Odd(key(&bare.metadata), error.to_string()),
                Err(_) => return Err(malformed(&self.url(""), error.to_string())),
            },
        };
        self.tell(received, seen).await
    }

    async fn tell(&self, received: Received, seen: Seen) -> Result<(), SourceError> {
        let sight = Sight { of: self.number, received, seen };
        self.out.send(sight).await.map_err(|_| SourceError::Stopping)
    }

    fn url(&self, query: &str) -> Url {
        let path = self.resource.path(self.namespace.as_deref());
        // Slices bear their service's labels only as long as its controller sees to it: they are not selected.
        let selector = self.selector.as_ref().filter(|_| self.resource == Resource::Services);
        let selector = selector.map(|selector| utf8_percent_encode(selector, NON_ALPHANUMERIC).to_string());
        let selector = selector.map(|selector| format!("&labelSelector={selector}")).unwrap_or_default();
        self.base.url(&format!("{path}?{query}{selector}"))
    }

    /// Asks, and reads what the API says against it.
    async fn ask(&self, url: &Url) -> Result<Answer, SourceError> {
        let answer = self.client.get(url, JSON).await?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        let status = answer.status;
        let said = answer.body.all(STATUS_LEN_MAX).await.ok();
        let said = said.and_then(|body| serde_json::from_slice::<Status>(&body).ok());
        Err(match said.filter(|said| !said.message.is_empty()) {
            Some(said) => {
                let (place, hint) = (url.to_string(), format!(": {}", said.message));
                SourceError::Status { place, status: status.as_u16(), hint }
            }
            None => refused(url, status),
        })
    }
}

fn malformed(url: &Url, message: String) -> SourceError {
    SourceError::Malformed { place: url.to_string(), message }
}
