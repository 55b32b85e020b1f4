//! What is asked of a member: all keys below a prefix, how many there are, and what happens to them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::wire::{Failure, KeyValue, Prefix, Range};
use crate::http::{Answer, Base, Client, Lines, Url, from_json, refused};
use crate::source::SourceError;

const JSON: &str = "application/json";
/// Keys of one page.
const PAGE: u32 = 2_000;
/// Largest page, and largest line of a watch: a transaction of 128 values of 1.5 MiB, in base 64.
pub(super) const ANSWER_LEN_MAX: usize = 300 * 1024 * 1024;
/// Keys that are read.
const KEYS_MAX: usize = 2_000_000;
/// Largest error.
const FAILURE_LEN_MAX: usize = 64 * 1024;

/// One member of a cluster.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) client: Arc<Client>,
    pub(super) base: Base,
    pub(super) prefix: Arc<Prefix>,
    pub(super) timeout: Duration,
}

impl Api {
    /// All keys with their values, as of one revision.
    pub(super) async fn list(&self) -> Result<(Vec<KeyValue>, u64), SourceError> {
        let (mut all, mut revision): (Vec<KeyValue>, u64) = (Vec::new(), 0);
        loop {
            let after = all.last().map(|kv| &*kv.key);
            let page = self.range(self.prefix.page(after, revision, PAGE)).await?;
            if revision == 0 {
                revision = page.header.revision;
            }
            let more = page.more && !page.kvs.is_empty();
            all.extend(page.kvs);
            if all.len() > KEYS_MAX {
                let message = format!("more than {KEYS_MAX} keys; choose a longer `prefix`");
                return Err(SourceError::Malformed { place: self.base.to_string(), message });
            }
            if !more {
                return Ok((all, revision));
            }
        }
    }

    /// How many keys there are. Asked of the leader, so it also tells whether there is one.
    pub(super) async fn count(&self) -> Result<u64, SourceError> {
        Ok(self.range(self.prefix.count()).await?.count)
    }

    async fn range(&self, question: String) -> Result<Range, SourceError> {
        let url = self.base.url("/v3/kv/range");
        let answer = self.client.post(&url, JSON, question).await?;
        let answer = self.success(&url, answer).await?;
        let body = answer.body.all(ANSWER_LEN_MAX).await?;
        from_json(&url, &body)
    }

    /// The events since `revision`.
    pub(super) async fn watch(&self, revision: u64) -> Result<Lines, SourceError> {
        let url = self.base.url("/v3/watch");
        let answer = self.client.post(&url, JSON, self.prefix.watch(revision)).await?;
        Ok(Lines::new(self.success(&url, answer).await?.body, ANSWER_LEN_MAX))
    }

    async fn success(&self, url: &Url, answer: Answer) -> Result<Answer, SourceError> {
        if answer.status.is_success() {
            return Ok(answer);
        }
        let status = answer.status;
        let body = timeout(self.timeout, answer.body.all(FAILURE_LEN_MAX)).await;
        let said = body.ok().and_then(Result::ok);
        let said = said.and_then(|body| serde_json::from_slice::<Failure>(&body).ok());
        Err(match said.filter(|said| !said.message.is_empty()) {
            Some(said) => self.failure(status.as_u16(), &said.message),
            None => refused(url, status),
        })
    }

    /// The error for what etcd says, by an answer or on a watch.
    pub(super) fn failure(&self, status: u16, said: &str) -> SourceError {
        let place = self.base.to_string();
        let says = |word: &str| said.contains(word);
        let of = |status: u16, advice: &str| SourceError::Status {
            place: place.clone(),
            status,
            hint: format!(": {said}; {advice}"),
        };
        if says("permission denied") {
            of(403, "the user's roles must grant reading the prefix")
        } else if says("user name is empty") || says("auth token") || says("auth store is old") {
            // 400 from some versions; as 401 it makes a new login.
            of(401, "check [source.auth]")
        } else if says("no leader") || says("leader changed") || says("request timed out") {
            of(503, "the cluster has no leader at present; the next URL is tried")
        } else if says("compacted") {
            of(COMPACTED, "all is listed anew")
        } else {
            of(status, "see etcd's log")
        }
    }
}

/// Stands for a revision that is no longer there. HTTP's word for it is Gone.
pub(super) const COMPACTED: u16 = 410;
