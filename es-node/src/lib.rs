//! A node of a replicated group: a store on disk, its replica, the server for the other nodes, and a link to each peer.
//!
//! ```no_run
//! # use es_core::prelude::*;
//! # #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, Event)]
//! # #[event(name = "counted")]
//! # struct Counted(u64);
//! # #[derive(Clone, Debug, Aggregate)]
//! # #[aggregate(category = "counter", id = u64, event = Counted, consistency = "causal", conflict = "canonical")]
//! # struct Counter(u64);
//! # impl Evolve for Counter {
//! #     fn initial(_: &u64) -> Self { Self(0) }
//! #     fn evolve(&mut self, event: &Counted, _: &EventContext<'_>) { self.0 += event.0; }
//! # }
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use es_node::{Node, NodeFiles};
//!
//! let files = NodeFiles { certificates: "n1.pem".into(), key: "n1.key".into(), authorities: "ca.pem".into() };
//! let node = Node::builder("n1")
//!     .directory("data")
//!     .listen("[::]:7001")
//!     .peers([("n2", "n2:7001"), ("n3", "n3:7001")])
//!     .tls(files)
//!     .aggregate::<Counter>()
//!     .open()
//!     .await?;
//! let counters = node.repository::<Counter>()?;
//! println!("{}", counters.load(&7).await?.state.0);
//! node.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! A node without peers is a replica that other nodes can join later. [`NodeBuilder::peer`] adds a peer of another
//! transport, such as a [`LocalPeer`] in the same process.

mod builder;
mod confirmation;
mod error;
mod node;
#[cfg(feature = "operations")]
mod operations;

pub use builder::NodeBuilder;
pub use error::{NodeError, UndeclaredAggregate};
pub use es_replication::{LocalPeer, NodeFiles};
pub use node::Node;
