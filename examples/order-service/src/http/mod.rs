//! The HTTP interface: commands and queries as JSON, versions as ETags, what happens as server-sent events.
//!
//! | request | what it does |
//! |---|---|
//! | `PUT /orders/{id}` | places an order: 201, or 200 where it was placed before with the same content |
//! | `POST /orders/{id}/approve`, `ship`, `deliver`, `cancel` | the next step of an order |
//! | `GET /orders/{id}` | the order as it is; its version is its `ETag` |
//! | `GET /orders/{id}/events` | everything that has happened to it |
//! | `PUT /products/{id}` | registers a product |
//! | `POST /products/{id}/receive`, `withdraw` | changes its stock |
//! | `POST /products/{id}/move` | moves stock to another product, in one commit: `{"to": "42", "quantity": 3}` |
//! | `GET /products/{id}` | the product as it is |
//! | `GET /events?after=P&category=C&type=T` | what happens, from a position on and live, as server-sent events |
//! | `GET /orders?customer=C&limit=N&after=NEXT` | orders, those placed last first |
//! | `GET /products?at_most=N` | products, those with the lowest stock first |
//! | `GET /demand`, `GET /revenue`, `GET /report` | what sells best; revenue by month and country; all of it together |
//! | `GET /projections` | how far the read models are |
//! | `POST /projections/{name}` | `{"verb": "pause"}`, `resume`, `reset`, `rebuild`, `retry` with `key`, `skip` with `key`, `position` and `reason` |
//! | `GET /projections/{name}/parked` | what could not be applied |
//! | `GET /health` | whether the process answers and the store takes reads |
//!
//! A command with `If-Match: "V"` counts only at version V, an `ETag` of an earlier answer, and gives 412 otherwise. With `Idempotency-Key: K` it counts
//! once under that key, and gives its first result when it is sent again. `ES-Position` of its answer says where it stands in
//! the log; a question about all orders or products with `at_least=POSITION` waits until its answer shows that. Refusals are `application/problem+json` (RFC 9457).

mod live;
mod orders;
mod problem;
mod products;
mod projections;
mod queries;
mod terms;

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::routing::{get, post, put};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::failure::Failure;
use crate::projections::Projections;
use crate::shop::Shop;
use crate::views::ReadModels;
use problem::Problem;

/// The state that all requests share.
#[derive(Debug)]
pub struct Api {
    shop: Shop,
    models: ReadModels,
    projections: Projections,
    /// Becomes true when the service shuts down, so that endless responses end.
    ending: watch::Sender<bool>,
}

impl Api {
    /// Creates the state for this shop and these projections.
    #[must_use]
    pub fn new(shop: Shop, projections: Projections) -> Arc<Self> {
        let models = ReadModels::of(&shop.shared_store());
        Arc::new(Self { shop, models, projections, ending: watch::Sender::new(false) })
    }

    /// The shop.
    #[must_use]
    pub const fn shop(&self) -> &Shop {
        &self.shop
    }
}

/// Everything that can be asked over HTTP.
pub fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/orders", get(queries::orders))
        .route("/orders/{id}", put(orders::place).get(orders::show))
        .route("/orders/{id}/events", get(orders::history))
        .route("/orders/{id}/{step}", post(orders::step))
        .route("/products", get(queries::stock))
        .route("/products/{id}", put(products::register).get(products::show))
        .route("/products/{id}/move", post(products::move_stock))
        .route("/products/{id}/{step}", post(products::step))
        .route("/demand", get(queries::demand))
        .route("/revenue", get(queries::revenue))
        .route("/report", get(queries::report))
        .route("/events", get(live::events))
        .route("/projections", get(projections::list))
        .route("/projections/{name}", post(projections::act))
        .route("/projections/{name}/parked", get(projections::parked))
        .route("/health", get(health))
        .fallback(Problem::no_such_path)
        .method_not_allowed_fallback(Problem::no_such_method)
        .with_state(api)
}

/// Answers requests until `stop` completes. Then answers the requests in progress, ends endless responses, and waits for snapshots
/// that are being written.
///
/// # Errors
/// [`Failure::Io`] if the socket fails.
pub async fn serve(
    api: Arc<Api>,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Failure> {
    let ending = api.ending.clone();
    let served = axum::serve(listener, router(Arc::clone(&api))).with_graceful_shutdown(async move {
        stop.await;
        ending.send_replace(true);
    });
    let served = served.await.map_err(|source| Failure::Io { action: "answer requests".into(), source });
    api.shop.settle().await;
    served
}

#[derive(Debug, Serialize)]
struct Health {
    status: &'static str,
    head: Option<u64>,
}

async fn health(State(service): State<Arc<Api>>) -> Result<Json<Health>, Problem> {
    let head = service.shop.store().head().await?;
    Ok(Json(Health { status: "ok", head: head.map(es_core::Position::get) }))
}
