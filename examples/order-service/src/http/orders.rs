//! Orders over HTTP.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use es_core::{Aggregate, Command, Decide, StreamRead};
use serde::{Deserialize, Serialize};

use super::Api;
use super::problem::Problem;
use super::terms::{self, Demands, about};
use crate::domain::order::{Approve, Cancel, Deliver, Place, Ship};
use crate::domain::{
    City, Country, CustomerId, Destination, Discount, Order, OrderId, OrderLine, OrderLines, OrderRejection, Price,
    ProductId, Quantity, Reason,
};
use crate::failure::Failure;
use crate::moment::Moment;
use crate::shop::send;
use crate::shown::{CommandResult, OrderDone, ShownEvent, ShownOrder};

/// An order that is to be placed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlaceBody {
    customer_id: CustomerId,
    ship_city: Option<City>,
    ship_country: Option<Country>,
    lines: Vec<LineBody>,
    date: Option<Moment>,
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

/// How an order takes a step.
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
    demands: Demands,
    body: Result<Json<PlaceBody>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(PlaceBody { customer_id, ship_city, ship_country, lines, date }) = body?;
    let destination = Destination { city: ship_city, country: ship_country };
    let lines = OrderLines::new(lines.into_iter().map(OrderLine::from).collect())?;
    execute(&service, &id, Place { customer: customer_id, destination, lines }, &demands, date).await
}

pub(super) async fn step(
    State(service): State<Arc<Api>>,
    Path((id, step)): Path<(OrderId, String)>,
    demands: Demands,
    body: Option<Json<StepBody>>,
) -> Result<Response, Problem> {
    let Json(StepBody { date, reason }) = body.unwrap_or_default();
    let refused = |detail: &str| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
    match (step.as_str(), reason) {
        ("cancel", Some(reason)) => execute(&service, &id, Cancel { reason }, &demands, date).await,
        ("cancel", None) => Err(refused("expected a reason, found none; say why in {\"reason\": \"...\"}")),
        ("approve" | "ship" | "deliver", Some(_)) => {
            Err(refused("expected no reason, found one; only cancel takes it"))
        }
        ("approve", None) => execute(&service, &id, Approve, &demands, date).await,
        ("ship", None) => execute(&service, &id, Ship, &demands, date).await,
        ("deliver", None) => execute(&service, &id, Deliver, &demands, date).await,
        _ => Err(Problem::not_understood("step", "approve, ship, deliver or cancel", &step)),
    }
}

async fn execute<C>(
    service: &Api,
    id: &OrderId,
    command: C,
    demands: &Demands,
    date: Option<Moment>,
) -> Result<Response, Problem>
where
    Order: Decide<C, Rejection = OrderRejection>,
    C: Command,
{
    let executed = send(&service.shop.orders, id, command, demands.terms(date)).await;
    let executed = executed.map_err(|error| demands.problem(error))?;
    let (status, result) = (executed.state.placed().map(|order| order.status), CommandResult::of(&executed));
    terms::executed(demands, &executed, format_args!("order {id}"), OrderDone { order_id: id, status, result })
}

pub(super) async fn show(
    State(service): State<Arc<Api>>,
    Path(id): Path<OrderId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let loaded = service.shop.orders.load(&id).await?;
    let Some(order) = loaded.state.placed() else { return Err(Failure::NoOrder(id).into()) };
    Ok(terms::shown(&headers, loaded.version(), ShownOrder::of(&id, loaded.revision, order)?))
}

/// Everything that has happened to an order.
#[derive(Debug, Serialize)]
struct History<'a> {
    order_id: &'a OrderId,
    events: Vec<ShownEvent<'a>>,
}

pub(super) async fn history(State(service): State<Arc<Api>>, Path(id): Path<OrderId>) -> Result<Response, Problem> {
    let read = StreamRead::new(Order::stream(&id)?);
    let records = service.shop.store().read_stream(read).await?.collect().await?;
    let Some(last) = records.last() else { return Err(Failure::NoOrder(id).into()) };
    let about = about(Some(last.revision.into()), None);
    let events = records.iter().map(ShownEvent::of).collect();
    Ok((about, Json(History { order_id: &id, events })).into_response())
}
