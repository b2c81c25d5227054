//! The nodes and the aggregates of the tests.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use es_core::model::{LogId, OriginId};
use es_core::prelude::*;
use es_core::store::memory::MemoryStore;
use es_replication::{Claim, Confirmation, LocalPeer, Page, Peer, PeerError, Pull, Replica, ReplicaOptions};
use serde::{Deserialize, Serialize};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
pub(crate) enum OrderEvent {
    #[event(name = "order-placed")]
    Placed { pieces: u64 },
    #[event(name = "order-renamed")]
    Renamed(String),
    #[event(name = "order-closed")]
    Closed,
}

/// The name of an order that cannot be folded.
pub(crate) const POISON: &str = "poison";

/// An order that every node may change.
#[derive(Clone, Debug, Default, PartialEq, Aggregate)]
#[aggregate(category = "order", id = u64, event = OrderEvent, consistency = "causal", conflict = "canonical")]
pub(crate) struct Order {
    pub(crate) pieces: u64,
    pub(crate) name: String,
    pub(crate) is_closed: bool,
}

impl Evolve for Order {
    fn initial(_: &u64) -> Self {
        Self::default()
    }
    fn evolve(&mut self, event: &OrderEvent, _: &EventContext<'_>) {
        match event {
            OrderEvent::Placed { pieces } => self.pieces += pieces,
            OrderEvent::Renamed(name) => {
                assert_ne!(name, POISON, "a state that cannot be folded");
                self.name.clone_from(name);
            }
            OrderEvent::Closed => self.is_closed = true,
        }
    }
}

impl Decide<OrderEvent> for Order {
    type Rejection = Infallible;
    fn decide(&self, event: OrderEvent, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Infallible> {
        Ok(event.into())
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "invoice-issued")]
pub(crate) struct Issued {
    pub(crate) pieces: u64,
}

/// The invoices of an order, which a reactor or a process issues.
#[derive(Clone, Debug, Default, PartialEq, Aggregate)]
#[aggregate(category = "invoice", id = u64, event = Issued, consistency = "causal", conflict = "canonical")]
pub(crate) struct Invoices {
    pub(crate) count: usize,
    pub(crate) pieces: u64,
}

impl Evolve for Invoices {
    fn initial(_: &u64) -> Self {
        Self::default()
    }
    fn evolve(&mut self, event: &Issued, _: &EventContext<'_>) {
        self.count += 1;
        self.pieces += event.pieces;
    }
}

impl Decide<Issued> for Invoices {
    type Rejection = Infallible;
    fn decide(&self, event: Issued, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Infallible> {
        Ok(event.into())
    }
}

/// A node in this process.
pub(crate) struct Node {
    pub(crate) name: &'static str,
    pub(crate) store: MemoryStore,
    pub(crate) replica: Replica,
    pub(crate) orders: Repository<Order>,
    pub(crate) invoices: Repository<Invoices>,
}

pub(crate) fn options(name: &str) -> ReplicaOptions {
    let options = ReplicaOptions::new(name).with_confirm_timeout(Duration::from_millis(20));
    options.aggregate::<Order>().and_then(ReplicaOptions::aggregate::<Invoices>).expect("valid categories")
}

pub(crate) async fn start(name: &'static str, store: MemoryStore, options: ReplicaOptions) -> Node {
    let store = store.with_hook(options.hook()).await.expect("started");
    let shared: Arc<dyn EventStore> = Arc::new(store.clone());
    let replica = Replica::new(Arc::clone(&shared)).expect("the store has the hook");
    let (orders, invoices) = (Repository::new(Arc::clone(&shared)), Repository::new(shared));
    Node { name, store, replica, orders, invoices }
}

pub(crate) async fn nodes() -> [Node; 3] {
    let node = async |name| start(name, MemoryStore::new(), options(name)).await;
    [node("a").await, node("b").await, node("c").await]
}

impl Node {
    pub(crate) fn shared(&self) -> Arc<dyn EventStore> {
        Arc::new(self.store.clone())
    }

    pub(crate) fn as_peer(&self) -> LocalPeer {
        LocalPeer::new(self.name, self.replica.source())
    }

    pub(crate) async fn pull(&self, from: &Self) {
        while !self.replica.pull(&from.as_peer(), Duration::ZERO).await.expect("pulled").is_last {}
    }

    pub(crate) async fn place(&self, order: u64, pieces: u64) {
        self.orders.execute(&order, OrderEvent::Placed { pieces }).await.expect("executed");
    }

    pub(crate) async fn rename(&self, order: u64, name: &str) {
        self.orders.execute(&order, OrderEvent::Renamed(name.to_owned())).await.expect("executed");
    }

    pub(crate) async fn close(&self, order: u64) {
        self.orders.execute(&order, OrderEvent::Closed).await.expect("executed");
    }

    pub(crate) async fn origin(&self) -> OriginId {
        self.replica.origin().await.expect("an origin")
    }

    /// Returns the node after a restart that no member confirms, so that it takes a new origin.
    pub(crate) async fn restart_unconfirmed(self) -> Self {
        let before = self.origin().await;
        let unconfirmed = options(self.name).member(Arc::new(SilentPeer));
        let node = start(self.name, self.store.copy(self.store.log_id()), unconfirmed).await;
        assert_ne!(node.origin().await, before);
        node
    }

    /// Returns the node that is started from a backup.
    pub(crate) async fn restored(name: &'static str, backup: &MemoryStore) -> Self {
        start(name, backup.copy(LogId::new()), options(name)).await
    }
}

/// Lets each node pull from each other one.
pub(crate) async fn exchange(nodes: &[Node]) {
    for node in nodes {
        for peer in nodes.iter().filter(|peer| peer.name != node.name) {
            node.pull(peer).await;
        }
    }
}

/// A peer that never answers.
#[derive(Debug)]
struct SilentPeer;

#[async_trait]
impl Peer for SilentPeer {
    fn name(&self) -> &str {
        "silent"
    }
    async fn pull(&self, _: Pull) -> Result<Page, PeerError> {
        std::future::pending().await
    }
    async fn confirm(&self, _: Claim) -> Result<Confirmation, PeerError> {
        std::future::pending().await
    }
}
