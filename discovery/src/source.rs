//! The contract between a source and the rest of Portolan.
//!
//! A source is a loop over sessions. In a session it connects, lists everything between
//! [`Change::ListBegin`] and [`Change::ListComplete`], then follows the stream (or polls) until something
//! breaks. The supervisor starts the next session after a jittered back-off; the catalog keeps what it has.
//!
//! ```text
//!   session ──► ListBegin · Service* · ListComplete ──► (Service | Instance | State | Health | Remove… | Alive)*
//!      ▲                                                              │ error, hang, end of stream
//!      └───────────────── back-off, standing: stale ◄─────────────────┘
//! ```

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use portolan_table::{
    ClusterFact, FactKey, Health, Instance, InstanceState, NodeFact, ServiceSpec, SharedStr, SourceId,
};
use prometheus::IntCounter;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// One step of what a source tells. Keys of services are [`ServiceSpec::key`], ids [`Instance::id`].
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// What follows, up to [`Change::ListComplete`], is the whole truth. A list that is cut off before its
    /// end takes nothing away, nor does one that ends in [`Change::ListPartial`].
    ListBegin,
    /// The list is whole: what was not in it is gone. The source is synced.
    ListComplete,
    /// The list has ended and does not name everything: what was in it stands, what was not is not known to be gone.
    ListPartial {
        /// All that has a name was named, so the source counts as synced. Otherwise its standing stays what it was.
        synced: bool,
    },
    /// A service with all its instances, in place of its former self.
    Service {
        /// Its definition.
        spec: Arc<ServiceSpec>,
        /// All its instances.
        instances: Vec<Arc<Instance>>,
    },
    /// A service some of whose instances could not be read: what is held of those stays, all else is replaced.
    ServiceInPart {
        /// Its definition.
        spec: Arc<ServiceSpec>,
        /// The instances that could be read.
        instances: Vec<Arc<Instance>>,
        /// Which could not.
        unread: Unread,
    },
    /// A service is gone.
    RemoveService {
        /// Its key.
        service: SharedStr,
    },
    /// One instance, new or in place of its former self. Ignored if the service is not known.
    Instance {
        /// The key of its service.
        service: SharedStr,
        /// The instance.
        instance: Arc<Instance>,
    },
    /// An instance is gone.
    RemoveInstance {
        /// The key of its service.
        service: SharedStr,
        /// Its id.
        id: SharedStr,
    },
    /// An instance has moved on in its life; everything else about it stays.
    State {
        /// The key of its service.
        service: SharedStr,
        /// Its id.
        id: SharedStr,
        /// Its new state.
        state: InstanceState,
    },
    /// The scheduler's verdict on an instance has changed; everything else about it stays.
    Health {
        /// The key of its service.
        service: SharedStr,
        /// Its id.
        id: SharedStr,
        /// The new verdict.
        health: Health,
    },
    /// A node that the scheduler knows by itself. (Nodes of instances need not be told.)
    Node(Arc<NodeFact>),
    /// Such a node is gone.
    RemoveNode(SharedStr),
    /// A fact of the cluster, new or in place of its former self.
    Fact(Arc<ClusterFact>),
    /// Such a fact holds no more.
    RemoveFact(FactKey),
    /// So many instances are told although the scheduler does not list them at present: it was just elected, and what it
    /// has not heard of again is not known to be gone.
    Held {
        /// How many.
        instances: usize,
    },
    /// The stream gave a sign of life: what was told still stands.
    Alive,
    /// Something odd in one object, which was left out or read as well as possible. Counted, logged, shown.
    /// A service held under the key `place` stays as it is, even if a list tells nothing else of it.
    Problem {
        /// The key of the service, or another name for the place.
        place: SharedStr,
        /// What is wrong and what to do, in one line.
        message: String,
    },
    /// The session is over: what was told can't be confirmed until the next list. Said by the supervisor,
    /// through the same queue so that nothing overtakes it; a source never sends it.
    Lost {
        /// [`SourceError::kind`].
        kind: &'static str,
        /// The error with its causes.
        message: String,
    },
}

/// Instances of a service that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unread {
    /// Those with these ids.
    Ids(Vec<SharedStr>),
    /// Some whose ids could not be read either: any that is not told may be among them.
    Any,
}

