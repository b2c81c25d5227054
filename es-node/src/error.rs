//! The errors of a node.

use std::io;
use std::path::PathBuf;

use es_core::StoreError;
use es_core::model::NameError;
use es_replication::{StartError, TlsError};
use es_rocksdb::OpenError;

/// A node did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The node has no directory for its store. Call [`NodeBuilder::directory`](crate::NodeBuilder::directory).
    #[error("expected a directory for the store of the node {node:?}, found none; call `directory`")]
    NoDirectory {
        /// The name of the node.
        node: String,
    },
    /// The node listens or has peers, and has no certificates. Call [`NodeBuilder::tls`](crate::NodeBuilder::tls).
    #[error("the node {node:?} reaches other nodes, and has no certificates; call `tls`")]
    NoCertificates {
        /// The name of the node.
        node: String,
    },
    /// A peer has the name of this node. Give each node its own name, and leave the node out of its peers.
    #[error("a peer has the name of this node, {node:?}; give each node its own name")]
    OwnName {
        /// The name of the node.
        node: String,
    },
    /// Two peers have one name. Give each node its own name.
    #[error("duplicate peer {peer:?}; give each node its own name")]
    DuplicatePeer {
        /// The name.
        peer: String,
    },
    /// The name of a peer is not a DNS name. Use the first DNS name of its certificate.
    #[error("peer {peer:?} cannot have a certificate; use the first DNS name of its certificate as its name")]
    PeerName {
        /// The name.
        peer: String,
        /// The reason.
        source: TlsError,
    },
    /// The address of a peer is not a host and a port. Use an address such as `n2.example:7001`.
    #[error("expected HOST:PORT as the address of the peer {peer:?}, found {address:?}")]
    PeerAddress {
        /// The name of the peer.
        peer: String,
        /// The address.
        address: String,
    },
    /// The certificates cannot be used. Check the files of [`NodeBuilder::tls`](crate::NodeBuilder::tls).
    #[error("could not load the certificates of the node {node:?}; check the files that `tls` names")]
    Certificates {
        /// The name of the node.
        node: String,
        /// The reason, with the file.
        source: TlsError,
    },
    /// The certificate belongs to another node. Use the certificate whose first DNS name is the name of this node.
    #[error("the certificate in {} is one of the node {found:?}, expected {node:?}; use its own certificate",
        .path.display())]
    OtherCertificate {
        /// The name of the node.
        node: String,
        /// The name in the certificate.
        found: String,
        /// The file.
        path: PathBuf,
    },
    /// The node cannot listen. Stop the process that uses the address, or choose another one.
    #[error("could not listen on {address}; stop the process that uses the address, or choose another one")]
    Listen {
        /// The address.
        address: String,
        /// The failure.
        source: io::Error,
    },
    /// The category of an aggregate is invalid.
    #[error("an aggregate has an invalid category")]
    Category(#[from] NameError),
    /// The store did not open, or its replica did not start.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store is no replica.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A causal or eventual aggregate was not declared, so that its events would stay on this node. Declare it with
/// [`NodeBuilder::aggregate`](crate::NodeBuilder::aggregate).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the aggregate of category {category:?} is replicated, and is not declared; add it to the builder of the node")]
pub struct UndeclaredAggregate {
    /// The category.
    pub category: String,
}
