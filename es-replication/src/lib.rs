//! Event streams between nodes under causal order, for stores of `es-core`.
//!
//! ```text
//!   node A: store + hook                                        node B: store + hook
//!   local commit -> stamp (dot, hybrid time, vector clock)
//!   log A ---- Source::page: the log from a cursor on ---- Peer ---- Replica::pull -> commits -> log B
//!                                                                    held events dropped, causes checked
//! ```
//!
//! Every node decides on its own events. A node pulls the events of its peers in the order of their logs, which extends
//! causality, and stores events and progress in one commit. The log of a node is in arrival order; the state of an
//! aggregate is folded in canonical order, which is the same everywhere. So nodes with equal sets of events have equal
//! states, whatever the topology and however long a link was cut.
//!
//! ```
//! # use std::{sync::Arc, time::Duration};
//! # use es_core::prelude::*;
//! # use es_core::store::memory::MemoryStore;
//! # use es_replication::{LocalPeer, Replica, ReplicaOptions};
//! # #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, Event)]
//! # #[event(name = "counted")]
//! # struct Counted(u64);
//! #[derive(Clone, Debug, Aggregate)]
//! #[aggregate(category = "counter", id = u64, event = Counted, consistency = "causal", conflict = "canonical")]
//! struct Counter(u64);
//! # impl Evolve for Counter {
//! #     fn initial(_: &u64) -> Self { Self(0) }
//! #     fn evolve(&mut self, event: &Counted, _: &EventContext<'_>) { self.0 += event.0; }
//! # }
//! # #[derive(Clone)] struct Count(u64);
//! # impl Decide<Count> for Counter {
//! #     type Rejection = std::convert::Infallible;
//! #     fn decide(&self, count: Count, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, Self::Rejection> {
//! #         Ok(Counted(count.0).into())
//! #     }
//! # }
//! # tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?.block_on(async {
//! let open = async |name: &str| {
//!     let options = ReplicaOptions::new(name).aggregate::<Counter>()?;
//!     let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new().with_hook(options.hook()).await?);
//!     Ok::<_, Box<dyn std::error::Error>>((Replica::new(store.clone())?, Repository::<Counter>::new(store)))
//! };
//! let (a, counters_of_a) = open("a").await?;
//! let (b, counters_of_b) = open("b").await?;
//! counters_of_a.execute(&7, Count(1)).await?;
//! counters_of_b.execute(&7, Count(10)).await?;
//!
//! b.pull(&LocalPeer::new("a", a.source()), Duration::ZERO).await?;
//! assert_eq!(counters_of_b.load(&7).await?.state.0, 11);
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Guarantees
//! - **Causal order**: every node stores an event after everything that its node had seen. With filters, this holds for
//!   the events of a stream, and for other events unless they are withheld then: see [`Replica::with_filter`].
//! - **Convergence**: equal sets of events give equal states.
//! - **No loss, no duplicates**: an event that a node acknowledged reaches every node that can be reached and selects
//!   it, once.
//! - **Sessions**: see [`Session`].
//! - **Identity**: a node that lost events takes a new origin; see [`ReplicaOptions::member`].
//! - **Membership**: members join, leave and are retired by events that replicate; see [`Replica::membership`].
//! - **Deletion**: [`Replica::delete`] deletes a stream on all nodes, and keeps concurrent events.
//! - **Erasure**: an erasure of a subject of personal data reaches every member; see [`Replica::share_keys`].
//! - **Stability**: a node knows which events every member has; see [`Replica::stable`].
//!
//! Optimistic concurrency is per node: two nodes can accept the next event of one stream at the same time. The
//! declaration of the aggregate states the answer to such a conflict: `conflict = "canonical"`, or `conflict =
//! "resolve"` with [`es_core::Resolve`] and a [`Resolver`](es_core::Resolver) on every node. Of an aggregate that
//! declares `owner`, one node decides each stream, and the other nodes forward commands to it: see
//! [`ForwardingRepository`].
//!
//! The design follows Demers et al. 1987 (anti-entropy), Kulkarni et al. 2014 (hybrid logical clocks), and Terry et al.
//! 1994 (session guarantees).

mod answer;
mod command;
mod erasure;
mod error;
mod filter;
mod frontiers;
mod group;
mod hook;
mod keys;
mod knowledge;
mod link;
mod membership;
#[cfg(any(feature = "tls", feature = "test-ca"))]
mod node_files;
mod owner;
mod page;
mod peer;
mod promise;
mod ranges;
mod replica;
mod rows;
mod source;
mod state;
mod status;
mod target;
#[cfg(feature = "test-ca")]
mod test_ca;
mod token;
#[cfg(feature = "tls")]
mod transport;
#[cfg(feature = "tls")]
mod wire;

pub use answer::Source;
pub use command::{CommandAnswer, CommandOutcome, ForwardedCommand};
pub use error::{AnswerError, PeerError, PullError, Refusal, SendError, StaleReplica, StartError};
pub use filter::StreamFilter;
pub use group::{Departed, MemberState};
pub use keys::KeyRequest;
pub use knowledge::Knowledge;
pub use link::{Link, LinkState, LinkStatus};
pub use membership::{Membership, MembershipError, StabilityError, StableEvents};
#[cfg(any(feature = "tls", feature = "test-ca"))]
pub use node_files::NodeFiles;
pub use owner::{ForwardError, HandOverError};
pub use page::{Claim, Confirmation, ForeignEvent, GapReason, Item, MemberReport, Page, Pull, Sender};
pub use peer::{LocalPeer, Peer};
pub use promise::Promise;
pub use replica::{
    DeleteError, Forwarded, ForwardingRepository, KeyUnavailable, Pulled, RecoverError, Recovered, Replica,
    ReplicaOptions, Session, SessionError, SharedKeys, WaitError,
};
pub use status::{HomesStatus, MemberStatus, Monitor, OriginStatus, ReplicationStatus, RunningStatus};
#[cfg(feature = "test-ca")]
pub use test_ca::{TestCa, TestCaError};
pub use token::Token;
#[cfg(feature = "tls")]
pub use transport::{Server, ServerOptions, TlsConfig, TlsError, TlsPeer};
