//! [`NodeFiles`]: the paths of the certificates of a node.

use std::path::PathBuf;

/// The files of a node, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFiles {
    /// The certificate of the node, whose first DNS name is the name of the node, and the chain of the certificate.
    pub certificates: PathBuf,
    /// The private key of the node, which only the owner of the file should be able to read.
    pub key: PathBuf,
    /// The certificates of the authorities that issue the certificates of the other nodes.
    pub authorities: PathBuf,
}
