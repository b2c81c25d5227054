//! The routes of operators for sagas, on the listener of the operations.

use std::sync::Arc;

use axum::extract::State;
use es_http::operations::Operator;
use es_http::{Json, NoInput, Path, Problem, Query};
use es_saga::SagaAdmin;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::input::{MAX_LIMIT, UnversionedWrite, recorded_name};
use super::openapi::ProblemDetails;
use crate::failure::Failure;
use crate::fulfilment::{ProviderClient, StockAndMoney};
use crate::sagas::{self, DEFAULT_LIMIT, SagaAction, SagaReport, SagaSummary, UNREADABLE, saga_id};
use crate::shop::Shop;

/// What the routes share.
#[derive(Debug)]
struct SagaRoutes {
    shop: Shop,
    admin: SagaAdmin,
    provider: Option<ProviderClient>,
}

/// Returns the routes. The report needs a provider.
pub(super) fn saga_routes(shop: Shop, provider: Option<ProviderClient>) -> OpenApiRouter {
    let admin = SagaAdmin::new(shop.shared_store());
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(report))
        .routes(routes!(show, act))
        .with_state(Arc::new(SagaRoutes { shop, admin, provider }))
}

/// The parameters of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListParameters {
    /// Also the sagas that have ended.
    #[serde(default)]
    all: bool,
    /// The maximum number of sagas, at most 10000.
    limit: Option<usize>,
}

/// Lists sagas: those that have not ended, or all.
#[utoipa::path(
    get, path = "/sagas", tag = "sagas", params(ListParameters),
    responses((status = 200, description = "The sagas.", body = Vec<SagaSummary>))
)]
async fn list(
    State(routes): State<Arc<SagaRoutes>>,
    Query(ListParameters { all, limit }): Query<ListParameters>,
) -> Result<Json<Vec<SagaSummary>>, Problem> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT);
    let mut found = match all {
        true => sagas::all(&routes.shop, &routes.admin, limit).await?,
        false => sagas::unfinished(&routes.admin, limit).await?,
    };
    found.iter_mut().filter(|saga| saga.phase == UNREADABLE).for_each(hide_cause);
    Ok(Json(found))
}

/// Logs why a saga cannot be read, which can name files of the machine, and replaces it in the response.
fn hide_cause(saga: &mut SagaSummary) {
    let cause = saga.reason.replace("it cannot be read; the log of the service has the cause".to_owned());
    tracing::error!(saga = saga.saga, cause, "a saga cannot be read");
}

/// Counts the sagas, and compares the stock and the money with them. 503 without a provider that answers.
#[utoipa::path(
    get, path = "/sagas/report", tag = "sagas",
    responses((status = 200, description = "The report.", body = StockAndMoney))
)]
async fn report(State(routes): State<Arc<SagaRoutes>>, _: NoInput) -> Result<Json<StockAndMoney>, Problem> {
    let provider = routes.provider.as_ref().ok_or(Failure::NoProvider)?;
    Ok(Json(StockAndMoney::compute(&routes.shop, async || Ok(provider.effects().await?)).await?))
}

/// Returns a saga with its steps. The id is that of the saga, or of the order.
#[utoipa::path(
    get, path = "/sagas/{id}", tag = "sagas",
    params(("id" = String, Path, description = "The saga, or the order.")),
    responses(
        (status = 200, description = "The saga.", body = SagaReport),
        (status = 404, description = "The saga does not exist.",
         body = ProblemDetails,
         content_type = "application/problem+json"),
    )
)]
async fn show(
    State(routes): State<Arc<SagaRoutes>>,
    Path(id): Path<String>,
    _: NoInput,
) -> Result<Json<SagaReport>, Problem> {
    Ok(Json(sagas::show(&routes.admin, &saga_id(&id)?).await?))
}

/// Performs an action on a saga. It is durable then, and recorded with the operator and the reason.
#[utoipa::path(
    post, path = "/sagas/{id}", tag = "sagas",
    params(("id" = String, Path, description = "The saga, or the order.")),
    request_body = SagaAction,
    responses(
        (status = 200, description = "The saga after the action.", body = SagaSummary),
        (status = 404, description = "The saga does not exist.",
         body = ProblemDetails,
         content_type = "application/problem+json"),
        UnversionedWrite,
    )
)]
async fn act(
    State(routes): State<Arc<SagaRoutes>>,
    operator: Operator,
    Path(id): Path<String>,
    _: UnversionedWrite,
    Json(action): Json<SagaAction>,
) -> Result<Json<SagaSummary>, Problem> {
    let by = recorded_name(&operator, action.by.as_deref());
    Ok(Json(sagas::act(&routes.admin, &saga_id(&id)?, &action, &by).await?))
}
