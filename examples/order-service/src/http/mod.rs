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
//! | `POST /projections/{name}` | runs a [`ProjectionAction`], as in `{"verb": "pause"}`; it needs the role `operate` |
//! | `GET /projections/{name}/parked` | lists the keys with an event that could not be applied |
//! | `GET /livez`, `GET /readyz` | returns 200 if the process answers, and if it accepts requests |
//! | `GET /metrics` | returns the metrics in the text format of Prometheus |
//!
//! `If-Match: "V"`: the command is executed only if the version is V, the `ETag` of an earlier response; otherwise 412.
//! `If-None-Match: *`: the command is executed only if the order or product does not exist; otherwise 412.
//! `Idempotency-Key: "K"`: the command is executed at most once for this key; a repeat returns the first result, and
//! another request to the same resource with the key is 422.
//! `ES-Position`: the response header with the position of the command's last event, as `LOG:POSITION`. A query with
//! this header, or with `at_least=LOG:POSITION`, waits until its result includes that position. After the store was
//! restored, positions from before are refused with 410. A result that lacks events which could not be applied has
//! their number as `parked_events`. A body without `Content-Type: application/json` is 415. Errors are
//! `application/problem+json` (RFC 9457).
//!
//! With [`Tokens`], GET needs the role `read`, every other method the role `write`; probes need none. Events have the
//! correlation id and the trace of their request, its tenant and the name of the client.
//!
//! [`ProjectionAction`]: crate::projections::ProjectionAction

mod command;
#[cfg(test)]
mod doors;
mod live;
mod orders;
mod problem;
mod products;
mod projections;
mod queries;

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post, put};
use es_http::{
    AllowedOrigins, ContextOptions, Health, Metrics, Role, ServeOptions, Tokens, authenticate, request_context,
    request_metrics, require_role, require_role_of_method, same_origin,
};
use tokio::net::TcpListener;

pub use command::ACTOR_KEY;

use crate::projections::Projections;
use crate::shop::Shop;
use crate::views::ReadModels;

/// The state that all requests share.
#[derive(Debug)]
pub struct Api {
    shop: Shop,
    models: ReadModels,
    projections: Projections,
}

impl Api {
    /// Creates the state for a shop and its projections.
    #[must_use]
    pub fn new(shop: Shop, projections: Projections) -> Arc<Self> {
        let models = ReadModels::of(&shop.shared_store());
        Arc::new(Self { shop, models, projections })
    }

    /// Returns the shop.
    #[must_use]
    pub const fn shop(&self) -> &Shop {
        &self.shop
    }
}

/// What is between the clients and the routes.
#[derive(Debug)]
pub struct Edge {
    /// The clients with their roles; without them, every client may do everything.
    pub tokens: Option<Tokens>,
    /// The other origins whose pages may send commands.
    pub origins: AllowedOrigins,
    /// The source of the tenant.
    pub context: ContextOptions,
    /// The checks of `/readyz`.
    pub health: Health,
    /// The metrics of the process, for `/metrics`.
    pub metrics: Metrics,
}

/// Returns the router with all routes.
pub fn router(api: Arc<Api>, edge: Edge) -> Router {
    let Edge { tokens, origins, context, health, metrics } = edge;
    let mut operations = Router::new().route("/projections/{name}", post(projections::act));
    let mut routes = routes().merge(metrics.router());
    if tokens.is_some() {
        operations = operations.route_layer(from_fn_with_state(Role::Operate, require_role));
        routes = routes.route_layer(from_fn(require_role_of_method));
    }
    let mut router = routes.merge(operations).layer(from_fn_with_state(context, request_context));
    if let Some(tokens) = tokens {
        // ORDER: outside of the context and the roles, which depend on the client.
        router = router.layer(from_fn_with_state(tokens, authenticate));
    }
    let router = router.merge(health.router()).layer(from_fn_with_state(origins, same_origin));
    // ORDER: last, so that requests are counted that another layer refuses.
    router.layer(from_fn(request_metrics)).with_state(api)
}

fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/orders", get(queries::orders))
        .route("/orders/{id}", put(orders::place).get(orders::show))
        .route("/orders/{id}/events", get(orders::history))
        .route("/orders/{id}/approve", post(orders::approve))
        .route("/orders/{id}/ship", post(orders::ship))
        .route("/orders/{id}/deliver", post(orders::deliver))
        .route("/orders/{id}/cancel", post(orders::cancel))
        .route("/products", get(queries::stock))
        .route("/products/{id}", put(products::register).get(products::show))
        .route("/products/{id}/receive", post(products::receive))
        .route("/products/{id}/withdraw", post(products::withdraw))
        .route("/products/{id}/move", post(products::move_stock))
        .route("/demand", get(queries::demand))
        .route("/revenue", get(queries::revenue))
        .route("/report", get(queries::report))
        .route("/events", get(live::events))
        .route("/projections", get(projections::list))
        .route("/projections/{name}/parked", get(projections::parked))
}

/// Serves requests until `stop` completes. Then drains the server, and waits for snapshot writes.
pub async fn serve(
    api: Arc<Api>,
    listener: TcpListener,
    edge: Edge,
    options: ServeOptions,
    stop: impl Future<Output = ()> + Send,
) {
    // A client that is too slow for the drain is no failure of the service: the server has logged it.
    let _ = es_http::serve(listener, router(Arc::clone(&api), edge), options, stop).await;
    api.shop.settle().await;
}
