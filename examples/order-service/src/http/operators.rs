//! The routes of operators, on the listener of the operations. They have an OpenAPI document of their own.

use axum::Router;
use axum::routing::get;
use es_http::{Json, NoInput};
use es_saga::process::ProcessAdmin;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use super::openapi::{OperatorDocument, add_common_errors};
use super::processes::process_routes;
use super::sagas::saga_routes;
use super::transactions::transaction_routes;
use crate::fulfilment::ProviderClient;
use crate::shop::Shop;
use crate::transactions::participant;

/// Returns the routes for sagas, processes and transactions, for
/// [`Operations::merge`](es_http::operations::Operations::merge). The report on sagas needs a provider.
pub fn operator_router(shop: Shop, provider: Option<ProviderClient>) -> Router {
    let processes = process_routes(ProcessAdmin::new(shop.shared_store()));
    let (router, mut document) = OpenApiRouter::with_openapi(OperatorDocument::openapi())
        .merge(transaction_routes(participant(&shop)))
        .merge(saga_routes(shop, provider))
        .merge(processes)
        .split_for_parts();
    add_common_errors(&mut document);
    router.route("/openapi.json", get(async move |_: NoInput| Json(document)))
}
