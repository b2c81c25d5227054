//! [`HttpParticipantOptions`]: how a coordinator reaches a participant, and proves its identity.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use crate::tls::{TlsError, chain, not_read, roots_of};

/// The number of idle connections to a participant that are kept for later calls.
const MAX_IDLE_CONNECTIONS: usize = 16;
/// The time after which an idle connection is not used any more. It is less than the idle deadline of most servers.
const MAX_IDLE_AGE: Duration = Duration::from_secs(15);

/// How a coordinator reaches a participant, and proves its identity.
///
/// Files are read again when they change, at most once a second, so that certificates and tokens can be renewed without
/// a restart. If a file has become invalid, the error is logged and the former values remain.
#[derive(Clone)]
pub struct HttpParticipantOptions {
    token: Option<TokenSource>,
    authorities: Option<PathBuf>,
    identity: Option<Identity>,
    pub(super) timeout: Duration,
    pub(super) allows_clear_text: bool,
}

#[derive(Clone)]
enum TokenSource {
    Value(String),
    File(PathBuf),
}

/// The files with the certificate of a client and its private key.
#[derive(Debug, Clone)]
struct Identity {
    certificates: PathBuf,
    key: PathBuf,
}

/// The client of a participant could not be created.
#[derive(Debug, thiserror::Error)]
pub enum HttpParticipantError {
    /// The base URL is invalid.
    #[error("participant {participant:?}: expected {expected}, found {url:?}")]
    Url {
        /// The name of the participant.
        participant: String,
        /// The base URL.
        url: String,
        /// The expected form.
        expected: &'static str,
    },
    /// The token would be sent to another machine in clear text.
    #[error(
        "participant {participant:?}: expected a URL that begins with https:// or a loopback address, found {url:?}; \
         call `allow_clear_text` if the network is encrypted"
    )]
    ClearText {
        /// The name of the participant.
        participant: String,
        /// The base URL.
        url: String,
    },
    /// A URL that begins with `https://` needs the authorities of the participant.
    #[error("participant {participant:?}: expected a file of authorities for {url:?}, found none; call `authorities`")]
    NoAuthorities {
        /// The name of the participant.
        participant: String,
        /// The base URL.
        url: String,
    },
    /// The token is empty, or has characters that a header must not have.
    #[error("expected a token of visible ASCII characters, found another text")]
    Token,
    /// The file with the token could not be read.
    #[error("could not read the token in {}", .path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// The failure.
        source: std::io::Error,
    },
    /// A certificate or a key could not be read or used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Default for HttpParticipantOptions {
    fn default() -> Self {
        let timeout = Duration::from_secs(10);
        Self { token: None, authorities: None, identity: None, timeout, allows_clear_text: false }
    }
}

impl fmt::Debug for HttpParticipantOptions {
    /// Leaves out the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("HttpParticipantOptions");
        debug.field("authorities", &self.authorities).field("identity", &self.identity);
        debug.field("timeout", &self.timeout).field("allows_clear_text", &self.allows_clear_text);
        debug.finish_non_exhaustive()
    }
}