impl Unread {
    /// One more, by its id if that can be read.
    pub(crate) fn add(unread: &mut Option<Self>, id: Option<SharedStr>) {
        match (unread.take(), id) {
            (Some(Self::Any), _) | (_, None) => *unread = Some(Self::Any),
            (Some(Self::Ids(mut ids)), Some(id)) => {
                ids.push(id);
                *unread = Some(Self::Ids(ids));
            }
            (None, Some(id)) => *unread = Some(Self::Ids(vec![id])),
        }
    }

    /// True if the instance `id` may be one of them.
    #[must_use]
    pub fn covers(&self, id: &str) -> bool {
        match self {
            Self::Ids(ids) => ids.iter().any(|unread| **unread == *id),
            Self::Any => true,
        }
    }
}

/// A change with the time its cause was received, for `portolan_convergence_seconds`.
#[derive(Debug, Clone)]
pub struct Update {
    /// Who tells.
    pub source: SourceId,
    /// When the event or answer arrived.
    pub received: Instant,
    /// What.
    pub change: Change,
}

/// Why a session ended.
#[derive(Debug, Error)]
pub enum SourceError {
    /// No connection, or it broke.
    #[error("{place}: connection failed")]
    Connect {
        /// URL or address.
        place: String,
        /// The cause.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The API answered with a status that is not a success.
    #[error("{place}: answered {status}{hint}")]
    Status {
        /// URL.
        place: String,
        /// The status.
        status: u16,
        /// What to do about it, with a leading `: `, or empty.
        hint: String,
    },
    /// The answer could not be understood. Nothing of it was used.
    #[error("{place}: answer not understood: {message}")]
    Malformed {
        /// URL.
        place: String,
        /// What is wrong, with its position if known.
        message: String,
    },
    /// Nothing came within the limit.
    #[error("{place}: nothing received for {seconds} s")]
    Idle {
        /// URL.
        place: String,
        /// The limit.
        seconds: u64,
    },
    /// The other side ended the stream.
    #[error("{place}: stream ended")]
    Ended {
        /// URL.
        place: String,
    },
    /// A secret, key or file of the configuration cannot be used.
    #[error("{message}")]
    Setup {
        /// What is wrong and what to do.
        message: String,
    },
    /// The catalog is gone: this process is stopping.
    #[error("stopping")]
    Stopping,
}

impl SourceError {
    /// A short, bounded word for the metric `portolan_source_errors_total{kind=…}`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Status { .. } => "status",
            Self::Malformed { .. } => "malformed",
            Self::Idle { .. } => "idle",
            Self::Ended { .. } => "ended",
            Self::Setup { .. } => "setup",
            Self::Stopping => "stopping",
        }
    }
}

/// Where a source puts what it learns. Bounded: a source that is faster than the catalog waits.
#[derive(Clone)]
pub struct Sink {
    source: SourceId,
    updates: mpsc::Sender<Update>,
    full: Option<IntCounter>,
}

impl Sink {
    /// A sink for `source` into the catalog's queue.
    #[must_use]
    pub fn new(source: SourceId, updates: mpsc::Sender<Update>) -> Self {
        Self { source, updates, full: None }
    }

    /// The same sink, which counts in `full` how often it had to wait.
    #[must_use]
    pub fn counting(mut self, full: IntCounter) -> Self {
        self.full = Some(full);
        self
    }

    /// Hands one change over. Waits while the queue is full; cancel-safe, nothing is sent if dropped.
    ///
    /// # Errors
    /// [`SourceError::Stopping`] when the catalog is gone.
    pub async fn send(&self, received: Instant, change: Change) -> Result<(), SourceError> {
        let update = Update { source: self.source, received, change };
        let update = match self.updates.try_send(update) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Closed(_)) => return Err(SourceError::Stopping),
            Err(TrySendError::Full(update)) => update,
        };
        if let Some(full) = &self.full {
            full.inc();
        }
        self.updates.send(update).await.map_err(|_| SourceError::Stopping)
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").field("source", &self.source).finish_non_exhaustive()
    }
}

/// The future of one session.
pub type Session<'a> = Pin<Box<dyn Future<Output = SourceError> + Send + 'a>>;

/// One scheduler or registry API, or a set of files.
pub trait Source: Send + 'static {
    /// Runs one session and says why it ended. Dropped at any await when the process stops or the source's
    /// configuration changes. What it keeps in `self` (leader, token, back-off of single URLs) survives.
    fn session<'a>(&'a mut self, sink: &'a Sink) -> Session<'a>;

    /// Said before the first session if the catalog may already hold something of this source: a saved table, or what
    /// its predecessor told under another configuration.
    fn resume(&mut self) {}
}
