//! [`NodeBuilder`]: what a node is, and how it opens.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use es_core::model::{Category, NameError};
use es_core::{Aggregate, EventStore};
use es_replication::{
    Link, Monitor, NodeFiles, Peer, Replica, ReplicaOptions, Server, ServerOptions, Source, TlsConfig, TlsPeer,
};
use es_rocksdb::{Options, RocksDbStore};

use crate::confirmation;
use crate::error::NodeError;
use crate::node::Node;

/// Describes a node. See the [crate documentation](crate) for an example.
#[derive(Debug)]
#[must_use = "a node starts with `open`"]
pub struct NodeBuilder {
    name: String,
    directory: Option<PathBuf>,
    address: Option<String>,
    /// The names and addresses of the peers that are reached over TLS.
    addresses: Vec<(String, String)>,
    /// The peers of other transports.
    peers: Vec<Arc<dyn Peer>>,
    files: Option<NodeFiles>,
    replica: ReplicaOptions,
    declared: BTreeSet<Category>,
    invalid: Option<NameError>,
    store: Options,
    server: ServerOptions,
}

impl Node {
    /// Returns the builder of a node with this name. The name is stored in the store, and a store can only be opened
    /// under its name. With TLS, it is the first DNS name of the certificate of the node.
    pub fn builder(name: impl Into<String>) -> NodeBuilder {
        NodeBuilder::new(name)
    }
}

