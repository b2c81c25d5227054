//! Durations as strings: `"250us"`, `"5ms"`, `"1s"`.

use std::time::Duration;

use syn::LitStr;

use crate::ctxt::Ctxt;

/// Parses a duration, or reports the expected format.
pub(crate) fn parse_literal(cx: &Ctxt, text: &LitStr) -> Option<Duration> {
    let duration = parse(&text.value());
    if duration.is_none() {
        let found = text.value();
        cx.error_on(
            text,
            format!(
                "{found:?} is not a duration: expected a number and a unit of `ns`, `us`, `ms` or `s`, as in \"5ms\""
            ),
        );
    }
    duration
}

fn parse(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit.trim_start() {
        "ns" => Some(Duration::from_nanos(number)),
        "us" => Some(Duration::from_micros(number)),
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_is_parsed() {
        assert_eq!(parse("10ns"), Some(Duration::from_nanos(10)));
        assert_eq!(parse("250us"), Some(Duration::from_micros(250)));
        assert_eq!(parse("5ms"), Some(Duration::from_millis(5)));
        assert_eq!(parse("1 s"), Some(Duration::from_secs(1)));
    }

    #[test]
    fn other_strings_are_refused() {
        for text in ["", "5", "ms", "-5ms", "1.5s", "5 minutes", "99999999999999999999s"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
