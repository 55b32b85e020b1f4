//! Marathon: one list of apps and pods, then its event stream.
//!
//! ```text
//!   session: stream first ──► list ──► events ──► …until the stream ends, hangs or is refused
//!                               │         │ payload tells enough: Instance, State, Health, Remove
//!                               │         └ it doesn't: the one app is read, bursts folded  (reads)
//!                               └ cut into apps while it arrives (elements), one app at a time (wire → convert)
//! ```
//!
//! Events that arrive during a list are applied at once and again after it, since the list may be older than they are.
//! The whole is listed again only on a new connection, on the slow jittered timer, and when events were lost.

mod api;
mod convert;
mod counts;
mod elements;
pub(crate) mod fuzz;
mod known;
mod pod;
mod readiness;
mod reads;
mod replay;
mod session;
mod sse;
mod state;
mod wire;
mod word;
mod words;

use std::sync::Arc;
use std::time::Duration;

use portolan_table::SourceId;

use crate::config::{Auth, MarathonConfig, SourceConfig, TlsConfig};
use crate::http::{Base, Client, Limits};
use crate::source::{Session, Sink, Source, SourceError};
use api::{Shared, open_stream};
use counts::Before;

/// Largest list. 100,000 tasks are about 80 MB; it is never held as a whole.
const LIST_LEN_MAX: usize = 1024 * 1024 * 1024;

/// One Marathon cluster, as a [`Source`].
///
/// ```
/// # use portolan_discovery::*;
/// # use std::time::Duration;
/// # let secret_free = MarathonConfig {
/// #     urls: vec!["http://127.0.0.1:8080".into()], groups: Vec::new(), auth: Auth::None,
/// #     tls: TlsConfig::default(), stream_idle: Duration::from_secs(30),
/// # };
/// # let config = SourceConfig {
/// #     id: portolan_table::SourceId(0), name: "prod".into(), kind: SourceKind::Marathon(secret_free.clone()),
/// #     refresh: Duration::from_secs(300), timeout: Duration::from_secs(10), merge: Default::default(),
/// #     priority: 0, required: true, stale_max: None, max_removal: 1.0,
/// # };
/// # let SourceKind::Marathon(marathon) = &config.kind else { unreachable!() };
/// let (updates, mut catalog) = tokio::sync::mpsc::channel(1024);
/// let sink = Sink::new(config.id, updates);
/// let mut source = Marathon::new(&config, marathon);
/// // Runs until the connection breaks; changes arrive in `catalog` meanwhile.
/// let session = source.session(&sink);
/// ```
#[derive(Debug)]
pub struct Marathon {
    source: SourceId,
    urls: Vec<String>,
    auth: Auth,
    tls: TlsConfig,
    refresh: Duration,
    timeout: Duration,
    stream_idle: Duration,
    shared: Arc<Shared>,
    client: Option<Arc<Client>>,
    /// Which URL is asked first.
    first: usize,
    before: Before,
}

impl Marathon {
    /// A source by its configuration. Mistakes in URLs, keys and certificates show in the first session.
    #[must_use]
    pub fn new(source: &SourceConfig, config: &MarathonConfig) -> Self {
        Self {
            source: source.id,
            urls: config.urls.clone(),
            auth: config.auth.clone(),
            tls: config.tls.clone(),
            refresh: source.refresh,
            timeout: source.timeout,
            stream_idle: config.stream_idle,
            shared: Arc::default(),
            client: None,
            first: 0,
            before: Before::default(),
        }
    }

    async fn run(&mut self, sink: &Sink) -> SourceError {
        let error = match self.connect().await {
            Ok((api, stream)) => session::follow(self, api, stream, sink).await,
            Err(error) => error,
        };
        match &error {
            SourceError::Stopping | SourceError::Ended { .. } => {}
            SourceError::Status { status: 401 | 403, .. } | SourceError::Setup { .. } => self.client = None,
            SourceError::Connect { .. } => {
                // Certificates may have been replaced on disk.
                self.client = None;
                self.first += 1;
            }
            SourceError::Status { .. } | SourceError::Malformed { .. } | SourceError::Idle { .. } => {
                self.first += 1;
            }
        }
        error
    }

    /// Opens the stream at the first member that gives one.
    async fn connect(&mut self) -> Result<(api::Api, crate::http::Body), SourceError> {
        let members = self.urls.iter().map(|url| Base::parse(url)).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = members.first() else {
            return Err(SourceError::Setup { message: "a marathon source needs `urls`".to_owned() });
        };
        let client = match &self.client {
            Some(client) => Arc::clone(client),
            None => {
                let limits = Limits { request: self.timeout, body: LIST_LEN_MAX };
                let client = Arc::new(Client::new(&self.auth, &self.tls, first, limits)?);
                Arc::clone(self.client.insert(client))
            }
        };
        let mut last = None;
        for step in 0..members.len() {
            let member = &members[(self.first + step) % members.len()];
            match open_stream(&client, member, &members).await {
                Ok((base, stream)) => {
                    self.first = (self.first + step) % members.len();
                    tracing::info!(source = %self.source, member = %base, "event stream open");
                    return Ok((api::Api::new(client, base, Arc::clone(&self.shared)), stream));
                }
                Err(error) => {
                    tracing::debug!(source = %self.source, member = %member, %error, "no event stream");
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or(SourceError::Stopping))
    }
}

impl Source for Marathon {
    fn session<'a>(&'a mut self, sink: &'a Sink) -> Session<'a> {
        Box::pin(self.run(sink))
    }

    fn resume(&mut self) {
        self.before = Before::resumed();
    }
}

#[cfg(test)]
mod tests;
