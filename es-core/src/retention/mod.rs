//! Retention and deletion: what of a log is no longer shown, and what of that is gone for good.
//!
//! ```text
//!   Commit::set_rule, clear_rule ──► es.retention-rules      ──┐
//!   store::delete_stream         ──► es.retention-deletions  ──┼─ fold ─► Retention ── of(stream) ─► StreamRetention
//!   EventStore::scavenge         ──► es.retention-scavenges  ──┘                  shows(revision, time, last, now)?
//! ```
//!
//! Everything that an operator does is an event in one of three reserved streams: it says who and why, is read with the log,
//! and comes along with exports, backups and copies. [`Retention`] is the fold of these events, and it is all that a store
//! must know to decide what a reader sees, so that two stores with the same log show the same.
//!
//! A store keeps the fold in memory: about two names and a hundred bytes for each rule and each deleted stream.
//!
//! # What is hidden
//!
//! A **rule** hides the old events of a stream, or of every stream of a category: those older than `max_age`, all but the
//! newest `max_count`, those before the revision `truncate_before`. A rule for a stream beats that for its category, field by
//! field. A **soft delete** hides all that a stream has; it goes on at the next revision when it is written again. A **hard
//! delete** hides all and ends the stream for ever: each later commit to it is refused.
//!
//! What is hidden of a stream is always its beginning: positions, revisions and recorded times go up together. So a stream is
//! visible from one revision on, and never has a hole.
//!
//! Hidden events are returned by no read, found by no id, and met by no condition over a query. They keep their positions, their
//! revisions and their ids: nothing of these is given a second time. [`EventReader::revision`](crate::EventReader::revision) and
//! [`ExpectedRevision::Exact`](crate::ExpectedRevision::Exact) count them. A rule that is cleared, or made wider, shows again
//! what was not yet removed.
//!
//! # What is removed
//!
//! A [scavenge](crate::EventStore::scavenge) writes a **scavenge point** into the log, which has a position and a time, and then
//! removes what was hidden at that position and at that time. Another store with the same log removes the same for this
//! point, whenever it gets to it. In the place of an event that was removed its position, stream, revision, id and recorded
//! time are kept, and nothing of its content. A rule that is widened after a point does not bring back what the point removes;
//! a copy that has not yet completed the point may show it until then.
//!
//! # What stays
//!
//! Unique keys that hidden or removed events claimed are held on: a store keeps only a hash of each, so that the text of a key is
//! gone with its event. Rows stay, but for the snapshots of the stream, which [`delete_stream`](crate::store::delete_stream) removes. The name of a stream stays: do not put
//! into it what must be forgotten.
//!
//! # What a deletion frees
//!
//! A deletion, soft or hard, frees the unique keys that the stream claimed up to the deleted revision: any stream can claim them
//! from then on. A key that a soft deleted stream claims when it is written again is held as any other.
//!
//! The model is that of KurrentDB (`$maxAge`, `$maxCount`, `$tb`, tombstones, scavenge points).
//!
//! Absent here: reads, removal, and stores. This module computes what is visible; the store applies it.

mod operator;
mod state;

pub(crate) use crate::model::reserved::is_retention_stream as is_reserved;
pub use crate::model::reserved::{REMOVED, RETENTION_CATEGORY as CATEGORY};
pub use operator::{DeleteKind, Note, OperatorEvent, Rule, Scope};
pub use state::{Deletion, InvalidOperatorEvent, Retained, Retention, ScavengePoint, StreamRetention};

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How to scavenge.
#[derive(Clone, Default)]
pub struct Scavenge {
    /// Who and why.
    pub note: Note,
    /// How long to pause after each part, of at most some thousand events, so that others have the disk meanwhile.
    pub pause: Duration,
    /// Is told how many streams were looked at and how many events were removed, after each part.
    pub progress: Option<Arc<dyn Fn(u64, u64) + Send + Sync>>,
}

impl fmt::Debug for Scavenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scavenge").field("note", &self.note).field("pause", &self.pause).finish_non_exhaustive()
    }
}

/// What a scavenge did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScavengeReport {
    /// Up to where, and as of when.
    pub point: ScavengePoint,
    /// How many events were removed.
    pub events: u64,
    /// How many bytes of records that were. What the disk gains shows when the store has compacted them.
    pub bytes: u64,
    /// How many points of earlier scavenges, which were not completed or came with a copy of the log, were completed first.
    pub earlier_points: u64,
}
