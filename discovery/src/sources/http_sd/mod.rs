//! Source `http`: Prometheus' HTTP service discovery. One URL gives a list of target groups, read again and again.
//!
//! The answer is taken whole or not at all: one that is no list of groups leaves everything as it was. The API's
//! `X-Prometheus-Refresh-Interval-Seconds` is sent along, as Prometheus does, for servers that go by it.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, header};
use tokio::time::sleep;

use super::targets::{self, Group};
use super::telling::{Services, Telling};
use crate::clock;
use crate::config::{HttpConfig, SourceConfig};
use crate::hosts::Resolver;
use crate::http::{Base, Client, Limits, Members, from_json};
use crate::source::{Session, Sink, Source, SourceError};

/// Notes of a list that are shown, and characters of each: a list may be odd in every line.
const NOTES_MAX: usize = 20;
const NOTE_LEN_MAX: usize = 200;
/// Largest answer.
const LIST_LEN_MAX: usize = 256 * 1024 * 1024;

/// One URL, or several that give the same, as a [`Source`].
#[derive(Debug)]
pub(crate) struct HttpSource {
    members: Members,
    service_label: Option<String>,
    refresh: Duration,
    /// Every change is told as a whole list, so that the removal guard can judge it.
    guarded: bool,
    resolver: Resolver,
}

impl HttpSource {
    pub(crate) fn new(source: &SourceConfig, config: &HttpConfig) -> Self {
        let limits = Limits { request: source.timeout, body: LIST_LEN_MAX };
        let interval = HeaderName::from_static("x-prometheus-refresh-interval-seconds");
        let members = Members::new(&config.api, limits)
            .with_header(interval, HeaderValue::from(source.refresh.as_secs().max(1)));
        Self {
            members,
            service_label: config.service_label.clone(),
            refresh: source.refresh,
            guarded: source.max_removal < 1.0,
            resolver: Resolver::default(),
        }
    }

    async fn poll(&mut self, sink: &Sink) -> Result<(), SourceError> {
        let mut telling = Telling::new(sink);
        let mut notes_before = None;
        loop {
            let groups = self.members.ask(read).await?;
            let received = clock::now();
            let (services, notes) = self.convert(groups).await;
            let told_before = notes_before.as_ref() == Some(&notes);
            if told_before && !self.guarded {
                telling.difference(received, services).await?;
            } else {
                let problems = (!notes.is_empty()).then(|| ("targets".into(), in_short(&notes)));
                telling.list(received, services, problems.into_iter().collect()).await?;
            }
            notes_before = Some(notes);
            sleep(self.refresh).await;
        }
    }

    async fn convert(&self, groups: Vec<Group>) -> (Services, Vec<String>) {
        let names = groups.iter().flat_map(Group::host_names).map(str::to_owned).collect();
        self.resolver.prepare(names).await;
        targets::convert(groups, self.service_label.as_deref(), Some(&self.resolver))
    }
}

/// What is odd, in a text that can be shown.
fn in_short(notes: &[String]) -> String {
    let cut = |note: &String| note.chars().take(NOTE_LEN_MAX).collect::<String>();
    let mut shown: Vec<String> = notes.iter().take(NOTES_MAX).map(cut).collect();
    if notes.len() > NOTES_MAX {
        shown.push(format!("and {} more", notes.len() - NOTES_MAX));
    }
    shown.join("; ")
}

async fn read(client: Arc<Client>, base: Base) -> Result<Vec<Group>, SourceError> {
    let url = base.itself();
    let answer = client.get(&url, "application/json").await?.success(&url)?;
    let kind =
        answer.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = answer.body.all(LIST_LEN_MAX).await?;
    from_json(&url, &body).map_err(|error| match (error, kind) {
        // A page of a proxy or a log-in, most likely.
        (SourceError::Malformed { place, .. }, Some(kind)) if !kind.starts_with("application/json") => {
            let message = format!("{kind:?} in place of a JSON list of target groups; check the URL");
            SourceError::Malformed { place, message }
        }
        (error, _) => error,
    })
}

impl Source for HttpSource {
    fn session<'a>(&'a mut self, sink: &'a Sink) -> Session<'a> {
        Box::pin(async move {
            let session = self.poll(sink).await;
            self.members.ended(session)
        })
    }
}
