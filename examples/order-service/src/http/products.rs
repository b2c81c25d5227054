//! Products over HTTP.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use es_core::{Command, Decide};
use serde::Deserialize;

use super::Api;
use super::problem::Problem;
use super::terms::{self, Demands};
use crate::domain::product::{Receive, Register, Withdraw};
use crate::domain::{Price, Product, ProductId, ProductName, ProductRejection, Quantity};
use crate::failure::Failure;
use crate::moment::Moment;
use crate::shop::send;
use crate::shown::{ProductDone, ShownProduct, StockMoved};

/// A product that is to be registered.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RegisterBody {
    name: ProductName,
    unit_price: Price,
    #[serde(default)]
    stock: u32,
    date: Option<Moment>,
}

/// How much comes in or goes out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StockBody {
    quantity: Quantity,
    date: Option<Moment>,
}

/// How much is moved, and to which product.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MoveBody {
    to: ProductId,
    quantity: Quantity,
    date: Option<Moment>,
}

pub(super) async fn register(
    State(service): State<Arc<Api>>,
    Path(id): Path<ProductId>,
    demands: Demands,
    body: Result<Json<RegisterBody>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(RegisterBody { name, unit_price, stock, date }) = body?;
    execute(&service, &id, Register { name, unit_price, stock }, &demands, date).await
}

pub(super) async fn step(
    State(service): State<Arc<Api>>,
    Path((id, step)): Path<(ProductId, String)>,
    demands: Demands,
    body: Result<Json<StockBody>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(StockBody { quantity, date }) = body?;
    match step.as_str() {
        "receive" => execute(&service, &id, Receive { quantity }, &demands, date).await,
        "withdraw" => execute(&service, &id, Withdraw { quantity }, &demands, date).await,
        _ => Err(Problem::not_understood("step", "receive, withdraw or move", &step)),
    }
}

pub(super) async fn move_stock(
    State(service): State<Arc<Api>>,
    Path(from): Path<ProductId>,
    demands: Demands,
    body: Result<Json<MoveBody>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(MoveBody { to, quantity, date }) = body?;
    let moved = service.shop.move_stock(&from, &to, quantity, demands.terms(date)).await;
    let (out, into) = moved.map_err(|failure| demands.problem(failure))?;
    let done = StockMoved { from: ProductDone::of(&from, &out), to: ProductDone::of(&to, &into) };
    terms::executed(&demands, &out, format_args!("product {from}"), done)
}

async fn execute<C>(
    service: &Api,
    id: &ProductId,
    command: C,
    demands: &Demands,
    date: Option<Moment>,
) -> Result<Response, Problem>
where
    Product: Decide<C, Rejection = ProductRejection>,
    C: Command,
{
    let executed = send(&service.shop.products, id, command, demands.terms(date)).await;
    let executed = executed.map_err(|error| demands.problem(error))?;
    terms::executed(demands, &executed, format_args!("product {id}"), ProductDone::of(id, &executed))
}

pub(super) async fn show(
    State(service): State<Arc<Api>>,
    Path(id): Path<ProductId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let loaded = service.shop.products.load(&id).await?;
    let Some(product) = loaded.state.registered() else { return Err(Failure::NoProduct(id).into()) };
    Ok(terms::shown(&headers, loaded.version(), ShownProduct::of(&id, product)))
}
