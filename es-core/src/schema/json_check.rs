//! [`check_json`]: whether a JSON payload can be decoded.

use serde_json::value::RawValue;

/// The maximum number of nested arrays and objects that serde_json decodes.
pub(crate) const MAX_JSON_DEPTH: usize = 127;

/// A payload is not JSON, or no decoder of this crate accepts it. Correct it and try again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidJson {
    /// The payload is not one JSON value in UTF-8.
    #[error("expected JSON, found: {0}")]
    Syntax(serde_json::Error),
    /// Arrays and objects are nested too deep.
    #[error(
        "expected at most {MAX_JSON_DEPTH} nested arrays and objects, found more at column {column}; store it flat"
    )]
    TooDeep {
        /// The column, from 1, in bytes from the beginning of the payload.
        column: usize,
    },
    /// An escape of a string is half of a surrogate pair, which is not a character.
    #[error("expected a pair of surrogates, found only {found} at column {column}")]
    LoneSurrogate {
        /// The escape, such as `\ud800`.
        found: String,
        /// The column, from 1, in bytes from the beginning of the payload.
        column: usize,
    },
}

/// Checks that a JSON payload can be decoded. A store does not check the payloads of raw events: a program that commits
/// text from outside calls this function first, as `es append` does.
///
/// A number may have any size and any number of digits, and an object may have a key twice: whether they are accepted
/// depends on the type of the reader. The cost is one pass over the payload.
///
/// # Errors
/// [`InvalidJson`] for a payload that is not one JSON value in UTF-8, that has more than 127 levels of arrays and
/// objects, or that has a lone surrogate in a string.
///
/// ```
/// use es_core::schema::check_json;
/// assert!(check_json(br#"{"n": 1e400, "text": "\ud83d\ude00"}"#).is_ok());
/// assert!(check_json(br#""\ud83d""#).is_err());
/// assert!(check_json(format!("{}{}", "[".repeat(200), "]".repeat(200)).as_bytes()).is_err());
/// ```
pub fn check_json(payload: &[u8]) -> Result<(), InvalidJson> {
    // Checks the syntax without a limit of levels, and escapes without their meaning.
    serde_json::from_slice::<&RawValue>(payload).map_err(InvalidJson::Syntax)?;
    let (mut depth, mut at, mut is_in_string) = (0_usize, 0, false);
    while let Some(byte) = payload.get(at) {
        at += match (byte, is_in_string) {
            (b'"', _) => {
                is_in_string = !is_in_string;
                1
            }
            (b'\\', true) => escape_length(payload, at)?,
            (b'[' | b'{', false) => {
                depth += 1;
                if depth > MAX_JSON_DEPTH {
                    return Err(InvalidJson::TooDeep { column: at + 1 });
                }
                1
            }
            (b']' | b'}', false) => {
                depth = depth.saturating_sub(1);
                1
            }
            _ => 1,
        };
    }
    Ok(())
}

/// Returns the length of the escape of one character at an offset: two escapes for a pair of surrogates.
fn escape_length(payload: &[u8], at: usize) -> Result<usize, InvalidJson> {
    const UNICODE: usize = r"\u0000".len();
    match code_unit(payload, at) {
        None => Ok(r"\n".len()),
        Some(0xd800..=0xdbff) if matches!(code_unit(payload, at + UNICODE), Some(0xdc00..=0xdfff)) => Ok(2 * UNICODE),
        Some(unit @ 0xd800..=0xdfff) => {
            Err(InvalidJson::LoneSurrogate { found: format!("\\u{unit:04x}"), column: at + 1 })
        }
        Some(_) => Ok(UNICODE),
    }
}

/// Returns the value of an escape such as `\u00e9` at an offset; `None` if there is none.
fn code_unit(payload: &[u8], at: usize) -> Option<u16> {
    let digits = payload.get(at..)?.strip_prefix(br"\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// `es append` committed payloads that no typed reader could decode.
    #[test]
    fn a_payload_is_refused_exactly_if_it_cannot_be_decoded() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let objects = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
        let texts = [
            "",
            " ",
            "{",
            "1 2",
            "01",
            "null",
            " [1,\n2]\n",
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ud800\n""#,
            r#""\ud800\ud800""#,
            r#""\uDBFF\uDFFF""#,
            r#""\\ud800""#,
            r#"{"\ud800":1}"#,
            r#""\u00e9\"[[""#,
            r#""\ud83d\ude00\ud83d""#,
            r#"{"a":{"b":["x]"]},"a":2}"#,
            "\"a\nb\"",
            // After the first value of an array, the depth is that of the array again.
            "[[],[],{}]",
        ];
        let deep = [nested(127), nested(128), nested(5000), objects(127), objects(128)];
        for text in texts.into_iter().chain(deep.iter().map(String::as_str)) {
            let decoded = serde_json::from_str::<Value>(text);
            assert_eq!(check_json(text.as_bytes()).is_ok(), decoded.is_ok(), "{text}: {decoded:?}");
        }
        for bytes in [b"\xff".as_slice(), b"\"\xff\"", b"\"\xed\xa0\x80\""] {
            assert!(check_json(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn numbers_are_kept_with_every_digit() {
        for text in ["1e400", "-0", "1.10", "123456789012345678901234567890", "[1e-400]"] {
            assert!(check_json(text.as_bytes()).is_ok(), "{text}");
        }
    }

    #[test]
    fn the_error_says_what_was_expected_and_where() {
        let error = |text: &str| check_json(text.as_bytes()).expect_err("an error").to_string();
        assert_eq!(error(r#"["\ud800"]"#), r"expected a pair of surrogates, found only \ud800 at column 3");
        assert!(error(&"[".repeat(200)).starts_with("expected JSON, found: EOF"));
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert!(error(&deep).starts_with("expected at most 127 nested arrays and objects, found more at column 128"));
    }
}
