//! The routes of operators, on the listener of the operations. They have an OpenAPI document of their own.

use axum::Router;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::routing::get;
use es_http::{Json, NoInput, Preconditions, Problem};
use es_saga::process::ProcessAdmin;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use super::openapi::{OperatorDocument, add_common_errors};
use super::processes::process_routes;
use super::reads::check_no_parameters;
use super::sagas::saga_routes;
use crate::fulfilment::ProviderClient;
use crate::shop::Shop;

/// Returns the routes for sagas and processes, for [`Operations::merge`](es_http::operations::Operations::merge). The
/// report on sagas needs a provider.
pub fn operator_router(shop: Shop, provider: Option<ProviderClient>) -> Router {
    let processes = process_routes(ProcessAdmin::new(shop.shared_store()));
    let (router, mut document) = OpenApiRouter::with_openapi(OperatorDocument::openapi())
        .merge(saga_routes(shop, provider))
        .merge(processes)
        .split_for_parts();
    add_common_errors(&mut document);
    router.route("/openapi.json", get(async move |_: NoInput| Json(document)))
}

/// A write to a resource without a version and without parameters of the query. `If-Match` is 412.
#[derive(Debug)]
pub(super) struct UnversionedWrite;

impl<S: Send + Sync> FromRequestParts<S> for UnversionedWrite {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        check_no_parameters(parts)?;
        Preconditions::of_headers(&parts.headers)?.check(None)?;
        Ok(Self)
    }
}
