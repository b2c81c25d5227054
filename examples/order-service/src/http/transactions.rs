//! The routes of operators for distributed transactions, on the listener of the operations.

use std::sync::Arc;

use axum::extract::State;
use es_http::operations::Operator;
use es_http::{Json, Path, Problem, Query};
use es_transaction::StoreParticipant;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::input::{MAX_LIMIT, UnversionedWrite, recorded_name};
use super::openapi::ProblemDetails;
use crate::sagas::DEFAULT_LIMIT;
use crate::transactions::{self, TransactionAction, TransactionSummary, transaction_id};

/// Returns the routes.
pub(super) fn transaction_routes(participant: StoreParticipant) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(act)).with_state(Arc::new(participant))
}

/// The parameters of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TransactionListParameters {
    /// The maximum number of transactions of each state, at most 10000.
    limit: Option<usize>,
}

/// Lists the transactions in doubt, and those that were decided here without their coordinator.
#[utoipa::path(
    get, path = "/transactions", tag = "transactions", params(TransactionListParameters),
    responses((status = 200, description = "The transactions.", body = Vec<TransactionSummary>))
)]
async fn list(
    State(participant): State<Arc<StoreParticipant>>,
    Query(TransactionListParameters { limit }): Query<TransactionListParameters>,
) -> Result<Json<Vec<TransactionSummary>>, Problem> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT);
    Ok(Json(transactions::list(&participant, limit).await?))
}

/// Performs an action on a transaction. It is durable then, and recorded with the operator and the reason.
#[utoipa::path(
    post, path = "/transactions/{id}", tag = "transactions",
    params(("id" = String, Path, description = "The transaction.")),
    request_body = TransactionAction,
    responses(
        (status = 200, description = "The transaction after the action.", body = TransactionSummary),
        (status = 404, description = "The transaction is not in doubt here, or has no outcome to forget.",
         body = ProblemDetails,
         content_type = "application/problem+json"),
        UnversionedWrite,
    )
)]
async fn act(
    State(participant): State<Arc<StoreParticipant>>,
    operator: Operator,
    Path(id): Path<String>,
    _: UnversionedWrite,
    Json(action): Json<TransactionAction>,
) -> Result<Json<TransactionSummary>, Problem> {
    let by = recorded_name(&operator, action.by.as_deref());
    Ok(Json(transactions::act(&participant, &transaction_id(&id)?, &action, &by).await?))
}
