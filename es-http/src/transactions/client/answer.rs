//! What a response means.

use axum::http::{HeaderValue, StatusCode, header};
use es_core::model::CoordinatorEpoch;
use es_transaction::ParticipantError;
use serde::Deserialize;

use super::exchange::{CallFailure, CallRequest, Reply};
use crate::extract::is_json;
use crate::problem::{CONTENT_TYPE, kind, shortened};
use crate::transactions::wire::ParticipantCall;

/// The longest part of the detail of a problem that an error repeats, in characters.
const MAX_DETAIL: usize = 1000;

/// An attempt of a call failed.
#[derive(Debug)]
pub(super) enum AttemptError {
    /// The participant did not answer.
    Unanswered(CallFailure),
    /// The participant answered with an error, which another attempt would not change.
    Answered(ParticipantError),
}

/// The members of a problem that a participant answers with.
#[derive(Debug, Default, Deserialize)]
struct ProblemMembers {
    r#type: Option<String>,
    detail: Option<String>,
    known: Option<CoordinatorEpoch>,
}

/// Returns the JSON of a successful answer; of a `forget`, which has no content, the JSON `null`.
pub(super) fn read(participant: &str, request: &CallRequest, reply: Reply) -> Result<Vec<u8>, AttemptError> {
    match (reply.status, request.call) {
        (StatusCode::NO_CONTENT, ParticipantCall::Forget) => Ok(b"null".to_vec()),
        (StatusCode::OK, call) if call != ParticipantCall::Forget => {
            let content_type = reply.headers.get(header::CONTENT_TYPE);
            if content_type.is_some_and(is_json) {
                return Ok(reply.body);
            }
            Err(unexpected(request, "Content-Type: application/json", described(content_type)))
        }
        _ => Err(failed(participant, request, &reply)),
    }
}

/// Returns the error of an answer that cannot be decoded.
pub(super) fn undecodable(request: &CallRequest, error: &serde_json::Error) -> CallFailure {
    let (expected, found) = (format!("the answer to {}", request.call.name()), shortened(&error.to_string()));
    CallFailure::Unexpected { request: request.to_string(), expected, found }
}

/// Returns the error of a response with another status than that of a success.
fn failed(participant: &str, request: &CallRequest, reply: &Reply) -> AttemptError {
    let status = reply.status;
    let problem = problem_members(reply);
    let is_problem = problem.is_some();
    let ProblemMembers { r#type, detail, known } = problem.unwrap_or_default();
    let detail = detail.unwrap_or_default().chars().filter(|c| !c.is_control()).take(MAX_DETAIL).collect::<String>();
    let described = || format!("{request} was answered with {status}: {detail}");
    let name = || participant.to_owned();
    let answered = match (status, r#type.as_deref()) {
        (StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT, _) => {
            return AttemptError::Unanswered(CallFailure::Busy { request: request.to_string(), status, detail });
        }
        (_, Some(kind::TRANSACTION_FENCED)) => return fenced(request, known),
        (_, Some(kind::TRANSACTION_UNREADABLE)) => {
            ParticipantError::Unreadable { participant: name(), detail: described() }
        }
        (_, Some(kind::TRANSACTION_UNSUPPORTED)) => ParticipantError::Unsupported { operation: request.call.name() },
        _ if status.is_client_error() && is_problem => {
            ParticipantError::Refused { participant: name(), detail: described() }
        }
        // The page of a proxy, for example: nothing is concluded from it, and the call is repeated.
        _ if status.is_redirection() => {
            let location = reply.headers.get(header::LOCATION);
            return unexpected(request, "no redirect", format!("{status} to {}", self::described(location)));
        }
        _ if is_problem => return unexpected(request, "a success", format!("{status}: {detail}")),
        _ => return unexpected(request, "a problem (RFC 9457)", status.to_string()),
    };
    AttemptError::Answered(answered)
}

/// Returns the members of a problem; `None` if the reply is not one.
fn problem_members(reply: &Reply) -> Option<ProblemMembers> {
    let content_type = reply.headers.get(header::CONTENT_TYPE)?;
    let is_problem = content_type.as_bytes().split(|byte| *byte == b';').next()? == CONTENT_TYPE.as_bytes();
    is_problem.then(|| serde_json::from_slice(&reply.body).ok()).flatten()
}

/// Returns the error of an answer that names a later epoch. A coordinator stops at it, so that the epoch is checked.
fn fenced(request: &CallRequest, known: Option<CoordinatorEpoch>) -> AttemptError {
    let found = request.epoch.clone();
    match known {
        Some(known) if known.coordinator() == found.coordinator() && known > found => {
            AttemptError::Answered(ParticipantError::Fenced { known, found })
        }
        known => {
            let expected = format!("an epoch after {found}");
            unexpected(request, &expected, known.map_or_else(|| "none".to_owned(), |known| known.to_string()))
        }
    }
}

fn unexpected(request: &CallRequest, expected: &str, found: String) -> AttemptError {
    let (request, expected) = (request.to_string(), expected.to_owned());
    AttemptError::Unanswered(CallFailure::Unexpected { request, expected, found })
}

fn described(value: Option<&HeaderValue>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| shortened(&String::from_utf8_lossy(value.as_bytes())))
}
