//! The parts of requests that several modules of routes share.

use std::collections::BTreeMap;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use es_http::operations::Operator;
use es_http::{NoParameters, Preconditions, Problem};
use utoipa::IntoResponses;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Required, Response};

use super::openapi::problems;

/// Who acts without a name.
const UNNAMED: &str = "operator";
/// The maximum number of entries of a list.
pub(super) const MAX_LIMIT: usize = 10_000;

/// Returns an optional header of a request.
pub(super) fn header(name: &str, description: &str) -> Parameter {
    let text = ObjectBuilder::new().schema_type(Type::String).build();
    let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Header).schema(Some(text));
    parameter.required(Required::False).description(Some(description)).build()
}

/// Returns the person that is recorded for an action.
pub(super) fn recorded_name(operator: &Operator, by: Option<&str>) -> String {
    operator.recorded_as(by.map(ToOwned::to_owned)).unwrap_or_else(|| UNNAMED.to_owned())
}

/// An action of an operator on a resource without a version, and without parameters of the query. `If-Match` is 412.
#[derive(Debug)]
pub(super) struct UnversionedWrite;

/// The errors of an action, besides 404.
impl IntoResponses for UnversionedWrite {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[
            (409, "The state does not permit the action, or another operator was faster."),
            (412, "The resource has no version: `If-Match` never holds."),
            (415, "The body is not declared as JSON."),
            (422, "The body has an invalid value, or no reason."),
        ])
    }
}

impl<S: Send + Sync> FromRequestParts<S> for UnversionedWrite {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        NoParameters::from_request_parts(parts, state).await?;
        Preconditions::of_headers(&parts.headers)?.check(None)?;
        Ok(Self)
    }
}
