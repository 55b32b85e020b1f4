//! What is asked of Consul: the names of the catalog, and the instances of one service with their health. Both may block
//! until something is newer than an index.

use std::sync::Arc;
use std::time::{Duration, Instant as Received};

use http::HeaderMap;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::{Instant, timeout};

use super::convert::{self, Converted};
use super::wire::{Catalog, Entries, Entry};
use crate::clock;
use crate::hosts::Resolver;
use crate::http::{Base, Client, Url, from_json};
use crate::source::SourceError;

const JSON: &str = "application/json";
/// Largest answer: some 100,000 instances of one service, or as many names.
pub(super) const ANSWER_LEN_MAX: usize = 256 * 1024 * 1024;
/// Consul lets a query block for this much longer than asked, so that not all return at once.
const JITTER: u32 = 16;

/// One agent or server.
#[derive(Debug, Clone)]
pub(super) struct Api {
    pub(super) client: Arc<Client>,
    pub(super) base: Base,
    pub(super) datacenter: Option<Arc<str>>,
    pub(super) resolver: Arc<Resolver>,
    /// Of a query that does not block.
    pub(super) timeout: Duration,
}

/// What is to be newer, and how long to wait for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    /// 0: do not wait.
    pub(super) index: u64,
    pub(super) wait: Duration,
}

impl Block {
    /// An answer at once.
    pub(super) const NONE: Self = Self { index: 0, wait: Duration::ZERO };
}

/// An answer, with the index that the next question names.
#[derive(Debug)]
pub(super) struct Indexed<T> {
    pub(super) index: u64,
    pub(super) received: Received,
    /// Without a token that is let in, what is answered is what nobody may see.
    pub(super) denies: bool,
    pub(super) value: T,
}

impl Api {
    /// All names that the token may see.
    pub(super) async fn catalog(&self, block: Block) -> Result<Indexed<Vec<String>>, SourceError> {
        let answer = self.ask("/v1/catalog/services", block).await?;
        answer.map(|url, body| Ok(from_json::<Catalog>(url, body)?.into_keys().collect()))
    }

    /// All instances of a service.
    pub(super) async fn health(
        &self,
        service: &str,
        block: Block,
    ) -> Result<Indexed<Converted>, SourceError> {
        let name = utf8_percent_encode(service, NON_ALPHANUMERIC);
        let answer = self.ask(&format!("/v1/health/service/{name}"), block).await?;
        let entries: Vec<Result<Entry<'_>, String>> = from_json::<Entries<'_>>(&answer.url, &answer.body)?
            .into_iter()
            .map(|entry| serde_json::from_str(entry.get()).map_err(|error| error.to_string()))
            .collect();
        let names = entries.iter().flatten().flat_map(convert::host_names).map(str::to_owned).collect();
        self.resolver.prepare(names).await;
        let converted = convert::convert(service, &entries, &*self.resolver);
        drop(entries);
        answer.map(|_, _| Ok(converted))
    }

    async fn ask(&self, path: &str, block: Block) -> Result<Raw, SourceError> {
        let mut target = format!("{path}?");
        if let Some(datacenter) = &self.datacenter {
            let datacenter = utf8_percent_encode(datacenter, NON_ALPHANUMERIC);
            target.push_str(&format!("dc={datacenter}&"));
        }
        if block.index > 0 {
            target.push_str(&format!("index={}&wait={}ms", block.index, block.wait.as_millis()));
        }
        let url = self.base.url(target.trim_end_matches(['?', '&']));
        let limit = block.wait + block.wait / JITTER + self.timeout;
        let begun = Instant::now();
        let asked = async {
            let answer = self.client.get(&url, JSON).await?.success(&url)?;
            let headers = answer.headers;
            Ok::<_, SourceError>((headers, clock::now(), answer.body.all(ANSWER_LEN_MAX).await?))
        };
        let late = |_| Err(SourceError::Idle { place: url.to_string(), seconds: begun.elapsed().as_secs() });
        let (headers, received, body) = timeout(limit, asked).await.unwrap_or_else(late)?;
        Ok(Raw { url, headers, received, body })
    }
}

/// An answer before it is read.
struct Raw {
    url: Url,
    headers: HeaderMap,
    received: Received,
    body: Vec<u8>,
}

impl Raw {
    fn map<T>(
        self,
        read: impl FnOnce(&Url, &[u8]) -> Result<T, SourceError>,
    ) -> Result<Indexed<T>, SourceError> {
        let header = |name: &str| self.headers.get(name).and_then(|value| value.to_str().ok());
        Ok(Indexed {
            index: header("x-consul-index").and_then(|index| index.parse().ok()).unwrap_or(0),
            received: self.received,
            denies: header("x-consul-default-acl-policy") == Some("deny")
                || header("x-consul-results-filtered-by-acls") == Some("true"),
            value: read(&self.url, &self.body)?,
        })
    }
}
