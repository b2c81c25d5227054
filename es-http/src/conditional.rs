//! [`Preconditions`]: conditional requests (RFC 9110, section 13).

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use es_core::aggregate::Execute;
use es_core::model::{OneOrder, Version};
use es_core::store::{Conflict, FailedCheck};
use es_core::{Aggregate, Evolve, ExpectedRevision, Repository, Revision};
use serde::Serialize;

use crate::entity_tag::TagCondition;
use crate::problem::kind;
use crate::{EntityTag, Json, Problem};

/// The headers `If-Match` and `If-None-Match` of a request. It is an extractor.
///
/// | request | header | meaning |
/// |---|---|---|
/// | GET | `If-None-Match: "3"` | 304 if the version is 3 |
/// | GET, write | `If-Match: "3"` | 412 if the version is not 3 |
/// | write | `If-Match: *` | 412 if the aggregate does not exist |
/// | write | `If-None-Match: *` | 412 if the aggregate exists |
///
/// Each header may be a list. A weak tag (`W/"3"`) never matches in `If-Match`. A header that is not a list of tags is
/// 400.
///
/// ```
/// # use es_core::prelude::*;
/// # #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, Event)]
/// # #[event(name = "shipped")] struct Shipped;
/// # #[derive(Clone, Debug, Aggregate)]
/// # #[aggregate(category = "order", id = u64, event = Shipped)]
/// # struct Order;
/// # impl Evolve for Order {
/// #     fn initial(_: &u64) -> Self { Self }
/// #     fn evolve(&mut self, _: &Shipped, _: &EventContext<'_>) {}
/// # }
/// # #[derive(Clone)] struct Ship;
/// # impl Decide<Ship> for Order {
/// #     type Rejection = &'static str;
/// #     fn decide(&self, _: Ship, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, &'static str> {
/// #         Ok(Shipped.into())
/// #     }
/// # }
/// use axum::extract::State;
/// use es_http::{EntityTag, Path, Preconditions, Problem};
///
/// async fn ship(
///     State(orders): State<std::sync::Arc<Repository<Order>>>,
///     Path(id): Path<u64>,
///     preconditions: Preconditions,
/// ) -> Result<(Option<EntityTag>, &'static str), Problem> {
///     let condition = preconditions.condition(&orders, &id).await?;
///     let shipped = condition.apply(orders.execute(&id, Ship)).await;
///     let shipped = shipped.map_err(|error| preconditions.problem(error))?;
///     Ok((shipped.version().map(EntityTag::from), "shipped"))
/// }
/// # use {axum::{Router, routing::post}, std::sync::Arc};
/// # let _: Router<Arc<Repository<Order>>> = Router::new().route("/{id}", post(ship));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preconditions {
    if_match: Option<TagCondition>,
    if_none_match: Option<TagCondition>,
}

impl Preconditions {
    /// Parses the headers of a request.
    ///
    /// # Errors
    /// 400 if a header is neither `*` nor a list of tags.
    pub fn of_headers(headers: &HeaderMap) -> Result<Self, Problem> {
        let if_match = TagCondition::of_header(headers, &header::IF_MATCH)?;
        let if_none_match = TagCondition::of_header(headers, &header::IF_NONE_MATCH)?;
        Ok(Self { if_match, if_none_match })
    }

