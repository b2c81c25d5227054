//! [`TlsConfig`]: the certificates of a node, from files that are read again when they change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use es_core::model::ErrorChain;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

/// The certificate and the key of a node, and the authorities of its peers.
///
/// The name of a node is the first DNS name in the subject alternative names of its certificate. Both sides of a
/// connection verify each other's certificate, with TLS 1.3, so a certificate must be valid for servers and clients.
///
/// The files are read for each new connection, so that certificates can be renewed without a restart. Connections that
/// exist keep their certificates. If a file has become invalid, the error is logged and the former certificates remain.
/// Clones share the certificates.
#[derive(Debug, Clone)]
pub struct TlsConfig(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    files: Files<PathBuf>,
    loaded: Mutex<LoadedFiles>,
}

/// The files that were loaded last.
#[derive(Debug)]
struct LoadedFiles {
    contents: Files<Vec<u8>>,
    certificates: Arc<Certificates>,
}

/// The three files: their paths, or their contents.
#[derive(Clone, PartialEq, Eq)]
struct Files<T> {
    certificates: T,
    key: T,
    authorities: T,
}

/// Loaded certificates.
pub(super) struct Certificates {
    /// The name of this node.
    pub(super) node: String,
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
}

/// Certificates could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file could not be read.
    #[error("could not read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The failure.
        source: io::Error,
    },
    /// A file is not in PEM, or has no certificate or key.
    #[error("expected {expected} in {}", .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What the file should have.
        expected: &'static str,
        /// The failure.
        source: pem::Error,
    },
    /// The certificate and the key do not belong together, or a certificate is invalid.
    #[error("could not use the certificate or the key in {}", .path.display())]
    Invalid {
        /// The file with the certificate.
        path: PathBuf,
        /// The failure.
        source: tokio_rustls::rustls::Error,
    },
    /// The authorities cannot be used.
    #[error("could not use the authorities in {}", .path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// The failure.
        source: VerifierBuilderError,
    },
    /// The certificate has no DNS name, which is the name of the node.
    #[error("expected the name of the node as first DNS name of the certificate in {}, found none", .path.display())]
    NoName {
        /// The file with the certificate.
        path: PathBuf,
    },
    /// The renewed certificate belongs to another node.
    #[error("expected a certificate of the node {expected:?} in {}, found one of {found:?}", .path.display())]
    OtherNode {
        /// The file with the certificate.
        path: PathBuf,
        /// The name of the node.
        expected: String,
        /// The name in the new certificate.
        found: String,
    },
    /// The name of a peer is not a DNS name, so that no certificate can have it.
    #[error("expected a DNS name as the name of a peer, found {0:?}")]
    PeerName(String),
}

impl TlsConfig {
    /// Loads the certificate of the node with its chain, its private key, and the certificates of the authorities that
    /// issue the certificates of its peers. The files are in PEM.
    ///
    /// # Errors
    /// [`TlsError`] if a file cannot be read or used.
    pub fn load(
        certificates: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
        authorities: impl Into<PathBuf>,
    ) -> Result<Self, TlsError> {
        let files = Files { certificates: certificates.into(), key: key.into(), authorities: authorities.into() };
        let contents = files.read()?;
        let certificates = Arc::new(Certificates::parse(&files, &contents)?);
        Ok(Self(Arc::new(Shared { files, loaded: Mutex::new(LoadedFiles { contents, certificates }) })))
    }

    /// Returns the name of the node, which is the first DNS name of its certificate.
    #[must_use]
    pub fn node_name(&self) -> String {
        self.0.lock().certificates.node.clone()
    }

