//! [`Problem`]: why a request was refused, as `application/problem+json` (RFC 9457).

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use es_core::model::ErrorChain;
use es_core::model::NameError;
use es_core::projection::AdminError;
use es_core::projection::view::ViewError;
use es_core::{ExecuteError, LoadError, StoreError};
use serde::Serialize;

use crate::domain::{Inexact, Invalid, OrderLinesError, OrderRejection, ProductRejection};
use crate::failure::Failure;

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
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

    /// The condition of the request does not hold.
    pub(super) fn precondition(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, detail)
    }

    /// A header or a parameter that cannot be understood.
    pub(super) fn not_understood(what: &str, expected: &str, found: &str) -> Self {
        let found: String = found.chars().take(100).collect();
        Self::new(StatusCode::BAD_REQUEST, format!("{what}: expected {expected}, found {found:?}"))
    }

    pub(super) async fn no_such_path(uri: Uri) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
    }

    pub(super) async fn no_such_method(method: Method, uri: Uri) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} does not take {method}", uri.path()))
    }

    /// What a failure is to one who asks over HTTP. `on_condition` says whether the request came with a condition.
    pub(super) fn of(failure: &Failure, on_condition: bool) -> Self {
        let status = match failure {
            Failure::Conflict(_) if on_condition => StatusCode::PRECONDITION_FAILED,
            Failure::NoOrder(_)
            | Failure::NoOrderThen { .. }
            | Failure::NoRevisionYet { .. }
            | Failure::NoProduct(_)
            | Failure::NoProjection { .. }
            | Failure::Order(OrderRejection::NotPlaced { .. })
            | Failure::Product(ProductRejection::NotRegistered { .. }) => StatusCode::NOT_FOUND,
            Failure::Conflict(_)
            | Failure::Order(_)
            | Failure::Product(_)
            | Failure::Admin(AdminError::NotParked { .. } | AdminError::NotFirst { .. })
            | Failure::View(ViewError::Rebuilt { .. }) => StatusCode::CONFLICT,
            Failure::Lines(_) | Failure::Inexact(_) | Failure::Input(_) => StatusCode::UNPROCESSABLE_ENTITY,
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
            | Failure::Differs { .. }
            | Failure::Remote { .. }
            | Failure::Open(_)
            | Failure::Io { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, ErrorChain(failure).to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("refused");
        let body = Body { status: self.status.as_u16(), title, detail: &self.detail };
        let mut response = (self.status, Json(body)).into_response();
        let problem = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, problem);
        response
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::of(&failure, false)
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

from_failures!(StoreError LoadError ViewError Inexact OrderLinesError);

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
