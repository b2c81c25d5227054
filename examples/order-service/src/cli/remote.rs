//! [`Remote`]: an HTTP client of a running service.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::Agent;
use ureq::http::Response;

use crate::failure::Failure;
use crate::projections::{ParkedKeyJson, ProjectionAction, ProjectionJson};

/// An HTTP client of a running service.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    url: String,
    agent: Agent,
}

impl Remote {
    pub(super) fn new(url: &str) -> Self {
        let config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(30)));
        Self { url: url.trim_end_matches('/').to_owned(), agent: config.build().into() }
    }

    pub(super) async fn status(&self) -> Result<Vec<ProjectionJson>, Failure> {
        self.get("/projections".into()).await
    }

    pub(super) async fn parked(&self, name: &str) -> Result<Vec<ParkedKeyJson>, Failure> {
        self.get(format!("/projections/{name}/parked")).await
    }

    pub(super) async fn act(&self, name: &str, action: &ProjectionAction) -> Result<Vec<ProjectionJson>, Failure> {
        let (agent, action, url) = (self.agent.clone(), action.clone(), format!("{}/projections/{name}", self.url));
        self.send(move || agent.post(url).send_json(&action)).await
    }

    async fn get<T: DeserializeOwned + Send + 'static>(&self, path: String) -> Result<T, Failure> {
        let (agent, url) = (self.agent.clone(), format!("{}{path}", self.url));
        self.send(move || agent.get(url).call()).await
    }

    /// Sends a request on a blocking thread and decodes the JSON response.
    async fn send<T: DeserializeOwned + Send + 'static>(
        &self,
        request: impl FnOnce() -> Result<Response<ureq::Body>, ureq::Error> + Send + 'static,
    ) -> Result<T, Failure> {
        let sent = tokio::task::spawn_blocking(move || {
            let mut response = request().map_err(|error| format!("did not respond: {error}"))?;
            let body = response.body_mut().read_to_string();
            let body = body.map_err(|error| format!("sent an incomplete response: {error}"))?;
            if !response.status().is_success() {
                let problem = serde_json::from_str::<Value>(&body).ok();
                let detail = problem.as_ref().and_then(|problem| problem.get("detail")?.as_str()).unwrap_or(&body);
                return Err(format!("rejected the request: {detail}"));
            }
            serde_json::from_str(&body).map_err(|error| format!("sent an unexpected response: {error}"))
        });
        let result = sent.await.unwrap_or_else(|error| Err(format!("could not be called: {error}")));
        result.map_err(|detail| Failure::Remote { url: self.url.clone(), detail })
    }
}
