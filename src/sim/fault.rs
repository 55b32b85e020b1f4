//! What goes wrong on request.

use core::time::Duration;

use tokio::time::Instant;

/// How API requests are spoiled while a fault is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Accepted, never answered.
    Hang,
    /// Answered with this status and a message.
    Status(u16),
    /// The JSON ends half-way, with a matching Content-Length: a whole answer that is no document.
    Truncate,
    /// The connection ends half-way through the announced length.
    Cut,
    /// 200 with an empty body.
    Empty,
    /// 200 with this many bytes that are no JSON.
    Garbage(u64),
    /// The connection is closed without an answer.
    Close,
    /// 200 and a well-formed list without apps.
    NoApps,
    /// Answered rightly, but this much later.
    Slow(Duration),
}

/// Which requests a fault spoils.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// All of the API.
    #[default]
    All,
    /// All but the event stream.
    Reads,
    /// The list of apps only.
    List,
    /// New event streams only.
    Events,
}

/// What the event stream does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stream {
    /// Events and keep-alives.
    #[default]
    Live,
    /// Keep-alives only: events are swallowed.
    Deaf,
    /// Nothing, and the connection stays open.
    Hung,
}

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Leader {
    /// This process.
    #[default]
    Us,
    /// Nobody until then: this status meanwhile.
    Nobody {
        /// When we lead again.
        until: Instant,
        /// 502 or 503.
        status: u16,
    },
    /// Another process, at this base URL.
    Other(String),
}

/// Everything that is wrong at present.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    pub(crate) api: Option<(Fault, Scope)>,
    /// The fault goes by itself then.
    pub(crate) until: Option<Instant>,
    pub(crate) stream: Stream,
    pub(crate) leader: Leader,
}

impl Faults {
    /// The fault for a request of this kind at this time.
    pub(crate) fn for_request(&mut self, list: bool, events: bool, now: Instant) -> Option<Fault> {
        if self.until.is_some_and(|until| until <= now) {
            (self.api, self.until) = (None, None);
        }
        let (fault, scope) = self.api.as_ref()?;
        let hit = match scope {
            Scope::All => true,
            Scope::Reads => !events,
            Scope::List => list,
            Scope::Events => events,
        };
        hit.then(|| fault.clone())
    }
}
