//! Source `kubernetes`: services with the endpoints of their slices, and nodes, by list and watch.
//!
//! ```text
//!   reflector: services  ─┐                    ┌ all have listed, or one has listed again: one whole list
//!   reflector: slices    ─┼─► state ──touched──┤
//!   reflector: nodes     ─┘                    └ else: each service that something has touched
//! ```
//!
//! With namespaces given there is a reflector for each, so that a role in them is enough. Nodes belong to no namespace: where
//! they may not be read, pods are known by the name of their node and the zone that their slice says.

mod access;
mod convert;
pub(crate) mod fuzz;
mod reflector;
mod state;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant as Received};

use portolan_table::SharedStr;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::clock;
use crate::config::{ApiConfig, KubernetesConfig, SourceConfig};
use crate::hosts::Resolver;
use crate::http::{Base, Client, Limits, Members};
use crate::source::{Change, Session, Sink, Source, SourceError};
use crate::sources::telling::{Services, Telling};
use crate::sources::unwound;
use reflector::{ANSWER_LEN_MAX, Reflector, Resource, SILENCE, Seen, Sight};
use state::{Listed, State};

/// What reflectors have seen and nobody has taken in yet.
const SIGHTS_MAX: usize = 1024;

/// One cluster, as a [`Source`].
#[derive(Debug)]
pub(crate) struct Kubernetes {
    config: KubernetesConfig,
    timeout: Duration,
    refresh: Duration,
    silence: Duration,
    members: Option<(ApiConfig, Members)>,
    resolver: Resolver,
}

impl Kubernetes {
    pub(crate) fn new(source: &SourceConfig, config: &KubernetesConfig) -> Self {
        Self {
            config: config.clone(),
            timeout: source.timeout,
            refresh: source.refresh,
            silence: SILENCE,
            members: None,
            resolver: Resolver::default(),
        }
    }

    async fn run(&mut self, sink: &Sink) -> Result<(), SourceError> {
        let access = self.config.access.clone();
        let read = tokio::task::spawn_blocking(move || access::api(&access)).await;
        let api = unwound(read)??;
        if self.members.as_ref().is_none_or(|(known, _)| *known != api) {
            let limits = Limits { request: self.timeout, body: ANSWER_LEN_MAX };
            let members = Members::new(&api, limits);
            self.members = Some((api, members));
        }
        let Some((_, members)) = &mut self.members else { return Ok(()) };
        // Any member will do; `/version` may be read by everybody.
        let open = |client: Arc<Client>, base: Base| async move {
            let url = base.url("/version");
            client.get(&url, "application/json").await?.success(&url)?.body.all(64 * 1024).await?;
            Ok((client, base))
        };
        let (client, base) = members.ask(open).await?;
        tracing::info!(api = %base, "API reached");
        Follower::new(self, &client, &base, sink).follow().await
    }
}

/// A session at work.
struct Follower<'s> {
    source: &'s Kubernetes,
    sink: &'s Sink,
    telling: Telling<'s>,
    state: State,
    reflectors: Vec<Following>,
    sights: mpsc::Receiver<Sight>,
    tasks: JoinSet<(usize, Result<(), SourceError>)>,
    /// Something has been listed anew: all is told as a list, which the removal guard can judge.
    list_due: bool,
    /// Why nodes are not read.
    without_nodes: Option<String>,
}

/// What is known of a reflector.
struct Following {
    resource: Resource,
    namespace: Option<String>,
    listed: Option<Listed>,
    has_listed: bool,
}

impl<'s> Follower<'s> {
    fn new(source: &'s Kubernetes, client: &Arc<Client>, base: &Base, sink: &'s Sink) -> Self {
        let namespaces: Vec<Option<String>> = match &*source.config.namespaces {
            [] => vec![None],
            some => some.iter().cloned().map(Some).collect(),
        };
        let of_each = |resource| namespaces.iter().cloned().map(move |namespace| (resource, namespace));
        let wanted =
            of_each(Resource::Services).chain(of_each(Resource::Slices)).chain([(Resource::Nodes, None)]);
        let (out, sights) = mpsc::channel(SIGHTS_MAX);
        let (mut reflectors, mut tasks) = (Vec::new(), JoinSet::new());
        for (number, (resource, namespace)) in wanted.enumerate() {
            let reflector = Reflector {
                number,
                client: Arc::clone(client),
                base: base.clone(),
                resource,
                namespace: namespace.clone(),
                selector: source.config.selector.clone(),
                refresh: source.refresh,
                silence: source.silence,
                out: out.clone(),
            };
            reflectors.push(Following { resource, namespace, listed: None, has_listed: false });
            tasks.spawn(async move { (number, reflector.run().await) });
        }
        let (telling, state) = (Telling::new(sink), State::default());
        Self { source, sink, telling, state, reflectors, sights, tasks, list_due: true, without_nodes: None }
    }

