//! [`Service`]: an HTTP client of the operations of a running service, for `es --url`.

mod connection;
#[cfg(unix)]
mod unix;

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::Agent;
use ureq::http::{Method, Request, StatusCode};

pub use connection::Credentials;

use crate::failure::Failure;
use crate::service_error::ServiceError;

/// The longest answer in bytes: a page of events ends after 4 MiB, and an event has at most 16 MiB.
const MAX_ANSWER_BYTES: u64 = 64 * 1024 * 1024;

/// The operations of a running service.
#[derive(Debug, Clone)]
pub struct Service {
    /// The address, as the operator gave it.
    address: String,
    /// The beginning of the URL of each request, without a `/` at its end.
    base: String,
    agent: Agent,
    /// The value of the header `Authorization`.
    authorization: Option<String>,
}

/// The target of a command.
#[derive(Debug, Clone)]
pub enum Target {
    /// The directory of a store.
    Directory(PathBuf),
    /// A running service.
    Service(Service),
}

impl Service {
    /// Returns the address, as the operator gave it.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Sends a request without a body.
    pub(crate) async fn send<T>(&self, method: Method, path: &str, query: &[(&str, String)]) -> Result<T, Failure>
    where
        T: DeserializeOwned + Send + 'static,
    {
        self.call(method, path, query, None).await
    }

    /// Sends a GET request.
    pub(crate) async fn get<T>(&self, path: &str, query: &[(&str, String)]) -> Result<T, Failure>
    where
        T: DeserializeOwned + Send + 'static,
    {
        self.send(Method::GET, path, query).await
    }

    /// Sends a request with a JSON body.
    pub(crate) async fn send_json<T>(&self, method: Method, path: &str, body: &Value) -> Result<T, Failure>
    where
        T: DeserializeOwned + Send + 'static,
    {
        self.call(method, path, &[], Some(body.to_string())).await
    }

    async fn call<T>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<String>,
    ) -> Result<T, Failure>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let mut url = format!("{}{path}", self.base);
        for (index, (name, value)) in query.iter().enumerate() {
            url += &format!("{}{name}={}", if index == 0 { '?' } else { '&' }, encoded(value));
        }
        let mut request = Request::builder().method(method).uri(url);
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        if body.is_some() {
            request = request.header("Content-Type", "application/json");
        }
        let agent = self.agent.clone();
        let sent = tokio::task::spawn_blocking(move || run(&agent, request, body));
        let result = sent.await.unwrap_or_else(|error| Err(ServiceError::Call { detail: error.to_string() }));
        result.map_err(|error| Failure::Service { address: self.address.clone(), source: error })
    }
}

/// Sends a request on a blocking thread, and decodes the answer.
fn run<T: DeserializeOwned>(
    agent: &Agent,
    request: ureq::http::request::Builder,
    body: Option<String>,
) -> Result<T, ServiceError> {
    let call = |error: &dyn std::fmt::Display| ServiceError::Call { detail: error.to_string() };
    let request = request.body(body.unwrap_or_default()).map_err(|error| call(&error))?;
    let mut response = agent.run(request).map_err(|error| call(&error))?;
    let text = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_string();
    let text = text.map_err(|error| ServiceError::Answer { detail: error.to_string() })?;
    let status = response.status();
    if !status.is_success() {
        return Err(refusal(status, &text));
    }
    serde_json::from_str(&text).map_err(|error| ServiceError::Answer { detail: error.to_string() })
}

/// Returns the error of a response with problem details (RFC 9457), or with another body.
fn refusal(status: StatusCode, body: &str) -> ServiceError {
    let problem = serde_json::from_str::<Value>(body).ok();
    let detail = problem.as_ref().and_then(|problem| problem.get("detail")?.as_str());
    let mut detail = detail.map_or_else(|| format!("the response has the status {status}"), ToOwned::to_owned);
    if status == StatusCode::UNAUTHORIZED {
        detail += "; give --token-file or set ES_TOKEN";
    }
    ServiceError::Refused { status: status.as_u16(), detail }
}

/// Encodes a part of a path or a query: all bytes except the unreserved ones of RFC 3986.
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_encoded_for_a_path_and_a_query() {
        assert_eq!(encoded("order-1"), "order-1");
        assert_eq!(encoded("a/b?c&d=e f+%ä"), "a%2Fb%3Fc%26d%3De%20f%2B%25%C3%A4");
    }

    #[test]
    fn a_refusal_is_the_detail_of_a_problem() {
        let problem = r#"{"status":404,"detail":"expected stream \"a\", found none"}"#;
        let ServiceError::Refused { status: 404, detail } = refusal(StatusCode::NOT_FOUND, problem) else { panic!() };
        assert_eq!(detail, "expected stream \"a\", found none");
        let other = refusal(StatusCode::BAD_GATEWAY, "<html>").to_string();
        assert!(other.contains("502"), "{other}");
    }
}
