//! Handlers for orders.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use es_core::{Aggregate, Command, Decide, StreamRead};
use serde::{Deserialize, Serialize};

use super::Api;
use super::headers::{self, CommandHeaders, version_headers};
use super::problem::Problem;
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
#[derive(Debug, Deserialize)]
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

#[derive(Debug, Deserialize)]
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

/// The body of `POST /orders/{id}/{step}`; `reason` is required for `cancel` only.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StepBody {
    date: Option<Moment>,
    reason: Option<Reason>,
}

impl From<LineBody> for OrderLine {
    fn from(LineBody { product_id, unit_price, quantity, discount }: LineBody) -> Self {
        Self { product: product_id, unit_price, quantity, discount }
    }
}

pub(super) async fn place(
    State(service): State<Arc<Api>>,
    Path(id): Path<OrderId>,
    headers: CommandHeaders,
    body: Result<Json<PlaceBody>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(body) = body?;
    let date = body.date;
    execute(&service, &id, body.command()?, &headers, date).await
}

pub(super) async fn step(
    State(service): State<Arc<Api>>,
    Path((id, step)): Path<(OrderId, String)>,
    headers: CommandHeaders,
    body: Option<Json<StepBody>>,
) -> Result<Response, Problem> {
    let Json(StepBody { date, reason }) = body.unwrap_or_default();
    let unprocessable = |detail: &str| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
    match (step.as_str(), reason) {
        ("cancel", Some(reason)) => execute(&service, &id, Cancel { reason }, &headers, date).await,
        ("cancel", None) => Err(unprocessable("missing field reason; send {\"reason\": \"...\"}")),
        ("approve" | "ship" | "deliver", Some(_)) => {
            Err(unprocessable("unexpected field reason; only cancel accepts a reason"))
        }
        ("approve", None) => execute(&service, &id, Approve, &headers, date).await,
        ("ship", None) => execute(&service, &id, Ship, &headers, date).await,
        ("deliver", None) => execute(&service, &id, Deliver, &headers, date).await,
        _ => Err(Problem::invalid("step", "approve, ship, deliver or cancel", &step)),
    }
}

async fn execute<C>(
    service: &Api,
    id: &OrderId,
    command: C,
    headers: &CommandHeaders,
    date: Option<Moment>,
) -> Result<Response, Problem>
where
    Order: Decide<C, Rejection = OrderRejection>,
    C: Command + Serialize,
{
    let executed = send(&service.shop.orders, id, command, headers.options(date)).await;
    let executed = executed.map_err(|error| headers.problem(error))?;
    let (status, result) = (executed.state.placed().map(|order| order.status), CommandResult::of(&executed));
    let body = OrderCommandJson { order_id: id, status, result };
    headers::command_response(service.log_id(), headers, &executed, format_args!("order {id}"), body)
}

pub(super) async fn show(
    State(service): State<Arc<Api>>,
    Path(id): Path<OrderId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let loaded = service.shop.orders.load(&id).await?;
    let Some(order) = loaded.state.placed() else { return Err(Failure::NoOrder(id).into()) };
    Ok(headers::resource_response(&headers, loaded.version(), OrderJson::of(&id, loaded.revision, order)?))
}

/// The response of `GET /orders/{id}/events`.
#[derive(Debug, Serialize)]
struct HistoryJson<'a> {
    order_id: &'a OrderId,
    events: Vec<EventJson<'a>>,
}

pub(super) async fn history(State(service): State<Arc<Api>>, Path(id): Path<OrderId>) -> Result<Response, Problem> {
    let read = StreamRead::new(Order::stream(&id)?);
    let records = service.shop.store().read_stream(read).await?.collect().await?;
    let Some(last) = records.last() else { return Err(Failure::NoOrder(id).into()) };
    let headers = version_headers(Some(last.revision.into()), None);
    let events = records.iter().map(EventJson::of).collect();
    Ok((headers, Json(HistoryJson { order_id: &id, events })).into_response())
}
