//! [`Json`], [`Path`], [`Query`], [`NoParameters`] and [`NoInput`]: extractors whose refusals are [problems](Problem).

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, OptionalFromRequest, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use http_body::Body as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::Problem;
use crate::problem::BodyRefused;

/// A JSON body of a request or of a response.
///
/// A request must have `Content-Type: application/json`, or another type that ends with `+json`; otherwise the response
/// is 415. Invalid JSON is 400, JSON with other content than `T` is 422, no body is 400.
///
/// `Option<Json<T>>` is for routes whose body is optional. `None` means that the request has no body. A body without a
/// content type is 415: it is never ignored. Inside an [`Edge`](crate::Edge), so is an empty body that is sent in
/// chunks.
///
/// ```
/// use es_http::{Json, Problem};
///
/// #[derive(serde::Deserialize)]
/// struct Place {
///     cents: u64,
/// }
///
/// async fn place(Json(command): Json<Place>) -> Result<Json<u64>, Problem> {
///     Ok(Json(command.cents))
/// }
/// # let _: axum::Router = axum::Router::new().route("/", axum::routing::put(place));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = <Self as OptionalFromRequest<S>>::from_request(request, state).await?;
        body.ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, "expected a JSON body, found none"))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> OptionalFromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, Problem> {
        let content_type = check_content_type(request.headers());
        let body = Bytes::from_request(request, state).await?;
        if body.is_empty() {
            return Ok(None);
        }
        content_type?;
        parse(&body).map(Some)
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<Json<T>, Problem> {
    serde_json::from_slice(body).map(Json).map_err(|error| {
        let status = match error.classify() {
            Category::Data => StatusCode::UNPROCESSABLE_ENTITY,
            Category::Syntax | Category::Eof | Category::Io => StatusCode::BAD_REQUEST,
        };
        Problem::new(status, format!("invalid JSON body: {error}"))
    })
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let found = match (values.next(), values.next()) {
        (None, _) => "none".to_owned(),
        (Some(value), None) if is_json(value) => return Ok(()),
        (Some(value), None) => format!("{value:?}"),
        (Some(_), Some(_)) => "several".to_owned(),
    };
    let detail = format!("Content-Type: expected application/json, found {found}");
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
}

/// Returns whether a content type is `application/json` or `application/*+json`, with any parameters.
pub(crate) fn is_json(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else { return false };
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let Some(subtype) = essence.strip_prefix("application/") else { return false };
    subtype == "json" || subtype.strip_suffix("+json").is_some_and(|prefix| !prefix.is_empty())
}

/// A value that cannot be serialized is logged and answered with 500.
impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response(),
            Err(error) => Problem::internal(&error).into_response(),
        }
    }
}

/// The parameters of the path. A parameter of another type is 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let axum::extract::Path(value) = axum::extract::Path::from_request_parts(parts, state).await?;
        Ok(Self(value))
    }
}

/// The parameters of the query. A parameter of another type is 400; so is an unknown parameter, if `T` has
/// `#[serde(deny_unknown_fields)]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let axum::extract::Query(value) = axum::extract::Query::from_request_parts(parts, state).await?;
        Ok(Self(value))
    }
}

/// A request without a body and without parameters of the query: nothing that a client sends is ignored. A parameter is
/// 400. A body that is not JSON is 415, and one with any member 422; the empty object `{}` is accepted.
///
/// ```
/// use es_http::{NoInput, Path};
///
/// async fn ship(Path(order): Path<u64>, _: NoInput) -> String {
///     format!("shipped {order}")
/// }
/// # let _: axum::Router = axum::Router::new().route("/orders/{order}/ship", axum::routing::post(ship));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NoInput;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl<S: Send + Sync> FromRequest<S> for NoInput {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        check_no_parameters(request.uri())?;
        <Json<Nothing> as OptionalFromRequest<S>>::from_request(request, state).await?;
        Ok(Self)
    }
}

/// A request without parameters of the query; a parameter is 400. For requests with a body, which [`NoInput`] refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NoParameters;

impl<S: Send + Sync> FromRequestParts<S> for NoParameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        check_no_parameters(&parts.uri).map(|()| Self)
    }
}

fn check_no_parameters(uri: &Uri) -> Result<(), Problem> {
    match uri.query().filter(|query| !query.is_empty()) {
        None => Ok(()),
        Some(query) => Err(Problem::invalid("query", "no parameters", query)),
    }
}

/// Checks that the server has not refused the declared length of the body.
pub(crate) fn check_body_length(request: &Request) -> Result<(), Problem> {
    match request.extensions().get::<BodyRefused>() {
        None => Ok(()),
        Some(refused) => Err((*refused).into()),
    }
}

/// Checks that a request has no body, or a content type for it. GET and HEAD have no body that a handler could read.
pub(crate) fn check_body_has_type(request: &Request) -> Result<(), Problem> {
    if request.body().is_end_stream() {
        return Ok(());
    }
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(unexpected_body(request.method()));
    }
    if request.headers().contains_key(header::CONTENT_TYPE) {
        return Ok(());
    }
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Type: expected the type of the body, found none"))
}

/// Returns the response to a request with a body that no handler reads.
pub(crate) fn unexpected_body(method: &Method) -> Problem {
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("expected no body of {method}, found one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_the_subtype_json_or_the_suffix() {
        for value in ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/a.b+json"]
        {
            assert!(is_json(&HeaderValue::from_static(value)), "{value}");
        }
        for value in
            ["", "json", "text/json", "application/jsonx", "application/+json", "application/xml", "text/plain"]
        {
            assert!(!is_json(&HeaderValue::from_static(value)), "{value}");
        }
    }
}
