//! [`ProviderClient`]: the client of the provider of payments and shipments.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use es_saga::{ErrorClass, SagaId, StepKey};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Response;

use crate::provider::{PaymentStatus, ProviderError, RecordedEffect};

/// The time in which the provider must answer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The time in which the provider must return all effects.
const EFFECTS_TIMEOUT: Duration = Duration::from_secs(60);
/// The maximum length of an answer in bytes.
const MAX_ANSWER: u64 = 1 << 30;

/// A client of the provider. Cheap to clone.
#[derive(Clone)]
pub struct ProviderClient {
    url: Arc<str>,
    agent: Agent,
}

impl fmt::Debug for ProviderClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderClient").field("url", &self.url).finish_non_exhaustive()
    }
}

impl ProviderClient {
    /// Returns a client of the provider at a URL, such as `http://127.0.0.1:8090`.
    #[must_use]
    pub fn new(url: &str) -> Self {
        let config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(TIMEOUT)).build();
        Self { url: url.trim_end_matches('/').into(), agent: config.into() }
    }

    /// Takes a payment, or sends an invoice to a customer who pays later.
    ///
    /// # Errors
    /// [`ProviderError`] with what is known of the effect; the same for the other requests.
    pub async fn pay(&self, key: StepKey, saga: &SagaId, cents: u64) -> Result<RecordedEffect, ProviderError> {
        self.post("payments", key, json!({ "saga": saga, "cents": cents })).await
    }

    /// Refunds a payment, or closes an invoice.
    ///
    /// # Errors
    /// [`ProviderError`] with what is known of the effect.
    pub async fn refund(&self, key: StepKey, saga: &SagaId, of: StepKey) -> Result<RecordedEffect, ProviderError> {
        self.post("refunds", key, json!({ "saga": saga, "of": of })).await
    }

    /// Ships a parcel.
    ///
    /// # Errors
    /// [`ProviderError`] with what is known of the effect.
    pub async fn ship(&self, key: StepKey, saga: &SagaId) -> Result<RecordedEffect, ProviderError> {
        self.post("shipments", key, json!({ "saga": saga })).await
    }

    /// Cancels a shipment.
    ///
    /// # Errors
    /// [`ProviderError`] with what is known of the effect.
    pub async fn cancel_shipment(
        &self,
        key: StepKey,
        saga: &SagaId,
        of: StepKey,
    ) -> Result<RecordedEffect, ProviderError> {
        self.post("cancellations", key, json!({ "saga": saga, "of": of })).await
    }

    /// Reminds the customer of an invoice.
    ///
    /// # Errors
    /// [`ProviderError`] with what is known of the effect.
    pub async fn remind(&self, key: StepKey, saga: &SagaId, of: StepKey) -> Result<RecordedEffect, ProviderError> {
        self.post("reminders", key, json!({ "saga": saga, "of": of })).await
    }

    /// Returns the status of a payment.
    ///
    /// # Errors
    /// [`ProviderError`] if the provider does not answer.
    pub async fn payment_status(&self, key: StepKey) -> Result<PaymentStatus, ProviderError> {
        let (agent, url) = (self.agent.clone(), format!("{}/payments/{key}", self.url));
        send(move || agent.get(url).call()).await
    }

    /// Returns all effects, in their order.
    ///
    /// # Errors
    /// [`ProviderError`] if the provider does not answer.
    pub async fn effects(&self) -> Result<Vec<RecordedEffect>, ProviderError> {
        let (agent, url) = (self.agent.clone(), format!("{}/effects", self.url));
        send(move || agent.get(url).config().timeout_global(Some(EFFECTS_TIMEOUT)).build().call()).await
    }

    async fn post(&self, path: &str, key: StepKey, body: Value) -> Result<RecordedEffect, ProviderError> {
        let request = self.agent.post(format!("{}/{path}", self.url)).header("idempotency-key", format!("\"{key}\""));
        send(move || request.send_json(&body)).await
    }
}

/// Sends a request on a blocking thread and decodes the answer.
async fn send<T: DeserializeOwned + Send + 'static>(
    request: impl FnOnce() -> Result<Response<ureq::Body>, ureq::Error> + Send + 'static,
) -> Result<T, ProviderError> {
    let sent = tokio::task::spawn_blocking(move || {
        let mut response = request().map_err(|error| unanswered(&error))?;
        let body = response.body_mut().with_config().limit(MAX_ANSWER).read_to_string();
        let body = body.map_err(|error| ambiguous(format!("sent an incomplete answer: {error}")))?;
        if !response.status().is_success() {
            return Err(refused(response.status().as_u16(), &body));
        }
        serde_json::from_str(&body).map_err(|error| ambiguous(format!("sent an unexpected answer: {error}")))
    });
    sent.await.unwrap_or_else(|error| Err(ambiguous(format!("could not be called: {error}"))))
}

fn ambiguous(detail: String) -> ProviderError {
    ProviderError { class: ErrorClass::Ambiguous, detail }
}

/// Returns the error of a request without an answer. If there was no connection, there is no effect.
fn unanswered(error: &ureq::Error) -> ProviderError {
    let is_unreached = match error {
        ureq::Error::Io(error) => error.kind() == io::ErrorKind::ConnectionRefused,
        ureq::Error::ConnectionFailed | ureq::Error::HostNotFound => true,
        _ => false,
    };
    let class = if is_unreached { ErrorClass::Transient } else { ErrorClass::Ambiguous };
    ProviderError { class, detail: format!("did not answer: {error}") }
}

/// Returns the error of an answer with an error status.
fn refused(status: u16, body: &str) -> ProviderError {
    let class = match status {
        429 | 503 => ErrorClass::Transient,
        400..500 => ErrorClass::Terminal,
        _ => ErrorClass::Ambiguous,
    };
    let problem = serde_json::from_str::<Value>(body).ok();
    let detail = problem.as_ref().and_then(|problem| problem.get("detail")?.as_str()).unwrap_or(body);
    ProviderError { class, detail: format!("answered {status}: {detail}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_tells_what_is_known_of_the_effect() {
        let expected = [
            (503, ErrorClass::Transient),
            (429, ErrorClass::Transient),
            (422, ErrorClass::Terminal),
            (410, ErrorClass::Terminal),
            (504, ErrorClass::Ambiguous),
            (500, ErrorClass::Ambiguous),
            (302, ErrorClass::Ambiguous),
        ];
        for (status, class) in expected {
            assert_eq!(refused(status, "{\"detail\":\"no\"}").class, class, "{status}");
        }
        assert_eq!(refused(422, "{\"detail\":\"no\"}").to_string(), "the provider answered 422: no");
        let refused_connection = ureq::Error::Io(io::ErrorKind::ConnectionRefused.into());
        assert_eq!(unanswered(&refused_connection).class, ErrorClass::Transient);
        let reset = ureq::Error::Io(io::ErrorKind::ConnectionReset.into());
        assert_eq!(unanswered(&reset).class, ErrorClass::Ambiguous);
    }
}