    /// Returns the certificates, after the files were read again.
    pub(super) async fn current(&self) -> Arc<Certificates> {
        let shared = Arc::clone(&self.0);
        match tokio::task::spawn_blocking(move || shared.refresh()).await {
            Ok(certificates) => certificates,
            Err(error) => {
                tracing::error!(%error, "could not check the certificates; the former ones remain");
                Arc::clone(&self.0.lock().certificates)
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, LoadedFiles> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the files, and returns the former certificates if they are unchanged or invalid.
    fn refresh(&self) -> Arc<Certificates> {
        let mut loaded = self.lock();
        match self.load_changed(&loaded) {
            Ok(None) => {}
            Ok(Some(changed)) => {
                tracing::info!(node = changed.certificates.node, files = ?self.files, "loaded changed certificates");
                *loaded = changed;
            }
            Err(error) => {
                let error = ErrorChain(&error).to_string();
                tracing::error!(files = ?self.files, error, "could not load certificates; the former ones remain");
            }
        }
        Arc::clone(&loaded.certificates)
    }

    /// Reads the files. Returns `None` if they are unchanged.
    fn load_changed(&self, former: &LoadedFiles) -> Result<Option<LoadedFiles>, TlsError> {
        let contents = self.files.read()?;
        if contents == former.contents {
            return Ok(None);
        }
        let certificates = Certificates::parse(&self.files, &contents)?;
        if certificates.node != former.certificates.node {
            let (expected, found) = (former.certificates.node.clone(), certificates.node);
            return Err(TlsError::OtherNode { path: self.files.certificates.clone(), expected, found });
        }
        Ok(Some(LoadedFiles { contents, certificates: Arc::new(certificates) }))
    }
}

impl Files<PathBuf> {
    fn read(&self) -> Result<Files<Vec<u8>>, TlsError> {
        let read = |path: &PathBuf| std::fs::read(path).map_err(|source| TlsError::Read { path: path.clone(), source });
        let (certificates, key) = (read(&self.certificates)?, read(&self.key)?);
        Ok(Files { certificates, key, authorities: read(&self.authorities)? })
    }
}

impl std::fmt::Debug for Files<PathBuf> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries([&self.certificates, &self.key, &self.authorities]).finish()
    }
}

/// Omits the content of the key.
impl std::fmt::Debug for Files<Vec<u8>> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Certificates {
    fn parse(files: &Files<PathBuf>, contents: &Files<Vec<u8>>) -> Result<Self, TlsError> {
        let path = &files.certificates;
        let invalid = |source| TlsError::Invalid { path: path.clone(), source };
        let chain = chain(path, &contents.certificates)?;
        let node = chain.first().and_then(node_name).ok_or_else(|| TlsError::NoName { path: path.clone() })?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key)
            .map_err(|source| not_pem(&files.key, "a private key in PEM", source))?;
        let roots = Arc::new(roots(&files.authorities, &contents.authorities)?);
        let provider = Arc::new(ring::default_provider());
        let server = server_config(&provider, &roots, chain.clone(), key.clone_key(), files)?;
        let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13]);
        let client = client.map_err(invalid)?.with_root_certificates(roots);
        let mut client = client.with_client_auth_cert(chain, key).map_err(invalid)?;
        // Each connection verifies the certificates, also those that were replaced since the last connection.
        client.resumption = Resumption::disabled();
        Ok(Self { node, server: Arc::new(server), client: Arc::new(client) })
    }
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    files: &Files<PathBuf>,
) -> Result<ServerConfig, TlsError> {
    let invalid = |source| TlsError::Invalid { path: files.certificates.clone(), source };
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider)).build();
    let unusable = |source| TlsError::Authorities { path: files.authorities.clone(), source };
    let config = ServerConfig::builder_with_provider(Arc::clone(provider)).with_protocol_versions(&[&TLS13]);
    let config = config.map_err(invalid)?.with_client_cert_verifier(verifier.map_err(unusable)?);
    let mut config = config.with_single_cert(chain, key).map_err(invalid)?;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// Returns the name of the node to which a verified certificate belongs.
pub(super) fn node_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    certificate.valid_dns_names().next().map(ToOwned::to_owned)
}

fn roots(path: &Path, contents: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(path, contents)? {
        roots.add(certificate).map_err(|source| TlsError::Invalid { path: path.to_owned(), source })?;
    }
    Ok(roots)
}

/// Returns the certificates of a file, at least one.
fn chain(path: &Path, contents: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = match CertificateDer::pem_slice_iter(contents).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if certificates.is_empty() => Err(pem::Error::NoItemsFound),
        certificates => certificates,
    };
    certificates.map_err(|source| not_pem(path, "certificates in PEM", source))
}

fn not_pem(path: &Path, expected: &'static str, source: pem::Error) -> TlsError {
    TlsError::Pem { path: path.to_owned(), expected, source }
}
