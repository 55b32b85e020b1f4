//! One GET of the admin API.

use core::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer read: a table of a million endpoints.
const ANSWER_MAX: usize = 1 << 30;

/// The body of `GET <base><path>`.
pub(super) async fn get(base: &str, path: &str) -> Result<Bytes> {
    let asking = ask(base, path);
    let answer = tokio::time::timeout(TIMEOUT, asking).await;
    answer.unwrap_or_else(|_| bail!("{base} does not answer within {} s", TIMEOUT.as_secs()))
}

async fn ask(base: &str, path: &str) -> Result<Bytes> {
    let url = format!("{base}{path}");
    if !url.starts_with("http://") {
        bail!("{base} is not an http:// URL");
    }
    let request = Request::get(&url).header(header::ACCEPT, "application/json").body(Empty::<Bytes>::new());
    let request = request.with_context(|| format!("{url} is not a URL"))?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let unreachable = || format!("no daemon answers at {base}; is it running? (--admin URL names another)");
    let response = client.request(request).await.with_context(unreachable)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("the answer of {base} broke off: {error}"))?.to_bytes();
    if !status.is_success() {
        let said: String = String::from_utf8_lossy(&body).trim().chars().take(300).collect();
        bail!("{base} answers {status}: {said}");
    }
    Ok(body)
}
