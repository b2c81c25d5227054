//! Event sourcing for Rust: what has happened is kept, and state follows from it.
//!
//! es-core holds the model and the contracts: events, commits, aggregates, repositories, snapshots, schema evolution, and
//! what a store must do. It performs no I/O; a store such as `es-rocksdb` does.
//!
//! It is
//!
//! - **not a message broker**: events are kept in one log and read from it; nothing is delivered and forgotten;
//! - **not a database of its own**: it keeps what happened; views are built from there, and can be built again;
//! - **no promise of exactly-once side effects**: what happens in the log happens once, what happens outside of it can only
//!   be repeated safely.
//!
//! # The tour
//!
//! **Events** say what happened. Each has a wire name that never changes. See [`macro@Event`].
//!
//! ```
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, es_core::Event)]
//! enum AccountEvent {
//!     #[event(name = "account-opened")]
//!     Opened {
//!         #[event(tag)]
//!         owner: String,
//!     },
//!     #[event(name = "money-deposited")]
//!     Deposited { cents: u64 },
//!     #[event(name = "money-withdrawn")]
//!     Withdrawn { cents: u64 },
//! }
//! ```
//!
//! **An aggregate** is the state that follows from the events of one stream, and decides on commands. See
//! [`macro@Aggregate`], [`Evolve`] and [`Decide`].
//!
//! ```
//! # use serde::{Deserialize, Serialize};
//! # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, es_core::Event)]
//! # enum AccountEvent {
//! #     #[event(name = "account-opened")] Opened { #[event(tag)] owner: String },
//! #     #[event(name = "money-deposited")] Deposited { cents: u64 },
//! #     #[event(name = "money-withdrawn")] Withdrawn { cents: u64 },
//! # }
//! use es_core::prelude::*;
//!
//! #[derive(Clone, Debug, Aggregate)]
//! #[aggregate(category = "account", id = u64, event = AccountEvent)]
//! struct Account {
//!     cents: u64,
//! }
//!
//! impl Evolve for Account {
//!     fn initial(_: &u64) -> Self {
//!         Self { cents: 0 }
//!     }
//!
//!     fn evolve(&mut self, event: &AccountEvent, _: &EventContext<'_>) {
//!         match event {
//!             AccountEvent::Opened { .. } => {}
//!             AccountEvent::Deposited { cents } => self.cents += cents,
//!             AccountEvent::Withdrawn { cents } => self.cents -= cents,
//!         }
//!     }
//! }
//!
//! #[derive(Clone)]
//! struct Withdraw {
//!     cents: u64,
//! }
//!
//! #[derive(Debug, PartialEq, thiserror::Error)]
//! #[error("expected at least {wanted} cents, found {found}")]
//! struct TooLittle {
//!     wanted: u64,
//!     found: u64,
//! }
//!
//! impl Decide<Withdraw> for Account {
//!     type Rejection = TooLittle;
//!
//!     fn decide(&self, Withdraw { cents }: Withdraw, _: &CommandContext<'_, Self>) -> Result<Decision<Self>, TooLittle> {
//!         if cents > self.cents {
//!             return Err(TooLittle { wanted: cents, found: self.cents });
//!         }
//!         Ok(AccountEvent::Withdrawn { cents }.into())
//!     }
//! }
//!
//! // A test of the domain is a sentence. See `testing`.
//! use es_core::testing::given;
//! given::<Account>(7, [AccountEvent::Deposited { cents: 50 }])
//!     .when(Withdraw { cents: 20 })
//!     .then([AccountEvent::Withdrawn { cents: 20 }])
//!     .then_state(|account| assert_eq!(account.cents, 30));
//! given::<Account>(7, []).when(Withdraw { cents: 20 }).then_rejected(TooLittle { wanted: 20, found: 0 });
//!
//! // A repository loads, decides, encodes, commits and returns. See `repository`.
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! use std::sync::Arc;
//! use es_core::store::memory::MemoryStore;
//!
//! let accounts = Repository::<Account>::new(Arc::new(MemoryStore::new()));
//! let refused = accounts.execute(&7, Withdraw { cents: 20 }).await;
//! assert!(matches!(refused, Err(ExecuteError::Rejected(TooLittle { .. }))));
//! # });
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! **A commit** is the one write primitive: events for one or more streams, the conditions under which they may be written,
//! and the rows that change with them, wholly or not at all. See [`Commit`].
//!
//! **A store** keeps the log: [`store::memory`] for tests, `es-rocksdb` on disk. What a store must do stands at
//! [`EventStore`], and [`testing::conformance`] checks it.
//!
//! **Reading**: by stream, category, type, tag and position, forward and backward. See [`StreamRead`] and [`LogRead`].
//!
//! **A subscription** returns what is there and then what comes, without a gap and without a repeat. See [`Subscription`].
//!
//! **Projections** are read models that follow the log, each event counted exactly once: in the background, in the commit of the
//! events, or on demand. See [`projection`]; [`projection::view`] has typed, ordered tables for them, and
//! [`projection::inline`] says when a view may change with each commit.
//!
//! **A reactor** makes what is to happen outside of the log, at least once, under a stable key. See [`consumer::reactor`].
//!
//! **A consumer group** shares events among consumers that ack, and sets aside what fails. See [`consumer::group`].
//!
//! **Old events** are brought to the present when they are read. See [`Upcast`] and [`testing::golden`].
//!
//! **Retention**: rules and deletions hide what is no longer wanted, and a scavenge removes it. See [`retention`].
//!
//! **Snapshots** make loads cheaper and never change them. See [`aggregate::snapshot`].

pub mod aggregate;
pub mod consumer;
pub mod model;
pub mod prelude;
pub mod projection;
pub mod retention;
pub mod schema;
pub mod service;
pub mod store;
pub mod testing;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

pub use aggregate::{
    Aggregate, Command, CommandContext, Decide, Decision, EventContext, Evolve, ExecuteError, Executed, LoadError,
    Loaded, Outcome, Repository, UnitOfWork,
};
pub use consumer::Subscription;
pub use model::{
    CommandId, EventData, EventId, EventType, ExpectedRevision, NewEvent, Position, RecordedEvent, Revision, StreamId,
    Timestamp,
};
pub use schema::{Event, Events, Upcast};
pub use service::Service;
pub use store::{Commit, CommitError, EventReader, EventStore, LogRead, StoreError, StreamRead};

#[cfg(feature = "derive")]
pub use es_macros::{Aggregate, Event};

// rustdoc compiles the examples in the documentation of the derive macros here: es-macros does not depend on es-core.
#[cfg(all(doctest, feature = "derive"))]
#[doc = include_str!("../../es-macros/src/docs/event.md")]
const _: () = ();
#[cfg(all(doctest, feature = "derive"))]
#[doc = include_str!("../../es-macros/src/docs/aggregate.md")]
const _: () = ();
