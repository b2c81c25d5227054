//! Handlers for the fulfilment of an order.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use es_http::{Json, NoInput, Path, Problem};
use es_saga::{SagaAdmin, SagaId};

use super::Api;
use super::command::ConditionHeaders;
use super::openapi::ProblemDetails;
use super::reads::{AtLeast, Read};
use crate::domain::OrderId;
use crate::failure::Failure;
use crate::fulfilment::{FULFILMENT, OrderToFulfil};
use crate::sagas::{self, SagaReport};

/// Starts the fulfilment of an order: reserves stock, takes the payment and ships. A repeat has no effect, so it needs
/// no `Idempotency-Key`, and a key is ignored. The conditions are those on the order.
#[utoipa::path(
    post, path = "/orders/{id}/fulfil", tag = "orders",
    params(("id" = OrderId, Path, description = "The order."), ConditionHeaders),
    responses(
        (status = 202, description = "It runs, or has ended.", body = SagaReport),
        ConditionHeaders,
    )
)]
pub(super) async fn fulfil(
    State(api): State<Arc<Api>>,
    Path(order): Path<OrderId>,
    headers: ConditionHeaders,
    _: NoInput,
) -> Result<(StatusCode, Json<SagaReport>), Problem> {
    let loaded = api.shop.orders.load(&order).await?;
    headers.check(loaded.version())?;
    let placed = loaded.state.placed().ok_or_else(|| Failure::NoOrder(order.clone()))?;
    let saga = api.fulfilment.as_ref().ok_or(Failure::NoProvider)?;
    let input = OrderToFulfil::of(&order, placed).map_err(Failure::from)?;
    let admin = SagaAdmin::new(api.shop.shared_store()).with_metadata(headers.into_metadata());
    let id = admin.create(saga, order.as_str(), &input).await.map_err(Failure::from)?;
    Ok((StatusCode::ACCEPTED, Json(sagas::show(&admin, &id).await?)))
}

/// Returns the fulfilment of an order.
#[utoipa::path(
    get, path = "/orders/{id}/fulfilment", tag = "orders",
    params(("id" = OrderId, Path, description = "The order."), Read<AtLeast>),
    responses(
        (status = 200, description = "The saga of the order.", body = SagaReport),
        (status = 404, description = "The order has no fulfilment.",
         body = ProblemDetails,
         content_type = "application/problem+json"),
        Read<AtLeast>,
    )
)]
pub(super) async fn fulfilment(
    State(api): State<Arc<Api>>,
    Path(order): Path<OrderId>,
    _: Read<AtLeast>,
) -> Result<Json<SagaReport>, Problem> {
    let id = SagaId::new(FULFILMENT, &order).map_err(Failure::from)?;
    Ok(Json(sagas::show(&SagaAdmin::new(api.shop.shared_store()), &id).await?))
}
