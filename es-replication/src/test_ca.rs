//! [`TestCa`]: an authority that issues certificates for tests.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// An authority that issues certificates for tests and first steps. Its own key exists in memory only, and its
/// certificates do not expire.
#[derive(Debug)]
pub struct TestCa {
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// The files of a node, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFiles {
    /// The certificate of the node.
    pub certificates: PathBuf,
    /// The private key of the node, which only the owner of the file can read.
    pub key: PathBuf,
    /// The certificate of the authority.
    pub authorities: PathBuf,
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
    /// Creates an authority, and writes its certificate to `ca.pem` in a directory.
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
        replace(&directory.join("ca.pem"), &certificate.pem())?;
        Ok(Self { directory, issuer: Issuer::new(params, key) })
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
        let files = NodeFiles {
            certificates: self.directory.join(format!("{node}.pem")),
            key: self.directory.join(format!("{node}.key")),
            authorities: self.directory.join("ca.pem"),
        };
        replace(&files.key, &key.serialize_pem())?;
        replace(&files.certificates, &certificate.pem())?;
        Ok(files)
    }
}

/// Writes a file that only its owner can read. A former file is replaced when the new one is complete.
fn replace(path: &Path, content: &str) -> Result<(), TestCaError> {
    let failed = |source| TestCaError::Write { path: path.to_owned(), source };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let write = || {
        create_private(&temporary)?.write_all(content.as_bytes())?;
        fs::rename(&temporary, path)
    };
    write().map_err(failed)
}

fn create_private(path: &Path) -> io::Result<File> {
    // A file that an interrupted call left could have another mode.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
