//! How to reach a service: its address, the token, and the certificates.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::Agent;
use ureq::config::Config;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use super::Service;
use crate::failure::Failure;

/// The time in which a connection must be established.
const CONNECT: Duration = Duration::from_secs(10);
/// The time in which a request must be answered. A request can wait up to 20 seconds for news.
const ANSWER: Duration = Duration::from_secs(120);

/// The credentials of a client.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// The token; `token_file` takes precedence.
    pub token: Option<String>,
    /// The file with the token.
    pub token_file: Option<PathBuf>,
    /// The file with the certificates of the authorities of the service, in PEM.
    pub authorities: Option<PathBuf>,
    /// The file with the certificate of the client, in PEM.
    pub certificate: Option<PathBuf>,
    /// The file with the private key of the client, in PEM.
    pub key: Option<PathBuf>,
}

impl Service {
    /// Creates a client of the service at an address: `unix:PATH`, or a URL that begins with `http://` or `https://`.
    ///
    /// # Errors
    /// [`Failure::Usage`] if the address has another form. [`Failure::Io`] and [`Failure::Input`] if a file of the
    /// credentials cannot be read or used.
    pub fn new(address: &str, credentials: &Credentials) -> Result<Self, Failure> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(ANSWER))
            .tls_config(tls(credentials)?)
            .build();
        let (base, agent) = match address.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => ("http://localhost".to_owned(), unix_agent(config, path)?),
            None if is_url(address) => (address.trim_end_matches('/').to_owned(), config.into()),
            _ => {
                let expected = "expected unix:PATH or a URL that begins with http:// or https:// after --url";
                return Err(Failure::Usage(format!("{expected}, found {address:?}")));
            }
        };
        let authorization = token(credentials)?.map(|token| format!("Bearer {token}"));
        Ok(Self { address: address.to_owned(), base, agent, authorization })
    }
}

fn is_url(address: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| address.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
}

#[cfg(unix)]
fn unix_agent(config: Config, path: &str) -> Result<Agent, Failure> {
    Ok(super::unix::agent(config, path.into()))
}

#[cfg(not(unix))]
fn unix_agent(_: Config, _: &str) -> Result<Agent, Failure> {
    Err(Failure::Usage("expected a URL after --url: this platform has no Unix sockets".to_owned()))
}

fn token(credentials: &Credentials) -> Result<Option<String>, Failure> {
    let (token, source) = match &credentials.token_file {
        Some(path) => {
            let text =
                std::fs::read_to_string(path).map_err(|source| Failure::io("read the token in", path, source))?;
            (Some(text.trim().to_owned()), path.display().to_string())
        }
        None => (credentials.token.clone().filter(|token| !token.is_empty()), "ES_TOKEN".to_owned()),
    };
    match token {
        Some(token) if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err(Failure::Input(format!("{source}: expected a token of visible ASCII characters, found another text")))
        }
        token => Ok(token),
    }
}

fn tls(credentials: &Credentials) -> Result<TlsConfig, Failure> {
    let mut config = TlsConfig::builder();
    if let Some(path) = &credentials.authorities {
        config = config.root_certs(RootCerts::new_with_certs(&certificates(path)?));
    }
    match (&credentials.certificate, &credentials.key) {
        (Some(certificate), Some(key)) => {
            let pem = read(key)?;
            let private = PrivateKey::from_pem(&pem).map_err(|error| unusable(key, "a private key", &error))?;
            let client = ClientCert::new_with_certs(&certificates(certificate)?, private);
            config = config.client_cert(Some(client));
        }
        (None, None) => {}
        _ => return Err(Failure::Usage("expected --cert and --key together, found one of them".to_owned())),
    }
    Ok(config.build())
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Failure> {
    let pem = read(path)?;
    let mut certificates = Vec::new();
    for item in ureq::tls::parse_pem(&pem) {
        if let ureq::tls::PemItem::Certificate(certificate) =
            item.map_err(|error| unusable(path, "certificates", &error))?
        {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        let message = format!("{}: expected certificates in PEM, found none", path.display());
        return Err(Failure::Input(message));
    }
    Ok(certificates)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|source| Failure::io("read", path, source))
}

fn unusable(path: &Path, expected: &str, error: &ureq::Error) -> Failure {
    Failure::Input(format!("{}: expected {expected} in PEM, found: {error}", path.display()))
}
