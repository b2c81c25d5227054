//! One attempt of a call: a request over HTTP, and its response.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use es_core::model::CoordinatorEpoch;
use ureq::{Error, RequestBuilder};

use super::options::Sender;
use crate::transactions::wire::{MAX_BODY_BYTES, ParticipantCall};

/// The header with the transaction and the operation. Calls are idempotent without it; proxies and logs can use it.
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
/// The maximum length of the list of transactions in doubt in bytes: more than 100,000 transactions.
const MAX_IN_DOUBT_BYTES: usize = 16 * 1024 * 1024;

/// A call as a request. It is sent again after a failure.
#[derive(Debug, Clone)]
pub(super) struct CallRequest {
    pub(super) call: ParticipantCall,
    /// The epoch of the transaction, or of the question for transactions in doubt.
    pub(super) epoch: CoordinatorEpoch,
    pub(super) url: Arc<str>,
    /// The time in which the call must succeed, with its repetitions.
    pub(super) limit: Duration,
    /// The key and the JSON body. `None` for a `GET`.
    pub(super) post: Option<Post>,
}

/// What only a `POST` has.
#[derive(Debug, Clone)]
pub(super) struct Post {
    pub(super) key: Arc<str>,
    pub(super) body: Bytes,
}

/// A response.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// An attempt got no answer of the participant.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallFailure {
    /// The message of `ureq` contains that of its source.
    #[error("could not call {request}")]
    Transport { request: String, source: Error },
    #[error("{request} did not succeed within {} ms", .limit.as_millis())]
    Timeout { request: String, limit: Duration },
    #[error("{request} was answered with {status}: {detail}")]
    Busy { request: String, status: StatusCode, detail: String },
    #[error("the answer to {request} is not that of a participant: expected {expected}, found {found}; check the URL")]
    Unexpected { request: String, expected: String, found: String },
    #[error("the answer to {request} has more than {max} bytes")]
    TooLong { request: String, max: usize },
    /// The task of the attempt panicked, or the runtime was shut down.
    #[error("could not run {request}")]
    Task { request: String, source: tokio::task::JoinError },
}

impl fmt::Display for CallRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", if self.post.is_some() { "POST" } else { "GET" }, self.url)
    }
}

impl CallRequest {
    /// Returns the error of a call without an answer in time.
    pub(super) fn overdue(&self) -> CallFailure {
        CallFailure::Timeout { request: self.to_string(), limit: self.limit }
    }
}

impl CallFailure {
    /// Returns whether another attempt may succeed within the time of the call.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Busy { .. } => true,
            Self::Transport { source, .. } => match source {
                // An invalid certificate, on either side.
                Error::Io(error) => error.kind() != io::ErrorKind::InvalidData,
                Error::HostNotFound | Error::ConnectionFailed => true,
                _ => false,
            },
            _ => false,
        }
    }
}

/// Sends a request and reads the response, on the thread of the caller.
pub(super) fn exchange(sender: &Sender, request: &CallRequest, timeout: Duration) -> Result<Reply, CallFailure> {
    let max = match request.call {
        ParticipantCall::InDoubt => MAX_IN_DOUBT_BYTES,
        _ => MAX_BODY_BYTES,
    };
    let failed = |error| match error {
        Error::Timeout(_) => request.overdue(),
        Error::BodyExceedsLimit(_) => CallFailure::TooLong { request: request.to_string(), max },
        source => CallFailure::Transport { request: request.to_string(), source },
    };
    let response = match &request.post {
        None => with_headers(sender, sender.agent.get(&*request.url), timeout).call(),
        Some(Post { key, body }) => with_headers(sender, sender.agent.post(&*request.url), timeout)
            .header(IDEMPOTENCY_KEY, format!("\"{key}\""))
            .content_type("application/json")
            .send(&body[..]),
    };
    let (parts, mut body) = response.map_err(failed)?.into_parts();
    let body = body.with_config().limit(max as u64).read_to_vec().map_err(failed)?;
    Ok(Reply { status: parts.status, headers: parts.headers, body })
}

/// Adds the timeout and the headers that all requests have.
fn with_headers<B>(sender: &Sender, request: RequestBuilder<B>, timeout: Duration) -> RequestBuilder<B> {
    let request = request.config().timeout_global(Some(timeout)).build();
    let request = request.header(header::ACCEPT, "application/json, application/problem+json");
    match &sender.authorization {
        Some(authorization) => request.header(header::AUTHORIZATION, authorization),
        None => request,
    }
}
