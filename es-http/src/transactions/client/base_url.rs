//! The base URL of a participant.

use std::net::IpAddr;

use axum::http::Uri;

/// Whether requests to a URL are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encryption {
    Tls,
    /// None. `is_loopback` is whether the host is this machine.
    ClearText {
        is_loopback: bool,
    },
}

/// Parses a base URL: `http` or `https`, a host, and optionally a port and a path. Returns it without a slash at the
/// end. The error is what was expected.
pub(super) fn parse(url: &str) -> Result<(String, Encryption), &'static str> {
    let expected = "a URL such as https://bank.example/transactions";
    let uri: Uri = url.parse().map_err(|_| expected)?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or(expected)?;
    let encryption = match uri.scheme_str() {
        Some("https") => Encryption::Tls,
        Some("http") => Encryption::ClearText { is_loopback: is_loopback(host) },
        _ => return Err(expected),
    };
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("a URL without a user; configure a token");
    }
    // `Uri` drops a fragment.
    if uri.query().is_some() || url.contains('#') {
        return Err("a URL without a query and a fragment");
    }
    Ok((url.trim_end_matches('/').to_owned(), encryption))
}

/// Returns a URL without its user and password, for messages.
pub(super) fn without_user(url: &str) -> String {
    let (scheme, rest) = url.split_once("//").unwrap_or(("", url));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}//{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_has_a_scheme_and_a_host_only() {
        for url in ["https://bank.example", "https://bank.example:8443/a/", "https://[2001:db8::1]/"] {
            assert_eq!(parse(url), Ok((url.trim_end_matches('/').to_owned(), Encryption::Tls)), "{url}");
        }
        for url in [
            "",
            "/",
            "bank.example",
            "bank.example:80",
            "ftp://bank.example",
            "https://",
            "https://a:b@bank.example",
            "https://bank.example?a=b",
            "https://bank.example/#a",
            "https://bank example",
        ] {
            assert!(parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_message_has_no_password() {
        for (url, expected) in [
            ("https://a:b@bank.example/c@d", "https://bank.example/c@d"),
            ("https://a@b@bank.example", "https://bank.example"),
            ("https://bank.example/c@d", "https://bank.example/c@d"),
            ("bank.example", "bank.example"),
        ] {
            assert_eq!(without_user(url), expected);
        }
    }

    #[test]
    fn only_an_address_of_this_machine_is_loopback() {
        let is_loopback = |url: &str| match parse(url).unwrap().1 {
            Encryption::ClearText { is_loopback } => is_loopback,
            Encryption::Tls => panic!("{url} is not encrypted"),
        };
        for url in ["http://127.0.0.1:80", "http://localhost:9000/a", "http://LOCALHOST", "http://[::1]:1/"] {
            assert!(is_loopback(url), "{url}");
        }
        for url in ["http://10.0.0.1", "http://bank", "http://127.0.0.1.example", "http://localhost.example"] {
            assert!(!is_loopback(url), "{url}");
        }
    }
}
