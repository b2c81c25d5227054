//! Retention and deletion: the rules and deletions that hide events, and the scavenges that remove hidden events.
//!
//! ```text
//!   Commit::set_rule, clear_rule ──► es.retention-rules      ──┐
//!   store::delete_stream         ──► es.retention-deletions  ──┼─ fold ─► Retention ── of(stream) ─► StreamRetention
//!   Commit::erase_subject        ──► es.retention-erasures   ──┤
//!   EventStore::scavenge         ──► es.retention-scavenges  ──┘                  shows(revision, time, last, now)?
//! ```
//!
//! Every operator action is an event in one of four reserved streams. It records who acted and why, and it is part of
//! the log, so exports, backups and copies contain it. [`Retention`] is the fold of these events. A store needs nothing
//! else to decide which events are visible, so two stores with the same log show the same events.
//!
//! A store keeps the fold in memory. Each rule and each deleted stream uses about two names and a hundred bytes.
//!
//! # Hidden events
//!
//! A **rule** hides the old events of a stream, or of every stream in a category: the events older than `max_age`, all
//! but the newest `max_count` events, and the events before the revision `truncate_before`. A rule for a stream
//! overrides the rule for its category, field by field. A **soft delete** hides all events of a stream; the stream
//! continues at the next revision when it is written again. A **hard delete** hides all events and closes the stream
//! permanently: every later commit to it is rejected.
//!
//! The hidden events of a stream are always its oldest ones, because positions, revisions and recorded times increase
//! together. So a stream is visible from one revision on and has no holes.
//!
//! Hidden events are not returned by reads, not found by id, and not matched by an append condition. They keep their
//! positions, revisions and ids, none of which is reused. [`EventReader::revision`](crate::EventReader::revision) and
//! [`ExpectedRevision::Exact`](crate::ExpectedRevision::Exact) count them. If a rule is cleared or relaxed, the events
//! that it hid become visible again unless a scavenge has removed them.
//!
//! # Erasures
//!
//! Projections and reactors receive the deletion of a stream, and the erasure of a subject of personal data, as an
//! [`Erasure`], in the order of the log, so that views delete their rows. A subscription or a consumer group receives
//! them if its query contains [`QueryItem::erasures`](crate::store::QueryItem::erasures).
//!
//! # Removed events
//!
//! A [scavenge](crate::EventStore::scavenge) writes a **scavenge point** with a position and a time to the log. It then
//! removes the events that were hidden at that position and time. Another store with the same log removes the same
//! events for this point, whenever it processes the point. A removed event leaves a tombstone, which keeps its
//! position, stream, revision, id and recorded time, and none of its content. Relaxing a rule after a point does not
//! restore the events that the point removes; a copy that has not yet completed the point may show them until it has.
//!
//! # What retention does not remove
//!
//! - The unique keys that hidden or removed events claimed stay claimed. A store keeps only a hash of each key, so the
//!   text of a key is removed with its event. An export contains only the number of these keys, so an import does not
//!   claim them.
//! - Rows stay, except for the snapshots of a deleted stream, which
//!   [`delete_stream`](crate::store::delete_stream) removes, and the rows of views that
//!   [`Projection::erased`](crate::projection::Projection::erased) deletes.
//! - The name of a stream stays: do not put personal data into it.
//!
//! # What a deletion frees
//!
//! A soft or hard delete frees the unique keys that the stream claimed up to the deleted revision. Any stream can claim
//! them afterwards. If a soft-deleted stream is written again and claims a key, it holds the key like any other stream.
//!
//! The model is that of KurrentDB (`$maxAge`, `$maxCount`, `$tb`, tombstones, scavenge points).
//!
//! This module computes which events are visible. Stores apply the result to reads, and remove events.

mod erasure;
mod operator;
mod replicated;
mod state;

pub(crate) use crate::model::reserved::is_retention_stream as is_reserved;
pub use crate::model::reserved::{REMOVED, RETENTION_CATEGORY as CATEGORY};
pub use erasure::Erasure;
pub(crate) use operator::deletions_stream;
pub use operator::{DeleteKind, Note, OperatorEvent, Rule, Scope};
pub(crate) use replicated::{DeletedEvents, StreamDots, is_replicated_erasure};
pub use replicated::{ReplicatedDeletion, ReplicatedErasure};
pub use state::{Deletion, InvalidOperatorEvent, Retained, Retention, ScavengePoint, StreamRetention};

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// The options of a scavenge.
#[derive(Clone, Default)]
pub struct Scavenge {
    /// Who started the scavenge, and why.
    pub note: Note,
    /// The pause after each batch of at most a few thousand events, which leaves disk bandwidth to other work.
    pub pause: Duration,
    /// A callback that is called after each batch and several times a second during a pause. It breaks to stop the
    /// scavenge; the next scavenge removes the rest.
    pub progress: Option<Arc<dyn Fn(ScavengeProgress) -> ControlFlow<()> + Send + Sync>>,
}

/// The progress of a scavenge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScavengeProgress {
    /// The number of streams examined.
    pub streams: u64,
    /// The number of events removed.
    pub events: u64,
}

impl Scavenge {
    /// Calls [`progress`](Self::progress), if it is set. A store calls it after each batch, and stops if it breaks.
    pub fn report(&self, progress: ScavengeProgress) -> ControlFlow<()> {
        self.progress.as_ref().map_or(ControlFlow::Continue(()), |report| report(progress))
    }
}

impl fmt::Debug for Scavenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scavenge").field("note", &self.note).field("pause", &self.pause).finish_non_exhaustive()
    }
}

/// The result of a scavenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScavengeReport {
    /// The scavenge point that was written.
    pub point: ScavengePoint,
    /// Whether the point was completed. It is `false` if [`Scavenge::progress`] stopped the scavenge.
    pub is_complete: bool,
    /// The number of events removed.
    pub events: u64,
    /// The size of the removed records in bytes. The store frees the disk space when it compacts them.
    pub bytes: u64,
    /// The number of earlier scavenge points that were completed first, because their scavenge was interrupted or ran
    /// on another copy of the log.
    pub earlier_points: u64,
}
