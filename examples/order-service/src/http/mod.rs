//! The HTTP interface: commands and queries as JSON, versions as ETags, events as server-sent events.
//!
//! | request | effect |
//! |---|---|
//! | `PUT /orders/{id}` | places an order: 201, or 200 if it already exists with the same content |
//! | `POST /orders/{id}/approve`, `ship`, `deliver`, `cancel` | changes the status of an order |
//! | `GET /orders/{id}` | returns an order; its version is the `ETag` |
//! | `GET /orders/{id}/events` | returns all events of an order |
//! | `PUT /products/{id}` | registers a product |
//! | `POST /products/{id}/receive`, `withdraw` | changes the stock of a product |
//! | `POST /products/{id}/move` | moves stock to another product in one commit: `{"to": "42", "quantity": 3}` |
//! | `GET /products/{id}` | returns a product; its version is the `ETag` |
//! | `GET /events?after=P&category=C&type=T` | streams the events after a position, then new events |
//! | `GET /orders?customer=C&limit=N&after=NEXT` | lists orders, newest first |
//! | `GET /products?at_most=N` | lists products, lowest stock first |
//! | `GET /demand` | lists products, highest revenue first |
//! | `GET /revenue` | returns revenue by month and by country |
//! | `GET /report` | returns all totals |
//! | `GET /projections` | returns the status of each projection |
//! | `POST /projections/{name}` | runs a [`ProjectionAction`], as in `{"verb": "pause"}` |
//! | `GET /projections/{name}/parked` | lists the keys with an event that could not be applied |
//! | `GET /health` | returns 200 if the store can be read |
//!
//! `If-Match: "V"`: the command is executed only if the version is V, the `ETag` of an earlier response; otherwise 412.
//! `Idempotency-Key: K`: the command is executed at most once for this key; a repeat returns the first result, and
//! another request to the same resource with the key is 422.
//! `ES-Position`: the response header with the position of the command's last event, as `LOG:POSITION`. A query with
//! `at_least=LOG:POSITION` waits until its result includes that position. After the store was restored, positions from
//! before are refused with 409. A result that lacks events which could not be applied has their number as
//! `parked_events`. Errors are `application/problem+json` (RFC 9457).
//!
//! [`ProjectionAction`]: crate::projections::ProjectionAction

#[cfg(test)]
mod doors;
mod headers;
mod live;
mod orders;
mod problem;
mod products;
mod projections;
mod queries;

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::routing::{get, post, put};
use es_core::model::LogId;
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
    /// Becomes true when the service shuts down, which ends the responses of `GET /events`.
    shutdown: watch::Sender<bool>,
}

impl Api {
    /// Creates the state for a shop and its projections.
    #[must_use]
    pub fn new(shop: Shop, projections: Projections) -> Arc<Self> {
        let models = ReadModels::of(&shop.shared_store());
        Arc::new(Self { shop, models, projections, shutdown: watch::Sender::new(false) })
    }

    /// Returns the shop.
    #[must_use]
    pub const fn shop(&self) -> &Shop {
        &self.shop
    }

    /// Returns the id of the log.
    fn log_id(&self) -> LogId {
        self.shop.store().log_id()
    }
}

/// Returns the router with all routes.
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
        .fallback(Problem::path_not_found)
        .method_not_allowed_fallback(Problem::method_not_allowed)
        .with_state(api)
}

/// Serves requests until `stop` completes. Then finishes the requests in progress, ends the responses of `GET /events`,
/// and waits for snapshot writes.
///
/// # Errors
/// [`Failure::Io`] if the socket fails.
pub async fn serve(
    api: Arc<Api>,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Failure> {
    let shutdown = api.shutdown.clone();
    let served = axum::serve(listener, router(Arc::clone(&api))).with_graceful_shutdown(async move {
        stop.await;
        shutdown.send_replace(true);
    });
    let served = served.await.map_err(|source| Failure::Io { action: "serve requests".into(), source });
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
