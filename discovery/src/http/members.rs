//! The members of one API: asked in turn, beginning with the one that answered last.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Base, Client, Limits};
use crate::config::ApiConfig;
use crate::source::SourceError;

/// URLs of one API and the client for it, kept between the sessions of a source.
pub(crate) struct Members {
    api: ApiConfig,
    limits: Limits,
    headers: HeaderMap,
    client: Option<Arc<Client>>,
    /// Which member is asked first.
    first: usize,
}

impl core::fmt::Debug for Members {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Members")
            .field("urls", &self.api.urls)
            .field("first", &self.first)
            .finish_non_exhaustive()
    }
}

impl Members {
    /// Mistakes in URLs, keys and certificates show when a member is asked.
    pub(crate) fn new(api: &ApiConfig, limits: Limits) -> Self {
        Self { api: api.clone(), limits, headers: HeaderMap::new(), client: None, first: 0 }
    }

    /// Sends this header with every request.
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// What `ask` gets from the first member that gives it.
    ///
    /// # Errors
    /// That of the member asked last; [`SourceError::Setup`] if there is none to ask.
    pub(crate) async fn ask<T, F: Future<Output = Result<T, SourceError>> + Send>(
        &mut self,
        ask: impl Fn(Arc<Client>, Base) -> F,
    ) -> Result<T, SourceError> {
        let members = self.api.urls.iter().map(|url| Base::parse(url)).collect::<Result<Vec<_>, _>>()?;
        let Some(first) = members.first() else {
            return Err(SourceError::Setup { message: "the source needs `urls`".to_owned() });
        };
        let client = self.client(first)?;
        let mut last = None;
        for step in 0..members.len() {
            let at = (self.first + step) % members.len();
            match ask(Arc::clone(&client), members[at].clone()).await {
                Ok(given) => {
                    self.first = at;
                    return Ok(given);
                }
                Err(error) => {
                    tracing::debug!(member = %members[at], %error, "a member does not give what is asked");
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or(SourceError::Stopping))
    }

    fn client(&mut self, first: &Base) -> Result<Arc<Client>, SourceError> {
        if let Some(client) = &self.client {
            return Ok(Arc::clone(client));
        }
        let client = Client::new(&self.api.auth, &self.api.tls, first, self.limits)?;
        Ok(Arc::clone(self.client.insert(Arc::new(client.with_headers(self.headers.clone())))))
    }

    /// Takes in how a session ended, and says why it did: after an error another member goes first, or secrets and
    /// certificates are read again.
    pub(crate) fn ended(&mut self, session: Result<(), SourceError>) -> SourceError {
        let error = session.err().unwrap_or(SourceError::Stopping);
        self.note(&error);
        error
    }

    fn note(&mut self, error: &SourceError) {
        match error {
            SourceError::Stopping | SourceError::Ended { .. } => {}
            SourceError::Status { status: 401 | 403, .. } | SourceError::Setup { .. } => self.client = None,
            SourceError::Connect { .. } => {
                // Certificates may have been replaced on disk.
                self.client = None;
                self.first += 1;
            }
            SourceError::Status { .. } | SourceError::Malformed { .. } | SourceError::Idle { .. } => {
                self.first += 1;
            }
        }
    }
}
