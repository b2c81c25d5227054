//! Handlers for orders.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use es_core::{Aggregate, Command, Decide, StreamRead};
use es_http::{Json, Path, Problem};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::command::{self, CommandHeaders};
use super::reads::ReadOne;
use crate::domain::order::{Approve, Cancel, Deliver, Place, Ship};
use crate::domain::{
    City, Country, CustomerId, Destination, Discount, Order, OrderId, OrderLine, OrderLines, OrderLinesError,
    OrderRejection, Price, ProductId, Quantity, Reason,
};
use crate::failure::Failure;
use crate::json::{CommandResult, EventJson, OrderCommandJson, OrderJson};
use crate::moment::Moment;
use crate::shop::send;

/// The body of `PUT /orders/{id}`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlaceBody {
    customer_id: CustomerId,
    ship_city: Option<City>,
    ship_country: Option<Country>,
    lines: Vec<LineBody>,
    pub(super) date: Option<Moment>,
}

impl PlaceBody {
    /// Returns the command.
    pub(super) fn command(self) -> Result<Place, OrderLinesError> {
        let Self { customer_id: customer, ship_city: city, ship_country: country, lines, date: _ } = self;
        let lines = OrderLines::new(lines.into_iter().map(OrderLine::from).collect())?;
        Ok(Place { customer, destination: Destination { city, country }, lines })
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LineBody {
    product_id: ProductId,
    unit_price: Price,
    quantity: Quantity,
    #[serde(default = "no_discount")]
    discount: Discount,
}

const fn no_discount() -> Discount {
    Discount::NONE
}

/// The body of `POST /orders/{id}/approve`, `ship` and `deliver`. It is optional.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StepBody {
    date: Option<Moment>,
}

/// The body of `POST /orders/{id}/cancel`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CancelBody {
    date: Option<Moment>,
    reason: Reason,
}

impl From<LineBody> for OrderLine {
    fn from(LineBody { product_id, unit_price, quantity, discount }: LineBody) -> Self {
        Self { product: product_id, unit_price, quantity, discount }
    }
}

/// Places an order.
#[utoipa::path(
    put, path = "/orders/{id}", tag = "orders",
    params(("id" = OrderId, Path, description = "The order."), CommandHeaders),
    request_body = PlaceBody,
    responses(
        (status = 201, description = "It was created.",
         body = OrderCommandJson<'static>,
         headers(("ETag" = String), ("ES-Position" = String))),
        (status = 200, description = "It exists with the same content, or the request was repeated.",
         body = OrderCommandJson<'static>,
         headers(("ETag" = String), ("ES-Position" = String))),
        CommandHeaders,
    )
)]
pub(super) async fn place(
    State(api): State<Arc<Api>>,
    Path(id): Path<OrderId>,
    headers: CommandHeaders,
    Json(body): Json<PlaceBody>,
) -> Result<Response, Problem> {
    let date = body.date;
    let command = body.command().map_err(Failure::from)?;
    execute(&api, &id, command, &headers, date).await
}

/// Approves a placed order.
#[utoipa::path(
    post, path = "/orders/{id}/approve", tag = "orders",
    params(("id" = OrderId, Path, description = "The order."), CommandHeaders),
    request_body = Option<StepBody>,
    responses(
        (status = 200, description = "It is done, unchanged or repeated.",
         body = OrderCommandJson<'static>,
         headers(("ETag" = String), ("ES-Position" = String))),
        CommandHeaders,
    )
)]
pub(super) async fn approve(
    State(api): State<Arc<Api>>,
    Path(id): Path<OrderId>,
    headers: CommandHeaders,
    body: Option<Json<StepBody>>,
) -> Result<Response, Problem> {
    execute(&api, &id, Approve, &headers, date_of(body)).await
}

/// Ships an approved order.
#[utoipa::path(
    post, path = "/orders/{id}/ship", tag = "orders",
    params(("id" = OrderId, Path, description = "The order."), CommandHeaders),
    request_body = Option<StepBody>,
    responses(
        (status = 200, description = "It is done, unchanged or repeated.",
         body = OrderCommandJson<'static>,
         headers(("ETag" = String), ("ES-Position" = String))),
        CommandHeaders,
    )
)]
pub(super) async fn ship(
    State(api): State<Arc<Api>>,
    Path(id): Path<OrderId>,
    headers: CommandHeaders,
    body: Option<Json<StepBody>>,
) -> Result<Response, Problem> {
    execute(&api, &id, Ship, &headers, date_of(body)).await
}