    /// Follows until something breaks.
    async fn follow(&mut self) -> Result<(), SourceError> {
        loop {
            // Both are cancel-safe.
            tokio::select! {
                Some(sight) = self.sights.recv() => {
                    let received = sight.received;
                    self.take(sight);
                    // What else has come is told together with it.
                    for _ in 0..SIGHTS_MAX {
                        let Ok(sight) = self.sights.try_recv() else { break };
                        self.take(sight);
                    }
                    self.tell(received).await?;
                }
                Some(ended) = self.tasks.join_next() => {
                    let (number, result) = unwound(ended)?;
                    match result {
                        Err(SourceError::Status { status: 403, hint, .. })
                            if self.reflectors[number].resource == Resource::Nodes =>
                        {
                            self.without_nodes(number, &hint).await?;
                        }
                        Err(error) => return Err(error),
                        Ok(()) => return Err(SourceError::Stopping),
                    }
                }
                else => return Ok(()),
            }
        }
    }

    fn take(&mut self, sight: Sight) {
        let following = &mut self.reflectors[sight.of];
        let ends = matches!(sight.seen, Seen::ListEnds);
        following.has_listed |= ends;
        self.list_due |= ends;
        let namespace = following.namespace.as_deref();
        self.state.take(following.resource, namespace, sight.seen, &mut following.listed);
    }

    /// Nodes may not be read: services are, all the same.
    async fn without_nodes(&mut self, number: usize, hint: &str) -> Result<(), SourceError> {
        self.reflectors[number].has_listed = true;
        let message = format!("not read{hint}; zones and node ports of pods are not known");
        (self.without_nodes, self.list_due) = (Some(message), true);
        self.tell(clock::now()).await
    }

    async fn tell(&mut self, received: Received) -> Result<(), SourceError> {
        if !self.reflectors.iter().all(|following| following.has_listed) {
            return Ok(());
        }
        self.resolve().await;
        if self.list_due { self.tell_list(received).await } else { self.tell_touched(received).await }
    }

    /// Looks up what external services among the touched stand for.
    async fn resolve(&self) {
        let touched = self.state.touched.iter().filter_map(|key| self.state.services.get(key));
        let names: Vec<String> = touched.filter_map(convert::external_name).map(str::to_owned).collect();
        if !names.is_empty() {
            self.source.resolver.prepare(names).await;
        }
    }

    async fn tell_list(&mut self, received: Received) -> Result<(), SourceError> {
        self.list_due = false;
        self.state.touched.clear();
        self.state.touched_nodes.clear();
        let keys: Vec<String> = self.state.services.keys().cloned().collect();
        let mut services = Services::new();
        for key in keys {
            let service = self.build(&key);
            services.extend(service.map(|service| (SharedStr::from(&*key), service)));
        }
        self.telling.begin(received).await?;
        for (name, node) in &self.state.nodes {
            self.sink.send(received, Change::Node(node.fact(name))).await?;
        }
        let mut problems = core::mem::take(&mut self.state.problems);
        problems.extend(self.without_nodes.iter().map(|message| ("nodes".into(), message.clone())));
        self.telling.rest_of_list(received, services, problems).await
    }

    async fn tell_touched(&mut self, received: Received) -> Result<(), SourceError> {
        let touched: BTreeSet<String> = core::mem::take(&mut self.state.touched);
        for key in touched {
            let service = self.build(&key);
            self.telling.service(received, &(&*key).into(), service).await?;
        }
        for name in core::mem::take(&mut self.state.touched_nodes) {
            let change = match self.state.nodes.get(&name) {
                Some(node) => Change::Node(node.fact(&name)),
                None => Change::RemoveNode((&*name).into()),
            };
            self.sink.send(received, change).await?;
        }
        for (place, message) in core::mem::take(&mut self.state.problems) {
            self.telling.problem(received, place, message).await?;
        }
        self.telling.alive(received).await
    }

    fn build(&mut self, key: &str) -> Option<crate::sources::telling::Service> {
        self.state.build(key, self.source.config.reach, &self.source.resolver)
    }
}

impl Source for Kubernetes {
    fn session<'a>(&'a mut self, sink: &'a Sink) -> Session<'a> {
        Box::pin(async move {
            let session = self.run(sink).await;
            match &mut self.members {
                Some((_, members)) => members.ended(session),
                None => session.err().unwrap_or(SourceError::Stopping),
            }
        })
    }
}
