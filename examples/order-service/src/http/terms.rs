//! What the headers of a request demand, and what those of an answer say.

use std::fmt::Display;

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use es_core::model::Version;
use es_core::{Aggregate, Executed, Outcome, Position, Revision};
use serde::Serialize;

use super::problem::Problem;
use crate::failure::Failure;
use crate::moment::Moment;
use crate::shop::Terms;

/// Says the position of the last event that a command led to.
pub(super) const POSITION: HeaderName = HeaderName::from_static("es-position");
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// What a command demands: `If-Match`, `If-None-Match: *`, `Idempotency-Key`.
#[derive(Debug)]
pub(super) struct Demands {
    terms: Terms,
    /// Whether there must be nothing yet.
    only_new: bool,
}

impl Demands {
    /// The terms of a command that happens at `moment`.
    pub(super) fn terms(&self, moment: Option<Moment>) -> Terms {
        Terms { occurred_at: moment.map(Moment::first), ..self.terms.clone() }
    }

    /// What a failure of the command is to the one who sent it.
    pub(super) fn problem(&self, failure: impl Into<Failure>) -> Problem {
        Problem::of(&failure.into(), self.terms.expected.is_some() || self.only_new)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Demands {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let headers = &parts.headers;
        let request = text(headers, IDEMPOTENCY_KEY)?.map(str::parse).transpose()?;
        let only_new = match text(headers, header::IF_NONE_MATCH.as_str())? {
            None => false,
            Some("*") => true,
            Some(other) => return Err(Problem::not_understood("If-None-Match", "*", other)),
        };
        Ok(Self { terms: Terms { occurred_at: None, expected: expected(headers)?, request }, only_new })
    }
}

/// The version that `If-Match` demands.
fn expected(headers: &HeaderMap) -> Result<Option<Version>, Problem> {
    let Some(tag) = text(headers, header::IF_MATCH.as_str())? else { return Ok(None) };
    let version = version(tag);
    version.map(Some).ok_or_else(|| Problem::not_understood("If-Match", "an ETag in quotes, as in \"3\"", tag))
}

fn version(tag: &str) -> Option<Version> {
    tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}

/// Returns whether the caller has this version already (`If-None-Match`).
fn is_known(headers: &HeaderMap, current: Option<Version>) -> bool {
    let tags = headers.get_all(header::IF_NONE_MATCH);
    let mut tags = tags.iter().filter_map(|tag| tag.to_str().ok()).flat_map(|list| list.split(','));
    current.is_some() && tags.any(|tag| version(tag.trim().trim_start_matches("W/")) == current)
}

/// The answer to a command that was executed on what `name` names.
pub(super) fn executed<A: Aggregate>(
    demands: &Demands,
    executed: &Executed<A>,
    name: impl Display,
    done: impl Serialize,
) -> Result<Response, Problem> {
    if demands.only_new && executed.outcome == Outcome::Unchanged {
        return Err(Problem::precondition(format!("{name} exists")));
    }
    let is_new = executed.outcome == Outcome::Done && executed.revision == Some(Revision::FIRST);
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, about(executed.version(), executed.position), Json(done)).into_response())
}

/// The answer to a request for something that has a version.
pub(super) fn shown(headers: &HeaderMap, version: Option<Version>, shown: impl Serialize) -> Response {
    let about = about(version, None);
    if is_known(headers, version) {
        return (StatusCode::NOT_MODIFIED, about).into_response();
    }
    (about, Json(shown)).into_response()
}

/// The headers of an answer about something that has a version.
pub(super) fn about(version: Option<Version>, position: Option<Position>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let tag = version.and_then(|version| HeaderValue::try_from(format!("\"{version}\"")).ok());
    headers.extend(tag.map(|tag| (header::ETAG, tag)));
    headers.extend(position.map(|position| (POSITION, HeaderValue::from(position.get()))));
    headers
}

/// The one value of a header.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let text = value.to_str().map_err(|_| Problem::not_understood(name, "visible ASCII", "something else"))?;
            Ok(Some(text))
        }
        (Some(_), Some(_)) => Err(Problem::not_understood(name, "one value", "several")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_a_version_in_quotes() {
        assert_eq!(version("\"3\""), Some(Revision::new(3).into()));
        for other in ["3", "\"\"", "\"-1\"", "\"x\"", "\"3", "*", ""] {
            assert_eq!(version(other), None, "{other}");
        }
    }

    #[test]
    fn a_known_version_may_stand_in_a_list() {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("\"1\", W/\"4\""));
        assert!(is_known(&headers, Some(Revision::new(4).into())));
        assert!(!is_known(&headers, Some(Revision::new(2).into())));
        assert!(!is_known(&headers, None));
    }
}
