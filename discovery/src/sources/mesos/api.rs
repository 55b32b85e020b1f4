//! What is asked of a master.

use std::sync::Arc;
use std::time::Duration;

use http::{StatusCode, header};
use serde_json::value::RawValue;

use super::snapshot::{Framework, listens_at, read_framework};
use super::wire::{self, text};
use crate::http::{Answer, Base, Body, Client, Url};
use crate::source::SourceError;

const JSON: &str = "application/json";
const CALLS: &str = "/api/v1";
const SUBSCRIBE: &str = r#"{"type":"SUBSCRIBE"}"#;
const GET_MASTER: &str = r#"{"type":"GET_MASTER"}"#;
/// `/state` and its like, in the form that every master since 0.20 has, and the newer one.
const STATE: [&str; 2] = ["/master/state", "/state"];
const SUMMARY: [&str; 2] = ["/master/state-summary", "/state-summary"];
/// Largest whole cluster: a document at `/state`, or a record of the stream. 50,000 tasks are about 50 MB.
pub(super) const CLUSTER_LEN_MAX: usize = 1024 * 1024 * 1024;
/// Answers of a few lines.
const SMALL_LEN_MAX: usize = 1024 * 1024;
/// Redirects on the way to the leader.
const HOPS_MAX: usize = 3;

/// A master, and how it is spoken to.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) client: Arc<Client>,
    pub(super) base: Base,
}

/// Who leads, by its own word.
#[derive(Debug, Clone, Default)]
pub(super) struct Leader {
    pub(super) id: Option<String>,
    pub(super) elected: Option<f64>,
    pub(super) at: Option<(String, u16)>,
}

/// What came of asking for the stream.
pub(super) enum Stream {
    Open(Api, Body),
    /// This master leads and offers no stream to us: it may be older, or not allow it.
    Refused(Api, StatusCode),
}

impl Api {
    pub(super) fn new(client: &Arc<Client>, base: &Base) -> Self {
        Self { client: Arc::clone(client), base: base.clone() }
    }

    /// Asks for the stream, here or where this master sends us.
    ///
    /// # Errors
    /// It is not known whether there is one: no connection, no leader.
    pub(super) async fn subscribe(&self) -> Result<Stream, SourceError> {
        let (api, answer) = self.call(SUBSCRIBE).await?;
        let status = answer.status;
        if status.is_success() {
            return Ok(Stream::Open(api, answer.body));
        }
        match status.as_u16() {
            // Beside these, 501 is what a server says that knows no POST.
            500 | 502..=599 | 300..=399 => Err(crate::http::refused(&api.base.url(CALLS), status)),
            _ => Ok(Stream::Refused(api, status)),
        }
    }

    /// Who leads.
    ///
    /// # Errors
    /// It is not known.
    pub(super) async fn leader(&self) -> Result<Leader, SourceError> {
        let (api, answer) = self.call(GET_MASTER).await?;
        let url = api.base.url(CALLS);
        let body = answer.success(&url)?.body.all(SMALL_LEN_MAX).await?;
        let told: wire::GetMaster<'_> =
            serde_json::from_slice(&body).map_err(|error| malformed(&url, error.to_string()))?;
        let told = told.get_master.unwrap_or_default();
        let info = told.master_info.unwrap_or_default();
        Ok(Leader { id: text(&info.id).map(str::to_owned), elected: told.elected_time, at: listens(&info) })
    }

    async fn call(&self, body: &'static str) -> Result<(Self, Answer), SourceError> {
        let mut api = self.clone();
        for _ in 0..HOPS_MAX {
            let url = api.base.url(CALLS);
            let answer = api.client.post(&url, JSON, body).await?;
            match api.redirected(&answer, &url, CALLS)? {
                Some(next) => api.base = next,
                None => return Ok((api, answer)),
            }
        }
        Err(malformed(&api.base.url(CALLS), "too many redirects: the masters do not agree who leads"))
    }

    /// Where a redirect leads. The member that gives it is trusted with its leader's name as with everything else, but
    /// not into clear text.
    fn redirected(&self, answer: &Answer, from: &Url, target: &str) -> Result<Option<Base>, SourceError> {
        if !answer.status.is_redirection() {
            return Ok(None);
        }
        let location = answer.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
        let to = location.and_then(|location| from.follow(location).ok());
        let Some(to) = to else { return Err(malformed(from, "a redirect without a usable Location")) };
        if to.origin.tls != from.origin.tls && from.origin.tls {
            return Err(malformed(from, "a redirect from TLS into clear text is not followed"));
        }
        // Some proxies leave the path out.
        let base = Base::of(&to, target).unwrap_or_else(|| self.base.at(&to));
        Ok(Some(base))
    }

    /// The document at `/state`, and the master that gave it.
    ///
    /// # Errors
    /// There is none.
    pub(super) async fn state(&self) -> Result<(Self, Vec<u8>), SourceError> {
        self.document(STATE).await
    }

    /// The frameworks of `/state-summary`: where their schedulers listen.
    ///
    /// # Errors
    /// They are not known.
    pub(super) async fn schedulers(&self) -> Result<Vec<Framework>, SourceError> {
        let (api, document) = self.document(SUMMARY).await?;
        let summary: wire::Summary<'_> = serde_json::from_slice(&document)
            .map_err(|error| malformed(&api.base.url(SUMMARY[1]), error.to_string()))?;
        let read = |raw: &&RawValue| read_framework(raw).ok().map(|(framework, _)| framework);
        Ok(summary.frameworks.iter().flatten().filter_map(read).collect())
    }

    async fn document(&self, targets: [&'static str; 2]) -> Result<(Self, Vec<u8>), SourceError> {
        let mut api = self.clone();
        let (mut target, mut hops) = (targets[0], 0);
        loop {
            let url = api.base.url(target);
            let answer = api.client.get(&url, JSON).await?;
            if answer.status == StatusCode::NOT_FOUND && target == targets[0] {
                target = targets[1];
                continue;
            }
            match api.redirected(&answer, &url, target)? {
                Some(_) if hops == HOPS_MAX => {
                    return Err(malformed(&url, "too many redirects: the masters do not agree who leads"));
                }
                Some(next) => (api.base, hops) = (next, hops + 1),
                None => {
                    let body = answer.success(&url)?.body.all(CLUSTER_LEN_MAX).await?;
                    return Ok((api, body));
                }
            }
        }
    }
}

/// Where a master listens, by its own description.
pub(super) fn listens(info: &wire::MasterInfo<'_>) -> Option<(String, u16)> {
    let port = |number: Option<wire::Number>| number.and_then(|number| number.0).filter(|port| *port != 0);
    let address = info.address.as_ref();
    let given = address.and_then(|address| {
        let host = text(&address.ip).or_else(|| text(&address.hostname))?;
        Some((host.to_owned(), port(address.port)?))
    });
    // The oldest form: four octets in the order of the machine that wrote them, which was little-endian.
    let packed = || Some((core::net::Ipv4Addr::from(info.ip?.to_le_bytes()).to_string(), port(info.port)?));
    let pid = || text(&info.pid).and_then(listens_at).map(|(host, port)| (host.to_string(), port));
    given.or_else(packed).or_else(pid)
}

pub(super) fn malformed(url: &Url, message: impl Into<String>) -> SourceError {
    SourceError::Malformed { place: url.to_string(), message: message.into() }
}

/// A length of time, up to a fifth longer or shorter: many edge nodes must not strike together.
pub(super) fn jittered(time: Duration) -> Duration {
    time.mul_f64(0.8 + 0.4 * fastrand::f64())
}
