//! The values of headers.

use std::fmt::{self, Write};

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::Problem;

/// The length of a position with the id of its log, in bytes, and a reserve.
const TYPICAL_LENGTH: usize = 64;

/// Returns the value of a header that must occur at most once.
pub(crate) fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => text(name, value).map(Some),
        (Some(_), Some(_)) => Err(several(name)),
    }
}

/// Returns the text of a value.
pub(crate) fn text<'a>(name: &HeaderName, value: &'a HeaderValue) -> Result<&'a str, Problem> {
    let found = || String::from_utf8_lossy(value.as_bytes());
    value.to_str().map_err(|_| Problem::invalid(name.as_str(), "visible ASCII characters", &found()))
}

/// Returns the response to a request with several values of a header that must occur at most once.
pub(crate) fn several(name: &HeaderName) -> Problem {
    Problem::invalid(name.as_str(), "one value", "several values")
}

/// Returns the response to a request without a required header.
pub(crate) fn missing(name: impl fmt::Display) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, format!("expected the header {name}, found none"))
}

/// Returns the value with this text, in two allocations; `None` if a header must not have one of its characters.
pub(crate) fn of_text(text: impl fmt::Display) -> Option<HeaderValue> {
    let mut buffer = String::with_capacity(TYPICAL_LENGTH);
    write!(buffer, "{text}").ok()?;
    HeaderValue::from_str(&buffer).ok()
}