impl NodeBuilder {
    fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            replica: ReplicaOptions::new(name.clone()),
            name,
            directory: None,
            address: None,
            addresses: Vec::new(),
            peers: Vec::new(),
            files: None,
            declared: BTreeSet::new(),
            invalid: None,
            store: Options::new(),
            server: ServerOptions::new(),
        }
    }

    /// Sets the directory of the store. It is created if it does not exist.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Sets the address on which the node answers its peers, such as `[::]:7001`. A node that does not listen pulls
    /// from its peers, and they do not get its events.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// Adds other nodes: the name of each, which is the first DNS name of its certificate, and its address, such as
    /// `n2.example:7001`. The node pulls from all of them, and answers them only.
    pub fn peers(mut self, peers: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>) -> Self {
        self.addresses.extend(peers.into_iter().map(|(name, address)| (name.into(), address.into())));
        self
    }

    /// Adds a node that is reached over another transport, such as a [`LocalPeer`](crate::LocalPeer).
    pub fn peer(mut self, peer: Arc<dyn Peer>) -> Self {
        self.peers.push(peer);
        self
    }

    /// Sets the certificates of the node. They are needed if the node listens or has peers with addresses.
    pub fn tls(mut self, files: NodeFiles) -> Self {
        self.files = Some(files);
        self
    }

    /// Adds an aggregate; see [`ReplicaOptions::aggregate`]. Its streams are replicated if its level is causal or
    /// eventual. Other aggregates need not be added.
    pub fn aggregate<A: Aggregate>(mut self) -> Self {
        match (self.replica.clone().aggregate::<A>(), A::category()) {
            (Ok(replica), Ok(category)) => {
                self.replica = replica;
                self.declared.insert(category);
            }
            (Err(error), _) | (_, Err(error)) => self.invalid = Some(error),
        }
        self
    }

    /// Sets the options of the store. The hook of the replica is added to its hooks.
    pub fn with_store_options(mut self, options: Options) -> Self {
        self.store = options;
        self
    }

    /// Sets the limits of the server.
    pub fn with_server_options(mut self, options: ServerOptions) -> Self {
        self.server = options;
        self
    }

    /// Sets how long the node waits for the answers of the peers when it opens; see
    /// [`ReplicaOptions::with_confirm_timeout`]. The default is 5 seconds.
    pub fn with_confirm_timeout(mut self, timeout: Duration) -> Self {
        self.replica = self.replica.with_confirm_timeout(timeout);
        self
    }

    /// Returns the source of the node, for a [`LocalPeer`](crate::LocalPeer) of another node in this process. It
    /// answers pulls once the node is open.
    #[must_use]
    pub fn source(&self) -> Source {
        self.replica.source()
    }

    /// Opens the store, asks the peers whether the node has lost events, and starts the server and the links.
    ///
    /// The node listens before it opens its store, so nodes that start at the same time answer each other and keep
    /// their origins. If a peer does not answer in time, the node takes a new origin; this is no error.
    ///
    /// # Errors
    /// [`NodeError`]: the options are incomplete, a certificate or a name cannot be used, the address is in use, or the
    /// store does not open. A peer that is not reachable is no error: see the status of its link.
    ///
    /// # Panics
    /// Panics outside of a Tokio runtime.
    pub async fn open(mut self) -> Result<Node, NodeError> {
        if let Some(error) = self.invalid.take() {
            return Err(error.into());
        }
        let Some(directory) = self.directory.take() else { return Err(NodeError::NoDirectory { node: self.name }) };
        let tls = self.load_certificates()?;
        let peers = self.all_peers(tls.as_ref())?;
        let replica = peers.iter().cloned().fold(self.replica.clone(), ReplicaOptions::member);
        let source = replica.source();
        // ORDER: the server before the store, so that nodes that open at the same time answer each other.
        let server = self.start_server(tls, source.clone()).await?;
        let store = RocksDbStore::open_with(directory, self.store.hook(replica.hook())).await?;
        let store: Arc<dyn EventStore> = Arc::new(store);
        let replica = Replica::new(Arc::clone(&store))?.with_source(source);
        let links: Vec<_> = peers.iter().map(|peer| Link::start(replica.clone(), Arc::clone(peer))).collect();
        let monitor = Monitor::new(&replica, &links);
        let confirmation = confirmation::start(&replica, &peers, &links).await?;
        tracing::info!(node = self.name, peers = peers.len(), "the node is open");
        let Self { name, declared, .. } = self;
        Ok(Node { name, declared, store, replica, peers, server, links, monitor, confirmation })
    }

    /// Loads the certificates, and checks that they belong to this node. Returns `None` if the node needs none.
    fn load_certificates(&self) -> Result<Option<TlsConfig>, NodeError> {
        let node = || self.name.clone();
        let Some(files) = &self.files else {
            return match self.address.is_some() || !self.addresses.is_empty() {
                true => Err(NodeError::NoCertificates { node: node() }),
                false => Ok(None),
            };
        };
        let tls = TlsConfig::load(&files.certificates, &files.key, &files.authorities)
            .map_err(|source| NodeError::Certificates { node: node(), source })?;
        let found = tls.node_name();
        if found != self.name {
            return Err(NodeError::OtherCertificate { node: node(), found, path: files.certificates.clone() });
        }
        Ok(Some(tls))
    }

    /// Returns the peers of all transports.
    fn all_peers(&self, tls: Option<&TlsConfig>) -> Result<Vec<Arc<dyn Peer>>, NodeError> {
        let mut peers = self.peers.clone();
        for (name, address) in &self.addresses {
            let Some(tls) = tls else { return Err(NodeError::NoCertificates { node: self.name.clone() }) };
            if !is_peer_address(address) {
                return Err(NodeError::PeerAddress { peer: name.clone(), address: address.clone() });
            }
            let peer = TlsPeer::new(name, address, tls.clone())
                .map_err(|source| NodeError::PeerName { peer: name.clone(), source })?;
            peers.push(Arc::new(peer));
        }
        let mut names = BTreeSet::new();
        for peer in &peers {
            if peer.name() == self.name {
                return Err(NodeError::OwnName { node: self.name.clone() });
            }
            if !names.insert(peer.name()) {
                return Err(NodeError::DuplicatePeer { peer: peer.name().to_owned() });
            }
        }
        Ok(peers)
    }

    /// Begins to listen, if the node has an address.
    async fn start_server(&self, tls: Option<TlsConfig>, source: Source) -> Result<Option<Server>, NodeError> {
        let (Some(address), Some(tls)) = (&self.address, tls) else { return Ok(None) };
        let names = self.addresses.iter().map(|(name, _)| name.clone());
        let server = Server::bind(address.as_str(), source, tls, names, self.server.clone()).await;
        server.map(Some).map_err(|source| NodeError::Listen { address: address.clone(), source })
    }
}

/// Returns whether a text is `HOST:PORT`. The host is resolved with each connection.
fn is_peer_address(text: &str) -> bool {
    let is_valid = |(host, port): (&str, &str)| !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok();
    text.rsplit_once(':').is_some_and(is_valid)
}
