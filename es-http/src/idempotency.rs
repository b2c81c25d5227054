//! [`IdempotencyKey`]: the header `Idempotency-Key` as a command id.

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use es_core::CommandId;

use crate::Problem;
use crate::header_value::{missing, single};

const NAME: HeaderName = HeaderName::from_static("idempotency-key");
/// The longest key, in bytes.
const MAX_BYTES: usize = 255;

/// The header `Idempotency-Key`: a command with this key is executed at most once.
///
/// The value is a string in quotes (draft-ietf-httpapi-idempotency-key-header), such as `"8e03978e-40d5"`. The same key
/// without quotes is accepted if it has only letters, digits and the characters `-_.:~+/=`. A key has 1 to 255 bytes.
///
/// As an extractor, `IdempotencyKey` requires the header; `Option<IdempotencyKey>` does not. Pass the key to
/// `Execute::with_id`. A key that was used for another command is 422.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(pub CommandId);

impl IdempotencyKey {
    /// Parses the header; `None` if the request has none.
    ///
    /// # Errors
    /// 400 if there are several values, or one that is not a key, such as one with a tab.
    pub fn of_headers(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let Some(value) = single(headers, &NAME)? else { return Ok(None) };
        let key = if value.starts_with('"') { unquote(value) } else { bare(value) };
        let key = key.filter(|key| (1..=MAX_BYTES).contains(&key.len()));
        let expected = "a string of 1 to 255 visible characters in quotes, such as \"8e03978e-40d5\"";
        let key = key.and_then(|key| CommandId::new(key).ok());
        Ok(Some(Self(key.ok_or_else(|| Problem::invalid("Idempotency-Key", expected, value))?)))
    }
}

/// Returns the content of a string of structured fields (RFC 9651). It is ASCII, because the header is.
fn unquote(value: &str) -> Option<String> {
    let mut characters = value.strip_prefix('"')?.strip_suffix('"').filter(|_| value.len() >= 2)?.chars();
    let mut key = String::new();
    while let Some(character) = characters.next() {
        match character {
            '"' => return None,
            '\\' => key.push(characters.next().filter(|escaped| matches!(escaped, '"' | '\\'))?),
            other => key.push(other),
        }
    }
    Some(key)
}

fn bare(value: &str) -> Option<String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:~+/=".contains(c);
    value.chars().all(is_allowed).then(|| value.to_owned())
}

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::of_headers(&parts.headers)?.ok_or_else(|| missing("Idempotency-Key"))
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Problem> {
        Self::of_headers(&parts.headers)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, StatusCode};

    use super::*;

    fn key(value: &str) -> Option<String> {
        let headers = HeaderMap::from_iter([(NAME, HeaderValue::try_from(value).unwrap())]);
        IdempotencyKey::of_headers(&headers).ok()?.map(|key| key.0.as_str().to_owned())
    }

    #[test]
    fn a_key_is_a_string_in_quotes_or_a_token() {
        for (value, expected) in [
            ("\"a b\"", "a b"),
            (r#""a\"b\\c""#, r#"a"b\c"#),
            ("8e03978e-40d5", "8e03978e-40d5"),
            ("\"8e03978e-40d5\"", "8e03978e-40d5"),
            (&"x".repeat(255), &"x".repeat(255)),
        ] {
            assert_eq!(key(value).as_deref(), Some(expected), "{value}");
        }
        let invalid =
            ["", "\"\"", "\"", "\"a", "a\"", "\"a\"b\"", "\"a\\b\"", "\"a\\\"", "a b", "a,b", "\"a\tb\"", "\"a\";x=1"];
        for value in invalid.map(ToOwned::to_owned).into_iter().chain(["x".repeat(256)]) {
            assert_eq!(key(&value), None, "{value}");
        }
    }

    #[test]
    fn several_keys_are_refused() {
        let name = || NAME;
        let headers = HeaderMap::from_iter([(name(), HeaderValue::from_static("a"))]);
        let mut both = headers.clone();
        both.append(NAME, HeaderValue::from_static("b"));
        assert!(IdempotencyKey::of_headers(&headers).is_ok());
        assert_eq!(IdempotencyKey::of_headers(&both).unwrap_err().status(), StatusCode::BAD_REQUEST);
    }
}
