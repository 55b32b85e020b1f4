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
mod detect;
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

use crate::config::{Auth, MesosConfig, Secret, SourceConfig, TlsConfig};
use crate::http::{Base, Body, Client, Limits, read_secret};
use crate::source::{Session, Sink, Source, SourceError};
use api::{Api, CLUSTER_LEN_MAX, Stream};
use cluster::{Cluster, Patiences};
use detect::Detector;

use crate::zookeeper::{Credentials, Ensemble};

/// One Mesos cluster, as a [`Source`].
#[derive(Debug)]
pub(crate) struct Mesos {
    source: SourceId,
    urls: Vec<String>,
    zookeeper_credentials: Option<Secret>,
    https: bool,
    auth: Auth,
    tls: TlsConfig,
    refresh: Duration,
    poll: Duration,
    timeout: Duration,
    patiences: Patiences,
    client: Option<Arc<Client>>,
    /// Which master is asked first.
    first: usize,
    /// Follows ZooKeeper, if a URL says so.
    detector: Option<Detector>,
    cluster: Cluster,
}

/// The masters to be tried.
struct Masters {
    /// By ZooKeeper, the leader first; `None` if they are those that are written.
    listed: Option<detect::Listed>,
    members: Vec<Base>,
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
            zookeeper_credentials: config.zookeeper_credentials.clone(),
            https: config.https,
            auth: config.auth.clone(),
            tls: config.tls.clone(),
            refresh: source.refresh,
            poll: config.poll,
            timeout: source.timeout,
            patiences: Patiences { settle: config.settle_time, recovery: config.recovery_time },
            client: None,
            first: 0,
            detector: None,
            cluster: Cluster::default(),
        }
    }

    async fn run(&mut self, sink: &Sink) -> SourceError {
        let error = match self.find().await {
            Err(error) => error,
            Ok(Masters { listed, members }) => match self.detector.take() {
                None => self.with(&members, sink).await,
                Some(mut detector) => {
                    if listed.is_some() {
                        // The leader comes first in every list.
                        self.first = 0;
                    }
                    // Dropping the session is safe at any of its awaits, and the detector waits for a change.
                    let error = tokio::select! {
                        error = self.with(&members, sink) => error,
                        () = detector.another_leads(listed.as_deref().unwrap_or_default()) => {
                            SourceError::Ended { place: "zk://: another master leads".to_owned() }
                        }
                    };
                    self.detector = Some(detector);
                    error
                }
            },
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

    /// The masters to be tried: those that ZooKeeper lists, else those written.
    async fn find(&mut self) -> Result<Masters, SourceError> {
        let is_zk = |url: &&String| url.starts_with("zk://");
        let written = self.urls.iter().filter(|url| !is_zk(url));
        let written = written.map(|url| Base::parse(url)).collect::<Result<Vec<_>, _>>()?;
        let Some(url) = self.urls.iter().find(is_zk) else {
            return Ok(Masters { listed: None, members: written });
        };
        let detector = match &mut self.detector {
            Some(detector) => detector,
            None => {
                let (mut ensemble, path) = Ensemble::parse(url)?;
                if let Some(secret) = &self.zookeeper_credentials {
                    ensemble.credentials = Some(Credentials(read_secret(secret).await?));
                }
                self.detector.insert(Detector::start(ensemble, path))
            }
        };
        match detector.masters(self.timeout).await {
            Ok(listed) => {
                let scheme = if self.https { "https" } else { "http" };
                let url = |(host, port): &(String, u16)| match host.contains(':') {
                    true => Base::parse(&format!("{scheme}://[{host}]:{port}")),
                    false => Base::parse(&format!("{scheme}://{host}:{port}")),
                };
                let members = listed.iter().map(url).collect::<Result<Vec<_>, _>>()?;
                Ok(Masters { listed: Some(listed), members })
            }
            Err(error) if written.is_empty() => Err(error),
            Err(error) => {
                tracing::warn!(%error, "the masters of the configuration are asked");
                Ok(Masters { listed: None, members: written })
            }
        }
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
