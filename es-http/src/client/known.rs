//! [`KnownClient`]: the client of the last request of a connection.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use subtle::ConstantTimeEq;

use super::{Authenticated, Credentials};

/// Returns a future that completes when a client is excluded.
pub(crate) type WatchRevocation = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// The client of the last request of a connection, and its credentials. Most connections have one client, whose token
/// is then not parsed, hashed and compared with those of all clients at each request.
pub(crate) struct KnownClient {
    /// The tokens in which the client was found. Changed tokens have another version.
    version: u64,
    is_certificate: bool,
    credentials: Box<[u8]>,
    /// A copy for the connection: threads that count references of one client wait for each other.
    client: Arc<Authenticated>,
    /// Each connection has one: requests do not count references of the tokens.
    watch: WatchRevocation,
}

impl KnownClient {
    pub(crate) fn new(
        version: u64,
        credentials: Credentials<'_>,
        client: &Authenticated,
        watch: WatchRevocation,
    ) -> Self {
        let (is_certificate, credentials) = (credentials.is_certificate(), credentials.bytes().into());
        Self { version, is_certificate, credentials, client: Arc::new(client.clone()), watch }
    }

    /// Returns the client if it has these credentials. The time of the comparison depends only on their length, because
    /// a proxy may send requests of other clients on the connection.
    pub(crate) fn with(&self, version: u64, credentials: Credentials<'_>) -> Option<&Arc<Authenticated>> {
        let is_known = self.version == version
            && self.is_certificate == credentials.is_certificate()
            && bool::from(self.credentials.ct_eq(credentials.bytes()));
        is_known.then_some(&self.client)
    }

    pub(crate) fn watch(&self) -> WatchRevocation {
        Arc::clone(&self.watch)
    }

    pub(crate) fn client(&self) -> &Arc<Authenticated> {
        &self.client
    }
}
