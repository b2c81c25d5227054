//! [`EntityTag`]: the value of an `ETag`, and the lists of `If-Match` and `If-None-Match` (RFC 9110, section 8.8.3).

use std::fmt;

use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponseParts, ResponseParts};
use es_core::Revision;
use es_core::model::Version;

use crate::Problem;
use crate::header_value::of_text;
use crate::problem::shortened;

/// The longest list of a condition that is accepted, in tags.
const MAX_TAGS: usize = 100;

/// The validator of a representation: `"3"`, or `W/"3"` if a proxy changed the representation, for example by
/// compression.
///
/// A tag of this crate is the [`Version`] of an aggregate. As a part of a response, it is the header `ETag`.
///
/// ```
/// use es_core::Revision;
/// use es_http::EntityTag;
/// assert_eq!(EntityTag::from(Revision::new(3)).to_string(), "\"3\"");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EntityTag {
    is_weak: bool,
    opaque: String,
}

impl EntityTag {
    /// Returns the version that this tag names if it is strong, and `None` for a weak tag or a tag of another origin,
    /// such as `"01"`.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        if self.is_weak { None } else { self.opaque.parse().ok() }
    }

    /// Returns whether the tags are equal in the weak comparison, which `If-None-Match` uses.
    fn is_weakly_equal(&self, other: &Self) -> bool {
        self.opaque == other.opaque
    }
}

impl From<Version> for EntityTag {
    fn from(version: Version) -> Self {
        Self { is_weak: false, opaque: version.to_string() }
    }
}

impl From<Revision> for EntityTag {
    fn from(revision: Revision) -> Self {
        Version::from(revision).into()
    }
}

impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\"{}\"", if self.is_weak { "W/" } else { "" }, self.opaque)
    }
}

impl IntoResponseParts for EntityTag {
    type Error = std::convert::Infallible;

    fn into_response_parts(self, mut response: ResponseParts) -> Result<ResponseParts, Self::Error> {
        // Versions are digits and letters, which every header may contain.
        if let Some(value) = of_text(&self) {
            response.headers_mut().insert(header::ETAG, value);
        }
        Ok(response)
    }
}

/// The condition of a header: `*` or a list of tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TagCondition {
    Any,
    List(Vec<EntityTag>),
}

/// Tags are separated by `or`. A long list is shortened.
impl fmt::Display for TagCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::List(tags) => {
                let tags: Vec<String> = tags.iter().map(ToString::to_string).collect();
                f.write_str(&shortened(&tags.join(" or ")))
            }
        }
    }
}

impl TagCondition {
    /// Returns whether the condition has a weak tag, which never matches in `If-Match`.
    pub(crate) fn has_weak_tag(&self) -> bool {
        matches!(self, Self::List(tags) if tags.iter().any(|tag| tag.is_weak))
    }

    /// Returns whether the condition contains the current version, in the strong comparison.
    pub(crate) fn matches_strongly(&self, current: Option<Version>) -> bool {
        match self {
            Self::Any => current.is_some(),
            Self::List(tags) => current.is_some() && tags.iter().any(|tag| tag.version() == current),
        }
    }

    /// Returns whether the condition contains the current version, in the weak comparison.
    pub(crate) fn matches_weakly(&self, current: Option<Version>) -> bool {
        match (self, current) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::List(tags), Some(current)) => {
                let current = EntityTag::from(current);
                tags.iter().any(|tag| tag.is_weakly_equal(&current))
            }
        }
    }

    /// Parses the values of a header, which together are one list.
    pub(crate) fn of_header(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Self>, Problem> {
        let mut values = headers.get_all(name).iter().peekable();
        if values.peek().is_none() {
            return Ok(None);
        }
        let mut joined = Vec::new();
        for value in values {
            joined.extend_from_slice(value.as_bytes());
            joined.push(b',');
        }
        let text = String::from_utf8_lossy(&joined[..joined.len() - 1]).into_owned();
        let invalid = || Problem::invalid(name.as_str(), "* or entity tags in quotes, such as \"3\"", &text);
        if text.trim() == "*" {
            return Ok(Some(Self::Any));
        }
        let tags = parse_list(&text).ok_or_else(invalid)?;
        match tags.len() {
            0 => Err(invalid()),
            1..=MAX_TAGS => Ok(Some(Self::List(tags))),
            found => Err(Problem::invalid(name.as_str(), format_args!("at most {MAX_TAGS} tags"), &found.to_string())),
        }
    }
}

/// Parses `"a", W/"b"`. Empty elements are allowed, as in every list of RFC 9110.
fn parse_list(text: &str) -> Option<Vec<EntityTag>> {
    let mut tags = Vec::new();
    let mut rest = text.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let (is_weak, quoted) = rest.strip_prefix("W/").map_or((false, rest), |quoted| (true, quoted));
        let (opaque, after) = quoted.strip_prefix('"')?.split_once('"')?;
        if !opaque.chars().all(|c| c == '\u{21}' || (c >= '\u{23}' && c != '\u{7f}')) {
            return None;
        }
        tags.push(EntityTag { is_weak, opaque: opaque.to_owned() });
        let after = after.trim_start_matches([' ', '\t']);
        if !after.is_empty() && !after.starts_with(',') {
            return None;
        }
        rest = after.trim_start_matches([' ', '\t', ',']);
    }
    Some(tags)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn condition(values: &[&'static str]) -> Result<Option<TagCondition>, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::IF_MATCH, HeaderValue::from_static(value));
        }
        TagCondition::of_header(&headers, &header::IF_MATCH).map_err(|problem| problem.detail().to_owned())
    }

    fn tags(values: &[&'static str]) -> String {
        match condition(values) {
            Ok(Some(TagCondition::List(tags))) => tags.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_condition_is_a_star_or_a_list_of_tags_in_one_or_more_headers() {
        assert_eq!(condition(&[]), Ok(None));
        assert_eq!(condition(&[" * "]), Ok(Some(TagCondition::Any)));
        assert_eq!(tags(&["\"3\""]), "\"3\"");
        assert_eq!(tags(&["\"1\" ,W/\"2\",, \"a,b\"", "\"\""]), "\"1\" W/\"2\" \"a,b\" \"\"");
        for text in ["", ",", "3", "\"3", "w/\"3\"", "\"a\" \"b\"", "\"a b\"", "*, \"3\"", "\"3\" *"] {
            assert!(condition(&[text]).is_err_and(|detail| detail.starts_with("if-match: expected * or")), "{text:?}");
        }
    }

    #[test]
    fn only_the_text_that_this_crate_writes_is_a_version() {
        let version = Some(Version::from(Revision::new(1)));
        let matches = |text: &'static str| {
            let condition = condition(&[text]).unwrap().unwrap();
            (condition.matches_strongly(version), condition.matches_weakly(version))
        };
        assert_eq!(matches("\"1\""), (true, true));
        assert_eq!(matches("W/\"1\""), (false, true));
        assert_eq!(matches("\"7\", \"1\""), (true, true));
        assert_eq!(matches("*"), (true, true));
        for text in ["\"01\"", "\"+1\"", "\"\"", "\"x\"", "\"2\""] {
            assert_eq!(matches(text), (false, false), "{text}");
        }
        assert!(!TagCondition::Any.matches_strongly(None) && !TagCondition::Any.matches_weakly(None));
    }
}
