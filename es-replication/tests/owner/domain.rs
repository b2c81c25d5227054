//! Accounts, of which one node decides each, and nodes that have them.

use std::sync::Arc;

use es_core::model::OriginId;
use es_core::prelude::*;
use es_core::store::memory::MemoryStore;
use es_core::{Commit, CommitError, EventType, NewEvent, StreamId};
use es_replication::{ForwardingRepository, LocalPeer, Peer, Replica, ReplicaOptions};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(name = "paid")]
pub(crate) struct Paid {
    /// Negative for a withdrawal.
    pub(crate) amount: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Pay(pub(crate) i64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("only {sum} is left")]
pub(crate) struct NotCovered {
    pub(crate) sum: i64,
}

/// Declares an account whose sum is never negative: an invariant that no merge of concurrent withdrawals can repair.
macro_rules! account {
    ($(#[$doc:meta])* $name:ident, $category:literal, $($owner:tt)*) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, Aggregate)]
        #[aggregate(
            category = $category, id = u64, event = Paid, consistency = "causal", $($owner)*, snapshot(every = 5)
        )]
        pub(crate) struct $name {
            pub(crate) sum: i64,
            /// The amounts in the order of the fold.
            pub(crate) payments: Vec<i64>,
            /// The number of payments of which another one was concurrent.
            pub(crate) concurrent: u64,
        }

        impl Evolve for $name {
            fn initial(_: &u64) -> Self {
                Self::default()
            }
            fn evolve(&mut self, event: &Paid, at: &EventContext<'_>) {
                self.sum += event.amount;
                self.payments.push(event.amount);
                self.concurrent += u64::from(at.is_concurrent());
            }
        }

        impl Decide<Pay> for $name {
            type Rejection = NotCovered;
            fn decide(&self, Pay(amount): Pay, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, NotCovered> {
                match self.sum + amount {
                    sum if sum < 0 => Err(NotCovered { sum: self.sum }),
                    _ if amount == 0 => Ok(Decision::unchanged()),
                    _ => Ok(Paid { amount }.into()),
                }
            }
        }
    };
}

account! {
    /// An account that any node creates.
    Account, "account", owner
}

account! {
    /// An account that one node creates.
    Vault, "vault", owner = creator_of
}

/// Returns the name of the node of the simulation that creates a vault.
fn creator_of(id: &u64) -> String {
    format!("n{}", id % 3)
}

pub(crate) fn vault(id: u64) -> StreamId {
    Vault::stream(&id).expect("a name")
}

/// A till, which the node creates whose name precedes the slash in its id.
#[derive(Clone, Debug, Aggregate)]
#[aggregate(category = "till", id = String, event = Paid, consistency = "causal", owner = node_of)]
pub(crate) struct Till(pub(crate) i64);

#[expect(clippy::ptr_arg, reason = "the function takes the id of the aggregate")]
fn node_of(id: &String) -> String {
    id.split('/').next().unwrap_or_default().to_owned()
}

impl Evolve for Till {
    fn initial(_: &String) -> Self {
        Self(0)
    }
    fn evolve(&mut self, event: &Paid, _: &EventContext<'_>) {
        self.0 += event.amount;
    }
}

impl Decide<Pay> for Till {
    type Rejection = NotCovered;
    fn decide(&self, Pay(amount): Pay, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, NotCovered> {
        Ok(Paid { amount }.into())
    }
}

/// A node with its store in memory.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) store: MemoryStore,
    pub(crate) replica: Replica,
    pub(crate) accounts: Arc<Repository<Account>>,
    pub(crate) tills: Arc<Repository<Till>>,
}

impl Node {
    pub(crate) async fn open(name: &str) -> Self {
        Self::start(name, MemoryStore::new(), ReplicaOptions::new(name)).await
    }

    pub(crate) async fn start(name: &str, store: MemoryStore, options: ReplicaOptions) -> Self {
        let options = options.aggregate::<Account>().and_then(ReplicaOptions::aggregate::<Till>).expect("names");
        let store = store.with_hook(options.hook()).await.expect("started");
        let shared: Arc<dyn EventStore> = Arc::new(store.clone());
        let replica = Replica::new(Arc::clone(&shared)).expect("the store has the hook");
        let (accounts, tills) = (Repository::new(Arc::clone(&shared)), Repository::new(shared));
        Self { name: name.to_owned(), store, replica, accounts: Arc::new(accounts), tills: Arc::new(tills) }
    }

    pub(crate) fn peer(&self) -> Arc<dyn Peer> {
        Arc::new(LocalPeer::new(self.name.clone(), self.replica.source()))
    }

    pub(crate) fn forwarding(&self, peers: &[&Self]) -> ForwardingRepository<Account> {
        let peers = peers.iter().map(|node| node.peer());
        ForwardingRepository::new(&self.replica, Arc::clone(&self.accounts), peers).accept::<Pay>()
    }

    /// Pulls until the other node has no further event.
    pub(crate) async fn pull(&self, from: &Self) {
        while !self.replica.pull(&*from.peer(), std::time::Duration::ZERO).await.expect("pulled").is_last {}
    }

    pub(crate) async fn sum(&self, id: u64) -> i64 {
        self.accounts.load(&id).await.expect("loaded").state.sum
    }

    pub(crate) async fn origin(&self) -> OriginId {
        self.replica.origin().await.expect("an origin")
    }

    /// Writes an event without a repository.
    pub(crate) async fn commit(&self, stream: &StreamId, amount: i64) -> Result<(), CommitError> {
        self.store.commit(Commit::new().append(stream.clone(), paid(amount))).await.map(drop)
    }
}

pub(crate) fn paid(amount: i64) -> NewEvent {
    NewEvent::json(EventType::new("paid").expect("a name"), format!(r#"{{"amount":{amount}}}"#))
}

pub(crate) fn account(id: u64) -> StreamId {
    Account::stream(&id).expect("a name")
}
