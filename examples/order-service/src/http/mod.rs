//! The HTTP interface: commands and queries as JSON, versions as ETags, events as server-sent events.
//!
//! | request | effect |
//! |---|---|
//! | `PUT /orders/{id}` | places an order: 201, or 200 if it already exists with the same content |
//! | `POST /orders/{id}/approve`, `ship`, `deliver`, `cancel` | changes the status of an order |
//! | `GET /orders/{id}` | returns an order; its version is the `ETag` |
//! | `GET /orders/{id}/events` | returns all events of an order |
//! | `POST /orders/{id}/fulfil` | starts the fulfilment of an order |
//! | `GET /orders/{id}/fulfilment` | returns the saga of an order |
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
//! | `GET /livez`, `GET /readyz` | returns 200 if the process answers, and if it accepts requests |
//! | `GET /openapi.json` | returns the OpenAPI document, which is generated from the routes |
//! | `GET /metrics` | returns the metrics in the text format of Prometheus |
//!
//! `If-Match: "V"`: the command is executed only if the version is V, the `ETag` of an earlier response; otherwise 412.
//! `If-None-Match: *`: the command is executed only if the order or product does not exist; otherwise 412.
//! `Idempotency-Key: "K"`: the command is executed at most once for this key; a repeat returns the first result, and
//! another request to the same resource with the key is 422.
//! `ES-Position`: the response header with the position of the command's last event, as `LOG:POSITION`. A read with
//! this header, or with `at_least=LOG:POSITION`, waits until its result includes that position. After the store was
//! restored, positions from before are refused with 410. A result that lacks events which could not be applied has
//! their number as `parked_events`. A body without `Content-Type: application/json` and a body of a GET are 415. A
//! member of a body that a route does not have is 422, a parameter that it does not have 400. Errors are
//! `application/problem+json` (RFC 9457).
//!
//! With [tokens](es_http::Tokens), GET needs the role `read`, every other method the role `write`; probes need none.
//! When a token is revoked, its `GET /events` end. Without tokens and on a loopback address, the `Host` of a request
//! must be a loopback name or one of `--allow-host`. Events have the correlation id and the trace of their request, its
//! tenant and the name of the client.
//!
//! The routes of operators are [`es_http::operations`] and those of [`operator_router`], on a listener of their own.

mod command;
#[cfg(test)]
mod doors;
mod fulfilment;
mod input;
mod live;
mod openapi;
mod operators;
mod orders;
mod problem;
mod processes;
mod products;
mod queries;
mod reads;
mod sagas;
mod transactions;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use es_http::{ContextOptions, Edge, Health, Json, Metrics, NoInput, ServeOptions};
use openapi::Document;
use tokio::net::TcpListener;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use command::ACTOR_KEY;
pub use operators::operator_router;

use crate::fulfilment::Fulfilment;
use crate::projections::Projections;
use crate::shop::Shop;
use crate::views::ReadModels;

/// The state that all requests share.
#[derive(Debug)]
pub struct Api {
    shop: Shop,
    models: ReadModels,
    projections: Projections,
    /// The saga of orders; `None` without a provider.
    fulfilment: Option<Fulfilment>,
}

impl Api {
    /// Creates the state for a shop and its projections.
    #[must_use]
    pub fn new(shop: Shop, projections: Projections) -> Arc<Self> {
        let models = ReadModels::of(&shop.shared_store());
        Arc::new(Self { shop, models, projections, fulfilment: None })
    }

    /// Creates the state of a service that fulfils orders.
    #[must_use]
    pub fn fulfilling(shop: Shop, projections: Projections, saga: Fulfilment) -> Arc<Self> {
        let models = ReadModels::of(&shop.shared_store());
        Arc::new(Self { shop, models, projections, fulfilment: Some(saga) })
    }

    /// Returns the shop.
    #[must_use]
    pub const fn shop(&self) -> &Shop {
        &self.shop
    }
}

/// What is between the clients and the routes.
#[derive(Debug)]
pub struct Front {
    /// The checks and the context of requests.
    pub edge: Edge,
    /// The checks of `/readyz`.
    pub health: Health,
    /// The metrics of the process, for `/metrics`.
    pub metrics: Metrics,
    /// The routes for coordinators of transactions, below `/participant`.
    pub participant: Option<Router>,
}

/// Returns the router with all routes.
pub fn router(api: Arc<Api>, front: Front) -> Router {
    let Front { edge, health, metrics, participant } = front;
    let (routes, mut document) = routes().split_for_parts();
    openapi::add_common_errors(&mut document);
    let of_service = Router::new().merge(metrics.router());
    let of_service = of_service.route("/openapi.json", get(async move |_: NoInput| Json(document)));
    // The metrics and the document belong to no tenant. Probes have no token.
    let of_service = of_service.layer(edge.clone().context(ContextOptions::new())).merge(health.router());
    let routes = routes.layer(edge).merge(of_service);
    // The routes of the participant have clients of their own.
    let routes = match participant {
        Some(participant) => routes.nest_service("/participant", participant),
        None => routes,
    };
    routes.with_state(api)
}

/// The routes. Each handler has its method, path and description as attribute.
fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(queries::orders))
        .routes(routes!(orders::place, orders::show))
        .routes(routes!(orders::history))
        .routes(routes!(orders::approve))
        .routes(routes!(orders::ship))
        .routes(routes!(orders::deliver))
        .routes(routes!(orders::cancel))
        .routes(routes!(fulfilment::fulfil))
        .routes(routes!(fulfilment::fulfilment))
        .routes(routes!(queries::stock))
        .routes(routes!(products::register, products::show))
        .routes(routes!(products::receive))
        .routes(routes!(products::withdraw))
        .routes(routes!(products::move_stock))
        .routes(routes!(queries::demand))
        .routes(routes!(queries::revenue))
        .routes(routes!(queries::report))
        .routes(routes!(live::events))
}

/// Serves requests until `stop` completes. Then drains the server, and waits for snapshot writes.
pub async fn serve(
    api: Arc<Api>,
    listener: TcpListener,
    front: Front,
    options: ServeOptions,
    stop: impl Future<Output = ()> + Send,
) {
    // A client that is too slow for the drain is no failure of the service: the server has logged it.
    let _ = es_http::serve(listener, router(Arc::clone(&api), front), options, stop).await;
    api.shop.settle().await;
}
