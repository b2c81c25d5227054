//! Headers that must occur at most once.

use axum::http::HeaderMap;

use crate::Problem;

/// Returns the value of a header that must occur at most once.
pub(crate) fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let invalid = |_| Problem::invalid(name, "visible ASCII characters", &format!("{value:?}"));
            Ok(Some(value.to_str().map_err(invalid)?))
        }
        (Some(_), Some(_)) => Err(Problem::invalid(name, "one value", "several values")),
    }
}
