//! State types for replicated aggregates that do not depend on the order of concurrent events (conflict-free replicated
//! data types, Shapiro et al. 2011).
//!
//! Every node folds the events of an aggregate in canonical order, so any state converges. These types add what the
//! order alone does not give: a set in which an item that is added on one node survives its removal on another one, a
//! register that keeps both values, a counter that no two nodes overdraw.
//!
//! | type | concurrent changes |
//! |---|---|
//! | [`GrowOnlyCounter`], [`Counter`] | all count |
//! | [`BoundedCounter`] | all count; the value never falls below its minimum, because each site spends only its own rights |
//! | [`LwwRegister`] | the value that is last in canonical order |
//! | [`MvRegister`] | all values, until a write that has seen them |
//! | [`Flag`] | enabled |
//! | [`OrSet`] | an item that was added remains |
//! | [`OrMap`] | an entry that was updated remains, with the updates that the removal has not seen |
//!
//! The methods that change a state are for [`Evolve::evolve`](es_core::Evolve::evolve): they take the
//! [`EventContext`](es_core::EventContext), which says what the node of the event had seen. There is no separate
//! operation to send: the events of the domain are the operations (pure operation-based CRDTs, Baquero et al. 2014).
//!
//! ```
//! # use es_core::prelude::*;
//! # use serde::{Deserialize, Serialize};
//! # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
//! # enum CartEvent {
//! #     #[event(name = "item-added")] ItemAdded(String),
//! #     #[event(name = "item-removed")] ItemRemoved(String),
//! # }
//! use es_crdt::OrSet;
//!
//! #[derive(Clone, Debug, PartialEq, Aggregate)]
//! #[aggregate(category = "cart", id = u64, event = CartEvent, consistency = "causal", conflict = "crdt")]
//! struct Cart {
//!     items: OrSet<String>,
//! }
//!
//! impl Evolve for Cart {
//!     fn initial(_: &u64) -> Self {
//!         Self { items: OrSet::new() }
//!     }
//!
//!     fn evolve(&mut self, event: &CartEvent, at: &EventContext<'_>) {
//!         match event {
//!             CartEvent::ItemAdded(item) => self.items.insert(item.clone(), at),
//!             CartEvent::ItemRemoved(item) => self.items.remove(item, at),
//!         }
//!     }
//! }
//!
//! // The test of the declaration: all nodes get the same cart, in whatever order these events arrive.
//! let (added, removed) = (CartEvent::ItemAdded("tea".into()), CartEvent::ItemRemoved("tea".into()));
//! es_core::testing::check_convergence::<Cart>(1, [added, removed]);
//! ```
//!
//! All types are [`Crdt`](es_core::Crdt)s; an [`OrMap`] is one if its values are. `conflict = "crdt"` compiles only if
//! each field of the state is a CRDT. A field of another type is a newtype that implements the trait: for the id of the
//! cart, which no event changes, `struct CartId(u64); impl Crdt for CartId {}`.
//! [`check_convergence`](es_core::testing::check_convergence) finds what the compiler does not: a field that is
//! assigned as a whole, or a type that does not keep the promise of the trait. An [`LwwRegister`] passes it, because it
//! compares the canonical keys of the writes; a `String` that `evolve` assigns does not.
//!
//! One event may change several of these states, but each of them once: a second change by the same event, or by
//! another event into which an upcaster splits it, counts as concurrent with the first.
//!
//! For rows of a view, use a [`StateView`](es_core::projection::StateView): only the fold knows what the node of an
//! event had seen. If two nodes execute one command, the fold skips the events of one of them; an event that had seen
//! only the skipped one does not replace the other.
//!
//! [`KeyValueMap`] is a map of whole values under keys, which needs no aggregate of your own. For a value that nodes
//! change by operations, such as a set or a counter, declare an aggregate with one of the types above.
//!
//! **Cost.** A state keeps the dots of the changes that no later change has replaced, 24 bytes each, and no tombstones.

mod counter;
mod dots;
mod flag;
mod key_value;
mod map;
mod pairs;
mod register;
mod set;

pub use counter::{BoundedCounter, Counter, GrowOnlyCounter, InsufficientRights};
pub use flag::Flag;
pub use key_value::{
    KeepSiblings, KeyValueEntry, KeyValueError, KeyValueMap, LastWriterWins, Merge, Resolution, Siblings,
};
pub use map::{ObservedReset, OrMap};
pub use register::{LwwRegister, MvRegister};
pub use set::OrSet;
