//! [`EsPosition`]: the header `ES-Position`, by which a client reads its own writes.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use axum::response::{IntoResponseParts, ResponseParts};
use es_core::EventReader;
use es_core::model::{LogPosition, Position};

use crate::Problem;
use crate::header_value::{missing, of_text, single};

const NAME: HeaderName = HeaderName::from_static("es-position");

/// The header `ES-Position`: `LOG:POSITION`, the position of an event with the id of its log.
///
/// A response to a command has the position of the last event of the command. A client sends the header back with a
/// read. The read waits until its view has reached the position, so that the client reads its own writes. A position
/// of another log (the store was restored since), or one that the log does not have, is refused at once.
///
/// ```
/// # use es_core::prelude::*;
/// # use es_core::projection::{ProjectionHandle, WaitError};
/// # use std::{sync::Arc, time::Duration};
/// use es_http::{EsPosition, Problem};
///
/// async fn wait(
///     at_least: Option<EsPosition>,
///     store: &dyn EventStore,
///     view: &ProjectionHandle,
/// ) -> Result<(), Problem> {
///     let position = at_least.map(|at_least| at_least.resolve(store)).transpose()?.flatten();
///     Ok(view.wait_for(position, Duration::from_secs(5)).await?)
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EsPosition(pub LogPosition);

impl EsPosition {
    /// Returns the header for a position in the log of this store, such as `Executed::position`.
    #[must_use]
    pub fn in_store(store: &dyn EventReader, position: Option<Position>) -> Self {
        Self(LogPosition::in_log(store.log_id(), position))
    }

    /// Parses the header; `None` if the request has none.
    ///
    /// # Errors
    /// 400 if there are several values, or one that is not a position.
    pub fn of_headers(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let Some(value) = single(headers, &NAME)? else { return Ok(None) };
        let position = value.parse().map_err(|_| Problem::invalid("ES-Position", "LOG:POSITION", value))?;
        Ok(Some(Self(position)))
    }

    /// Returns the position in the log of this store; `None` for the position before the first event.
    ///
    /// # Errors
    /// 410 if the position belongs to another log, 409 if it is ahead of the log.
    pub fn resolve(self, store: &dyn EventReader) -> Result<Option<Position>, Problem> {
        Ok(self.0.resolve(store)?)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for EsPosition {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::of_headers(&parts.headers)?.ok_or_else(|| missing("ES-Position"))
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for EsPosition {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Problem> {
        Self::of_headers(&parts.headers)
    }
}

impl IntoResponseParts for EsPosition {
    type Error = Infallible;

    fn into_response_parts(self, mut response: ResponseParts) -> Result<ResponseParts, Infallible> {
        // The text is a UUID and a number.
        if let Some(value) = of_text(self.0) {
            response.headers_mut().insert(NAME, value);
        }
        Ok(response)
    }
}
