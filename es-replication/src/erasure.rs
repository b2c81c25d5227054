//! The part of the hook of a replica that erases streams.
//!
//! ```text
//!   commit with es.erased in order-7 --> + es.stream-deleted order-7 through its last revision on this node
//!                                        + es.subject-erased for each subject
//!   later event of order-7           --> not stored, accounted for as removed
//! ```

use es_core::retention::ReplicatedErasure;
use es_core::store::implement::{LogView, ValidCommit};
use es_core::{CommitError, EventData};

/// Adds the local events that delete the stream of an erasure on this node, and record the erasure of its subjects.
pub(crate) fn add_local_events(commit: &mut ValidCommit, view: &mut dyn LogView) -> Result<(), CommitError> {
    // An erasure is the only event of its commit.
    let Some((stream, event)) = commit.events().first() else { return Ok(()) };
    let read = ReplicatedErasure::read(&event.data.event_type, &event.data.payload);
    let Ok(Some(erasure)) = read else { return Ok(()) };
    let last = view.revision(stream)?;
    // An earlier deletion of this node may have hidden all events already.
    let through = view.retention(stream)?.existing(last);
    let events = erasure.local_events(stream, through);
    commit.add_local_events(events)?;
    Ok(())
}

/// Returns `true` if an event erases its stream.
pub(crate) fn is_erasure(event: &EventData) -> bool {
    matches!(ReplicatedErasure::read(&event.event_type, &event.payload), Ok(Some(_)))
}
