//! Handlers for products.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use es_core::{Command, Decide};
use serde::{Deserialize, Serialize};

use super::Api;
use super::headers::{self, CommandHeaders};
use super::problem::Problem;
use crate::domain::product::{Receive, Register, Withdraw};
use crate::domain::{InitialStock, Price, Product, ProductId, ProductName, ProductRejection, Quantity};
use crate::failure::Failure;
use crate::json::{ProductCommandJson, ProductJson, StockMoveJson};
use crate::moment::Moment;
use crate::shop::send;

/// The body of `PUT /products/{id}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RegisterBody {
    name: ProductName,
    unit_price: Price,
    #[serde(default)]
    stock: InitialStock,
    date: Option<Moment>,
}

impl RegisterBody {
    /// Returns the command.
    pub(super) fn command(self) -> Register {
        let Self { name, unit_price, stock, date: _ } = self;
        Register { name, unit_price, stock }
    }
}

/// The body of `POST /products/{id}/receive` and `withdraw`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StockBody {
    quantity: Quantity,
    date: Option<Moment>,
}

/// The body of `POST /products/{id}/move`.
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
    headers: CommandHeaders,
    body: Result<Json<RegisterBody>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(body) = body?;
    let date = body.date;
    execute(&service, &id, body.command(), &headers, date).await
}

pub(super) async fn step(
    State(service): State<Arc<Api>>,
    Path((id, step)): Path<(ProductId, String)>,
    headers: CommandHeaders,
    body: Result<Json<StockBody>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(StockBody { quantity, date }) = body?;
    match step.as_str() {
        "receive" => execute(&service, &id, Receive { quantity }, &headers, date).await,
        "withdraw" => execute(&service, &id, Withdraw { quantity }, &headers, date).await,
        _ => Err(Problem::invalid("step", "receive, withdraw or move", &step)),
    }
}

pub(super) async fn move_stock(
    State(service): State<Arc<Api>>,
    Path(from): Path<ProductId>,
    headers: CommandHeaders,
    body: Result<Json<MoveBody>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(MoveBody { to, quantity, date }) = body?;
    let moved = service.shop.move_stock(&from, &to, quantity, headers.options(date)).await;
    let (moved_out, moved_in) = moved.map_err(|failure| headers.problem(failure))?;
    let (source, target) = (ProductCommandJson::of(&from, &moved_out), ProductCommandJson::of(&to, &moved_in));
    let body = StockMoveJson { from: source, to: target };
    headers::command_response(service.log_id(), &headers, &moved_out, format_args!("product {from}"), body)
}

async fn execute<C>(
    service: &Api,
    id: &ProductId,
    command: C,
    headers: &CommandHeaders,
    date: Option<Moment>,
) -> Result<Response, Problem>
where
    Product: Decide<C, Rejection = ProductRejection>,
    C: Command + Serialize,
{
    let executed = send(&service.shop.products, id, command, headers.options(date)).await;
    let executed = executed.map_err(|error| headers.problem(error))?;
    let body = ProductCommandJson::of(id, &executed);
    headers::command_response(service.log_id(), headers, &executed, format_args!("product {id}"), body)
}

pub(super) async fn show(
    State(service): State<Arc<Api>>,
    Path(id): Path<ProductId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let loaded = service.shop.products.load(&id).await?;
    let Some(product) = loaded.state.registered() else { return Err(Failure::NoProduct(id).into()) };
    Ok(headers::resource_response(&headers, loaded.version(), ProductJson::of(&id, product)))
}