/// Marks a shipped order as delivered.
#[utoipa::path(
    post, path = "/orders/{id}/deliver", tag = "orders",
    params(("id" = OrderId, Path, description = "The order."), CommandHeaders),
    request_body = Option<StepBody>,
    responses(
        (status = 200, description = "It is done, unchanged or repeated.",
         body = OrderCommandJson<'static>,
         headers(("ETag" = String), ("ES-Position" = String))),
        CommandHeaders,
    )
)]
pub(super) async fn deliver(
    State(api): State<Arc<Api>>,
    Path(id): Path<OrderId>,
    headers: CommandHeaders,
    body: Option<Json<StepBody>>,
) -> Result<Response, Problem> {
    execute(&api, &id, Deliver, &headers, date_of(body)).await
}

/// Cancels an order that has not been shipped.
#[utoipa::path(
    post, path = "/orders/{id}/cancel", tag = "orders",
    params(("id" = OrderId, Path, description = "The order."), CommandHeaders),
    request_body = CancelBody,
    responses(
        (status = 200, description = "It is done, unchanged or repeated.",
         body = OrderCommandJson<'static>,
         headers(("ETag" = String), ("ES-Position" = String))),
        CommandHeaders,
    )
)]
pub(super) async fn cancel(
    State(api): State<Arc<Api>>,
    Path(id): Path<OrderId>,
    headers: CommandHeaders,
    Json(CancelBody { date, reason }): Json<CancelBody>,
) -> Result<Response, Problem> {
    execute(&api, &id, Cancel { reason }, &headers, date).await
}

fn date_of(body: Option<Json<StepBody>>) -> Option<Moment> {
    body.and_then(|Json(StepBody { date })| date)
}

async fn execute<C>(
    api: &Arc<Api>,
    id: &OrderId,
    command: C,
    headers: &CommandHeaders,
    date: Option<Moment>,
) -> Result<Response, Problem>
where
    Order: Decide<C, Rejection = OrderRejection>,
    C: Command + Serialize,
{
    let options = headers.options(&api.shop.orders, id, date).await?;
    let executed = send(&api.shop.orders, id, command, options).await;
    let executed = executed.map_err(|error| headers.problem(error))?;
    let (status, result) = (executed.state.placed().map(|order| order.status), CommandResult::of(&executed));
    Ok(command::response(api, &executed, OrderCommandJson { order_id: id, status, result }))
}

/// Returns an order.
#[utoipa::path(
    get, path = "/orders/{id}", tag = "orders",
    params(("id" = OrderId, Path, description = "The order."), ReadOne),
    responses(
        (status = 200, description = "The order.", body = OrderJson<'static>, headers(("ETag" = String))),
        ReadOne,
    )
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Path(id): Path<OrderId>,
    ReadOne(preconditions): ReadOne,
) -> Result<Response, Problem> {
    let loaded = api.shop.orders.load(&id).await?;
    let Some(order) = loaded.state.placed() else { return Err(Failure::NoOrder(id).into()) };
    let body = OrderJson::of(&id, loaded.revision, order).map_err(Failure::from)?;
    Ok(preconditions.respond(loaded.version(), body))
}

/// The response of `GET /orders/{id}/events`.
#[derive(Debug, Serialize, ToSchema)]
struct HistoryJson<'a> {
    order_id: &'a OrderId,
    events: Vec<EventJson<'a>>,
}

/// Returns all events of an order.
#[utoipa::path(
    get, path = "/orders/{id}/events", tag = "orders",
    params(("id" = OrderId, Path, description = "The order."), ReadOne),
    responses(
        (status = 200, description = "The events.", body = HistoryJson<'static>, headers(("ETag" = String))),
        ReadOne,
    )
)]
pub(super) async fn history(
    State(api): State<Arc<Api>>,
    Path(id): Path<OrderId>,
    ReadOne(preconditions): ReadOne,
) -> Result<Response, Problem> {
    let read = StreamRead::new(Order::stream(&id)?);
    let records = api.shop.store().read_stream(read).await?.collect().await?;
    let Some(last) = records.last() else { return Err(Failure::NoOrder(id).into()) };
    let events = records.iter().map(EventJson::of).collect();
    Ok(preconditions.respond(Some(last.revision.into()), HistoryJson { order_id: &id, events }))
}
