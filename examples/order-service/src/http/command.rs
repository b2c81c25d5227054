//! Requests that execute a command: their headers and their responses.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use es_core::model::Metadata;
use es_core::{Aggregate, Evolve, Executed, Outcome, Repository, Revision};
use es_http::{Authenticated, EntityTag, EsPosition, IdempotencyKey, Json, Preconditions, Problem, RequestContext};
use serde::Serialize;

use super::Api;
use crate::failure::Failure;
use crate::moment::Moment;
use crate::shop::CommandOptions;

/// The key of the name of the authenticated client in the metadata of events.
pub const ACTOR_KEY: &str = "actor";

/// The headers of a command: `If-Match` and `If-None-Match`, `Idempotency-Key`, and those of its context.
#[derive(Debug)]
pub(super) struct CommandHeaders {
    preconditions: Preconditions,
    key: Option<IdempotencyKey>,
    metadata: Metadata,
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
            condition: self.preconditions.condition(repository, id).await?,
            command_id: self.key.clone().map(|IdempotencyKey(id)| id),
            metadata: self.metadata.clone(),
        })
    }

    /// Returns the response to a failed command. A conflict is 412 if the request has a precondition, otherwise 409.
    pub(super) fn problem(&self, failure: impl Into<Failure>) -> Problem {
        self.preconditions.problem(failure.into())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for CommandHeaders {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let context = RequestContext::from_request_parts(parts, state).await?;
        let mut metadata = context.metadata();
        if let Some(client) = parts.extensions.get::<Authenticated>() {
            metadata = metadata.with(ACTOR_KEY, client.name.as_str());
        }
        let preconditions = Preconditions::of_headers(&parts.headers)?;
        let key = IdempotencyKey::of_headers(&parts.headers)?;
        Ok(Self { preconditions, key, metadata })
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
