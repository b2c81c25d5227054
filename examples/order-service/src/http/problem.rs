//! [`Problem`]: an error response, `application/problem+json` (RFC 9457).

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use es_core::aggregate::InfrastructureError;
use es_core::model::{ErrorChain, NameError, PositionError};
use es_core::projection::view::ViewError;
use es_core::projection::{AdminError, WaitError};
use es_core::{ExecuteError, LoadError, StoreError};
use serde::Serialize;

use crate::domain::{Inexact, Invalid, OrderLinesError, OrderRejection, ProductRejection};
use crate::failure::Failure;

/// An error response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
}

/// Whether a request has `If-Match` or `If-None-Match: *`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Precondition {
    Present,
    Absent,
}

#[derive(Serialize)]
struct Body<'a> {
    status: u16,
    title: &'a str,
    detail: &'a str,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into() }
    }

    /// Creates the response for a precondition (`If-Match`, `If-None-Match`) that does not hold.
    pub(super) fn precondition_failed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, detail)
    }

    /// Creates the response for an invalid header, parameter or path segment. Shortens `found` to 100 characters.
    pub(super) fn invalid(name: &str, expected: &str, found: &str) -> Self {
        let found: String = found.chars().take(100).collect();
        Self::new(StatusCode::BAD_REQUEST, format!("{name}: expected {expected}, found {found:?}"))
    }

    pub(super) async fn path_not_found(uri: Uri) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("{} does not exist", uri.path()))
    }

    pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} does not support {method}", uri.path()))
    }

    /// Creates the response for a failure. A conflict is 412 if the request had a precondition, otherwise 409.
    pub(super) fn of(failure: &Failure, precondition: Precondition) -> Self {
        let status = match failure {
            Failure::Conflict(_) if precondition == Precondition::Present => StatusCode::PRECONDITION_FAILED,
            Failure::NoOrder(_)
            | Failure::NoOrderAtTime { .. }
            | Failure::NoSuchRevision { .. }
            | Failure::NoProduct(_)
            | Failure::NoProjection { .. }
            | Failure::Order(OrderRejection::NotPlaced { .. })
            | Failure::Product(ProductRejection::NotRegistered { .. }) => StatusCode::NOT_FOUND,
            Failure::Lines(_)
            | Failure::Inexact(_)
            | Failure::Input(_)
            | Failure::Order(OrderRejection::Value(_))
            | Failure::Product(ProductRejection::Value(_))
            | Failure::Infrastructure(InfrastructureError::CommandIdReused { .. }) => StatusCode::UNPROCESSABLE_ENTITY,
            Failure::Conflict(_)
            | Failure::Order(_)
            | Failure::Product(_)
            | Failure::Admin(AdminError::NotParked { .. } | AdminError::NotFirst { .. })
            | Failure::NotCaughtUp(WaitError::AheadOfLog(_))
            | Failure::Position(_)
            | Failure::View(ViewError::Rebuilt { .. }) => StatusCode::CONFLICT,
            Failure::Infrastructure(InfrastructureError::ResultRemoved { .. }) => StatusCode::GONE,
            Failure::NotCaughtUp(_)
            | Failure::Admin(AdminError::Busy { .. })
            | Failure::Store(StoreError::Closed | StoreError::Stopped { .. }) => StatusCode::SERVICE_UNAVAILABLE,
            Failure::Infrastructure(_)
            | Failure::Load(_)
            | Failure::Store(_)
            | Failure::View(_)
            | Failure::Admin(_)
            | Failure::Start(_)
            | Failure::Service(_)
            | Failure::ReadModelsDiffer { .. }
            | Failure::ReadModelsIncomplete { .. }
            | Failure::Remote { .. }
            | Failure::NoStore { .. }
            | Failure::Open(_)
            | Failure::Output(_)
            | Failure::Io { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let detail = match failure {
            Failure::Infrastructure(InfrastructureError::CommandIdReused { command_id, .. }) => format!(
                "Idempotency-Key: {command_id:?} belongs to another request; send the first request again, or this one \
                 with a new key"
            ),
            failure => ErrorChain(failure).to_string(),
        };
        Self::new(status, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("error");
        let body = Body { status: self.status.as_u16(), title, detail: &self.detail };
        let mut response = (self.status, Json(body)).into_response();
        let problem = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, problem);
        response
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::of(&failure, Precondition::Absent)
    }
}

impl From<NameError> for Problem {
    fn from(error: NameError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.to_string())
    }
}

impl From<Invalid> for Problem {
    fn from(error: Invalid) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
    }
}

impl<R: Into<Failure>> From<ExecuteError<R>> for Problem {
    fn from(error: ExecuteError<R>) -> Self {
        Failure::from(error).into()
    }
}

macro_rules! from_failures {
    ($($error:ty)*) => {$(
        impl From<$error> for Problem {
            fn from(error: $error) -> Self {
                Failure::from(error).into()
            }
        }
    )*};
}

from_failures!(StoreError PositionError LoadError ViewError Inexact OrderLinesError);

macro_rules! from_rejections {
    ($($rejection:ty)*) => {$(
        impl From<$rejection> for Problem {
            fn from(rejection: $rejection) -> Self {
                Self::new(rejection.status(), rejection.body_text())
            }
        }
    )*};
}

from_rejections!(JsonRejection QueryRejection);
