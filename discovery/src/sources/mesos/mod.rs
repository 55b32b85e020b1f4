//! Mesos: tasks, agents, frameworks and masters, straight from the master that leads.
//!
//! ```text
//!   masters (urls) ──► who leads? ──► SUBSCRIBE ──► snapshot ──► events ──► …until the stream breaks
//!                                        │ refused      │            │ each costs the task it is about (state)
//!                                        └► /state,     └────────────┴─► what a new leader does not know yet
//!                                           polled                       is held (cluster)
//! ```
//!
//! Both dialects are read into one form (wire → snapshot → task), and told in the table's words (convert, tell).

mod api;
mod cluster;
mod convert;
mod recordio;
mod service;
mod session;
mod snapshot;
mod state;
mod task;
mod tell;
mod wire;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use portolan_table::SourceId;

use crate::config::{Auth, MesosConfig, SourceConfig, TlsConfig};
use crate::http::{Base, Body, Client, Limits};
use crate::source::{Session, Sink, Source, SourceError};
use api::{Api, CLUSTER_LEN_MAX, Stream};
use cluster::{Cluster, Patiences};

/// One Mesos cluster, as a [`Source`].
#[derive(Debug)]
pub(crate) struct Mesos {
    source: SourceId,
    urls: Vec<String>,
    auth: Auth,
    tls: TlsConfig,
    refresh: Duration,
    poll: Duration,
    timeout: Duration,
    patiences: Patiences,
    client: Option<Arc<Client>>,
    /// Which master is asked first.
    first: usize,
    cluster: Cluster,
}

/// How a master that leads is followed.
enum Way {
    Stream(Api, Body),
    Poll(Api, Option<StatusCode>),
}

impl Mesos {
    /// A source by its configuration. Mistakes in URLs, keys and certificates show in the first session.
    pub(crate) fn new(source: &SourceConfig, config: &MesosConfig) -> Self {
        Self {
            source: source.id,
            urls: config.urls.clone(),
            auth: config.auth.clone(),
            tls: config.tls.clone(),
            refresh: source.refresh,
            poll: config.poll,
            timeout: source.timeout,
            patiences: Patiences { settle: config.settle_time, recovery: config.recovery_time },
            client: None,
            first: 0,
            cluster: Cluster::default(),
        }
    }

    async fn run(&mut self, sink: &Sink) -> SourceError {
        let members = self.urls.iter().map(|url| Base::parse(url)).collect::<Result<Vec<_>, _>>();
        let error = match members {
            Ok(members) => self.with(&members, sink).await,
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

    /// One session with whichever of `members` leads.
    async fn with(&mut self, members: &[Base], sink: &Sink) -> SourceError {
        let listed = members.iter().map(|member| (member.host().0.to_owned(), member.host().1)).collect();
        match self.connect(members).await {
            Ok(Way::Stream(api, body)) => {
                tracing::info!(source = %self.source, master = %api.base, "event stream open");
                session::follow(self, api, body, listed, sink).await
            }
            Ok(Way::Poll(api, status)) => session::poll(self, api, status, listed, sink).await,
            Err(error) => error,
        }
    }

    fn client(&mut self, first: &Base) -> Result<Arc<Client>, SourceError> {
        if let Some(client) = &self.client {
            return Ok(Arc::clone(client));
        }
        let limits = Limits { request: self.timeout, body: CLUSTER_LEN_MAX };
        let client = Arc::new(Client::new(&self.auth, &self.tls, first, limits)?);
        Ok(Arc::clone(self.client.insert(client)))
    }

    /// Finds the first member that leads or knows who does. If none gives a stream, any that gives its state will do.
    async fn connect(&mut self, members: &[Base]) -> Result<Way, SourceError> {
        let Some(first) = members.first() else {
            return Err(SourceError::Setup { message: "a mesos source needs `urls`".to_owned() });
        };
        let client = self.client(first)?;
        let order = || (0..members.len()).map(|step| (self.first + step) % members.len());
        let mut last = None;
        for at in order() {
            match Api::new(&client, &members[at]).subscribe().await {
                Ok(Stream::Open(api, body)) => {
                    self.first = at;
                    return Ok(Way::Stream(api, body));
                }
                Ok(Stream::Refused(api, status)) => {
                    self.first = at;
                    return Ok(Way::Poll(api, Some(status)));
                }
                Err(error) => {
                    tracing::debug!(source = %self.source, master = %members[at], %error, "no event stream");
                    last = Some(error);
                }
            }
        }
        for at in order() {
            let api = Api::new(&client, &members[at]);
            if api.state().await.is_ok() {
                self.first = at;
                return Ok(Way::Poll(api, None));
            }
        }
        Err(last.unwrap_or(SourceError::Stopping))
    }
}

impl Source for Mesos {
    fn session<'a>(&'a mut self, sink: &'a Sink) -> Session<'a> {
        Box::pin(self.run(sink))
    }

    fn resume(&mut self) {
        self.cluster.is_resumed = true;
    }
}
