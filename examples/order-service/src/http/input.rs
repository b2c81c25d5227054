//! The parts of requests that several modules of routes share.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use es_http::{Preconditions, Problem};
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};

/// Who acts without a name.
pub(super) const UNNAMED: &str = "operator";
/// The maximum number of entries of a list.
pub(super) const MAX_LIMIT: usize = 10_000;

/// Returns an optional header of a request.
pub(super) fn header(name: &str, description: &str) -> Parameter {
    let text = ObjectBuilder::new().schema_type(Type::String).build();
    let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Header).schema(Some(text));
    parameter.required(Required::False).description(Some(description)).build()
}

/// Checks that a request has no parameters of the query.
pub(super) fn check_no_parameters(parts: &Parts) -> Result<(), Problem> {
    match parts.uri.query().filter(|query| !query.is_empty()) {
        None => Ok(()),
        Some(query) => Err(Problem::invalid("query", "no parameters", query)),
    }
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
