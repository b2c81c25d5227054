//! [`AllowedOrigins`]: which pages may send requests that change state.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::Problem;
use crate::problem::shortened;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The origins, besides its own, whose pages may change the state of a service.
#[derive(Debug, Clone, Default)]
pub struct AllowedOrigins(Arc<[String]>);

impl AllowedOrigins {
    /// Allows no other origin.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Allows these origins, such as `https://shop.example`. A value must be equal to the header `Origin`.
    pub fn new<T: Into<String>>(origins: impl IntoIterator<Item = T>) -> Self {
        Self(origins.into_iter().map(Into::into).collect())
    }

    /// Checks whether a request may change state. The error is the response, 403.
    pub(crate) fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
        if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE) {
            return Ok(());
        }
        let Some(origin) = headers.get(header::ORIGIN) else {
            // Browsers send `Origin` with every such request. `Sec-Fetch-Site` is a second sign of one.
            let site = headers.get(&SEC_FETCH_SITE).map(axum::http::HeaderValue::as_bytes);
            let is_foreign = !matches!(site, None | Some(b"same-origin" | b"none"));
            return if is_foreign { Err(refused("another site")) } else { Ok(()) };
        };
        let origin = origin.to_str().unwrap_or("another origin");
        let is_allowed = self.0.iter().any(|allowed| allowed == origin) || is_own(origin, headers);
        if is_allowed { Ok(()) } else { Err(refused(origin)) }
    }
}

/// Returns whether an origin is that of the host to which the request was sent. The scheme is not compared: it is not
/// known where a proxy decrypts TLS.
fn is_own(origin: &str, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Ok(origin) = origin.parse::<Uri>() else { return false };
    let default_port = match origin.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => return false,
    };
    let host = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
    let (Some(own), Some(other)) = (host, origin.authority()) else { return false };
    let port = |authority: &Authority| authority.port_u16().unwrap_or(default_port);
    own.host().eq_ignore_ascii_case(other.host()) && port(&own) == port(other)
}

fn refused(origin: &str) -> Problem {
    let origin = shortened(origin);
    Problem::new(StatusCode::FORBIDDEN, format!("a page of {origin} must not change the state of this service"))
}

/// Answers 403 to requests that change state and come from a page of an origin that is not allowed.
pub(crate) async fn same_origin(State(allowed): State<AllowedOrigins>, request: Request, next: Next) -> Response {
    match allowed.check(request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_allowed(method: &Method, lines: &[(&'static str, &'static str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, axum::http::HeaderValue::from_static(value));
        }
        AllowedOrigins::new(["https://shop.example"]).check(method, &headers).is_ok()
    }

    #[test]
    fn only_pages_of_the_own_and_of_allowed_origins_change_state() {
        let host = ("host", "api.example:8080");
        for origin in ["http://api.example:8080", "https://API.example:8080", "https://shop.example"] {
            assert!(is_allowed(&Method::POST, &[host, ("origin", origin)]), "{origin}");
        }
        for origin in [
            "http://api.example",
            "http://evil.example",
            "http://api.example:80801",
            "http://shop.example",
            "https://shop.example.evil",
            "http://api.example:8080@evil.example",
            "null",
            "",
            "api.example:8080",
        ] {
            for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
                assert!(!is_allowed(&method, &[host, ("origin", origin)]), "{origin}");
            }
            assert!(is_allowed(&Method::GET, &[host, ("origin", origin)]), "{origin}");
        }
        assert!(is_allowed(&Method::POST, &[("host", "a"), ("origin", "https://a")]));
        assert!(is_allowed(&Method::POST, &[("host", "a:443"), ("origin", "https://a")]));
        assert!(!is_allowed(&Method::POST, &[("host", "a"), ("host", "b"), ("origin", "https://a")]));
        assert!(!is_allowed(&Method::POST, &[("origin", "https://a")]));
    }

    #[test]
    fn a_request_without_an_origin_is_no_page_unless_the_browser_declares_one() {
        assert!(is_allowed(&Method::POST, &[]));
        assert!(is_allowed(&Method::POST, &[("sec-fetch-site", "same-origin")]));
        assert!(is_allowed(&Method::POST, &[("sec-fetch-site", "none")]));
        assert!(!is_allowed(&Method::POST, &[("sec-fetch-site", "cross-site")]));
        assert!(!is_allowed(&Method::POST, &[("sec-fetch-site", "same-site")]));
        assert!(is_allowed(&Method::GET, &[("sec-fetch-site", "cross-site")]));
    }
}
