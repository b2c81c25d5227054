//! The values of headers that must occur at most once.

use std::fmt;

use axum::http::{HeaderMap, StatusCode};

use crate::Problem;

/// Returns the value of a header that must occur at most once.
pub(crate) fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let found = || String::from_utf8_lossy(value.as_bytes());
            Ok(Some(value.to_str().map_err(|_| Problem::invalid(name, "visible ASCII characters", &found()))?))
        }
        (Some(_), Some(_)) => Err(Problem::invalid(name, "one value", "several values")),
    }
}

/// Returns the response to a request without a required header.
pub(crate) fn missing(name: impl fmt::Display) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, format!("expected the header {name}, found none"))
}
