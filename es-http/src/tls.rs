//! [`Tls`]: certificates of a server, from files that are read again when they change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

use crate::ClientCertificate;
use crate::reloaded::Reloaded;

/// The certificates of a server, for [`ServeOptions::tls`](crate::ServeOptions::tls).
///
/// The files are read again when they change, at most once a second, so that a certificate can be renewed without a
/// restart. Connections that exist keep their certificate. If a file has become invalid or cannot be read, the error is
/// logged and the former certificates remain. Clones share the certificates.
#[derive(Debug, Clone)]
pub struct Tls(Reloaded<Arc<ServerConfig>, TlsError>);

/// Certificates could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read, is not in PEM, or has no certificate or key.
    #[error("could not read {expected} from {}", .path.display())]
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
    /// The authorities of clients cannot be used.
    #[error("could not use the authorities in {}", .path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// The failure.
        source: VerifierBuilderError,
    },
}

impl Tls {
    /// Loads the certificate of the server with its chain, and its private key, from files in PEM.
    ///
    /// # Errors
    /// [`TlsError`] if a file cannot be read or used.
    pub fn load(certificates: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Self, TlsError> {
        let (certificates, key) = (certificates.into(), key.into());
        let files = vec![certificates.clone(), key.clone()];
        Reloaded::load(files, move || config(&certificates, &key, None)).map(Self)
    }

    /// Loads certificates as [`load`](Self::load) does, and the certificates of the authorities whose clients may
    /// connect. Each client must have a certificate of one of them; requests have the extension [`ClientCertificate`].
    /// To exclude a client before its certificate ends, remove it from the [`Tokens`](crate::Tokens): its next request
    /// is refused, and a response without an end lasts until [`Revocation`](crate::Revocation) ends it.
    ///
    /// # Errors
    /// [`TlsError`] if a file cannot be read or used.
    pub fn load_mutual(
        certificates: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
        client_authorities: impl Into<PathBuf>,
    ) -> Result<Self, TlsError> {
        let (certificates, key, authorities) = (certificates.into(), key.into(), client_authorities.into());
        let files = vec![certificates.clone(), key.clone(), authorities.clone()];
        Reloaded::load(files, move || config(&certificates, &key, Some(&authorities))).map(Self)
    }

    /// Performs the handshake of a connection. Returns the certificate of the client, if it has one.
    pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> io::Result<(TlsStream<S>, Option<ClientCertificate>)> {
        let config = Arc::clone(&*self.0.current().await);
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let certificates = stream.get_ref().1.peer_certificates();
        let certificate = certificates.and_then(<[_]>::first);
        let certificate =
            certificate.map(|certificate| ClientCertificate { sha256: Sha256::digest(certificate).into() });
        Ok((stream, certificate))
    }
}

fn config(certificates: &Path, key: &Path, authorities: Option<&Path>) -> Result<Arc<ServerConfig>, TlsError> {
    let invalid = |source| TlsError::Invalid { path: certificates.to_owned(), source };
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(invalid)?;
    let builder = match authorities {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(roots(path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            let unusable = |source| TlsError::Authorities { path: path.to_owned(), source };
            builder.with_client_cert_verifier(verifier.map_err(unusable)?)
        }
    };
    let private_key = PrivateKeyDer::from_pem_file(key);
    let private_key = private_key.map_err(|source| not_read(key, "a private key in PEM", source))?;
    let mut config = builder.with_single_cert(chain(certificates)?, private_key).map_err(invalid)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Reads the certificates of authorities from a file in PEM.
pub(crate) fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    roots_of(path, chain(path)?)
}

/// Returns the roots of certificates that were read from a file.
pub(crate) fn roots_of(path: &Path, chain: Vec<CertificateDer<'static>>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in chain {
        roots.add(certificate).map_err(|source| TlsError::Invalid { path: path.to_owned(), source })?;
    }
    Ok(roots)
}

/// Reads the certificates of a file, at least one.
pub(crate) fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = match certificates {
        Ok(certificates) if certificates.is_empty() => Err(pem::Error::NoItemsFound),
        certificates => certificates,
    };
    certificates.map_err(|source| not_read(path, "certificates in PEM", source))
}

pub(crate) fn not_read(path: &Path, expected: &'static str, source: pem::Error) -> TlsError {
    TlsError::Pem { path: path.to_owned(), expected, source }
}
