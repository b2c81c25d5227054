//! Parameters that several routes share.

use axum::http::StatusCode;
use es_core::model::Category;
use es_core::retention::Scope;
use es_core::{ExpectedRevision, StreamId};
use serde::Deserialize;

use crate::Problem;

/// The longest time that a request waits for news.
pub(super) const MAX_WAIT_SECONDS: u64 = 20;

/// A stream or a category.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScopeParameters {
    pub(super) stream: Option<StreamId>,
    pub(super) category: Option<Category>,
    pub(super) by: Option<String>,
    pub(super) reason: Option<String>,
}

/// Returns the scope of a stream or a category, of which one at most may be given.
pub(super) fn scope(stream: Option<StreamId>, category: Option<Category>) -> Result<Option<Scope>, Problem> {
    match (stream, category) {
        (None, None) => Ok(None),
        (Some(stream), None) => Ok(Some(Scope::Stream(stream))),
        (None, Some(category)) => Ok(Some(Scope::Category(category))),
        (Some(_), Some(_)) => Err(bad("expected one of stream and category, found both")),
    }
}

/// Parses an expected revision: `any`, `none`, `exists` or a revision.
pub(super) fn expected(text: Option<&str>) -> Result<ExpectedRevision, Problem> {
    Ok(match text {
        None | Some("any") => ExpectedRevision::Any,
        Some("none") => ExpectedRevision::NoStream,
        Some("exists") => ExpectedRevision::StreamExists,
        Some(number) => {
            let revision = number.parse();
            let invalid = |_| Problem::invalid("expect", "any, none, exists or a revision from 0", number);
            ExpectedRevision::Exact(revision.map_err(invalid)?)
        }
    })
}

pub(super) fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}
