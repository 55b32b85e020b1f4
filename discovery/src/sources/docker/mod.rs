//! Sources `docker` and `swarm`: containers of one engine, services of a swarm, by the Engine API.
//!
//! ```text
//!   docker   events ──► list ──► inspect each ──► list told ──► event: that container is inspected, its services told
//!   swarm    events ──► services, tasks, nodes ──► list told ──► event: that service's tasks are read, and again until
//!                                                               they have settled; all of them on a slow timer
//! ```
//!
//! The stream is opened before the list is read, so that nothing falls between them. A swarm says nothing of tasks: what
//! happens to those of other engines is only seen by reading.

mod api;
mod containers;
mod engine;
pub(crate) mod fuzz;
mod ports;
mod swarm;
#[cfg(test)]
mod tests;
mod turns;
mod wire;

use core::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::config::{DockerConfig, Reach, SourceConfig, SwarmConfig};
use crate::hosts::{Hosts, Resolver};
use crate::http::{Base, Limits, Members};
use crate::source::{Session, Sink, Source, SourceError};
use api::{ANSWER_LEN_MAX, Api};
use containers::Engine;

/// The containers of one engine, as a [`Source`].
#[derive(Debug)]
pub(crate) struct Docker {
    members: Members,
    reach: Reach,
    refresh: Duration,
    resolver: Resolver,
}

impl Docker {
    pub(crate) fn new(source: &SourceConfig, config: &DockerConfig) -> Self {
        let limits = Limits { request: source.timeout, body: ANSWER_LEN_MAX };
        let members = Members::new(&config.api, limits);
        Self { members, reach: config.reach, refresh: source.refresh, resolver: Resolver::default() }
    }

    async fn run(&mut self, sink: &Sink) -> Result<(), SourceError> {
        let open = |client, base| {
            let api = Api { client, base };
            async move {
                let lines = api.events(engine::EVENT_TYPES).await?;
                let info = api.info().await?;
                Ok((api, lines, info))
            }
        };
        let (api, lines, info) = self.members.ask(open).await?;
        let ip = self.address(&api.base).await;
        let engine = Engine { name: info.name, ip, reach: self.reach };
        tracing::info!(engine = %api.base, "events open");
        engine::follow(api, engine, lines, self.refresh, sink).await
    }

    /// Where the engine's published ports are reached: itself, if it is asked by a Unix socket.
    async fn address(&self, base: &Base) -> Option<IpAddr> {
        let (host, port) = base.host();
        if port == 0 {
            return Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        if let Ok(ip) = host.parse() {
            return Some(ip);
        }
        self.resolver.prepare(vec![host.to_owned()]).await;
        self.resolver.address(host)
    }
}

impl Source for Docker {
    fn session<'a>(&'a mut self, sink: &'a Sink) -> Session<'a> {
        Box::pin(async move {
            let session = self.run(sink).await;
            self.members.ended(session)
        })
    }
}

/// The services of one swarm, as a [`Source`].
#[derive(Debug)]
pub(crate) struct Swarm {
    members: Members,
    reach: Reach,
    refresh: Duration,
    poll: Duration,
    guarded: bool,
}

impl Swarm {
    pub(crate) fn new(source: &SourceConfig, config: &SwarmConfig) -> Self {
        let limits = Limits { request: source.timeout, body: ANSWER_LEN_MAX };
        let members = Members::new(&config.api, limits);
        let guarded = source.max_removal < 1.0;
        Self { members, reach: config.reach, refresh: source.refresh, poll: config.poll, guarded }
    }

    async fn run(&mut self, sink: &Sink) -> Result<(), SourceError> {
        let open = |client, base| {
            let api = Api { client, base };
            async move {
                let lines = api.events(turns::EVENT_TYPES).await?;
                // A worker gives events, too.
                api.nodes().await?;
                Ok((api, lines))
            }
        };
        let (api, lines) = self.members.ask(open).await?;
        tracing::info!(manager = %api.base, "events open");
        let times = turns::Times { refresh: self.refresh, poll: self.poll, guarded: self.guarded };
        turns::follow(api, self.reach, lines, times, sink).await
    }
}

impl Source for Swarm {
    fn session<'a>(&'a mut self, sink: &'a Sink) -> Session<'a> {
        Box::pin(async move {
            let session = self.run(sink).await;
            self.members.ended(session)
        })
    }
}

/// A time as the engine writes it, in milliseconds since the epoch; 0 if it says nothing.
fn milliseconds(text: &str) -> u64 {
    let time = text.parse::<jiff::Timestamp>().map_or(0, |time| time.as_millisecond());
    u64::try_from(time).unwrap_or(0)
}
