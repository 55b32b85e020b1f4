//! Which `Authorization` header goes with a request, and how it is renewed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::transport::{Ask, Transport};
use super::url::{Base, Url};
use crate::config::{Auth, Given, Secret};
use crate::source::SourceError;

/// Largest secret that is read from a file.
const SECRET_LEN_MAX: u64 = 64 * 1024;
/// How long the signed login token is good for: just for the login.
const LOGIN_TOKEN_LIFE: Duration = Duration::from_secs(60);
/// The lifetime asked for; the server may shorten it.
const TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);
/// A token is renewed this long before its end, or at four fifths of a shorter life.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// A login answer is a token and a few words.
const LOGIN_ANSWER_LEN_MAX: usize = 256 * 1024;

/// The credentials of one API. The lock is held over a login, so that there is never more than one at a time.
pub(super) struct Credentials {
    auth: Auth,
    login: Option<Url>,
    held: Mutex<Held>,
}

/// What to show, and a number that grows with each renewal.
#[derive(Clone)]
pub(super) struct Shown {
    pub(super) value: Option<HeaderValue>,
    pub(super) generation: u64,
}

struct Held {
    shown: Shown,
    read: bool,
    until: Option<Instant>,
}

impl Credentials {
    pub(super) fn new(auth: &Auth, base: &Base) -> Result<Self, SourceError> {
        let login = match auth {
            Auth::Dcos { login_url: Some(url), .. } => Some(Url::parse(url)?),
            Auth::Dcos { login_url: None, .. } => {
                Some(Url { origin: base.origin.clone(), target: "/acs/api/v1/auth/login".to_owned() })
            }
            _ => None,
        };
        let shown = Shown { value: None, generation: 0 };
        Ok(Self { auth: auth.clone(), login, held: Mutex::new(Held { shown, read: false, until: None }) })
    }

    /// What to show now; read, or logged in for, if there is none yet or its end is near.
    pub(super) async fn current(&self, asked: &Url, transport: &Transport) -> Result<Shown, SourceError> {
        let mut held = self.held.lock().await;
        if !held.read || held.until.is_some_and(|until| Instant::now() >= until) {
            self.obtain(&mut held, asked, transport).await?;
        }
        Ok(held.shown.clone())
    }

    /// What to show after `refused` was: the secret read again, or a new login, unless another request has
    /// done so in the meantime. `None` if there is nothing else to show.
    pub(super) async fn renew(
        &self,
        refused: u64,
        asked: &Url,
        transport: &Transport,
    ) -> Result<Option<Shown>, SourceError> {
        let mut held = self.held.lock().await;
        if held.shown.generation != refused {
            return Ok(Some(held.shown.clone()));
        }
        let before = held.shown.value.clone();
        self.obtain(&mut held, asked, transport).await?;
        Ok((held.shown.value != before).then(|| held.shown.clone()))
    }

    async fn obtain(&self, held: &mut Held, asked: &Url, transport: &Transport) -> Result<(), SourceError> {
        let (value, life) = match &self.auth {
            Auth::None => (None, None),
            Auth::Basic { username, password } => {
                let pair = format!("{username}:{}", read_secret(password).await?);
                (Some(secret_header(&format!("Basic {}", STANDARD.encode(pair)))?), None)
            }
            Auth::Bearer { token } => {
                (Some(secret_header(&format!("Bearer {}", read_secret(token).await?))?), None)
            }
            Auth::Given(Given(value)) => (Some(secret_header(value)?), None),
            Auth::Etcd { username, password } => {
                // At the member that is asked: the first may be down, and a token holds for all of them.
                let origin = asked.origin.clone();
                let url = Url { origin, target: "/v3/auth/authenticate".to_owned() };
                let login = EtcdLogin { name: username, password: &read_secret(password).await? };
                let token = exchange(&url, &login, transport).await?;
                (Some(secret_header(&token)?), None)
            }
            Auth::Dcos { uid, private_key, .. } => {
                let token = self.log_in(uid, private_key, transport).await?;
                (Some(secret_header(&format!("token={token}"))?), life_of(&token))
            }
        };
        held.shown = Shown { value, generation: held.shown.generation + 1 };
        held.until = life.map(|life| Instant::now() + life.saturating_sub(RENEW_BEFORE.min(life / 5)));
        held.read = true;
        Ok(())
    }

