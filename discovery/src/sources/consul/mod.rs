//! Source `consul`: the services of one datacenter, with the health of their instances.
//!
//! ```text
//!   session: names ──► instances of each ──► list ──► one blocking query for the names, one for each service
//!                                                          │ woken: that service is told anew     ▲
//!                                                          └──────── next index ──────────────────┘
//! ```
//!
//! Consul has no stream of all changes: a query blocks until its answer would be newer than an index. An agent lets one
//! client hold some 200 connections, so with more services than [`watches::WATCHES_MAX`] the queries take turns, blocking
//! for a part of the round each; nothing is missed, for a query whose index has passed is answered at once.

mod api;
mod convert;
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;
mod watches;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use crate::config::{ConsulConfig, SourceConfig};
use crate::hosts::Resolver;
use crate::http::{Limits, Members};
use crate::source::{Session, Sink, Source, SourceError};
use api::{ANSWER_LEN_MAX, Api, Block};
use watches::Follower;

/// Longest block of a query. A session notices within this time, and `timeout`, that its agent hangs.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// One datacenter, as a [`Source`].
#[derive(Debug)]
pub(crate) struct Consul {
    members: Members,
    datacenter: Option<Arc<str>>,
    timeout: Duration,
    wait: Duration,
    resolver: Arc<Resolver>,
}

impl Consul {
    pub(crate) fn new(source: &SourceConfig, config: &ConsulConfig) -> Self {
        let wait = WAIT_MAX.min(source.refresh);
        let limits = Limits { request: source.timeout + wait * 2, body: ANSWER_LEN_MAX };
        Self {
            members: Members::new(&config.api, limits),
            datacenter: config.datacenter.clone(),
            timeout: source.timeout,
            wait,
            resolver: Arc::default(),
        }
    }

    async fn run(&mut self, sink: &Sink) -> Result<(), SourceError> {
        let (datacenter, resolver, timeout) = (&self.datacenter, &self.resolver, self.timeout);
        let open = |client, base| {
            let (datacenter, resolver) = (datacenter.clone(), Arc::clone(resolver));
            let api = Api { client, base, datacenter, resolver, timeout };
            async move {
                let names = api.catalog(Block::NONE).await?;
                if names.value.is_empty() && names.denies {
                    // 200 and nothing: Consul says no more to those it denies.
                    let hint = ": but the token may see no service; give it service:read and node:read";
                    let place = format!("{}/v1/catalog/services", api.base);
                    return Err(SourceError::Status { place, status: 200, hint: hint.to_owned() });
                }
                Ok((api, names))
            }
        };
        let (api, names) = self.members.ask(open).await?;
        tracing::info!(agent = %api.base, services = names.value.len(), "catalog read");
        Follower::new(api, self.wait, sink).follow(names).await
    }
}

impl Source for Consul {
    fn session<'a>(&'a mut self, sink: &'a Sink) -> Session<'a> {
        Box::pin(async move {
            let session = self.run(sink).await;
            self.members.ended(session)
        })
    }
}
