//! Durations as strings: `"250us"`, `"5ms"`, `"1s"`, `"3d"`.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::quote;
use syn::LitStr;

use crate::ctxt::Ctxt;

/// Parses a duration, or reports the expected format.
pub(crate) fn parse_literal(cx: &Ctxt, text: &LitStr) -> Option<Duration> {
    from_literal(text).map_err(|error| cx.push(error)).ok()
}

/// Parses a duration, or returns an error with the expected format.
pub(crate) fn from_literal(text: &LitStr) -> syn::Result<Duration> {
    parse(&text.value()).ok_or_else(|| {
        let expected = "expected a number and a unit of `ns`, `us`, `ms`, `s`, `m`, `h` or `d`, as in \"5ms\"";
        syn::Error::new_spanned(text, format!("{:?} is not a duration: {expected}", text.value()))
    })
}

/// Generates a duration.
pub(crate) fn expand(duration: Duration) -> TokenStream {
    let (seconds, nanoseconds) = (duration.as_secs(), duration.subsec_nanos());
    quote!(::core::time::Duration::new(#seconds, #nanoseconds))
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
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(60 * 60).map(Duration::from_secs),
        "d" => number.checked_mul(24 * 60 * 60).map(Duration::from_secs),
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
        assert_eq!(parse("2m"), Some(Duration::from_secs(120)));
        assert_eq!(parse("2h"), Some(Duration::from_secs(7200)));
        assert_eq!(parse("3d"), Some(Duration::from_secs(259_200)));
    }

    #[test]
    fn other_strings_are_refused() {
        for text in ["", "5", "ms", "-5ms", "1.5s", "5 minutes", "99999999999999999999s", "1000000000000000d"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
