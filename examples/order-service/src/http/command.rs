//! The headers of requests to one order or product, and the responses to commands.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use es_core::model::{Metadata, Version};
use es_core::{Aggregate, Evolve, Executed, Outcome, Repository, Revision};
use es_http::{
    Authenticated, EntityTag, EsPosition, IdempotencyKey, Json, NoParameters, Preconditions, Problem, RequestContext,
};
use serde::Serialize;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::{RefOr, Response as DocumentedResponse};
use utoipa::{IntoParams, IntoResponses};

use super::Api;
use super::input::header;
use super::openapi::problems;
use crate::failure::Failure;
use crate::moment::Moment;
use crate::shop::CommandOptions;

/// The key of the name of the authenticated client in the metadata of events.
pub const ACTOR_KEY: &str = "actor";

/// The headers of a request that has an effect at most once without a key: `If-Match` and `If-None-Match`, and those of
/// its context. It has no parameters of the query.
#[derive(Debug)]
pub(super) struct ConditionHeaders {
    preconditions: Preconditions,
    metadata: Metadata,
}

impl ConditionHeaders {
    /// Checks the conditions for a request that writes to another stream than that of the order or product, which has
    /// this version.
    pub(super) fn check(&self, version: Option<Version>) -> Result<(), Problem> {
        self.preconditions.check(version)
    }

    /// Returns the metadata of the events of the request: its trace, its tenant and its client.
    pub(super) fn into_metadata(self) -> Metadata {
        self.metadata
    }
}

/// The headers of a command: those of [`ConditionHeaders`], and `Idempotency-Key`.
#[derive(Debug)]
pub(super) struct CommandHeaders {
    conditions: ConditionHeaders,
    key: Option<IdempotencyKey>,
}

impl CommandHeaders {
    /// Returns the options of a command to an aggregate.
    pub(super) async fn options<A: Evolve>(
        &self,
        repository: &Repository<A>,
        id: &A::Id,
        occurred_at: Option<Moment>,
    ) -> Result<CommandOptions, Problem> {
        Ok(CommandOptions {
            occurred_at: occurred_at.map(Moment::start),
            condition: self.conditions.preconditions.condition(repository, id).await?,
            command_id: self.key.clone().map(|IdempotencyKey(id)| id),
            metadata: self.conditions.metadata.clone(),
        })
    }

    /// Returns the response to a failed command. A conflict is 412 if the request has a precondition, otherwise 409.
    pub(super) fn problem(&self, failure: impl Into<Failure>) -> Problem {
        self.conditions.preconditions.problem(failure.into())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ConditionHeaders {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        NoParameters::from_request_parts(parts, state).await?;
        let context = RequestContext::from_request_parts(parts, state).await?;
        let mut metadata = context.metadata();
        // Without tokens, requests have no client.
        if let Ok(client) = Authenticated::from_request_parts(parts, state).await {
            metadata = metadata.with(ACTOR_KEY, client.name.as_str());
        }
        let preconditions = Preconditions::of_headers(&parts.headers)?;
        Ok(Self { preconditions, metadata })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for CommandHeaders {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let conditions = ConditionHeaders::from_request_parts(parts, state).await?;
        Ok(Self { conditions, key: IdempotencyKey::of_headers(&parts.headers)? })
    }
}

/// Returns the response to an executed command: 201 if it created the aggregate, otherwise 200.
pub(super) fn response<A: Aggregate>(api: &Arc<Api>, executed: &Executed<A>, body: impl Serialize) -> Response {
    let is_new = executed.outcome == Outcome::Done && executed.revision == Some(Revision::FIRST);
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let tag = executed.version().map(EntityTag::from);
    let position = executed.position.map(|position| EsPosition::in_store(api.shop.store(), Some(position)));
    (status, tag, position, Json(body)).into_response()
}

impl IntoParams for ConditionHeaders {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            header("If-Match", "Executes the command only at one of these versions; `*` for any version."),
            header("If-None-Match", "`*` executes the command only if the order or product does not exist."),
            header("X-Correlation-ID", "The correlation id of the events, a UUID."),
            header("traceparent", "The trace of the caller (W3C Trace Context)."),
        ]
    }
}

impl IntoParams for CommandHeaders {
    fn into_params(parameter_in: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut parameters = ConditionHeaders::into_params(parameter_in);
        let key = header("Idempotency-Key", "Executes the command at most once for this key, a string in quotes.");
        parameters.push(key);
        parameters
    }
}

/// The errors of a request that needs no key.
impl IntoResponses for ConditionHeaders {
    fn responses() -> BTreeMap<String, RefOr<DocumentedResponse>> {
        problems(&[
            (404, "The order or product does not exist."),
            (408, "The body did not arrive in time."),
            (409, "The state does not permit the request, or another writer was faster."),
            (410, "Events of the order or product were removed."),
            (412, "A condition of the request does not hold."),
            (415, "A body is not declared as JSON."),
            (422, "The request has a body with a member."),
        ])
    }
}

/// The errors of a command.
impl IntoResponses for CommandHeaders {
    fn responses() -> BTreeMap<String, RefOr<DocumentedResponse>> {
        problems(&[
            (404, "The order or product does not exist."),
            (408, "The body did not arrive in time."),
            (409, "The state does not permit the command, or another writer was faster."),
            (410, "The command was executed before, and its result was removed."),
            (412, "A condition of the request does not hold."),
            (415, "The body is not declared as JSON."),
            (422, "The body has an invalid value or an unknown member, or the key belongs to another request."),
        ])
    }
}
