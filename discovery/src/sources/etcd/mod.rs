//! Source `etcd`: services written as keys, by the JSON gateway of etcd's v3 API.
//!
//! ```text
//!   session: range (pages of one revision) ──► list ──► watch from the next revision ──► events
//!               ▲                                          │ compacted, or `refresh`        │ layout: key → entry
//!               └──────────────────────────────────────────┘                                ▼ store: service told anew
//! ```
//!
//! The gateway rather than gRPC: it is in every member since 3.4, is HTTP/1.1 and JSON like every other API here, and needs
//! no generated code. What it lacks is asking for progress, so a silent watch is checked by counting the keys.
//! Watches carry `hasleader`: a member that has lost its leader ends them, instead of leaving them silent.

mod api;
mod follow;
pub(crate) mod fuzz;
mod layout;
mod store;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::config::{EtcdConfig, EtcdLayout, SourceConfig};
use crate::hosts::Resolver;
use crate::http::{Limits, Members};
use crate::source::{Session, Sink, Source, SourceError};
use api::{ANSWER_LEN_MAX, Api};
use follow::{SILENCE, Times};
use wire::Prefix;

/// The keys of one cluster below one prefix, as a [`Source`].
#[derive(Debug)]
pub(crate) struct Etcd {
    members: Members,
    layout: EtcdLayout,
    prefix: String,
    timeout: Duration,
    refresh: Duration,
    silence: Duration,
    resolver: Arc<Resolver>,
}

impl Etcd {
    pub(crate) fn new(source: &SourceConfig, config: &EtcdConfig) -> Self {
        let limits = Limits { request: source.timeout, body: ANSWER_LEN_MAX };
        let has_leader = HeaderName::from_static("grpc-metadata-hasleader");
        Self {
            members: Members::new(&config.api, limits)
                .with_header(has_leader, HeaderValue::from_static("true")),
            layout: config.layout,
            prefix: config.prefix.trim_end_matches('/').to_owned(),
            timeout: source.timeout,
            refresh: source.refresh,
            silence: SILENCE,
            resolver: Arc::default(),
        }
    }

    async fn run(&mut self, sink: &Sink) -> Result<(), SourceError> {
        let (prefix, timeout) = (Arc::new(Prefix::below(&self.prefix)), self.timeout);
        let open = |client, base| {
            let api = Api { client, base, prefix: Arc::clone(&prefix), timeout };
            async move {
                let listed = api.list().await?;
                Ok((api, listed))
            }
        };
        let (api, listed) = self.members.ask(open).await?;
        tracing::info!(member = %api.base, keys = listed.0.len(), "keys listed");
        let store = store::Store::new(self.layout, &self.prefix, Arc::clone(&self.resolver));
        let times = Times { refresh: self.refresh, silence: self.silence };
        follow::follow(&api, store, listed, times, sink).await
    }
}

impl Source for Etcd {
    fn session<'a>(&'a mut self, sink: &'a Sink) -> Session<'a> {
        Box::pin(async move {
            let session = self.run(sink).await;
            self.members.ended(session)
        })
    }
}
