//! [`Remote`]: a running service, asked over HTTP.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::Agent;
use ureq::http::Response;

use crate::failure::Failure;
use crate::projections::{ShownParked, ShownStatus, Verb};

/// A running service.
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

    pub(super) async fn status(&self) -> Result<Vec<ShownStatus>, Failure> {
        self.get("/projections".into()).await
    }

    pub(super) async fn parked(&self, name: &str) -> Result<Vec<ShownParked>, Failure> {
        self.get(format!("/projections/{name}/parked")).await
    }

    pub(super) async fn act(&self, name: &str, verb: &Verb) -> Result<Vec<ShownStatus>, Failure> {
        let (remote, verb, path) = (self.clone(), verb.clone(), format!("{}/projections/{name}", self.url));
        self.off_executor(move || remote.agent.post(path).send_json(&verb)).await
    }

    async fn get<T: DeserializeOwned + Send + 'static>(&self, path: String) -> Result<T, Failure> {
        let (remote, path) = (self.clone(), format!("{}{path}", self.url));
        self.off_executor(move || remote.agent.get(path).call()).await
    }

    async fn off_executor<T: DeserializeOwned + Send + 'static>(
        &self,
        ask: impl FnOnce() -> Result<Response<ureq::Body>, ureq::Error> + Send + 'static,
    ) -> Result<T, Failure> {
        let answer = tokio::task::spawn_blocking(move || {
            let mut response = ask().map_err(|error| format!("does not answer: {error}"))?;
            let text = response.body_mut().read_to_string().map_err(|error| format!("broke off: {error}"))?;
            if !response.status().is_success() {
                let detail = serde_json::from_str::<Value>(&text).ok();
                let detail = detail.as_ref().and_then(|problem| problem.get("detail")?.as_str()).unwrap_or(&text);
                return Err(format!("refused: {detail}"));
            }
            serde_json::from_str(&text).map_err(|error| format!("said something else than was expected: {error}"))
        });
        let answer = answer.await.unwrap_or_else(|error| Err(format!("could not be asked: {error}")));
        answer.map_err(|said| Failure::Remote { url: self.url.clone(), said })
    }
}
