//! [`Node`]: an open node.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use es_core::model::Category;
use es_core::{Aggregate, EventStore, Evolve, Repository, StoreError};
use es_replication::{HandOverError, Link, Monitor, Peer, RecoverError, Recovered, Replica, ReplicationStatus, Server};
use tokio::task::JoinSet;

use crate::error::UndeclaredAggregate;

/// An open node. If it is dropped, its server and its links end at once.
#[derive(Debug)]
pub struct Node {
    pub(crate) name: String,
    /// The categories of the aggregates that were added to the builder.
    pub(crate) declared: BTreeSet<Category>,
    pub(crate) store: Arc<dyn EventStore>,
    pub(crate) replica: Replica,
    pub(crate) peers: Vec<Arc<dyn Peer>>,
    pub(crate) server: Option<Server>,
    pub(crate) links: Vec<Link>,
    pub(crate) monitor: Monitor,
    /// The task that confirms the former origins of the node. It is aborted when this is dropped.
    pub(crate) confirmation: JoinSet<()>,
}

impl Node {
    /// Returns the name of the node.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns a repository of an aggregate.
    ///
    /// # Errors
    /// [`UndeclaredAggregate`] if the level of the aggregate is causal or eventual and it was not added to the builder.
    pub fn repository<A: Aggregate + Evolve>(&self) -> Result<Repository<A>, UndeclaredAggregate> {
        if A::CONSISTENCY.has_one_order() || self.declared.iter().any(|category| category.as_str() == A::CATEGORY) {
            return Ok(Repository::new(Arc::clone(&self.store)));
        }
        Err(UndeclaredAggregate { category: A::CATEGORY.to_owned() })
    }

    /// Returns the store.
    #[must_use]
    pub const fn store(&self) -> &Arc<dyn EventStore> {
        &self.store
    }

    /// Returns the replica, for sessions and waiting.
    #[must_use]
    pub const fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Returns the peers from which the node pulls, for a
    /// [`ForwardingRepository`](es_replication::ForwardingRepository) of an aggregate that declares `owner`.
    #[must_use]
    pub fn peers(&self) -> &[Arc<dyn Peer>] {
        &self.peers
    }

    /// Returns the address on which the node listens; `None` if it does not listen.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(Server::local_addr)
    }

    /// Returns the status of the node, its links, and the other members.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails.
    pub async fn status(&self) -> Result<ReplicationStatus, StoreError> {
        self.monitor.status().await
    }

    /// Returns the monitor, which can be moved to the server that shows the status.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        self.monitor.clone()
    }

    /// Waits until this node has every event that its reachable peers had when this was called; see
    /// [`Replica::recover`]. Call it before the node takes requests, if they must see everything that the group has.
    ///
    /// # Errors
    /// [`RecoverError`] if no peer answers, the events do not arrive in time, or the store fails.
    pub async fn recover(&self, timeout: Duration) -> Result<Recovered, RecoverError> {
        self.replica.recover(&self.peers, timeout).await
    }

    /// Asks all members whether this node has every event of its former origins, and if so decides on their streams
    /// again; see [`Replica::confirm_homes`]. Returns `true` if no former origin is left.
    ///
    /// A node that starts beside a silent member takes a new origin, and refuses commands on the aggregates with
    /// `owner` that it has decided before. The node calls this by itself, once it has pulled everything from each peer.
    /// The status shows the origins that are [not confirmed](es_replication::HomesStatus::unconfirmed).
    ///
    /// # Errors
    /// [`HandOverError`] if a member does not answer, or the store fails.
    pub async fn confirm_homes(&self) -> Result<bool, HandOverError> {
        self.replica.confirm_homes(&self.peers).await
    }

    /// Stops the links and the server, and closes the store. Answers that are being sent are completed, for at most 5
    /// seconds.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be closed.
    pub async fn stop(mut self) -> Result<(), StoreError> {
        self.confirmation.shutdown().await;
        for link in self.links {
            link.stop().await;
        }
        if let Some(server) = self.server {
            server.stop().await;
        }
        self.store.close().await
    }
}
