//! The vocabulary of the log: names, numbers, events, time, and consistency levels.
//!
//! ```text
//!   StreamId = Category - id      Revision: number in the stream, from 0   NewEvent = EventData, occurred_at
//!   EventType, Tag, UniqueKey     Position: number in the log, from 1      RecordedEvent = EventData, numbers, times
//!
//!   Stamp: the replication metadata of an event: Dot (its identity), HybridTime, VectorClock
//! ```
//!
//! This module knows no stores, aggregates or domain types, and spawns no tasks. Only [`SystemClock`] reads the wall
//! clock.

mod clock;
mod consistency;
mod context;
pub(crate) mod digest;
pub(crate) mod entropy;
mod error_chain;
pub(crate) mod event;
mod id;
mod keys;
mod log_position;
mod metadata;
mod name;
pub(crate) mod panic;
pub(crate) mod reserved;
mod retired;
mod revision;
mod stamp;
mod tags;
mod time;
mod transaction;
mod vector_clock;
mod version;
mod view;
pub(crate) mod weight;

pub use clock::{Clock, SystemClock};
pub use consistency::{
    CanonicalOrder, Causal, ConflictAnswer, Consistency, EventOrder, Eventual, Level, Linearizable, Local, OneOrder,
    Sequential, SingleOrder,
};
pub use context::Context;
pub(crate) use entropy::IdSource;
pub use entropy::{Entropy, SystemEntropy};
pub use error_chain::ErrorChain;
pub(crate) use event::to_stored_precision;
pub use event::{CommitPart, ContentType, EventData, NewEvent, RecordedEvent, Timestamp};
pub use id::{CorrelationId, EventId, LogId};
pub use keys::{KeyChange, Keys};
pub use log_position::{AheadOfLog, LogPosition, ParseLogPositionError, PositionError, TimeAheadOfLog};
pub(crate) use metadata::MAX_METADATA_DEPTH;
pub use metadata::{Metadata, MetadataError, MetadataValue};
pub use name::{Category, CommandId, EventType, MAX_NAME_BYTES, NameError, StreamId, SubjectId, Table, Tag, UniqueKey};
pub use retired::RetiredOrigins;
pub(crate) use revision::found;
pub use revision::{ExpectedRevision, Position, Revision};
pub use stamp::{CanonicalKey, CommandDigest, Dot, HybridTime, OriginId, ParseStampError, Stamp};
pub use tags::Tags;
pub use time::{ParseTimeError, parse_time};
pub use transaction::{CoordinatorEpoch, MAX_COORDINATOR_BYTES, ParseTransactionIdError, TransactionId};
pub use vector_clock::{Causality, VectorClock};
pub use version::{Version, VersionError};
pub use view::EventView;
