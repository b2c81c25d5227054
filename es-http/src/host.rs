//! [`AllowedHosts`]: the names under which a service is reached.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};

use crate::Problem;
use crate::problem::shortened;

/// The names, besides those of this machine, that the header `Host` may have.
#[derive(Debug, Clone, Default)]
pub(crate) struct AllowedHosts(Arc<[String]>);

impl AllowedHosts {
    pub(crate) fn new<T: Into<String>>(names: impl IntoIterator<Item = T>) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }

    /// Refuses a request whose `Host` is another one with 421. A page of another site can otherwise reach a loopback
    /// address through a name that resolves to it, and then has the origin of the service. A request without a `Host`
    /// is not that of a browser.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        headers.get_all(header::HOST).iter().try_for_each(|host| self.check_host(host.to_str().unwrap_or_default()))
    }

    fn check_host(&self, host: &str) -> Result<(), Problem> {
        let name = host.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(host, |(name, _)| name);
        let address = name.trim_start_matches('[').trim_end_matches(']');
        let is_loopback = address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let is_listed = self.0.iter().any(|listed| listed.eq_ignore_ascii_case(name));
        if is_loopback || is_listed || name.eq_ignore_ascii_case("localhost") {
            return Ok(());
        }
        let detail = format!("Host: expected this machine, such as 127.0.0.1, found {:?}", shortened(host));
        Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail))
    }
}

pub(crate) fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_must_be_this_machine_or_an_allowed_name() {
        let allowed = AllowedHosts::new(["shop.example"]);
        for host in ["127.0.0.1", "127.0.0.1:80", "localhost:9000", "[::1]:9000", "LOCALHOST", "127.1.2.3:1"] {
            assert!(AllowedHosts::default().check_host(host).is_ok() && allowed.check_host(host).is_ok(), "{host}");
        }
        for host in ["shop.example", "Shop.example:8080"] {
            assert!(allowed.check_host(host).is_ok() && AllowedHosts::default().check_host(host).is_err(), "{host}");
        }
        for host in ["", "example.org", "127.0.0.1.example.org:9000", "[::2]:1", "10.0.0.1", "localhost.example"] {
            assert!(allowed.check_host(host).is_err(), "{host}");
        }
    }
}