    async fn log_in(
        &self,
        uid: &str,
        private_key: &Secret,
        transport: &Transport,
    ) -> Result<String, SourceError> {
        let url = self.login.as_ref().ok_or_else(|| setup("no login URL"))?;
        let token = login_token(uid, &read_secret(private_key).await?)?;
        let login = Login { uid, token: &token, exp: (since_epoch() + TOKEN_LIFE).as_secs() };
        exchange(url, &login, transport).await
    }
}

/// Trades a login for a token.
async fn exchange(url: &Url, login: &impl Serialize, transport: &Transport) -> Result<String, SourceError> {
    let body = serde_json::to_vec(login).map(Bytes::from);
    let body = body.map_err(|_| setup("the login cannot be written as JSON"))?;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let answer = transport.send(Ask { method: Method::POST, url, headers, body }).await?;
    if !answer.status.is_success() {
        let hint = ": login refused; check `username` and its secret in [source.auth]".to_owned();
        return Err(SourceError::Status { place: url.to_string(), status: answer.status.as_u16(), hint });
    }
    let body = answer.body.all(LOGIN_ANSWER_LEN_MAX).await?;
    // The parser's message could quote the token; its position is enough.
    let granted: Granted = serde_json::from_slice(&body).map_err(|error| SourceError::Malformed {
        place: url.to_string(),
        message: format!("no token in the login answer, at column {}", error.column()),
    })?;
    Ok(granted.token)
}

#[derive(Serialize)]
struct EtcdLogin<'a> {
    name: &'a str,
    password: &'a str,
}

#[derive(Serialize)]
struct Claims<'a> {
    uid: &'a str,
    exp: u64,
}

#[derive(Serialize)]
struct Login<'a> {
    uid: &'a str,
    token: &'a str,
    exp: u64,
}

#[derive(Deserialize)]
struct Granted {
    token: String,
}

#[derive(Deserialize)]
struct Expiry {
    exp: u64,
}

/// The signed token that a DC/OS account logs in with.
fn login_token(uid: &str, pem: &str) -> Result<String, SourceError> {
    let key = EncodingKey::from_rsa_pem(pem.as_bytes())
        .map_err(|_| setup("the private key of [source.auth] is not an RSA key in PEM form"))?;
    let claims = Claims { uid, exp: (since_epoch() + LOGIN_TOKEN_LIFE).as_secs() };
    jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &key)
        .map_err(|_| setup("the private key of [source.auth] cannot sign a login token"))
}

/// The time left to a token, from its own (unverified) `exp` claim; `None` if it does not say.
fn life_of(token: &str) -> Option<Duration> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let expiry: Expiry = serde_json::from_slice(&claims).ok()?;
    Some(Duration::from_secs(expiry.exp).saturating_sub(since_epoch()))
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn secret_header(text: &str) -> Result<HeaderValue, SourceError> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| setup("a secret of [source.auth] holds characters that a header cannot carry"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Reads a secret; white space at its end is dropped.
///
/// # Errors
/// [`SourceError::Setup`]; the secret is not repeated.
pub(crate) async fn read_secret(secret: &Secret) -> Result<String, SourceError> {
    let text = match secret {
        Secret::File(path) => {
            let place = path.display();
            let unread = |error| setup(format!("{place}: secret cannot be read: {error}"));
            let size = tokio::fs::metadata(path).await.map_err(unread)?.len();
            if size > SECRET_LEN_MAX {
                return Err(setup(format!("{place}: too large for a secret")));
            }
            tokio::fs::read_to_string(path).await.map_err(unread)?
        }
        Secret::Env(name) => std::env::var(name)
            .map_err(|_| setup(format!("environment variable {name} is not set, or not text")))?,
        Secret::Given(given) => given.0.clone(),
    };
    let text = text.trim_end();
    if text.is_empty() { Err(setup("a secret of [source.auth] is empty")) } else { Ok(text.to_owned()) }
}

fn setup(message: impl Into<String>) -> SourceError {
    SourceError::Setup { message: message.into() }
}
