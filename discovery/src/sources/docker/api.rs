//! What is asked of an engine, in the newest version of its API that it has.

use std::sync::Arc;

use http::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::wire::{Container, Info, Listed, Node, Service, Task};
use crate::http::{Base, Client, Lines};
use crate::source::SourceError;

const JSON: &str = "application/json";
/// Largest answer.
pub(super) const ANSWER_LEN_MAX: usize = 256 * 1024 * 1024;
/// Largest event: a few labels.
const EVENT_LEN_MAX: usize = 1024 * 1024;

/// One engine.
#[derive(Debug, Clone)]
pub(super) struct Api {
    pub(super) client: Arc<Client>,
    pub(super) base: Base,
}

impl Api {
    /// The events of these types from now on.
    pub(super) async fn events(&self, types: &[&str]) -> Result<Lines, SourceError> {
        let url = self.base.url(&format!("/events?filters={}", filters(&json!({"type": types}))));
        let answer = self.client.get(&url, JSON).await?.success(&url)?;
        Ok(Lines::new(answer.body, EVENT_LEN_MAX))
    }

    /// The containers that run, or nearly.
    pub(super) async fn containers(&self) -> Result<Vec<Listed>, SourceError> {
        let states = json!({"status": ["running", "paused", "restarting"]});
        self.get(&format!("/containers/json?filters={}", filters(&states))).await
    }

    /// One container; `None` if it is gone.
    pub(super) async fn container(&self, id: &str) -> Result<Option<Container>, SourceError> {
        let url = self.base.url(&format!("/containers/{}/json", utf8_percent_encode(id, NON_ALPHANUMERIC)));
        let answer = self.client.get(&url, JSON).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        answer.json(&url, ANSWER_LEN_MAX).await.map(Some)
    }

    pub(super) async fn info(&self) -> Result<Info, SourceError> {
        self.get("/info").await
    }

    pub(super) async fn services(&self) -> Result<Vec<Service>, SourceError> {
        self.get("/services").await
    }

    /// One service of the swarm; `None` if it is gone.
    pub(super) async fn service(&self, id: &str) -> Result<Option<Service>, SourceError> {
        let services: Vec<Service> =
            self.get(&format!("/services?filters={}", filters(&json!({"id": [id]})))).await?;
        Ok(services.into_iter().find(|service| service.id == id))
    }

    /// The tasks of one service, or of all.
    pub(super) async fn tasks(&self, service: Option<&str>) -> Result<Vec<Task>, SourceError> {
        match service {
            Some(service) => {
                self.get(&format!("/tasks?filters={}", filters(&json!({"service": [service]})))).await
            }
            None => self.get("/tasks").await,
        }
    }

    pub(super) async fn nodes(&self) -> Result<Vec<Node>, SourceError> {
        self.get("/nodes").await
    }

    async fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, SourceError> {
        let url = self.base.url(target);
        let answer = self.client.get(&url, JSON).await?;
        if answer.status == StatusCode::SERVICE_UNAVAILABLE {
            // Of a worker that is asked for the swarm's services.
            let hint = ": not a manager of a swarm; name managers in `urls`".to_owned();
            return Err(SourceError::Status { place: url.to_string(), status: 503, hint });
        }
        answer.json(&url, ANSWER_LEN_MAX).await
    }
}

fn filters(filters: &Value) -> String {
    utf8_percent_encode(&filters.to_string(), NON_ALPHANUMERIC).to_string()
}
