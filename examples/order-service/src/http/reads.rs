//! Reads: their parameters, and the positions that their results include.
//!
//! The header `ES-Position: P` or the parameter `at_least=P`, where P is the `ES-Position` of a command's response, is
//! accepted by every read. It is 409 if P is ahead of the log, and 410 if it belongs to another log. A query waits
//! until its read model includes P, and is 503 if this takes longer than [`WAIT_TIMEOUT`]. Other reads always include
//! P, because they read the log. A parameter that a route does not have is 400.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use es_core::Position;
use es_core::model::LogPosition;
use es_core::projection::Projection;
use es_http::{EsPosition, Preconditions, Problem, Query};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::{RefOr, Response};
use utoipa::{IntoParams, IntoResponses};

use super::Api;
use super::input::header;
use super::openapi::problems;

/// The time that a query waits for its read model.
pub(super) const WAIT_TIMEOUT: Duration = Duration::from_secs(5);

/// The parameters of the query of a read. They must refuse unknown parameters.
pub(super) trait ReadParameters: DeserializeOwned + IntoParams {
    /// Returns the position that the result must include; `None` by default.
    fn at_least(&self) -> Option<LogPosition> {
        None
    }
}

/// The parameters of a read without others.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct AtLeast {
    /// Waits until the result includes this position, `LOG:POSITION`.
    #[param(value_type = Option<String>)]
    at_least: Option<LogPosition>,
}

impl ReadParameters for AtLeast {
    fn at_least(&self) -> Option<LogPosition> {
        self.at_least
    }
}

/// A read: its parameters, and a position of the log that the result must include.
#[derive(Debug)]
pub(super) struct Read<P> {
    pub(super) parameters: P,
    at_least: Option<Position>,
}

impl<P: ReadParameters> FromRequestParts<Arc<Api>> for Read<P> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let Query(parameters) = Query::<P>::from_request_parts(parts, api).await?;
        let header = EsPosition::of_headers(&parts.headers)?.map(|EsPosition(position)| position);
        let mut at_least = None;
        for position in [parameters.at_least(), header].into_iter().flatten() {
            at_least = at_least.max(position.resolve(api.shop.store())?);
        }
        Ok(Self { parameters, at_least })
    }
}

impl<P: IntoParams> IntoParams for Read<P> {
    fn into_params(parameter_in: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut parameters = P::into_params(parameter_in);
        parameters.push(header("ES-Position", "The result includes this position, as with `at_least`."));
        parameters
    }
}

/// The errors of a read.
impl<P> IntoResponses for Read<P> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[
            (409, "The position is ahead of the log, or the read model was rebuilt between two pages."),
            (410, "The position belongs to another log: the store was restored."),
        ])
    }
}

impl<P> Read<P> {
    /// Waits until the read model has reached the position, and returns the parameters.
    pub(super) async fn wait<Q: Projection>(self, api: &Api) -> Result<P, Problem> {
        api.projections.wait_for(Q::NAME, self.at_least, WAIT_TIMEOUT).await?;
        Ok(self.parameters)
    }
}

/// A read of one order or product, with `If-Match` and `If-None-Match`.
#[derive(Debug)]
pub(super) struct ReadOne(pub(super) Preconditions);

impl FromRequestParts<Arc<Api>> for ReadOne {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        Read::<AtLeast>::from_request_parts(parts, api).await?;
        Preconditions::of_headers(&parts.headers).map(Self)
    }
}

impl IntoParams for ReadOne {
    fn into_params(parameter_in: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut parameters = Read::<AtLeast>::into_params(parameter_in);
        parameters.push(header("If-Match", "412 if the version is none of these."));
        parameters.push(header("If-None-Match", "304 if the version is one of these."));
        parameters
    }
}

/// The responses without a body, and the errors.
impl IntoResponses for ReadOne {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut responses = problems(&[
            (404, "The order or product does not exist, or was deleted."),
            (409, "The position is ahead of the log."),
            (410, "Events of the order or product were removed, or the position belongs to another log."),
            (412, "A condition of the request does not hold."),
        ]);
        responses.insert("304".to_owned(), Response::new("The client has this version.").into());
        responses
    }
}
