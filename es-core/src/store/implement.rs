//! Traits and types for implementing stores, layers and hooks. Users of a store do not need this module.
//!
//! - A **store** keeps a log and implements [`EventReader`](crate::store::EventReader) and
//!   [`EventStore`](crate::store::EventStore). Its one append path validates a [`Commit`](crate::Commit), calls
//!   [`Decider::decide`] with its [`LogView`], and writes the result. [`HeadSender`] publishes the head, and
//!   [`BatchSource`] feeds an [`EventStream`](crate::store::EventStream). [`KeySecret`], [`KeyHash`] and [`KeyOwner`]
//!   form the index of unique keys, which is updated with [`key_entries`]. [`Locks`] are the streams that prepared
//!   transactions lock. A store opens only if [`check_clock`] passes, and reports a log that is [ahead of its
//!   clock](ahead_of_clock).
//! - A **layer** wraps a store and changes some of its operations: see [`StoreLayer`].
//! - A **hook** takes part in the decision on each commit: see [`DecisionHook`].

pub use crate::model::reserved::{
    Placement, is_membership_stream, is_replicated_stream, is_retention_stream, placement,
};

pub use super::commit::{RowChange, RowCondition};
pub use super::decide::CommitDecision;
pub use super::decider::{Decider, DecisionHook, PrepareHook, PreparedHook, Replication, SettledTime};
pub use super::head::HeadSender;
pub use super::keys::{KeyHash, KeyOwner, KeySecret, key_entries};
pub use super::layer::StoreLayer;
pub use super::locks::Locks;
pub use super::read::BatchSource;
pub use super::store_clock::{InvalidClock, ahead_of_clock, check_clock};
pub use super::valid::ValidCommit;
pub use super::view::LogView;
