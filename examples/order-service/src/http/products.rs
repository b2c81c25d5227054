//! Handlers for products.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use es_core::{Command, Decide};
use es_http::{Json, Path, Problem};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::command::{self, CommandHeaders};
use super::reads::ReadOne;
use crate::domain::product::{Receive, Register, Withdraw};
use crate::domain::{InitialStock, Price, Product, ProductId, ProductName, ProductRejection, Quantity};
use crate::failure::Failure;
use crate::json::{ProductCommandJson, ProductJson, StockMoveJson};
use crate::moment::Moment;
use crate::shop::send;

/// The body of `PUT /products/{id}`.
#[derive(Debug, Deserialize, ToSchema)]
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
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StockBody {
    quantity: Quantity,
    date: Option<Moment>,
}

/// The body of `POST /products/{id}/move`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MoveBody {
    to: ProductId,
    quantity: Quantity,
    date: Option<Moment>,
}

/// Registers a product.
#[utoipa::path(
    put, path = "/products/{id}", tag = "products",
    params(("id" = ProductId, Path, description = "The product."), CommandHeaders),
    request_body = RegisterBody,
    responses(
        (status = 201, description = "It was created.",
         body = ProductCommandJson<'static>,
         headers(("ETag" = String), ("ES-Position" = String))),
        (status = 200, description = "It exists with the same content, or the request was repeated.",
         body = ProductCommandJson<'static>,
         headers(("ETag" = String), ("ES-Position" = String))),
        CommandHeaders,
    )
)]
pub(super) async fn register(
    State(api): State<Arc<Api>>,
    Path(id): Path<ProductId>,
    headers: CommandHeaders,
    Json(body): Json<RegisterBody>,
) -> Result<Response, Problem> {
    let date = body.date;
    execute(&api, &id, body.command(), &headers, date).await
}

/// Adds received items to the stock.
#[utoipa::path(
    post, path = "/products/{id}/receive", tag = "products",
    params(("id" = ProductId, Path, description = "The product."), CommandHeaders),
    request_body = StockBody,
    responses(
        (status = 200, description = "It is done, unchanged or repeated.",
         body = ProductCommandJson<'static>,
         headers(("ETag" = String), ("ES-Position" = String))),
        CommandHeaders,
    )
)]
pub(super) async fn receive(
    State(api): State<Arc<Api>>,
    Path(id): Path<ProductId>,
    headers: CommandHeaders,
    Json(StockBody { quantity, date }): Json<StockBody>,
) -> Result<Response, Problem> {
    execute(&api, &id, Receive { quantity }, &headers, date).await
}

/// Withdraws items from the stock.
#[utoipa::path(
    post, path = "/products/{id}/withdraw", tag = "products",
    params(("id" = ProductId, Path, description = "The product."), CommandHeaders),
    request_body = StockBody,
    responses(
        (status = 200, description = "It is done, unchanged or repeated.",
         body = ProductCommandJson<'static>,
         headers(("ETag" = String), ("ES-Position" = String))),
        CommandHeaders,
    )
)]
pub(super) async fn withdraw(
    State(api): State<Arc<Api>>,
    Path(id): Path<ProductId>,
    headers: CommandHeaders,
    Json(StockBody { quantity, date }): Json<StockBody>,
) -> Result<Response, Problem> {
    execute(&api, &id, Withdraw { quantity }, &headers, date).await
}

/// Moves items to the stock of another product, in one commit.
#[utoipa::path(
    post, path = "/products/{id}/move", tag = "products",
    params(("id" = ProductId, Path, description = "The product."), CommandHeaders),
    request_body = MoveBody,
    responses(
        (status = 200, description = "It is done, unchanged or repeated.",
         body = StockMoveJson<'static>,
         headers(("ETag" = String), ("ES-Position" = String))),
        CommandHeaders,
    )
)]
pub(super) async fn move_stock(
    State(api): State<Arc<Api>>,
    Path(from): Path<ProductId>,
    headers: CommandHeaders,
    Json(MoveBody { to, quantity, date }): Json<MoveBody>,
) -> Result<Response, Problem> {
    let options = headers.options(&api.shop.products, &from, date).await?;
    let moved = api.shop.move_stock(&from, &to, quantity, options).await;
    let (moved_out, moved_in) = moved.map_err(|failure| headers.problem(failure))?;
    let (source, target) = (ProductCommandJson::of(&from, &moved_out), ProductCommandJson::of(&to, &moved_in));
    Ok(command::response(&api, &moved_out, StockMoveJson { from: source, to: target }))
}

async fn execute<C>(
    api: &Arc<Api>,
    id: &ProductId,
    command: C,
    headers: &CommandHeaders,
    date: Option<Moment>,
) -> Result<Response, Problem>
where
    Product: Decide<C, Rejection = ProductRejection>,
    C: Command + Serialize,
{
    let options = headers.options(&api.shop.products, id, date).await?;
    let executed = send(&api.shop.products, id, command, options).await;
    let executed = executed.map_err(|error| headers.problem(error))?;
    Ok(command::response(api, &executed, ProductCommandJson::of(id, &executed)))
}

/// Returns a product.
#[utoipa::path(
    get, path = "/products/{id}", tag = "products",
    params(("id" = ProductId, Path, description = "The product."), ReadOne),
    responses(
        (status = 200, description = "The product.", body = ProductJson<'static>, headers(("ETag" = String))),
        ReadOne,
    )
)]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Path(id): Path<ProductId>,
    ReadOne(preconditions): ReadOne,
) -> Result<Response, Problem> {
    let loaded = api.shop.products.load(&id).await?;
    let Some(product) = loaded.state.registered() else { return Err(Failure::NoProduct(id).into()) };
    Ok(preconditions.respond(loaded.version(), ProductJson::of(&id, product)))
}