impl HttpParticipantOptions {
    /// Returns options without a token and certificates.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends this bearer token with each call.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(TokenSource::Value(token.into()));
        self
    }

    /// Sends the bearer token in a file with each call.
    #[must_use]
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.token = Some(TokenSource::File(path.into()));
        self
    }

    /// Sets the file with the certificates of the authorities of the participant, in PEM: those of a private authority,
    /// or the public ones of the operating system. It is needed for `https://`.
    #[must_use]
    pub fn authorities(mut self, path: impl Into<PathBuf>) -> Self {
        self.authorities = Some(path.into());
        self
    }

    /// Sets the files with the certificate of the coordinator and its chain, and with its private key, in PEM.
    #[must_use]
    pub fn client_certificate(mut self, certificates: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some(Identity { certificates: certificates.into(), key: key.into() });
        self
    }

    /// Sets the time in which a call must succeed, with its repetitions; 10 seconds by default. A prepare has the time
    /// of its [`Prepare`](es_transaction::Prepare) instead.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Permits `http://` to another machine. Everyone on the network path can read the token and use it.
    #[must_use]
    pub fn allow_clear_text(mut self) -> Self {
        self.allows_clear_text = true;
        self
    }

    pub(super) fn has_authorities(&self) -> bool {
        self.authorities.is_some()
    }

    /// Returns the files that are read again when they change.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let token = match &self.token {
            Some(TokenSource::File(path)) => Some(path),
            _ => None,
        };
        let identity = self.identity.iter().flat_map(|identity| [&identity.certificates, &identity.key]);
        token.into_iter().chain(&self.authorities).chain(identity).cloned().collect()
    }

    /// Reads the files, and returns what calls are sent with.
    pub(super) fn load(&self) -> Result<Sender, HttpParticipantError> {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // A participant that redirects a call is not the participant.
            .max_redirects(0)
            // A proxy of the environment would get the tokens of calls without TLS.
            .proxy(None)
            .user_agent(concat!("es-http/", env!("CARGO_PKG_VERSION")))
            .max_idle_connections(MAX_IDLE_CONNECTIONS)
            .max_idle_connections_per_host(MAX_IDLE_CONNECTIONS)
            .max_idle_age(MAX_IDLE_AGE);
        if let Some(authorities) = &self.authorities {
            config = config.tls_config(tls(authorities, self.identity.as_ref())?);
        }
        let authorization = self.read_token()?.map(|token| format!("Bearer {token}"));
        Ok(Sender { agent: config.build().into(), authorization })
    }

    fn read_token(&self) -> Result<Option<String>, HttpParticipantError> {
        let token = match &self.token {
            None => return Ok(None),
            Some(TokenSource::Value(token)) => token.clone(),
            Some(TokenSource::File(path)) => {
                let text = std::fs::read_to_string(path);
                let failed = |source| HttpParticipantError::TokenFile { path: path.clone(), source };
                text.map_err(failed)?.trim().to_owned()
            }
        };
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(HttpParticipantError::Token);
        }
        Ok(Some(token))
    }
}

/// What calls are sent with.
pub(super) struct Sender {
    pub(super) agent: Agent,
    /// The header `Authorization`.
    pub(super) authorization: Option<String>,
}

fn tls(authorities: &Path, identity: Option<&Identity>) -> Result<TlsConfig, TlsError> {
    let trusted = chain(authorities)?;
    let identity = identity.map(ReadIdentity::read).transpose()?;
    check(authorities, trusted.clone(), identity.as_ref())?;
    let certificates = |chain: &[CertificateDer<'static>]| -> Vec<Certificate<'static>> {
        chain.iter().map(|der| Certificate::from_der(der).to_owned()).collect()
    };
    let mut config = TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&certificates(&trusted)))
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()));
    if let Some(ReadIdentity { files, chain, key }) = identity {
        let private_key = PrivateKey::from_pem(&key);
        let private_key = private_key.map_err(|_| not_a_key(&files.key, pem::Error::NoItemsFound))?;
        config = config.client_cert(Some(ClientCert::new_with_certs(&certificates(&chain), private_key)));
    }
    Ok(config.build())
}

/// An identity as it was read from its files. What is checked is what is used, also if the files change meanwhile.
struct ReadIdentity<'a> {
    files: &'a Identity,
    chain: Vec<CertificateDer<'static>>,
    /// The private key in PEM.
    key: Vec<u8>,
}

impl<'a> ReadIdentity<'a> {
    fn read(files: &'a Identity) -> Result<Self, TlsError> {
        let key = std::fs::read(&files.key).map_err(|source| not_a_key(&files.key, pem::Error::Io(source)))?;
        Ok(Self { files, chain: chain(&files.certificates)?, key })
    }
}

/// Checks the certificates and the key: ureq uses them at the first connection only, and panics if they do not belong
/// together.
fn check(
    authorities: &Path,
    trusted: Vec<CertificateDer<'static>>,
    identity: Option<&ReadIdentity<'_>>,
) -> Result<(), TlsError> {
    let invalid = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Invalid { path, source }
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(invalid(authorities))?;
    let builder = builder.with_root_certificates(roots_of(authorities, trusted)?);
    if let Some(ReadIdentity { files, chain, key }) = identity {
        let private_key = PrivateKeyDer::from_pem_slice(key).map_err(|source| not_a_key(&files.key, source))?;
        builder.with_client_auth_cert(chain.clone(), private_key).map_err(invalid(&files.certificates))?;
    }
    Ok(())
}

fn not_a_key(path: &Path, source: pem::Error) -> TlsError {
    not_read(path, "a private key in PEM", source)
}
