//! Names that belong to the framework: the only place where they are listed.
//!
//! Categories, event types and tables whose names begin with `es.` are reserved. Tables whose names begin with `node.` keep rows
//! of one node.

use bytes::Bytes;
use serde_json::Value;

use crate::model::{NewEvent, StreamId};

/// The event type of a tombstone: it replaces an event that a scavenge removed.
pub const REMOVED: &str = "es.removed";

/// The category of the streams of [retention](crate::retention).
pub const RETENTION_CATEGORY: &str = "es.retention";

/// The table of snapshots.
pub(crate) const SNAPSHOTS: &str = "snapshots";

/// Returns whether a stream belongs to [retention](crate::retention).
#[must_use]
pub fn is_retention_stream(stream: &StreamId) -> bool {
    // The length is compared first, because this runs for every written event and for many that are read.
    stream.as_str().len() >= RETENTION_CATEGORY.len() && stream.category_str() == RETENTION_CATEGORY
}

/// Returns the prefix of the keys of all rows that belong to one stream. A name has no control character, so a zero byte ends it.
pub(crate) fn stream_prefix(stream: &StreamId) -> Bytes {
    [stream.as_str().as_bytes(), &[0]].concat().into()
}

/// The prefix of the audit streams of projections; the name of the projection follows.
pub const AUDIT_STREAM_PREFIX: &str = "es.projections-";

/// The events of the audit streams. A store takes nothing else there; see [`check_audit`].
const AUDIT_EVENTS: [&str; 9] = [
    "projection-claim-taken",
    "projection-event-skipped",
    "projection-key-retried",
    "projection-paused",
    "projection-rebuild-cancelled",
    "projection-rebuild-started",
    "projection-rebuilt",
    "projection-reset",
    "projection-resumed",
];

/// Checks an event that is to be written into an audit stream; other streams take what they want. The error is what was found.
pub(crate) fn check_audit(stream: &StreamId, event: &NewEvent) -> Result<(), String> {
    let Some(projection) = stream.as_str().strip_prefix(AUDIT_STREAM_PREFIX) else { return Ok(()) };
    if !AUDIT_EVENTS.contains(&event.data.event_type.as_str()) {
        return Err(format!("the event type {:?}", event.data.event_type));
    }
    let details: Option<Value> = serde_json::from_slice(&event.data.payload).ok();
    match details.as_ref().and_then(|details| details.get("projection")) {
        Some(Value::String(of)) if of == projection => Ok(()),
        _ => Err(format!("content that does not say that it is of projection {projection:?}")),
    }
}
