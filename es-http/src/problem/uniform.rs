//! [`uniform_problems`]: gives every error response the form of a problem.

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::response::Parts;
use axum::http::{self, HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;

use super::{CONTENT_TYPE, Problem};
use crate::correlation_header::CORRELATION_ID;

/// The longest text that becomes the detail of a problem, in bytes. The rest of a longer text is not sent.
const MAX_DETAIL_BYTES: usize = 16 * 1024;

/// Converts error responses in plain text or without a body into [problems](Problem): those of the router (404, 405),
/// of the extractors of axum, and of handlers. Headers such as `Allow` are kept. The text of a 500 is logged and not
/// sent. A text longer than 16 KiB is shortened. Responses with a content type other than `text/plain` or of unknown
/// length are not changed.
///
/// [`serve`](crate::serve) applies it to every response. Use it with `axum::middleware::from_fn` where another server
/// runs the router.
pub async fn uniform_problems(request: Request, next: Next) -> Response {
    let answered = AnsweredRequest::of(&request);
    let response = next.run(request).await;
    if is_uniform(&response) { response } else { uniform(response, answered).await }
}

/// What the response to a request can name.
///
/// The URI is a part of the read buffer of the connection. It must not be kept until the next read, for which hyper
/// would allocate another buffer.
#[derive(Debug, Clone)]
pub(crate) struct AnsweredRequest {
    pub(crate) method: Method,
    uri: Uri,
}

impl AnsweredRequest {
    pub(crate) fn of<B>(request: &http::Request<B>) -> Self {
        Self { method: request.method().clone(), uri: request.uri().clone() }
    }

    pub(crate) fn path(&self) -> &str {
        self.uri.path()
    }
}

/// Returns whether a response is no error, or an error whose form [`uniform`] keeps.
pub(crate) fn is_uniform(response: &Response) -> bool {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let has_length = || response.body().size_hint().upper().is_some();
    !is_error || !has_length() || !is_plain_text(response.headers())
}

/// Converts the response to a request into a problem.
pub(crate) async fn uniform(response: Response, request: AnsweredRequest) -> Response {
    let status = response.status();
    let (mut parts, body) = response.into_parts();
    let detail = detail(&parts, body, &request).await;
    let (problem, body) = Problem::new(status, detail).into_response().into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.extend(problem.headers);
    parts.headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
    Response::from_parts(parts, body)
}

/// Returns whether a response has no content type, or plain text.
fn is_plain_text(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return true };
    value.to_str().is_ok_and(|value| value.trim_start().to_ascii_lowercase().starts_with("text/plain"))
}

/// Returns the beginning of the text of a response.
async fn text(mut body: Body) -> String {
    let mut bytes = Vec::new();
    while bytes.len() <= MAX_DETAIL_BYTES
        && let Some(Ok(frame)) = body.frame().await
    {
        bytes.extend(frame.into_data().unwrap_or_default());
    }
    let text = String::from_utf8_lossy(&bytes);
    text[..text.floor_char_boundary(MAX_DETAIL_BYTES)].trim().to_owned()
}

async fn detail(parts: &Parts, body: Body, request: &AnsweredRequest) -> String {
    let (method, path) = (&request.method, request.path());
    let text = text(body).await;
    match parts.status {
        StatusCode::INTERNAL_SERVER_ERROR => {
            let correlation_id = parts.headers.get(CORRELATION_ID).and_then(|id| id.to_str().ok());
            tracing::error!(%method, path, correlation_id, error = text, "a request failed");
            Problem::unexplained().detail().to_owned()
        }
        _ if !text.is_empty() => text,
        StatusCode::NOT_FOUND => format!("{path} does not exist"),
        StatusCode::METHOD_NOT_ALLOWED => {
            let allowed = parts.headers.get(header::ALLOW).and_then(|allowed| allowed.to_str().ok());
            let allowed = allowed.unwrap_or("another method");
            format!("{path} does not support {method}: expected {allowed}")
        }
        status => status.canonical_reason().unwrap_or("the request failed").to_ascii_lowercase(),
    }
}
