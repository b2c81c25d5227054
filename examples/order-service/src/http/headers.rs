//! Request headers of commands (`If-Match`, `If-None-Match`, `Idempotency-Key`) and response headers (`ETag`,
//! `ES-Position`).

use std::fmt::Display;

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use es_core::model::{LogId, LogPosition, Version};
use es_core::{Aggregate, CommandId, Executed, Outcome, Position, Revision};
use serde::Serialize;

use super::problem::{Precondition, Problem};
use crate::failure::Failure;
use crate::moment::Moment;
use crate::shop::CommandOptions;

/// The response header with the position of a command's last event, as `LOG:POSITION`.
pub(super) const POSITION: HeaderName = HeaderName::from_static("es-position");
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The headers of a command: `If-Match`, `If-None-Match: *`, `Idempotency-Key`.
#[derive(Debug)]
pub(super) struct CommandHeaders {
    options: CommandOptions,
    /// Whether the request has `If-None-Match: *`: the aggregate must not exist.
    must_be_new: bool,
}

impl CommandHeaders {
    /// Returns the options for a command with this business time.
    pub(super) fn options(&self, occurred_at: Option<Moment>) -> CommandOptions {
        CommandOptions { occurred_at: occurred_at.map(Moment::start), ..self.options.clone() }
    }

    /// Returns the response for a failure of the command.
    pub(super) fn problem(&self, failure: impl Into<Failure>) -> Problem {
        let has_precondition = self.options.expected_version.is_some() || self.must_be_new;
        let precondition = if has_precondition { Precondition::Present } else { Precondition::Absent };
        Problem::of(&failure.into(), precondition)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for CommandHeaders {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let headers = &parts.headers;
        let command_id = single_value(headers, IDEMPOTENCY_KEY)?.map(command_id).transpose()?;
        let must_be_new = match single_value(headers, header::IF_NONE_MATCH.as_str())? {
            None => false,
            Some("*") => true,
            Some(other) => return Err(Problem::invalid("If-None-Match", "*", other)),
        };
        let expected_version = expected_version(headers)?;
        Ok(Self { options: CommandOptions { occurred_at: None, expected_version, command_id }, must_be_new })
    }
}

/// Returns the command id in `Idempotency-Key`.
fn command_id(key: &str) -> Result<CommandId, Problem> {
    let invalid = |error| Problem::new(StatusCode::BAD_REQUEST, format!("Idempotency-Key: {error}"));
    CommandId::new(key).map_err(invalid)
}

/// Returns the version in `If-Match`.
fn expected_version(headers: &HeaderMap) -> Result<Option<Version>, Problem> {
    let Some(tag) = single_value(headers, header::IF_MATCH.as_str())? else { return Ok(None) };
    let version = version(tag);
    version.map(Some).ok_or_else(|| Problem::invalid("If-Match", "an ETag in quotes, as in \"3\"", tag))
}

fn version(tag: &str) -> Option<Version> {
    tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}

/// Returns whether `If-None-Match` contains the current version.
fn is_not_modified(headers: &HeaderMap, current: Option<Version>) -> bool {
    let tags = headers.get_all(header::IF_NONE_MATCH);
    let mut tags = tags.iter().filter_map(|tag| tag.to_str().ok()).flat_map(|list| list.split(','));
    current.is_some() && tags.any(|tag| version(tag.trim().trim_start_matches("W/")) == current)
}

/// Returns the response for an executed command; `name` is the aggregate in an error message, as in `order A-1`.
pub(super) fn command_response<A: Aggregate>(
    log_id: LogId,
    headers: &CommandHeaders,
    executed: &Executed<A>,
    name: impl Display,
    body: impl Serialize,
) -> Result<Response, Problem> {
    if headers.must_be_new && executed.outcome == Outcome::Unchanged {
        return Err(Problem::precondition_failed(format!("{name} already exists")));
    }
    let is_new = executed.outcome == Outcome::Done && executed.revision == Some(Revision::FIRST);
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let position = executed.position.map(|position| (log_id, position));
    Ok((status, version_headers(executed.version(), position), Json(body)).into_response())
}

/// Returns the response to a GET request for an aggregate with this version: 304 if the client has it already.
pub(super) fn resource_response(
    request_headers: &HeaderMap,
    version: Option<Version>,
    body: impl Serialize,
) -> Response {
    let headers = version_headers(version, None);
    if is_not_modified(request_headers, version) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, Json(body)).into_response()
}

/// Returns the response headers for a version (`ETag`) and a position in a log (`ES-Position`).
pub(super) fn version_headers(version: Option<Version>, position: Option<(LogId, Position)>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let tag = version.and_then(|version| HeaderValue::try_from(format!("\"{version}\"")).ok());
    headers.extend(tag.map(|tag| (header::ETAG, tag)));
    let position = position.map(|(log_id, position)| LogPosition::in_log(log_id, Some(position)).to_string());
    let position = position.and_then(|position| HeaderValue::try_from(position).ok());
    headers.extend(position.map(|position| (POSITION, position)));
    headers
}

/// Returns the value of a header that must occur at most once.
fn single_value<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let invalid = |_| Problem::invalid(name, "visible ASCII characters", "other characters");
            Ok(Some(value.to_str().map_err(invalid)?))
        }
        (Some(_), Some(_)) => Err(Problem::invalid(name, "one value", "several values")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_a_version_in_quotes() {
        assert_eq!(version("\"3\""), Some(Revision::new(3).into()));
        for other in ["3", "\"\"", "\"-1\"", "\"x\"", "\"3", "*", ""] {
            assert_eq!(version(other), None, "{other}");
        }
    }

    #[test]
    fn if_none_match_may_be_a_list_of_etags() {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("\"1\", W/\"4\""));
        assert!(is_not_modified(&headers, Some(Revision::new(4).into())));
        assert!(!is_not_modified(&headers, Some(Revision::new(2).into())));
        assert!(!is_not_modified(&headers, None));
    }
}
