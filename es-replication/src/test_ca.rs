//! [`TestCa`]: an authority that issues certificates for tests.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use tempfile::NamedTempFile;

use crate::node_files::NodeFiles;

/// An authority that issues certificates for tests and first steps. Its own key exists in memory only, and its
/// certificates do not expire.
#[derive(Debug)]
pub struct TestCa {
    directory: PathBuf,
    /// The file with the certificate of the authority.
    authorities: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate could not be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TestCaError {
    /// The certificate could not be created, for example because the name of a node is not a DNS name.
    #[error("could not create a certificate")]
    Certificate(#[from] rcgen::Error),
    /// A file could not be written.
    #[error("could not write {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The failure.
        source: io::Error,
    },
}

impl TestCa {
    /// Creates an authority, and writes its certificate to `ca.pem` in a directory, which is created if it is missing.
    ///
    /// # Errors
    /// [`TestCaError`] if the certificate cannot be created or written.
    pub fn create(directory: impl Into<PathBuf>) -> Result<Self, TestCaError> {
        let directory = directory.into();
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "es-replication test authority");
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        std::fs::create_dir_all(&directory).map_err(|source| TestCaError::Write { path: directory.clone(), source })?;
        let authorities = replace(&directory, "ca.pem", &certificate.pem())?;
        Ok(Self { directory, authorities, issuer: Issuer::new(params, key) })
    }

    /// Issues a certificate for a node with a new key, and writes both to `NODE.pem` and `NODE.key`. Former files of
    /// the node are replaced.
    ///
    /// # Errors
    /// [`TestCaError`] if the certificate cannot be created or written.
    pub fn issue(&self, node: &str) -> Result<NodeFiles, TestCaError> {
        let mut params = CertificateParams::new([node.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, node);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(NodeFiles {
            key: replace(&self.directory, &format!("{node}.key"), &key.serialize_pem())?,
            certificates: replace(&self.directory, &format!("{node}.pem"), &certificate.pem())?,
            authorities: self.authorities.clone(),
        })
    }
}

/// Writes a file that only its owner can read. A former file is replaced when the new one is complete.
fn replace(directory: &Path, name: &str, content: &str) -> Result<PathBuf, TestCaError> {
    let path = directory.join(name);
    let write = || {
        let mut file = NamedTempFile::new_in(directory)?;
        file.write_all(content.as_bytes())?;
        file.persist(&path).map_err(|error| error.error)
    };
    match write() {
        Ok(_) => Ok(path),
        Err(source) => Err(TestCaError::Write { path, source }),
    }
}