    /// Returns whether the request has none of the headers.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.if_match.is_none() && self.if_none_match.is_none()
    }

    /// Returns the response to a GET request for an aggregate with this version: 200 with the body and an `ETag`, 304
    /// if the client has this version, or 412.
    pub fn respond(&self, version: Option<Version>, body: impl Serialize) -> Response {
        let tag = version.map(EntityTag::from);
        if let Some(detail) = self.unmet_if_match(version) {
            return (tag, failed(detail)).into_response();
        }
        if self.if_none_match.as_ref().is_some_and(|condition| condition.matches_weakly(version)) {
            return (StatusCode::NOT_MODIFIED, tag, ()).into_response();
        }
        (tag, Json(body)).into_response()
    }

    /// Checks the headers of a request that changes something other than the aggregate, such as the start of a saga for
    /// it. `version` is the version of the aggregate, which may change after the check.
    ///
    /// # Errors
    /// 412 if a condition does not hold.
    pub fn check(&self, version: Option<Version>) -> Result<(), Problem> {
        self.unmet(version).map_or(Ok(()), |detail| Err(failed(detail)))
    }

    /// Returns what does not hold at a version, in the terms of the request.
    fn unmet(&self, current: Option<Version>) -> Option<String> {
        self.unmet_if_match(current).or_else(|| self.unmet_if_none_match(current))
    }

    fn unmet_if_match(&self, current: Option<Version>) -> Option<String> {
        let condition = self.if_match.as_ref().filter(|condition| !condition.matches_strongly(current))?;
        let expected = match condition {
            TagCondition::Any => "a version".to_owned(),
            TagCondition::List(_) => condition.to_string(),
        };
        let found = current.map_or_else(|| "none".to_owned(), |version| EntityTag::from(version).to_string());
        let hint = if condition.has_weak_tag() { "; a weak tag never matches" } else { "" };
        Some(format!("If-Match: expected {expected}, found {found}{hint}"))
    }

    fn unmet_if_none_match(&self, current: Option<Version>) -> Option<String> {
        let condition = self.if_none_match.as_ref().filter(|condition| condition.matches_weakly(current))?;
        let expected = match condition {
            TagCondition::Any => "no version".to_owned(),
            TagCondition::List(_) => format!("another version than {condition}"),
        };
        Some(format!("If-None-Match: expected {expected}, found {}", EntityTag::from(current?)))
    }

    /// Returns what did not hold of a conflict with the conditions of this request; `None` for another conflict.
    fn unmet_at_commit(&self, conflict: &Conflict) -> Option<String> {
        let actual = conflict.failed.iter().find(|check| self.is_condition(check)).map(|check| match check {
            FailedCheck::Version { actual, .. } => *actual,
            FailedCheck::Revision { actual, .. } => actual.map(Version::from),
            _ => None,
        })?;
        Some(format!("{}; nothing was written: reload and decide again", self.unmet(actual)?))
    }

    /// Returns whether a check of a commit is the condition of this request, and not one of the command itself.
    fn is_condition(&self, check: &FailedCheck) -> bool {
        match (self.without_state(), check) {
            (Some(WriteCondition::Version(version)), FailedCheck::Version { expected, .. }) => *expected == version,
            (None, FailedCheck::Version { .. }) => true,
            (_, FailedCheck::Revision { expected, .. }) => match expected {
                ExpectedRevision::NoStream | ExpectedRevision::StreamExists => true,
                ExpectedRevision::Exact(revision) => *revision == UNREACHABLE,
                ExpectedRevision::Any => false,
            },
            _ => false,
        }
    }

    /// Returns the condition of a command. Only lists of several tags and `If-None-Match` with tags load the aggregate.
    ///
    /// A condition that does not hold is reported by the execution of the command, so that a repeated command with the
    /// same id returns its first result.
    ///
    /// # Errors
    /// The problem of a failed load.
    pub async fn condition<A: Evolve>(
        &self,
        repository: &Repository<A>,
        id: &A::Id,
    ) -> Result<WriteCondition, Problem> {
        match self.without_state() {
            Some(condition) => Ok(condition),
            // The future of a load is large, and most requests need none.
            None => Ok(self.with_state(Box::pin(repository.load(id)).await?.version())),
        }
    }

    /// Returns the condition if it does not depend on the version of the resource.
    fn without_state(&self) -> Option<WriteCondition> {
        match (&self.if_match, &self.if_none_match) {
            (None, None) => Some(WriteCondition::None),
            (None, Some(TagCondition::Any)) => Some(WriteCondition::Missing),
            (Some(TagCondition::Any), None) => Some(WriteCondition::Exists),
            (Some(TagCondition::List(tags)), None) => {
                let mut versions = tags.iter().filter_map(EntityTag::version);
                match (versions.next(), versions.next()) {
                    (None, _) => Some(WriteCondition::Never),
                    (Some(version), None) => Some(WriteCondition::Version(version)),
                    (Some(_), Some(_)) => None,
                }
            }
            (_, Some(_)) => None,
        }
    }

    fn with_state(&self, current: Option<Version>) -> WriteCondition {
        let is_matched = self.if_match.as_ref().is_none_or(|condition| condition.matches_strongly(current));
        let is_excluded = self.if_none_match.as_ref().is_some_and(|condition| condition.matches_weakly(current));
        match current {
            _ if !is_matched || is_excluded => WriteCondition::Never,
            Some(version) => WriteCondition::Version(version),
            None => WriteCondition::Missing,
        }
    }

    /// Returns the problem of a failed command. A conflict is 412 if the request has a precondition, otherwise 409. The
    /// detail of a 412 has the header and the version that was found.
    pub fn problem(&self, error: impl Into<Problem>) -> Problem {
        let problem = error.into();
        if self.is_empty() {
            return problem;
        }
        problem.conflict_as_precondition(|conflict| self.unmet_at_commit(conflict))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Preconditions {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::of_headers(&parts.headers)
    }
}

fn failed(detail: String) -> Problem {
    Problem::new(StatusCode::PRECONDITION_FAILED, detail).with_type(kind::PRECONDITION)
}

/// What must be true of an aggregate when a command is committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WriteCondition {
    /// Nothing.
    #[default]
    None,
    /// The aggregate does not exist.
    Missing,
    /// The aggregate exists.
    Exists,
    /// The aggregate has this version.
    Version(Version),
    /// The condition never holds: the request names no version that the aggregate can have.
    Never,
}

/// No event has this revision, so no aggregate meets it.
const UNREACHABLE: Revision = Revision::new(u64::MAX);

impl WriteCondition {
    /// Adds the condition to a command.
    pub fn apply<A, C>(self, command: Execute<'_, A, C>) -> Execute<'_, A, C>
    where
        A: Aggregate<Level: OneOrder>,
    {
        match self {
            Self::None => command,
            Self::Missing => command.expecting(ExpectedRevision::NoStream),
            Self::Exists => command.expecting(ExpectedRevision::StreamExists),
            Self::Version(version) => command.at_version(version),
            Self::Never => command.at_revision(UNREACHABLE),
        }
    }
}
